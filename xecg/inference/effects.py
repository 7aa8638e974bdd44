"""What branches use, and whether their maps show it: ``xecg explain effects``."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xecg.data.store import Store
from xecg.errors import StoreError
from xecg.explain.attributions import BranchExplainer
from xecg.explain.effects import CHANGES, TITLES, agreement, wave_effects
from xecg.explain.relevance import CLASSES, WAVES, enrichment_column, wave_relevance
from xecg.files import csv_text, write_whole
from xecg.inference.evaluate import cell, load_networks, rows_to_test
from xecg.metrics.bootstrap import FloatArray, divide, intervals
from xecg.networks.xecgarch import XECGArch
from xecg.signal.waves import codes_around_r_peaks


def effects(
    store: Path,
    out: Path = Path("effects.csv"),
    *,
    weights: list[str] | None = None,
    split: Literal["unseen", "all"] = "unseen",
    windows: int = 500,
    methods: list[str] | None = None,
    fillings: list[str] | None = None,
    rescale: bool = False,
    seed: int = 0,
) -> str:
    """Measures what each branch uses, where its maps lie, and whether the two agree.

    Of windows that a branch predicts rightly, by class: enrichment of waves by each attribution
    method; fall of the logit margin and share of decisions that flip when a wave is replaced, RR
    intervals are made equal or fibrillatory waves added; Spearman's rho over waves and windows of
    enrichment and fall. Prints and returns tables in Markdown. Waves are annotated ones where a
    window has them, else relative to the R peaks. See xecg.explain.wave_effects.

    Args:
        store: Folder of a prepared store.
        out: Table to write (CSV).
        weights: Weights files or names of released weights (default: xecgarch), each measured.
        split: ``unseen`` takes persons and records that no weights learnt from; ``all`` takes all.
        windows: Number of windows at most, drawn at random, half of them AF if there are enough.
        methods: Attribution methods (default: innvestigate), or class paths.
        fillings: What replaces a wave: line (default), baseline, stretch.
        rescale: Scale changed windows to [0, 1] again.
        seed: Random seed of windows, fillings and intervals.

    Raises:
        XECGError: A setting, the store or the weights cannot be used.
    """
    opened = Store.open(store)
    files = [*dict.fromkeys(weights or ["xecgarch"])]
    networks, infos = load_networks(files)
    allowed, origin = rows_to_test(opened, infos, split)
    allowed = np.random.default_rng(seed).permutation(allowed)
    labels = opened.index.af.to_numpy()[allowed]
    rows = np.sort(np.concatenate([allowed[labels == code][: windows // 2] for code in (0, 1)]))
    if not len(rows):
        raise StoreError(f"{store}: expected windows labelled AF or not, found none to measure")
    index, options = opened.index.take(rows), {"rescale": rescale, "seed": seed}
    named = zip(files, networks, strict=True)
    asked = methods or ["innvestigate"], fillings or ["line"]
    found = (_network_used(*one, opened, rows, *asked, options) for one in named)
    table = pd.DataFrame([row for of_network in found for row in of_network])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, csv_text(table))
    report = f"{len(rows)} windows of {index.group.nunique()} persons or records, {origin}.\n"
    for measure, part in table.groupby("measure", sort=False):
        report += f"\n{measure}\n\n{_pivoted(part)}"
    print(report)
    return report


def _network_used(
    name: str,
    network: XECGArch,
    store: Store,
    rows: NDArray[np.int64],
    methods: list[str],
    fillings: list[str],
    options: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    index, rate = store.index.take(rows), store.info.preprocessing.sampling_rate
    peaks = [store.r_peaks(row) for row in rows.tolist()]
    codes = np.array([codes_around_r_peaks(p, store.signals.shape[1], rate) for p in peaks])
    annotated, place = index.wave_row.to_numpy() >= 0, (peaks, rate, codes)
    codes[annotated] = store.waves[index.wave_row.to_numpy()[annotated]]
    x = torch.from_numpy(np.array(store.signals[rows])).unsqueeze(1)
    maps = {method: BranchExplainer(network, method).explain(x) for method in methods}
    changed = {f: wave_effects(network, x, *place, filling=f, **options) for f in fillings}
    for branch, (code, rhythm) in product(network.branches, enumerate(CLASSES)):
        said = {method: of_branch[branch] for method, of_branch in maps.items()}
        tables = {m: wave_relevance(one.relevance, *place) for m, one in said.items()}
        right = said[methods[0]].logits.argmax(dim=1).numpy() == code
        right &= index.af.to_numpy() == code
        if right.any():
            groups = np.asarray(index.group, dtype=np.str_)[right]
            used = {filling: table[branch] for filling, table in changed.items()}
            key = {"weights": name, "branch": branch, "class": rhythm}
            yield from _used(tables, used, right, groups, options["seed"], key)


def _used(
    maps: Mapping[str, pd.DataFrame],
    used: Mapping[str, pd.DataFrame],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    seed: int,
    key: dict[str, str],
) -> Iterator[dict[str, Any]]:
    """A row a mean, and a row an agreement, with intervals over groups."""
    columns = {
        ("enrichment", by, wave): table[enrichment_column(wave)][right]
        for (by, table), wave in product(maps.items(), WAVES)
    }
    columns |= {
        (kind, by, TITLES[name]): table[f"{kind}_{name}"][right]
        for kind, (by, table), name in product(("effect", "flips"), used.items(), CHANGES)
    }
    values = np.stack([*columns.values()], axis=1).astype(np.float64)
    known = (~np.isnan(values)).astype(np.float64)
    both = {
        ("agreement", f"{method}, {filling}", "rho"): agreement(maps[method].join(table)[right])
        for method, (filling, table) in product(maps, used.items())
    }

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        means = divide(weights @ np.nan_to_num(values), weights @ known).T
        rhos = [rho(weights) for rho in both.values()]
        return {str(number): one for number, one in enumerate([*means, *rhos])}

    over = {str(number): [column > 0] for number, column in enumerate(known.T)}
    found = intervals(statistics, groups, over=over, seed=seed)
    for (measure, by, what), one in zip([*columns, *both], found.values(), strict=True):
        yield key | {"measure": measure, "by": by, "of": what} | asdict(one)


def _pivoted(table: pd.DataFrame) -> str:
    """Returns Markdown of the rows of a measure: a column each of what they are of."""
    keys, columns = ["weights", "branch", "class", "by"], table["of"].unique()
    lines = [[*keys, *columns, "windows"], ["---"] * (len(keys) + len(columns) + 1)]
    for names, rows in table.groupby(keys, sort=False):
        lines.append([*names, *map(cell, rows.itertuples()), str(rows["n"].iloc[0])])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

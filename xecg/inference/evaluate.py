"""What maps of trained weights are worth on a store: are they faithful, do branches use them?"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xecg.data.databases.base import AF
from xecg.data.splits import seen
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError, check_ranges
from xecg.explain.attributions import BranchExplainer
from xecg.explain.effects import TITLES, agreement, measured, wave_effects
from xecg.explain.faithfulness import METHODS, evaluate_maps
from xecg.explain.relevance import CLASSES
from xecg.files import check_empty, csv_text, whole_folder, write_whole
from xecg.inference.model import Model
from xecg.metrics.bootstrap import intervals, means, with_intervals
from xecg.networks.weights import WeightsInfo, find_weights, load_xecgarch
from xecg.networks.xecgarch import XECGArch
from xecg.signal.waves import codes_around_r_peaks

_TABLES = {  # file: what its columns are, what it says
    "areas": (
        "filling",
        "Area between the perturbation curves of the explained class's probability, least minus "
        "most relevant segments first: above 0 where the map puts first what matters.",
    ),
    "randomisation": (
        "stage",
        "Spearman's rho with the trained network's map when the weights are random from the output "
        "down to a stage: near 1 where the map does not depend on the weights.",
    ),
    "agreement": (
        "networks",
        "Mean of Spearman's rho between the maps of several networks that agree on the class.",
    ),
}
Tables = Mapping[str, pd.DataFrame]
_KINDS = ("enrichment", "effect", "flips")  # of measures of a wave


def evaluate(
    store: Path,
    out: Path = Path("faithfulness"),
    *,
    weights: list[str] | None = None,
    split: Literal["unseen", "all"] = "unseen",
    windows: int = 200,
    methods: list[str] | None = None,
    seed: int = 0,
) -> None:
    """Evaluates whether maps show what each branch used, for the class that it predicts.

    Writes areas.csv (segments of 20 ms are replaced, most and least relevant first),
    randomisation.csv (maps under random weights) and, of several weights, agreement.csv; prints
    them and what they say. Two controls, the steepness of the signal and a random order, know no
    network.

    Args:
        store: Folder of a prepared store.
        out: New or empty folder for the tables.
        weights: Weights files or names of released weights (default: xecgarch); the first are
            evaluated, several are compared with each other.
        split: ``unseen`` takes persons and records that no weights learnt from; ``all`` takes all.
        windows: Number of windows at most, drawn at random.
        methods: Attribution methods to evaluate (default: innvestigate, zbox, gradient,
            input_x_gradient, and integrated_gradients, which needs captum), or class paths.
        seed: Random seed of windows, maps, weights and intervals.

    Raises XECGError if a setting, the store, the weights or the folder cannot be used.
    """
    check_ranges(windows=(windows, 1))
    check_empty(out)
    opened, networks, rows, origin = _loaded(store, weights, split, seed)
    rows = np.sort(rows[:windows])
    groups = opened.index.group.to_numpy(np.str_)[rows]
    names, rate = list(dict.fromkeys(methods or METHODS)), opened.info.preprocessing.sampling_rate
    about = opened.signals[rows], groups, rate, names, seed
    with whole_folder(out) as new:
        for name, table in evaluate_maps([*networks.values()], *about).items():
            write_whole(new / f"{name}.csv", csv_text(table))
    _print_counts(opened, rows, origin)
    for says, shown in faithfulness_of(out).items():
        print(f"\n{says}\n{shown.to_string()}")


def faithfulness_of(folder: Path) -> dict[str, pd.DataFrame]:
    """Returns the tables that :func:`evaluate` wrote into a folder, as text, by what they say.

    Raises ConfigError if there is none.
    """
    tables = {}
    for name, (columns, says) in _TABLES.items():
        if (path := folder / f"{name}.csv").is_file():
            tables[says] = with_intervals(pd.read_csv(path), ["branch", "method"], columns)
    if not tables:
        names = ", ".join(_TABLES)
        raise ConfigError(f"faithfulness: expected {names} (CSV) in {folder}, found none")
    return tables


def effects(
    store: Path,
    out: Path = Path("effects.csv"),
    *,
    weights: list[str] | None = None,
    split: Literal["unseen", "all"] = "unseen",
    windows: int = 500,
    methods: list[str] | None = None,
    fillings: list[str] | None = None,
    seed: int = 0,
) -> None:
    """Measures what each branch uses, where its maps lie, and whether the two agree.

    Of windows that a branch predicts rightly, by class: enrichment of waves by each attribution
    method; fall of the logit margin and share of decisions that flip when a wave is replaced, RR
    intervals are made equal or fibrillatory waves added; Spearman's rho over waves and windows of
    enrichment and fall. Prints the table too. Waves are annotated ones where a window has them,
    else relative to the R peaks. See xecg.explain.wave_effects.

    Args:
        store: Folder of a prepared store.
        out: Table to write (CSV).
        weights: Weights files or names of released weights (default: xecgarch), each measured.
        split: ``unseen`` takes persons and records that no weights learnt from; ``all`` takes all.
        windows: Number of windows at most, drawn at random, half of them AF if there are enough.
        methods: Attribution methods (default: innvestigate), or class paths.
        fillings: What replaces a wave: line (default), baseline, stretch.
        seed: Random seed of windows, fillings and intervals.

    Raises XECGError if a setting, the store or the weights cannot be used.
    """
    opened, networks, allowed, origin = _loaded(store, weights, split, seed)
    labels = opened.index.af.to_numpy()[allowed]
    rows = np.sort(np.concatenate([allowed[labels == code][: windows // 2] for code in (0, 1)]))
    asked = methods or ["innvestigate"], fillings or ["line"], seed
    parts = [
        part.assign(weights=name)
        for name, network in (networks.items() if len(rows) else ())
        for part in measured_use(network, opened, rows, *asked)
    ]
    if not parts:
        raise StoreError(f"{store}: expected windows that a branch predicts rightly, found none")
    table = pd.concat(parts, ignore_index=True)
    keys = ["weights", "branch", "class"]
    table = table[[*keys, *table.columns.drop(keys)]]
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, csv_text(table))
    _print_counts(opened, rows, origin)
    for measure, part in table.groupby("measure", sort=False):
        print(f"\n{measure}\n{with_intervals(part, [*keys, 'by'], 'of').to_string()}")


def _print_counts(store: Store, rows: NDArray[np.int64], origin: str) -> None:
    chosen = store.index.iloc[rows]
    n_af, groups = (chosen.af == AF).sum(), chosen.group.nunique()
    print(f"{len(rows)} windows ({n_af} in AF) of {groups} persons or records, {origin}.")


def _loaded(store: Path, weights: Sequence[str] | None, split: str, seed: int) -> tuple[Any, ...]:
    """Store, networks by name, rows in random order, and what rows they are."""
    opened, names = Store.open(store), weights or ["xecgarch"]
    files = [find_weights(name) for name in names]
    networks, said = zip(*map(load_xecgarch, files), strict=True)
    wanted, *others = (", ".join(network.branches) for network in networks)
    for path, found in zip(files[1:], others, strict=True):
        if found != wanted:
            which = f"the branches {wanted} of {files[0]}"
            raise WeightsError(f"{path}: expected {which}, found {found}")
    rows, origin = rows_to_test(opened, dict(zip(files, said, strict=True)), split)
    rows = np.random.default_rng(seed).permutation(rows)
    return opened, dict(zip(names, networks, strict=True)), rows, origin


def rows_to_test(
    store: Store, infos: Mapping[Path, WeightsInfo], split: str
) -> tuple[NDArray[np.int64], str]:
    """Returns rows of the store that may be tested on, and what kind of windows they are.

    Raises StoreError if there is none, or the windows are not such as the weights take, and
    WeightsError if unseen ones are asked for and weights do not say what they learnt from.
    """
    silent, learnt = [], np.zeros(len(store), bool)
    for path, info in infos.items():
        for name, value in store.info.preprocessing.to_dict().items():
            if (taken := info.preprocessing.get(name)) != value:
                raise StoreError(
                    f"{store.path}: expected windows as {path} takes them, {name} {taken}; found "
                    f"{name} {value}. Prepare the database again with that"
                )
        if info.learnt is None:
            silent.append(str(path))
        else:
            learnt |= seen(store.info.identity, store.index, info.learnt)
    if split == "all":
        origin = f"from all {len(store)} windows, {learnt.sum()} of them learnt from"
        if silent:
            origin = "from the whole store; whether the weights learnt from them is not known"
        return np.arange(len(store)), origin
    remedy = "pass --split all to draw from the whole store, seen or not"
    if silent:
        known = "expected weights that say what they learnt from, found older ones"
        raise WeightsError(f"{', '.join(silent)}: {known}; {remedy}")
    if learnt.all():
        unseen = "expected windows of persons that the weights did not learn from, found none"
        raise StoreError(f"{store.path}: {unseen}; {remedy}")
    return np.flatnonzero(~learnt), "of whom the weights learnt nothing"


def measured_use(
    network: XECGArch,
    store: Store,
    rows: NDArray[np.int64],
    methods: Sequence[str] = ("innvestigate",),
    fillings: Sequence[str] = ("line",),
    seed: int = 0,
) -> Iterator[pd.DataFrame]:
    """Yields what ``xecg explain effects`` writes of a network, by branch and class."""
    index, rate = store.index.take(rows), store.info.preprocessing.sampling_rate
    peaks = [store.r_peaks(row) for row in rows.tolist()]
    codes = np.array([codes_around_r_peaks(p, store.signals.shape[1], rate) for p in peaks])
    annotated, place = index.wave_row.to_numpy() >= 0, (peaks, rate, codes)
    codes[annotated] = store.waves[index.wave_row.to_numpy()[annotated]]
    x = torch.from_numpy(np.array(store.signals[rows])).unsqueeze(1)
    maps = {m: measured(BranchExplainer(network, m), x, *place, effects=False) for m in methods}
    used = {f: wave_effects(network, x, *place, filling=f, seed=seed) for f in fillings}
    for branch, (code, rhythm) in product(network.branches, enumerate(CLASSES)):
        decided = maps[methods[0]][branch].logits.argmax(dim=1).numpy()
        right = (decided == code) & (index.af.to_numpy() == code)
        if right.any():
            enriched = {method: of[branch].table[right] for method, of in maps.items()}
            effects = {filling: of[branch][right] for filling, of in used.items()}
            groups = index.group.to_numpy(np.str_)[right]
            table = _means(enriched, effects, groups, seed)
            yield table.assign(branch=branch, **{"class": rhythm})


def _means(enriched: Tables, effects: Tables, groups: NDArray[np.str_], seed: int) -> pd.DataFrame:
    """Means of all columns and all agreements, a row each, with intervals over groups."""
    columns = {
        (kind, by, TITLES[name.removeprefix(f"{kind}_")]): table[name]
        for kind, (by, table) in product(_KINDS, (*enriched.items(), *effects.items()))
        for name in map(str, table.filter(regex=f"^{kind}_"))
    }
    keys = ["measure", "by", "of"]
    found = means(pd.DataFrame(columns).rename_axis(columns=keys), groups, seed).reset_index()
    rhos = {
        f"{method}, {filling}": agreement(one.join(other))
        for (method, one), (filling, other) in product(enriched.items(), effects.items())
    }
    agreed = intervals(lambda w: {by: rho(w) for by, rho in rhos.items()}, groups, seed=seed)
    rows = [{"measure": "agreement", "by": k, "of": "rho"} | vars(one) for k, one in agreed.items()]
    return pd.concat([found, pd.DataFrame(rows)], ignore_index=True)


def wave_trial(model: Model, store: Store, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yields the enrichments, flips and agreements of :func:`measured_use`, each with one name."""
    names = {title: f"_{name}" for name, title in TITLES.items()}
    for table in measured_use(model.network, store, rows):
        shown = table[(table["measure"] != "effect") & (table["n"] > 0)]
        measure = shown["measure"] + shown["of"].map(names).fillna("")
        about = shown[["branch"]].assign(truth=shown["class"], measure=measure)
        found: Any = about.join(shown[["value", "low", "high", "n", "n_groups"]])
        yield from found.to_dict("records")

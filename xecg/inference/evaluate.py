"""What maps of trained weights are worth on a store: are they faithful, do branches use them?"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from jinja2 import Environment, PackageLoader
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xecg.data.splits import seen
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.explain import effects as changes
from xecg.explain import faithfulness
from xecg.explain.attributions import BranchExplainer
from xecg.explain.effects import agreement, wave_effects
from xecg.explain.faithfulness import ALL, FILLINGS, MEASURES, ORDERS, Settings, evaluate_maps
from xecg.explain.paper import INK, save_figure, tidy
from xecg.explain.relevance import CLASSES, wave_relevance
from xecg.files import check_empty, csv_text, write_whole
from xecg.inference.model import Model
from xecg.metrics.bootstrap import FloatArray, divide, intervals, with_interval
from xecg.networks.weights import WeightsInfo, find_weights, load_xecgarch
from xecg.networks.xecgarch import XECGArch
from xecg.signal.waves import codes_around_r_peaks

TITLES = {"innvestigate": "DTD, innvestigate", "zbox": "DTD, zbox"}
TITLES |= dict(zip(faithfulness.CONTROLS, ("steepness of the signal", "random order"), strict=True))
REPORT = "faithfulness.md"
_KINDS = ("enrichment", "effect", "flips")  # of measures of a wave
_COLOURS = ("#7d0048", "#d0539a", "#1f6f8b", "#6aaed6", "#c98a1b")


def evaluate(
    store: Path,
    out: Path = Path("faithfulness"),
    *,
    weights: list[str] | None = None,
    split: Literal["unseen", "all"] = "unseen",
    windows: int = 200,
    methods: list[str] | None = None,
    segment_ms: float = 20.0,
    steps: int = 20,
    draws: int = 20,
    seed: int = 0,
    picture: Literal["png", "svg"] = "png",
) -> str:
    """Evaluates whether maps show what each branch used; prints and returns a report in Markdown.

    Explained is the class that the branch predicts. Perturbation: segments are replaced, most and
    least relevant first; the area between the two curves is above 0 for a map that puts first what
    matters. Randomisation: how much a map resembles itself under random weights. Agreement: how
    much the maps of several weights resemble each other. Two controls know no network.

    Args:
        store: Folder of a prepared store.
        out: New or empty folder for tables, figures and the report.
        weights: Weights files or names of released weights (default: xecgarch); the first are
            evaluated, several are compared with each other.
        split: ``unseen`` takes persons and records that no weights learnt from; ``all`` takes all.
        windows: Number of windows at most, drawn at random.
        methods: Attribution methods to evaluate (default: innvestigate, zbox, gradient,
            input_x_gradient, and integrated_gradients, which needs captum), or class paths.
        segment_ms: Length of the segments that are replaced and compared, in ms.
        steps: Number of steps of a curve: 20 replace 5 % of the segments at a time.
        draws: Number of random networks; each person or record meets one of them.
        seed: Random seed of windows, maps, weights and intervals.
        picture: Kind of the figures.

    Raises:
        XECGError: A setting, the store, the weights or the folder cannot be used.
    """
    names = dict.fromkeys(faithfulness.METHODS if methods is None else methods)
    settings = Settings(tuple(names), segment_ms, steps, draws, seed)
    if windows < 1:
        raise ConfigError(f"windows: expected at least 1, found {windows}")
    check_empty(out)
    opened, networks, infos, rows, origin = _loaded(store, weights, split, seed)
    rows = np.sort(rows[:windows])
    index, rate = opened.index.take(rows), opened.info.preprocessing.sampling_rate
    groups = np.asarray(index.group, dtype=np.str_)
    tables = evaluate_maps([*networks.values()], opened.signals[rows], groups, rate, settings)
    about = {"files": infos, "index": index, "origin": origin, "settings": settings}
    report = report_of(tables, database=opened.info.recipe.database, **about)
    _write(tables, report, out, picture)
    print(report)
    return report


def _write(tables: Mapping[str, pd.DataFrame], report: str, out: Path, picture: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be made ({error})") from error
    for name, table in tables.items():
        write_whole(out / f"{name}.csv", csv_text(table))
    curves = draw_curves(tables["curves"], tables["areas"])
    save_figure(curves, out / f"curves.{picture}", dpi=150.0)
    cascades = draw_randomisation(tables["randomisation"])
    save_figure(cascades, out / f"randomisation.{picture}", dpi=150.0)
    write_whole(out / REPORT, report)


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
    opened, networks, _, allowed, origin = _loaded(store, weights, split, seed)
    labels = opened.index.af.to_numpy()[allowed]
    rows = np.sort(np.concatenate([allowed[labels == code][: windows // 2] for code in (0, 1)]))
    if not len(rows):
        raise StoreError(f"{store}: expected windows labelled AF or not, found none to measure")
    asked = methods or ["innvestigate"], fillings or ["line"], rescale, seed
    table = pd.DataFrame(
        {"weights": name} | row
        for name, network in networks.items()
        for row in measured_use(network, opened, rows, *asked)
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, csv_text(table))
    groups, keys = opened.index.group.iloc[rows], ["weights", "branch", "class", "by"]
    report = f"{len(rows)} windows of {groups.nunique()} persons or records, {origin}.\n"
    table["windows"] = table.groupby(["measure", *keys])["n"].transform("first")
    for measure, part in table.groupby("measure", sort=False):
        shown = [(of,) for of in part["of"].unique()]
        report += f"\n{measure}\n\n{_markdown(part, keys, ['of'], shown)}"
    print(report)
    return report


def _loaded(store: Path, weights: Sequence[str] | None, split: str, seed: int) -> tuple[Any, ...]:
    """Store, networks by name, what their files say, rows in random order, what rows they are."""
    opened, names = Store.open(store), weights or ["xecgarch"]
    files = [find_weights(name) for name in names]
    if len({path.resolve() for path in files}) < len(files):
        raise ConfigError("weights: expected different ones to compare; found the same file twice")
    networks, said = zip(*map(load_xecgarch, files), strict=True)
    wanted, *others = (", ".join(network.branches) for network in networks)
    for path, found in zip(files[1:], others, strict=True):
        if found != wanted:
            which = f"the branches {wanted} of {files[0]}"
            raise WeightsError(f"{path}: expected {which}, found {found}")
    infos = dict(zip(files, said, strict=True))
    rows, origin = rows_to_test(opened, infos, split)
    rows = np.random.default_rng(seed).permutation(rows)
    return opened, dict(zip(names, networks, strict=True)), infos, rows, origin


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
    rescale: bool = False,
    seed: int = 0,
) -> Iterator[dict[str, Any]]:
    """Yields what ``xecg explain effects`` writes of a network on some windows: a row a number."""
    index, rate = store.index.take(rows), store.info.preprocessing.sampling_rate
    peaks = [store.r_peaks(row) for row in rows.tolist()]
    codes = np.array([codes_around_r_peaks(p, store.signals.shape[1], rate) for p in peaks])
    annotated, place = index.wave_row.to_numpy() >= 0, (peaks, rate, codes)
    codes[annotated] = store.waves[index.wave_row.to_numpy()[annotated]]
    x = torch.from_numpy(np.array(store.signals[rows])).unsqueeze(1)
    maps = {method: BranchExplainer(network, method).explain(x) for method in methods}
    effects = {
        filling: wave_effects(network, x, *place, filling=filling, rescale=rescale, seed=seed)
        for filling in fillings
    }
    for branch in network.branches:
        shown = {m: wave_relevance(of[branch].relevance, *place) for m, of in maps.items()}
        used = {filling: of[branch] for filling, of in effects.items()}
        decided = maps[methods[0]][branch].logits.argmax(dim=1).numpy()
        for code, rhythm in enumerate(CLASSES):
            right = (decided == code) & (index.af.to_numpy() == code)
            if right.any():
                for row in _means(shown, used, right, index.group.to_numpy(np.str_), seed):
                    yield {"branch": branch, "class": rhythm} | row


def _means(
    shown: Mapping[str, pd.DataFrame],
    used: Mapping[str, pd.DataFrame],
    right: NDArray[np.bool_],
    groups: NDArray[np.str_],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """Yields a row a mean of ``right`` rows, and a row an agreement, with intervals over groups."""
    columns = {
        (kind, by, changes.TITLES[name.removeprefix(f"{kind}_")]): table[name][right]
        for kind, (by, table) in product(_KINDS, (*shown.items(), *used.items()))
        for name in map(str, table.filter(regex=f"^{kind}_"))
    }
    rhos = {
        ("agreement", f"{method}, {filling}", "rho"): agreement(enriched.join(table)[right])
        for (method, enriched), (filling, table) in product(shown.items(), used.items())
    }
    names: list[Any] = [*columns, *rhos]
    values = np.stack([*columns.values()], axis=1).astype(np.float64)
    known = (~np.isnan(values)).astype(np.float64)

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        means = divide(weights @ np.nan_to_num(values), weights @ known).T
        return dict(zip(names, [*means, *(rho(weights) for rho in rhos.values())], strict=True))

    over = dict(zip(names, ([column > 0] for column in known.T), strict=False))
    found: Any = intervals(statistics, groups[right], over=over, seed=seed)
    for (measure, by, of), one in found.items():
        yield {"measure": measure, "by": by, "of": of} | vars(one)


def wave_trial(model: Model, store: Store, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yields the enrichments, flips and agreements of :func:`measured_use`, each with one name."""
    names = {title: f"_{name}" for name, title in changes.TITLES.items()}
    for row in measured_use(model.network, store, rows):
        about = {"branch": row.pop("branch"), "truth": row.pop("class")}
        kind, of = row.pop("measure"), row.pop("of")
        if kind != "effect" and row["n"]:
            del row["by"]
            yield about | {"measure": kind + names.get(of, "")} | row


def report_of(tables: Mapping[str, pd.DataFrame], **about: Any) -> str:
    """Returns all tables in Markdown, below what they are ``about``: files, index, database, ..."""
    tables = {name: t.assign(map=t.method.map(title)) for name, t in tables.items()}
    areas, gains, cascade = tables["areas"], tables["gains"], tables["randomisation"]
    of_all, in_probability = areas[areas.predicted == ALL], areas[areas.measure == MEASURES[0]]
    classes = [name for name in CLASSES if name in set(areas.predicted)]
    stages, kinds = cascade.stage.unique(), [*product(MEASURES, FILLINGS)]
    shown = [(stages[at],) for at in (0, len(stages) * 2 // 5, -1)]
    spearman, keys = cascade[cascade.coefficient == "spearman"], ["branch", "map"]
    by_kind, of_both = ["measure", "filling"], [*product(FILLINGS, classes)]
    parts: dict[str, Any] = {
        "n_empty": of_all[of_all.measure == MEASURES[0]].empty_maps.sum() // 2,
        "areas": _markdown(of_all, keys, by_kind, kinds),
        "by_class": _markdown(in_probability, keys, ["filling", "predicted"], of_both),
        "gains": _markdown(gains[gains.predicted == ALL], keys, by_kind, kinds),
        "randomisation": _markdown(spearman, keys, ["stage"], shown),
    }
    if (agreement := tables.get("agreement")) is not None:
        parts["n_networks"] = agreement.networks.iloc[0]
        coefficients = [(name,) for name in faithfulness.COEFFICIENTS]
        parts["agreement"] = _markdown(agreement, keys, ["coefficient"], coefficients)
    environment = Environment(loader=PackageLoader("xecg.inference"), trim_blocks=True)
    return environment.get_template("faithfulness.md.j2").render(parts, **about)


def _markdown(
    table: pd.DataFrame, keys: list[str], columns: list[str], shown: Sequence[tuple[str, ...]]
) -> str:
    """Returns means with intervals: a line for each of the keys, a column for each of ``shown``."""
    lines = [[*keys, *map(", ".join, shown), "windows"]]
    lines.append(["---"] * len(lines[0]))
    grouped: Any = table.groupby(keys, sort=False)
    for names, rows in grouped:
        kinds = rows[columns].itertuples(index=False, name=None)
        found = dict(zip(kinds, rows.to_dict("records"), strict=True))
        cells = [with_interval(found[kind]) if kind in found else "-" for kind in shown]
        counts = {kind[-1]: str(found[kind]["windows"] if kind in found else 0) for kind in shown}
        numbers = [*counts.values()]
        windows = numbers[0] if len(set(numbers)) == 1 else " / ".join(numbers)
        lines.append([*names, *cells, windows])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def draw_curves(curves: pd.DataFrame, areas: pd.DataFrame) -> Figure:
    """Draws the change of the explained class's probability: a panel a map, filling and branch."""
    curves, areas = (t[(t.predicted == ALL) & (t.measure == MEASURES[0])] for t in (curves, areas))
    lines, methods = [*product(areas.branch.unique(), FILLINGS)], [*areas.method.unique()]
    size = (2 + 1.75 * len(methods), 1.1 + 1.65 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(lines), len(methods), sharex=True, sharey="row", squeeze=False)
    areas = areas.set_index(["branch", "filling", "method"])
    panels: Any = curves.groupby([*areas.index.names], sort=False)
    for panel, rows in panels:
        axes = grid[lines.index(panel[:2]), methods.index(panel[2])]
        tidy(axes)
        for order, colour in zip(ORDERS, ("#7d0048", "#5b6b8c"), strict=True):
            row = rows[rows.order == order]
            axes.plot(row.share, row.value, color=colour, linewidth=1.4, label=ORDERS[order])
            axes.fill_between(row.share, row.low, row.high, color=colour, alpha=0.18, linewidth=0)
        area: Any = areas.loc[panel]
        text = f"{area.value:+.2f} [{area.low:.2f}, {area.high:.2f}]"
        axes.text(0.03, 0.04, text, transform=axes.transAxes, fontsize=7.5, color=INK)
        axes.set(xlim=(0, 1), xticks=(0, 0.5, 1), xticklabels=("0", "0.5", "1"), ymargin=0.15)
    for axes, line in zip(grid[:, 0], lines, strict=True):
        axes.set_ylabel("\n".join(line), color=INK)
    for axes, method in zip(grid[0], methods, strict=True):
        axes.set_title(title(method), fontsize=9, color=INK)
    figure.supxlabel("share of the window that is replaced", fontsize=10, color=INK)
    figure.supylabel("change of the predicted class's probability", fontsize=10, color=INK)
    legend = grid[0][0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside upper right", ncols=2, frameon=False)
    return figure


def draw_randomisation(table: pd.DataFrame) -> Figure:
    """Draws Spearman's correlation with the trained network's map by stage, a panel a branch."""
    branches = table[table.coefficient == "spearman"].groupby("branch", sort=False)
    stages = table.stage.unique()
    figure = Figure(figsize=(2.2 + 4.2 * len(branches), 3.8), layout="constrained")
    panels = figure.subplots(1, len(branches), sharey=True, squeeze=False)[0]
    style = {"marker": "o", "markersize": 3.5, "linewidth": 1.2, "elinewidth": 0.7}
    for axes, (branch, of_branch) in zip(panels, branches, strict=True):
        tidy(axes)
        axes.set_title(branch, fontsize=10, color=INK)
        axes.set_xlabel("random from the output down to", color=INK)
        for number, (method, line) in enumerate(of_branch.groupby("method", sort=False)):
            look = style | {"color": _COLOURS[number % len(_COLOURS)], "label": title(str(method))}
            interval = [line.value - line.low, line.high - line.value]
            axes.errorbar(np.arange(len(line)) + 0.07 * (number - 2), line.value, interval, **look)
        axes.set_xticks(range(len(stages)), stages, rotation=45, ha="right")
    panels[0].set_ylabel("Spearman's correlation\nwith the trained network's map", color=INK)
    legend = panels[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside right center", frameon=False, fontsize=9)
    return figure


def title(method: str) -> str:
    """Returns the name of a method in tables and figures."""
    return TITLES.get(method, method.replace("_", " "))

"""Whether maps of trained weights are faithful, on a store: tables, figures and a report."""

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from xecg.data.splits import seen
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.explain import faithfulness
from xecg.explain.faithfulness import ALL, FILLINGS, MEASURES, ORDERS, Settings, evaluate_maps
from xecg.explain.paper import INK, QUIET_INK, save_figure
from xecg.explain.relevance import CLASSES
from xecg.files import csv_text, write_whole
from xecg.networks.weights import WeightsInfo, find_weights, load_xecgarch
from xecg.networks.xecgarch import XECGArch

TITLES = {"innvestigate": "DTD, innvestigate", "zbox": "DTD, zbox"}
TITLES |= dict(zip(faithfulness.CONTROLS, ("steepness of the signal", "random order"), strict=True))
REPORT = "faithfulness.md"
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
        ConfigError: A setting is out of range, or the folder is not empty.
        StoreError: The store cannot be used, or its windows are not what the weights take.
        WeightsError: Weights cannot be used, do not go together, or are not known to be unseen.
    """
    names = dict.fromkeys(faithfulness.METHODS if methods is None else methods)
    settings = Settings(tuple(names), segment_ms, steps, draws, seed)
    if windows < 1:
        raise ConfigError(f"windows: expected at least 1, found {windows}")
    check_empty(out)
    opened = Store.open(store)
    networks, infos = load_networks(weights or ["xecgarch"])
    rows, origin = rows_to_test(opened, infos, split)
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:windows])
    index, rate = opened.index.take(rows), opened.info.preprocessing.sampling_rate
    groups = np.asarray(index.group, dtype=np.str_)
    tables = evaluate_maps(networks, opened.signals[rows], groups, rate, settings)
    about = {"files": infos, "index": index, "origin": origin, "settings": settings}
    report = report_of(tables, database=opened.info.recipe.database, **about)
    _write(tables, report, out, picture)
    print(report)
    return report


def load_networks(weights: Sequence[str]) -> tuple[list[XECGArch], dict[Path, WeightsInfo]]:
    """Returns the networks and, by file, what it says of itself."""
    files = [find_weights(source) for source in weights]
    if len({path.resolve() for path in files}) < len(files):
        raise ConfigError("weights: expected different ones to compare; found the same file twice")
    networks, infos = zip(*(load_xecgarch(path) for path in files), strict=True)
    for path, network in zip(files, networks, strict=True):
        wanted, found = (", ".join(of.branches) for of in (networks[0], network))
        if found != wanted:
            which = f"the branches {wanted} of {files[0]}"
            raise WeightsError(f"{path}: expected {which}, found {found}")
    return list(networks), dict(zip(files, infos, strict=True))


def check_empty(out: Path) -> None:
    """Raises ConfigError if there is something at ``out`` that is no empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} is no empty folder; name another one")


def rows_to_test(
    store: Store, infos: Mapping[Path, WeightsInfo], split: str
) -> tuple[NDArray[np.int64], str]:
    """Returns rows of the store that may be tested on, and what kind of windows they are.

    Raises StoreError if there is none, or the windows are not such as the weights take, and
    WeightsError if unseen ones are asked for and weights do not say what they learnt from.
    """
    for path, info in infos.items():
        for name, value in store.info.preprocessing.to_dict().items():
            if (taken := info.preprocessing.get(name)) != value:
                raise StoreError(
                    f"{store.path}: expected windows as {path} takes them, {name} {taken}; found "
                    f"{name} {value}. Prepare the database again with that"
                )
    silent = [str(path) for path, info in infos.items() if info.learnt is None]
    learnt = np.zeros(len(store), bool)
    for info in infos.values():
        if info.learnt is not None:
            learnt |= seen(store.info.identity, store.index, info.learnt)
    if split == "all":
        origin = f"from all {len(store)} windows, {learnt.sum()} of them learnt from"
        if silent:
            origin = "from the whole store; whether the weights learnt from them is not known"
        return np.arange(len(store)), origin
    if silent:
        raise WeightsError(
            f"{', '.join(silent)}: expected weights that say what they learnt from, found older "
            "ones; pass --split all to draw from the whole store, seen or not"
        )
    if learnt.all():
        raise StoreError(
            f"{store.path}: expected windows of persons that the weights did not learn from, "
            "found none; pass --split all to use windows that they did learn from"
        )
    return np.flatnonzero(~learnt), "of whom the weights learnt nothing"


def _write(tables: Mapping[str, pd.DataFrame], report: str, out: Path, picture: str) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"out: {out} cannot be made ({error})") from error
    for name, table in tables.items():
        write_whole(out / f"{name}.csv", csv_text(table))
    figures = {"curves": draw_curves(tables["curves"], tables["areas"])}
    figures["randomisation"] = draw_randomisation(tables["randomisation"])
    for name, figure in figures.items():
        save_figure(figure, out / f"{name}.{picture}", dpi=150.0)
    write_whole(out / REPORT, report)


def report_of(tables: Mapping[str, pd.DataFrame], **about: Any) -> str:
    """Returns all tables in Markdown, below what they are ``about``: files, index, database, ..."""
    areas, gains, cascade = tables["areas"], tables["gains"], tables["randomisation"]
    of_all, in_probability = areas[areas.predicted == ALL], areas[areas.measure == MEASURES[0]]
    classes = [name for name in CLASSES if name in set(areas.predicted)]
    stages, kinds = cascade.stage.unique(), [*product(MEASURES, FILLINGS)]
    shown = [(stages[at],) for at in (0, len(stages) * 2 // 5, -1)]
    by_kind, of_both = ["measure", "filling"], [*product(FILLINGS, classes)]
    parts: dict[str, Any] = {
        "n_empty": of_all[of_all.measure == MEASURES[0]].empty_maps.sum() // 2,
        "areas": _wide(of_all, by_kind, kinds),
        "by_class": _wide(in_probability, ["filling", "predicted"], of_both),
        "gains": _wide(gains[gains.predicted == ALL], by_kind, kinds),
        "randomisation": _wide(cascade[cascade.coefficient == "spearman"], ["stage"], shown),
    }
    if (agreement := tables.get("agreement")) is not None:
        parts["n_networks"] = agreement.networks.iloc[0]
        coefficients = [(name,) for name in faithfulness.COEFFICIENTS]
        parts["agreement"] = _wide(agreement, ["coefficient"], coefficients)
    environment = Environment(loader=PackageLoader("xecg.inference"), trim_blocks=True)
    return environment.get_template("faithfulness.md.j2").render(parts, **about)


def _wide(table: pd.DataFrame, columns: list[str], shown: Sequence[tuple[str, ...]]) -> str:
    """Returns Markdown of means: a line a branch and map, a column each of ``shown``."""
    lines = [["branch", "map", *(", ".join(kind) for kind in shown), "windows"]]
    lines.append(["---"] * len(lines[0]))
    keys = table[["branch", "method", *columns]].itertuples(index=False, name=None)
    known: dict[tuple[str, ...], Any] = dict(zip(keys, table.itertuples(), strict=True))
    for branch, method in dict.fromkeys(key[:2] for key in known):
        rows = {kind: known.get((branch, method, *kind)) for kind in shown}
        counts = {kind[-1]: str(row.windows if row else 0) for kind, row in rows.items()}
        numbers = [*counts.values()]
        windows = numbers[0] if len(set(numbers)) == 1 else " / ".join(numbers)
        lines.append([branch, title(method), *map(cell, rows.values()), windows])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cell(row: Any) -> str:
    """Returns the mean and interval of a row, for a table in Markdown."""
    if row is None or np.isnan(row.value):
        return "-"
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"


def draw_curves(curves: pd.DataFrame, areas: pd.DataFrame) -> Figure:
    """Draws the change of the explained class's probability: a panel a map, filling and branch."""
    curves, areas = (t[(t.predicted == ALL) & (t.measure == MEASURES[0])] for t in (curves, areas))
    lines, methods = [*product(areas.branch.unique(), FILLINGS)], areas.method.unique()
    size = (2 + 1.75 * len(methods), 1.1 + 1.65 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(lines), len(methods), sharex=True, sharey="row", squeeze=False)
    panels = dict(zip(product(lines, methods), grid.flat, strict=True))
    areas = areas.set_index(["branch", "filling", "method"])
    for (line, method), axes in panels.items():
        of_map = curves[(curves.branch == line[0]) & (curves.filling == line[1])]
        tidy(axes)
        axes.set_ymargin(0.15)  # room for the area's numbers
        for order, colour in zip(ORDERS, ("#7d0048", "#5b6b8c"), strict=True):
            row = of_map[(of_map.method == method) & (of_map.order == order)]
            axes.plot(row.share, row.value, color=colour, linewidth=1.4, label=ORDERS[order])
            axes.fill_between(row.share, row.low, row.high, color=colour, alpha=0.18, linewidth=0)
        area: Any = areas.loc[(*line, method)]
        text = f"{area.value:+.2f} [{area.low:.2f}, {area.high:.2f}]"
        axes.text(0.03, 0.04, text, transform=axes.transAxes, fontsize=7.5, color=INK)
        axes.set_xlim(0, 1)
        axes.set_xticks((0, 0.5, 1), ("0", "0.5", "1"))
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


def tidy(axes: Axes) -> None:
    """Gives axes quiet lines and small numbers."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET_INK)
    axes.tick_params(colors=QUIET_INK, labelsize=8)
    axes.axhline(0, color=QUIET_INK, linewidth=0.6)

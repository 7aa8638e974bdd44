"""``xecg study report``: tables, figures and a page of what a folder of runs shows."""

from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from tqdm import tqdm

from xecg.errors import ConfigError, check_ranges
from xecg.explain.figures import QUIET_INK, save_svg
from xecg.explain.relevance import CLASSES, OWN_WAVE, wave_title
from xecg.files import REPORT, SUMS, check_sums, whole_folder, write_whole
from xecg.inference.explain import inline
from xecg.metrics.bootstrap import with_interval
from xecg.networks.xecgarch import FUSED
from xecg.study.ladder import (
    AGREEMENT,
    EFFECTS,
    KEY,
    METRICS,
    SCRATCH,
    SPECIFICITY,
    Analysis,
    Key,
    analyse,
    read_ladders,
    read_runs,
    select,
)
from xecg.study.run import Reference, Study, cells_of, read_study

PAGE = "report.html"
_STYLE = Path(__file__).parent / "templates" / "figures.mplstyle"
_ROW = ["test_set", "part", "frozen_layers", "value", "low", "high", "seeds", "seed_sd"]
_ROW += ["fewest_windows", "most_windows", "fewest_groups"]
_RHO = ["rho", "low", "high", "p", "permutations", "exact", "depths", "lowest_seed_rho"]
_FIGURES = {  # name: label of the vertical axis, and what stands for no preference on it
    "specificity": ("domain specificity (bits; 0: no preference)", 0),
    "relevance": ("enrichment (share of relevance\n/ share of time; 1: chance)", 1),
    "effects": ("share of decisions that flip", 0),
    "accuracy": ("", None),
}
_GAP = 1.7  # from the first rung to training from scratch
_ASIDE = 0.16  # from a mean to the dots of its seeds
_DASHES: Any = (0, (5, 3))
_BAND = "#ece0bf"
# Label, colour (distinct in lightness too), marker, and how far a line stands to the right, so that
# intervals are side by side.
_LOOKS = {
    "morphology": ("morphology", "#7d0048", "o", 0.0),
    "rhythm": ("rhythm", "#1f6f8b", "s", 0.0),
    FUSED: (FUSED, "#2b2f36", "D", 0.0),
    "P": ("P wave (AF: where it would be)", "#c2700f", "^", -0.06),
    "QRS": ("QRS complex", "#35599a", "o", 0.06),
    "other": ("as much of the T-P stretch", QUIET_INK, "s", 0.0),
    "non-AF": ("non-AF", "#2b2f36", "o", -0.06),
    "AF": ("AF (P: where it would be)", "#b5651d", "s", 0.06),
}


def write_report(
    folder: Path,
    *,
    out: Path | None = None,
    config: Path | None = None,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> Path:
    """Writes what the finished runs of a folder show: tables (CSV), figures and a page.

    Metrics, enrichment of waves, effects and domain specificity against the frozen depth, and
    trends. An unfinished study is reported as far as it is.

    Args:
        folder: Folder of a study, or of runs that W&B agents made with ``xecg fit``.
        out: Folder to write to; FOLDER/report by default.
        config: Config of a study whose reference values are shown; that of the study by default.
        resamples: Number of resamples of the bootstrap.
        permutations: Number of permutations of a test that has more.
        seed: Random seed of resamples and permutations.

    Returns:
        Path of the page.

    Raises:
        XECGError: The runs or the folder cannot be used.
    """
    out = out or folder / "report"
    check_ranges("--", resamples=(resamples, 1), permutations=(permutations, 1))
    if out.exists() and not (out / PAGE).exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something that is no report; name another folder")
    own = _own(folder)
    study = read_study(config) if config else own
    reference = study.reference if study else Reference()
    runs, left_out = read_runs(folder)
    analyses = [
        analyse(ladder, resamples, permutations, seed, reference)
        for ladder in tqdm(list(read_ladders(runs)), "analyse", disable=None)
    ]
    tested = _pretraining(runs)
    with whole_folder(out) as new:
        sections = [
            _section(analysis, reference) | {"figures": _figures(analysis, reference, new)}
            for analysis in tqdm(analyses, "draw", disable=None)
        ]
        _write_tables(analyses, [section["ranges"] for section in sections], tested, new)
        facts = {"runs": runs, "left_out": left_out, "sections": sections, "pretraining": tested}
        facts |= {"reference": reference, "resamples": resamples, "permutations": permutations}
        asked = cells_of(study) if study and own else []
        _write_page(new / PAGE, folder, **facts, cells=[cell.name for cell in asked])
    print(f"Everything is in {out / PAGE}")
    return out / PAGE


def _own(folder: Path) -> Study | None:
    """The study of a folder, if it is one's."""
    kept = folder / "study.yaml"
    if not kept.exists() and not (folder / SUMS).exists():
        return None
    check_sums(folder)
    return read_study(kept)


def _pretraining(runs: pd.DataFrame) -> pd.DataFrame:
    """What the tests of the pre-trained branches found."""
    pretrained = runs[runs["branch"] != ""][["branch", "seed", "folder"]].to_numpy()
    tables = {tuple(key): pd.read_csv(run / REPORT) for *key, run in pretrained}
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, names=["branch", "seed"]).reset_index(["branch", "seed"])


def _write_tables(
    analyses: list[Analysis], ranges: list[pd.DataFrame], tested: pd.DataFrame, folder: Path
) -> None:
    means = pd.concat([analysis.means for analysis in analyses])
    trends = pd.concat([analysis.trends for analysis in analyses])
    means = means.assign(frozen_layers=means["depth"].map(depth_title))
    measure, order = means["measure"], [analysis.ladder.test_set for analysis in analyses]
    metrics = means[measure.isin(METRICS)].sort_values(
        ["test_set", "measure"], key=lambda c: c.map([*order, *METRICS].index), kind="stable"
    )
    used = measure.isin([*EFFECTS, AGREEMENT])
    others = ~measure.isin([*METRICS, "enrichment", SPECIFICITY]) & ~used
    tables = {
        "accuracy": metrics.rename(columns={"measure": "metric"})[["metric", *_ROW]],
        "accuracy_range": pd.concat(ranges),
        "relevance": means[measure == "enrichment"][["class", "wave", *_ROW]],
        "effects": means[used][["measure", "class", "wave", *_ROW]],
        "specificity": means[measure == SPECIFICITY][["class", *_ROW]],
        "statistics": means[others][["measure", "class", *_ROW]],
        "trend": trends[["test_set", *KEY, *_RHO]],
        "pretraining": tested,
    }
    for name, table in tables.items():
        if len(table):
            text = table.to_csv(index=False, float_format="%.6g", na_rep="nan")
            write_whole(folder / f"{name}.csv", text)


def _ranges(analysis: Analysis, reference: Reference) -> pd.DataFrame:
    """Lowest and highest accuracy over the rungs, fused first."""
    means = analysis.means
    rungs = means[(means["measure"] == "accuracy") & (means["depth"] != SCRATCH)]
    places = rungs.groupby("part")["value"].agg(lowest="idxmin", highest="idxmax")
    names = {"test_set": analysis.ladder.test_set, "part": places.index}
    table = pd.DataFrame(names, index=places.index)
    for end in places:
        found = rungs.loc[places[end]].set_index("part")[["value", "low", "high", "depth"]]
        table[[end, f"{end}_low", f"{end}_high", f"{end}_frozen_layers"]] = found
    table[["published_lowest", "published_highest"]] = reference.accuracy_range or (np.nan, np.nan)
    parts = [part for part in (FUSED, *analysis.ladder.branches) if part in places.index]
    return table.loc[parts].reset_index(drop=True)


def _section(analysis: Analysis, reference: Reference) -> dict[str, Any]:
    """What the page shows of a test set in numbers."""
    trends = analysis.trends
    titles = [
        wave_title(wave, rhythm) or ", ".join(filter(None, (part, rhythm)))
        for _, part, rhythm, wave in analysis.means[KEY].to_numpy()
    ]
    means = analysis.means.assign(title=titles)
    reached = (trends["rho"] >= reference.rho) & (trends["low"] > 0)
    answer = reached.map({True: "yes", False: "no"}).mask(trends["rho"].isna(), "cannot be told")
    specific = trends["measure"] == SPECIFICITY
    return {
        "ladder": analysis.ladder,
        "of": lambda measure: means[means["measure"] == measure],
        "claim": trends.assign(reached=answer)[specific],
        "trends": trends[~specific],
        "ranges": _ranges(analysis, reference),
    }


def _write_page(path: Path, folder: Path, **facts: Any) -> None:
    """Writes the page of a folder of runs, and prints of each test set what it says first."""
    texts = (folder / "failed").glob("*.txt")
    facts["failed"] = {text.stem: text.read_text(errors="replace") for text in texts}
    facts["title"] = f"Study {folder.resolve().name}: the ladder of frozen depths"
    facts |= {"version": version("xecg-lightning"), "metrics": METRICS, "span": span}
    facts |= {"interval": with_interval, "p_text": p_text, "depth_title": depth_title}
    pages = ChoiceLoader([PackageLoader("xecg.study"), PackageLoader("xecg.inference")])
    environment = Environment(loader=pages, autoescape=True, trim_blocks=True)
    write_whole(path, environment.get_template("report.html.j2").render(facts))
    for section in facts["sections"]:
        claim = section["claim"][["part", "class", "measure", "rho", "low", "high", "p", "reached"]]
        agree = section["of"](AGREEMENT).pivot(index="depth", columns="title", values="value")
        agree = agree.rename(index=depth_title).rename_axis(AGREEMENT, axis=1).reset_index()
        for table in (claim, section["ranges"], *([agree] if len(agree) else [])):
            print(table.round(3).to_string(index=False), end="\n\n")


def _figures(analysis: Analysis, reference: Reference, folder: Path) -> dict[str, str]:
    """Draws the figures that there is something for; returns them as part of a page."""
    pictures = {}
    with style.context(_STYLE):
        for kind in _FIGURES:
            panels = _panels(kind, analysis.ladder.branches)
            if analysis.means["measure"].isin([*_keys(panels)]).any():
                figure = _draw(kind, panels, analysis, reference)
                path = folder / f"{kind}_{analysis.ladder.test_set}.svg"
                pictures[kind] = inline(save_svg(figure, path))["src"]
    return pictures


def _panels(kind: str, branches: list[str]) -> list[list[dict[str, Key]]]:
    """Rows of panels of a figure, each with the measures that it shows, by look."""
    if kind == "accuracy":
        parts = [*branches, FUSED]
        return [[{part: (metric, part, "", "")} for part in parts] for metric in METRICS]
    if kind == "specificity":
        own = [branch for branch in branches if branch in OWN_WAVE]
        return [[{c: (SPECIFICITY, branch, c, "") for c in CLASSES} for branch in own]]
    measure, waves = "enrichment", ["P", "QRS"]
    if kind == "effects":
        measure, waves = "flips", ["P", "QRS", "other"]
    return [[{w: (measure, branch, c, w) for w in waves} for c in CLASSES] for branch in branches]


def _keys(panels: list[list[dict[str, Key]]]) -> set[str]:
    return {key[0] for panel in chain(*panels) for key in panel.values()}


def _draw(
    kind: str, panels: list[list[dict[str, Key]]], analysis: Analysis, reference: Reference
) -> Figure:
    """Draws means and intervals against depth, with what the figure is of above it."""
    ladder, (label, neutral) = analysis.ladder, _FIGURES[kind]
    rows, columns = len(panels), len(panels[0])
    figure = Figure(figsize=(0.9 + 4.8 * columns, 1.15 + 2.8 * rows))
    figure.suptitle(ladder.title, x=0.01, ha="left", fontsize=9, color=QUIET_INK)
    sharing: Any = {"sharex": True, "sharey": "row" if kind == "accuracy" else "all"}
    grid = figure.subplots(rows, columns, squeeze=False, **sharing)
    for axes, panel in zip(grid.flat, chain(*panels), strict=True):
        if neutral is not None:
            axes.axhline(neutral, color=QUIET_INK, linewidth=0.8, zorder=1)
        for look, key in panel.items():
            _draw_line(axes, analysis, key, look)
        axes.set_title(_title(analysis, panel))
    for axes, (panel, *_) in zip(grid[:, 0], panels, strict=True):
        axes.set_ylabel(label or METRICS[next(iter(panel.values()))[0]])
    if kind == "relevance":
        grid[0, 0].set_yscale("log", base=2)
        grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    looks = [] if kind == "accuracy" else [*panels[0][0]]
    known = analysis.means["known"][analysis.means["measure"].isin(_keys(panels))].notna().any()
    styles = _legend(looks, len(ladder.seeds) > 1, reference.title if known else "")
    if kind == "accuracy" and reference.accuracy_range:
        grid[0, -1].axhspan(*reference.accuracy_range, color=_BAND, zorder=0)
        styles.append({"label": "published range", "color": _BAND, "linewidth": 6})
    places = _place(pd.Series(ladder.depths), ladder.depths)
    grid[0, 0].set_xticks(places, [depth_title(depth) for depth in ladder.depths])
    for axes in grid[-1]:
        axes.set_xlabel("frozen blocks, counted from the input")
    handles = [Line2D([], [], **style) for style in styles]
    figure.legend(handles=handles, loc="outside lower left", ncols=len(handles))
    return figure


def _title(analysis: Analysis, panel: dict[str, Key]) -> str:
    """What a panel is of: branch and class, number of windows, rho or agreement."""
    lines = []
    for key in panel.values():
        measure, part, rhythm, _ = key
        means = select(analysis.means, *key)
        if measure == SPECIFICITY:
            row = select(analysis.trends, *key).iloc[0]
            rho = f"rho {with_interval(row, 2, 'rho')}, p = {p_text(row)}"
            said = "rho needs three depths that differ" if np.isnan(row["rho"]) else rho
            lines.append(f"{rhythm} (n {span(means)}): {said}")
        elif measure not in METRICS:
            lines = [f"{rhythm}, {span(means)} windows a network"]
    agreed = select(analysis.means, AGREEMENT, part, rhythm, "")["value"]
    if measure == "flips":
        lines.append(f"agreement with relevance {agreed.min():.2f} to {agreed.max():.2f}")
    return "\n".join(["both branches fused" if part == FUSED else f"{part} branch", *lines])


def _draw_line(axes: Axes, analysis: Analysis, key: Key, look: str) -> None:
    """Draws means with intervals, joined over the rungs, the seeds beside them, the reference."""
    depths, means = analysis.ladder.depths, select(analysis.means, *key)
    _, colour, marker, shift = _LOOKS.get(look, (look, QUIET_INK, "o", 0.0))
    for known in means["known"].dropna().unique():
        axes.axhline(known, color=colour, linewidth=1.0, linestyle=_DASHES, zorder=2)
    style: dict[str, Any] = {"color": colour, "marker": marker, "linewidth": 1.5}
    for line, rows in means.groupby(np.where(means["depth"] == SCRATCH, "none", "-")):
        x, value = _place(rows["depth"], depths) + shift, rows["value"]
        # Rounding must not make a length negative.
        errors = np.clip([value - rows["low"], rows["high"] - value], 0, None)
        style |= {"linestyle": line, "elinewidth": 1.0, "zorder": 3}
        axes.errorbar(x, value, yerr=errors, **style)
    networks = select(analysis.networks, *key)
    several = networks[networks.groupby("depth")["seed"].transform("size") > 1]
    places = _place(several["depth"], depths) + shift + np.copysign(_ASIDE, shift)
    style = {"markersize": 2.4, "markeredgewidth": 0, "alpha": 0.6, "zorder": 4}
    axes.plot(places, several["value"], "o", color=colour, **style)


def _place(depths: pd.Series, all_depths: list[int]) -> pd.Series:
    """Where depths stand on the axis: training from scratch at the left, behind a gap."""
    first = min((depth for depth in all_depths if depth != SCRATCH), default=0)
    return depths.astype(float).where(depths != SCRATCH, first - _GAP)


def _legend(looks: list[str], several: bool, reference: str) -> list[dict[str, Any]]:
    """Looks of lines, what marks and small dots mean, and what is drawn beside the study."""
    names = "label", "color", "marker"
    handles: list[Any] = [dict(zip(names, _LOOKS[look][:3], strict=True)) for look in looks]
    mean = f"{'mean over seeds' if several else 'network'}, 95 % interval over persons or records"
    marks = {"color": QUIET_INK, "linestyle": "none"}
    handles.append(marks | {"label": mean, "marker": "|", "markersize": 9})
    if several:
        handles.append(marks | {"label": "each seed", "marker": "o", "markersize": 2.4})
    if reference:
        handles.append(marks | {"label": reference, "linestyle": _DASHES, "linewidth": 1.0})
    return handles


def depth_title(depth: int) -> str:
    """Returns a depth as tables and figures show it."""
    return "scratch" if depth == SCRATCH else str(depth)


def p_text(row: Any) -> str:
    """Returns a p value with as many digits as its permutations carry."""
    n = row["permutations"]
    return "-" if np.isnan(row["p"]) else f"{row['p']:.{4 if n >= 1000 else 3 if n >= 100 else 2}f}"


def span(means: pd.DataFrame) -> str:
    """Returns the fewest and the most windows that a network's number is of."""
    low, high = means["fewest_windows"].min(), means["most_windows"].max()
    return f"{low}" if low == high else f"{low} to {high}"

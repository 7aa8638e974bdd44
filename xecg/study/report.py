"""``xecg study report``: tables, figures and a page of what a folder of runs shows."""

import tempfile
from argparse import ArgumentError
from base64 import b64encode
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader
from jsonargparse import ArgumentParser
from tqdm import tqdm

from xecg.data.datamodules import WindowDataModule
from xecg.errors import ConfigError, DataError, XECGError
from xecg.explain.attributions import BranchExplainer
from xecg.explain.pictures import FUSED, ExplainedWindow, draw_page, save_figure
from xecg.explain.relevance import CLASSES, WAVES, wave_title
from xecg.files import write_whole
from xecg.networks.weights import load_xecgarch
from xecg.study.figures import FIGURES, depth_title, p_text, select, span, with_interval
from xecg.study.ladder import (
    KEY,
    METRICS,
    SCRATCH,
    SPECIFICITY,
    TRADED_CLASS,
    Analysis,
    Ladder,
    analyse,
    read_ladders,
    read_runs,
)
from xecg.study.plan import Explain, Reference, cells_of, read_study

PAGE = "report.html"
_ROW = ["test_set", "part", "frozen_layers", "value", "low", "high", "seeds", "seed_sd"]
_ROW += ["fewest_windows", "most_windows", "fewest_groups"]
_RHO = ["rho", "low", "high", "p", "permutations", "exact", "depths", "lowest_seed_rho"]


def write_report(
    folder: Path,
    *,
    out: Path | None = None,
    config: Path | None = None,
    example_depths: list[int] | None = None,
    no_examples: bool = False,
    resamples: int = 1000,
    permutations: int = 9999,
    seed: int = 0,
) -> Path:
    """Writes what the finished runs of a folder show: tables (CSV), figures and a page.

    Metrics, enrichment of waves and domain specificity against the frozen depth, trends, and ECGs
    explained at several depths. An unfinished study is reported as far as it is.

    Args:
        folder: Folder of a study, or of runs that W&B agents made with ``xecg fit``.
        out: Folder to write to; FOLDER/report by default.
        config: Config of a study whose reference values are shown; that of the study by default.
        example_depths: Frozen depths of the example ECGs, 0 3 8 by default.
        no_examples: Leave the example ECGs out.
        resamples: Number of resamples of the bootstrap.
        permutations: Number of permutations of a test that has more.
        seed: Random seed of resamples, permutations and examples.

    Returns:
        Path of the page.

    Raises:
        XECGError: The runs or the folder cannot be used.
    """
    out = out or folder / "report"
    if min(resamples, permutations) < 1:
        raise ConfigError(
            f"--resamples, --permutations: expected 1 or more, found {resamples}, {permutations}"
        )
    if out.exists() and not (out / PAGE).exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something that is no report; name another folder")
    kept = folder / "study.yaml"
    study = read_study(config or kept) if config or kept.exists() else None
    reference, explain = (study.reference, study.explain) if study else (Reference(), Explain())
    runs, left_out = read_runs(folder)
    analyses = [
        analyse(ladder, resamples, permutations, seed, reference)
        for ladder in tqdm(list(read_ladders(runs)), "analyse", disable=None)
    ]
    tables = _tables(analyses, reference) | {"pretraining": _pretraining(runs)}
    depths = [] if no_examples else example_depths or [0, 3, 8]
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        made = Path(name)
        for title, table in tables.items():
            if len(table):
                table.to_csv(made / f"{title}.csv", index=False, float_format="%.6g", na_rep="nan")
        sections = [
            _section(analysis, reference, tables["accuracy_range"])
            | {"figures": _figures(analysis, reference, made)}
            | _examples(analysis.ladder, depths, explain.rules, seed, made)
            for analysis in tqdm(analyses, "draw", disable=None)
        ]
        cells = [cell.name for cell in cells_of(study)] if study and kept.exists() else []
        failed = {path.stem: path.read_text() for path in (folder / "failed").glob("*.txt")}
        there = [run.name for run in runs["folder"]]
        page = _page(
            title=f"Study {folder.resolve().name}: the ladder of frozen depths",
            tuned=int((runs["branch"] == "").sum()),
            pretrained=int((runs["branch"] != "").sum()),
            unfinished={cell: failed.get(cell) for cell in cells if cell not in there},
            left_out=left_out,
            sections=sections,
            pretraining=_pretraining_shown(tables["pretraining"]),
            reference=reference,
            resamples=resamples,
            permutations=permutations,
        )
        write_whole(made / PAGE, page)
        out.mkdir(exist_ok=True)
        for path in sorted(made.iterdir(), key=lambda path: path.name == PAGE):  # the page last
            path.replace(out / path.name)
    for shown in (section[name] for section in sections for name in ("claim", "range")):
        print(shown.to_string(index=False), end="\n\n")
    print(f"Everything is in {out / PAGE}")
    return out / PAGE


def _page(**values: Any) -> str:
    environment = Environment(loader=PackageLoader("xecg.study"), autoescape=True, trim_blocks=True)
    page = environment.get_template("report.html.j2")
    return page.render(version=version("xecg-lightning"), traded_class=TRADED_CLASS, **values)


def _tables(analyses: list[Analysis], reference: Reference) -> dict[str, pd.DataFrame]:
    """The tables for programs, by name."""
    means, trends, tradeoffs = (
        pd.concat([getattr(analysis, name) for analysis in analyses])
        for name in ("means", "trends", "tradeoffs")
    )
    means = means.assign(frozen_layers=means["depth"].map(depth_title))
    measure, order = means["measure"], [analysis.ladder.test_set for analysis in analyses]
    metrics = means[measure.isin(METRICS)].sort_values(
        ["test_set", "measure"], key=lambda c: c.map([*order, *METRICS].index), kind="stable"
    )
    return {
        "accuracy": metrics.rename(columns={"measure": "metric"})[["metric", *_ROW]],
        "accuracy_range": pd.DataFrame(
            [row for analysis in analyses for row in _ranges(analysis, reference)]
        ),
        "relevance": means[measure == "enrichment"][["class", "wave", *_ROW]],
        "specificity": means[measure == SPECIFICITY][["class", *_ROW]],
        "statistics": means[~measure.isin([*METRICS, "enrichment", SPECIFICITY])][
            ["measure", "class", *_ROW]
        ],
        "trend": trends[["test_set", *KEY, *_RHO]],
        "accuracy_specificity": tradeoffs.get(["test_set", "part", "class", *_RHO], tradeoffs),
    }


def _ranges(analysis: Analysis, reference: Reference) -> Iterator[dict[str, Any]]:
    """Lowest and highest accuracy over the rungs, fused first."""
    published = reference.accuracy_range or (np.nan, np.nan)
    for part in (FUSED, *analysis.ladder.branches):
        means = select(analysis.means, "accuracy", part, "", "")
        rungs = means[means["depth"] != SCRATCH].reset_index()
        if rungs.empty:
            return
        row: dict[str, Any] = {"test_set": analysis.ladder.test_set, "part": part}
        for end, at in (("lowest", rungs["value"].argmin()), ("highest", rungs["value"].argmax())):
            found = rungs.loc[at]
            row |= {end: found["value"], f"{end}_low": found["low"], f"{end}_high": found["high"]}
            row[f"{end}_frozen_layers"] = found["depth"]
        yield row | {"published_lowest": published[0], "published_highest": published[1]}


def _pretraining(runs: pd.DataFrame) -> pd.DataFrame:
    """What the tests of the pre-trained branches found."""
    tables = [pd.DataFrame()]
    run: Any
    for run in runs[runs["branch"] != ""].itertuples():
        table = pd.read_csv(run.folder / "test_metrics.csv")
        table.insert(0, "seed", run.seed)
        table.insert(0, "branch", run.branch)
        tables.append(table)
    return pd.concat(tables)


def _section(analysis: Analysis, reference: Reference, ranges: pd.DataFrame) -> dict[str, Any]:
    """What the page shows of a test set in numbers: tables for people, counts."""
    ladder, means, trends = analysis.ladder, analysis.means, analysis.trends
    specific = trends["measure"] == SPECIFICITY
    own = means[means["measure"] == SPECIFICITY]
    own = own.assign(column=own["part"] + ", " + own["class"])
    enriched = means[means["measure"] == "enrichment"]
    return {
        "test_set": ladder.test_set,
        "what": ladder.title,
        "commoner": f"{max(ladder.af.mean(), 1 - ladder.af.mean()):.1%}",
        "several_seeds": len(ladder.seeds) > 1,
        "is_known": ladder.test_set == reference.test_set,
        "counts": "; ".join(f"{title} {span(found)}" for title, found in own.groupby("column")),
        "claim": _claim(trends[specific], reference),
        "trends": _trends_shown(trends[~specific]),
        "specificity": _by_depth(own, 2, reference.title),
        "enrichments": {
            key: _enrichments(found, reference.title)
            for key, found in enriched.groupby(["part", "class"], sort=False)
        },
        "accuracy": {
            title: _by_depth(found.assign(column=found["part"]))
            for metric, title in METRICS.items()
            for found in [means[means["measure"] == metric].drop(columns="known")]
        },
        "range": _range_shown(ranges, ladder.test_set),
        "tradeoffs": _trends_shown(analysis.tradeoffs.assign(measure="accuracy", wave="")),
    }


def _claim(trends: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """The trends of domain specificity, and whether each is monotone."""
    reached = (trends["rho"] >= reference.rho) & (trends["low"] > 0)
    answer = reached.map({True: "yes", False: "no"}).mask(trends["rho"].isna(), "cannot be told")
    ends = [" to ".join(f"{end:.2f}" for end in one) or "-" for one in trends["ends"]]
    shown = _trends_shown(trends).assign(**{"least to most frozen": ends})
    return shown.assign(**{f"rho >= {reference.rho}, interval > 0": answer.to_list()})


def _trends_shown(trends: pd.DataFrame) -> pd.DataFrame:
    """Trends as people read them."""
    rows = [
        {
            "branch": row["part"],
            "class": row["class"] or "both",
            "measure": METRICS.get(row["measure"], f"{row['measure']} {row['wave']}".strip()),
            "rho": with_interval(row, 2, "rho"),
            "p": p_text(row),
            "rho of each seed": ", ".join(f"{rho:.2f}" for rho in row["seed_rhos"]) or "-",
            "depths": str(row["depths"]),
        }
        for row in trends.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _by_depth(means: pd.DataFrame, digits: int = 3, reference: str = "") -> pd.DataFrame:
    """Numbers with intervals: a row per depth, by ``column``; a last one of what others found."""
    cells = means.assign(text=[with_interval(row, digits) for row in means.to_dict("records")])
    columns = means["column"].drop_duplicates()
    wide = cells.pivot(index="depth", columns="column", values="text")[columns]
    wide.insert(0, "frozen blocks", [depth_title(depth) for depth in wide.index])
    if "known" in means and means["known"].notna().any():
        known = means.groupby("column")["known"].first()[columns]
        wide.loc["known"] = [reference, *("-" if np.isnan(v) else f"{v:.2f}" for v in known)]
    return wide.rename_axis(columns=None)


def _enrichments(means: pd.DataFrame, reference: str) -> pd.DataFrame:
    titles = [wave_title(*names) for names in means[["wave", "class"]].itertuples(index=False)]
    table = _by_depth(means.assign(column=titles), 2, reference)
    counts = means[means["wave"] == WAVES[0]].groupby("depth").apply(span)
    return table.assign(windows=counts.reindex(table.index).fillna(""))


def _range_shown(ranges: pd.DataFrame, test_set: str) -> pd.DataFrame:
    shown = []
    for row in ranges.to_dict("records"):
        texts: dict[str, Any] = {"": row["part"]}
        for end in ("lowest", "highest"):
            number = {"value": row[end], "low": row[f"{end}_low"], "high": row[f"{end}_high"]}
            text = f"{with_interval(number)} at {row[f'{end}_frozen_layers']}"
            texts[f"{end}, at frozen blocks"] = text
        shown += [texts] if row["test_set"] == test_set else []
    return pd.DataFrame(shown)


def _pretraining_shown(table: pd.DataFrame) -> pd.DataFrame:
    rows = table.to_dict("records")
    shown = table.rename(columns={"test_set": "test set"}).assign(
        metric=[f"{row['part']}, {row['metric']}" for row in rows],
        value=[with_interval(row) for row in rows],
        **{"n of persons or records": [f"{row['n']} of {row['n_groups']}" for row in rows]},
    )
    names = ["branch", "seed", "test set", "metric", "value", "n of persons or records"]
    return shown[names] if rows else shown


def _figures(analysis: Analysis, reference: Reference, folder: Path) -> dict[str, str]:
    """Draws the figures that there is something for; returns them as part of a page."""
    drawn = {kind: draw(analysis, reference) for kind, draw in FIGURES.items()}
    return {
        kind: _inline(save_figure(figure, folder / f"{kind}_{analysis.ladder.test_set}.svg"))
        for kind, figure in drawn.items()
        if figure is not None
    }


def _inline(picture: Path) -> str:
    return f"data:image/svg+xml;base64,{b64encode(picture.read_bytes()).decode()}"


def _examples(
    ladder: Ladder, depths: list[int], attribution: str, seed: int, folder: Path
) -> dict[str, Any]:
    """Pictures of examples with their captions; why there are none, if there are none."""
    shown = []
    try:
        for rhythm, seed_shown, window in examples(ladder, depths, attribution, seed):
            path = folder / f"example_{rhythm}_{ladder.test_set}.svg"
            picture = _inline(save_figure(draw_page([window]), path))
            shown.append((picture, rhythm, seed_shown, window.record))
    except (XECGError, OSError) as error:
        reason = f"Left out, since the networks could not be applied again: {error}"
        return {"examples": [], "no_examples": reason}
    none = "Left out: no window is predicted rightly by every network that was asked for."
    asked = any(depth in ladder.depths for depth in depths)
    return {"examples": shown, "no_examples": none if asked and not shown else ""}


def examples(
    ladder: Ladder, depths: Sequence[int], attribution: str, seed: int
) -> Iterator[tuple[str, int, ExplainedWindow]]:
    """Yields a window of each class, explained at several depths by one seed's networks.

    The seed of the networks is the first of those that have most of the depths. A window is drawn
    among those that all branches of all these networks predict rightly and that have relevance
    statistics; a class without such a window has no example.

    Args:
        ladder: Networks, whose runs must lie where they were tested, with their stores.
        depths: Depths to show; those that the ladder lacks are left out.
        attribution: Name of the attribution method.
        seed: Random seed of the draw.

    Yields:
        Class, seed of the networks, window with the relevance by each branch at each depth.

    Raises:
        XECGError: The stores or the weights of a run cannot be used.
    """
    cells = ladder.cells[ladder.cells["depth"].isin(depths)]
    if cells.empty:
        return
    cells = cells[cells["seed"] == cells.groupby("seed").size().idxmax()].sort_values("depth")
    data = None
    for code, rhythm in enumerate(CLASSES):
        suitable = ladder.af == bool(code)
        for branch in ladder.branches:
            suitable &= ladder.right(branch)[cells.index].all(axis=0)
            if (column := f"{branch}_enrichment_p") in ladder.columns:
                suitable &= ~np.isnan(ladder.columns[column][cells.index]).any(axis=0)
        if suitable.any():
            data = data or test_data(cells["folder"].iloc[0])
            row = np.random.default_rng([seed, code]).choice(np.flatnonzero(suitable))
            place = ladder.windows.iloc[row]
            window = _explained(cells, data, ladder.test_set, place, attribution)
            yield rhythm, int(cells["seed"].iloc[0]), window


def test_data(run: Path) -> WindowDataModule:
    """Returns the data of a run, set up as for its test."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(WindowDataModule, "data")
    try:
        config = yaml.safe_load((run / "config.yaml").read_text())
        given = parser.parse_object({"data": config["data"]})
    except (ArgumentError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"{run / 'config.yaml'}: expected the data of the run ({error})") from error
    data: WindowDataModule = parser.instantiate(given).data
    data.prepare_data()
    data.setup("test")
    return data


def _explained(
    cells: pd.DataFrame, data: WindowDataModule, test_set: str, place: Any, attribution: str
) -> ExplainedWindow:
    """The window at a place, as each network sees it."""
    dataset = next(found for found in data.test_sets if found.name == test_set)
    same = (dataset.column("record") == place["record"]) & (dataset.column("lead") == place["lead"])
    starts = dataset.column("start_s").astype(np.float64)
    positions = np.flatnonzero(same & np.isclose(starts, place["start_s"]))
    if positions.size != 1:
        raise DataError(
            f"{test_set}: expected one window of record {place['record']} at {place['start_s']} s, "
            f"found {positions.size}: the store was prepared again since"
        )
    signal = dataset.__getitems__(positions.tolist()).signal
    relevance, p_af, predicted = {}, {}, {}
    cell: Any
    for cell in cells.itertuples():
        network, _ = load_xecgarch(cell.folder / "weights.safetensors")
        explainer = BranchExplainer(network, attribution)
        blocks = "from scratch" if cell.depth == SCRATCH else f"{cell.depth} blocks frozen"
        for branch, explanation in explainer.explain(signal).items():
            name = f"{blocks}, {branch}"
            relevance[name] = explanation.relevance[0, 0].numpy()
            p_af[name] = float(explanation.logits.softmax(dim=1)[0, 1])
            predicted[name] = CLASSES[int(p_af[name] > 0.5)]
    return ExplainedWindow(
        record=str(place["record"]),
        lead=str(place["lead"]),
        start_s=float(place["start_s"]),
        signal=signal[0, 0].numpy(),
        unit="",
        sampling_rate=data.sampling_rate,
        r_peaks=dataset.r_peaks(int(positions[0])),
        relevance=relevance,
        p_af=p_af,
        predicted=predicted,
    )

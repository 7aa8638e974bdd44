"""``xecg study report``: tables, figures and a page of what a folder of runs shows."""

import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from tqdm import tqdm

from xecg.errors import ConfigError, XECGError
from xecg.explain.pictures import FUSED, draw_window, save_figure
from xecg.explain.relevance import CLASSES, WAVES, wave_title
from xecg.files import write_whole
from xecg.study.examples import examples
from xecg.study.figures import (
    FIGURES,
    known_enrichment,
    known_specificity,
    p_text,
    select,
    span,
    with_interval,
)
from xecg.study.ladder import SCRATCH, Ladder, depth_title, read_ladders, read_runs
from xecg.study.plan import Reference, Study, cells_of, read_study
from xecg.study.trends import KEY, METRICS, SPECIFICITY, TRADED_CLASS, Analysis, analyse

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
    _check(out, resamples, permutations)
    study, reference = _study(folder, config)
    depths = [] if no_examples else example_depths or [0, 3, 8]
    runs, left_out = read_runs(folder)
    analyses = [
        analyse(ladder, resamples, permutations, seed)
        for ladder in tqdm(list(read_ladders(runs)), "analyse", disable=None)
    ]
    tables = {**_tables(analyses, reference), "pretraining": _pretraining(runs)}
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as name:
        made = Path(name)
        _write_tables(tables, made)
        sections = [
            _shown(analysis, reference)
            | {"figures": _figures(analysis, reference, made)}
            | _examples(analysis.ladder, depths, study, seed, made)
            for analysis in tqdm(analyses, "draw", disable=None)
        ]
        facts = _facts(folder, study, runs) | {"left_out": left_out, "reference": reference}
        drawn = {"sections": sections, "resamples": resamples, "permutations": permutations}
        page = _page(**facts, **drawn, pretraining=_pretraining_shown(tables))
        write_whole(made / PAGE, page)
        _move(made, out)
    for shown in (section[name] for section in sections for name in ("claim", "range")):
        print(shown.to_string(index=False), end="\n\n")
    print(f"Everything is in {out / PAGE}")
    return out / PAGE


def _study(folder: Path, config: Path | None) -> tuple[Study | None, Reference]:
    kept = config or folder / "study.yaml"
    study = read_study(kept) if config or kept.exists() else None
    return study, study.reference if study else Reference()


def _move(made: Path, out: Path) -> None:
    """Moves all files into place, the page last."""
    out.mkdir(exist_ok=True)
    for path in sorted(made.iterdir(), key=lambda path: path.name == PAGE):
        path.replace(out / path.name)


def _check(out: Path, resamples: int, permutations: int) -> None:
    for name, number in (("resamples", resamples), ("permutations", permutations)):
        if number < 1:
            raise ConfigError(f"--{name}: expected 1 or more, found {number}")
    if out.exists() and not (out / PAGE).exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something that is no report; name another folder")
    out.parent.mkdir(parents=True, exist_ok=True)


def _write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> None:
    for name, table in tables.items():
        if len(table):
            text = table.to_csv(index=False, float_format="%.6g", na_rep="nan")
            write_whole(folder / f"{name}.csv", text)


def _tables(analyses: list[Analysis], reference: Reference) -> dict[str, pd.DataFrame]:
    """The tables for programs, by name."""
    means = pd.concat([analysis.means for analysis in analyses])
    means = means.assign(frozen_layers=means["depth"].map(depth_title))
    sets = [means[means["test_set"] == analysis.ladder.test_set] for analysis in analyses]
    metrics = pd.concat([part[part["measure"] == metric] for part in sets for metric in METRICS])
    others = ~means["measure"].isin([*METRICS, "enrichment", SPECIFICITY])
    trends = pd.concat([analysis.trends for analysis in analyses])
    tradeoffs = pd.concat([analysis.tradeoffs for analysis in analyses])
    ranges = [row for analysis in analyses for row in _ranges(analysis, reference)]
    return {
        "accuracy": metrics.rename(columns={"measure": "metric"})[["metric", *_ROW]],
        "accuracy_range": pd.DataFrame(ranges),
        "relevance": means[means["measure"] == "enrichment"][["class", "wave", *_ROW]],
        "specificity": means[means["measure"] == SPECIFICITY][["class", *_ROW]],
        "statistics": means[others][["measure", "class", *_ROW]],
        "trend": trends[["test_set", *KEY, *_RHO]],
        "accuracy_specificity": tradeoffs.get(["test_set", "part", "class", *_RHO], tradeoffs),
    }


def _ranges(analysis: Analysis, reference: Reference) -> Iterator[dict[str, Any]]:
    """Lowest and highest accuracy over the rungs, fused first."""
    published = reference.accuracy_range or (np.nan, np.nan)
    for part in (FUSED, *analysis.ladder.branches):
        means = select(analysis.means, "accuracy", part, "", "")
        rungs = means[means["depth"] != SCRATCH]
        if rungs.empty:
            return
        row = {"test_set": analysis.ladder.test_set, "part": part}
        values = rungs["value"].to_numpy()
        for end, place in (("lowest", values.argmin()), ("highest", values.argmax())):
            found = rungs.iloc[int(place)]
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


def _shown(analysis: Analysis, reference: Reference) -> dict[str, Any]:
    """What the page shows of a test set in numbers: tables for people, counts."""
    ladder, means = analysis.ladder, analysis.means
    specific = analysis.trends["measure"] == SPECIFICITY
    own = means[means["measure"] == SPECIFICITY]
    own = own.assign(title=own["part"] + ", " + own["class"])
    known = {
        f"{branch}, {rhythm}": known_specificity(reference, ladder.test_set, branch, rhythm)
        for branch, rhythm in own[["part", "class"]].itertuples(index=False)
    }
    return {
        "test_set": ladder.test_set,
        "what": ladder.title,
        "commoner": f"{max(ladder.af.mean(), 1 - ladder.af.mean()):.1%}",
        "several_seeds": len(ladder.seeds) > 1,
        "is_known": ladder.test_set == reference.test_set,
        "counts": "; ".join(f"{title} {span(found)}" for title, found in own.groupby("title")),
        "claim": _claim(analysis, analysis.trends[specific], reference),
        "trends": _trends_shown(analysis.trends[~specific]),
        "specificity": _by_depth(own, own["title"], 2, known, reference.title),
        "enrichments": {
            (branch, rhythm): _enrichments(analysis, reference, branch, rhythm)
            for branch in ladder.branches
            for rhythm in CLASSES
            if (means["measure"] == "enrichment").any()
        },
        "accuracy": {
            title: _by_depth(found := means[means["measure"] == metric], found["part"])
            for metric, title in METRICS.items()
        },
        "range": _range_shown(analysis, reference),
        "tradeoffs": _trends_shown(analysis.tradeoffs.assign(measure="accuracy")),
    }


def _claim(analysis: Analysis, trends: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """The trends of domain specificity, and whether each is monotone."""
    reached = (trends["rho"] >= reference.rho) & (trends["low"] > 0)
    answer = reached.map({True: "yes", False: "no"}).mask(trends["rho"].isna(), "cannot be told")
    ends = [_ends(analysis, key) for key in trends[KEY].itertuples(index=False, name=None)]
    shown = _trends_shown(trends).assign(**{"least to most frozen": ends})
    return shown.assign(**{f"rho >= {reference.rho}, interval > 0": answer.to_list()})


def _trends_shown(trends: pd.DataFrame) -> pd.DataFrame:
    """Trends as people read them."""
    rows = [
        {
            "branch": row["part"],
            "class": row["class"] or "both",
            "measure": METRICS.get(
                row["measure"], f"{row['measure']} {row.get('wave', '')}".strip()
            ),
            "rho": with_interval(row, 2, "rho"),
            "p": p_text(row),
            "rho of each seed": ", ".join(f"{rho:.2f}" for rho in row["seed_rhos"]) or "-",
            "depths": str(row["depths"]),
        }
        for row in trends.to_dict("records")
    ]
    return pd.DataFrame(rows)


def _ends(analysis: Analysis, key: tuple[str, ...]) -> str:
    """A measure at the first and the last depth of its trend."""
    rungs = select(analysis.trends, *key)["rungs"].iloc[0]
    values = select(analysis.means, *key).set_index("depth")["value"]
    return f"{values[rungs[0]]:.2f} to {values[rungs[-1]]:.2f}" if rungs else "-"


def _reached(row: Any, least: float) -> str:
    if np.isnan(row["rho"]):
        return "cannot be told"
    return "yes" if row["rho"] >= least and row["low"] > 0 else "no"


def _by_depth(
    means: pd.DataFrame,
    columns: pd.Series,
    digits: int = 3,
    known: Mapping[str, float | None] | None = None,
    title: str = "",
) -> pd.DataFrame:
    """Numbers with intervals: a row per depth; a last one of what others found."""
    texts = [with_interval(row, digits) for row in means.to_dict("records")]
    cells = pd.DataFrame({"depth": means["depth"], "column": columns, "text": texts})
    wide = cells.pivot(index="depth", columns="column", values="text")[[*dict.fromkeys(columns)]]
    wide.insert(0, "frozen blocks", [depth_title(depth) for depth in wide.index])
    if known and any(value is not None for value in known.values()):
        found = ["-" if known[name] is None else f"{known[name]:.2f}" for name in wide.columns[1:]]
        wide.loc[len(wide)] = [title, *found]
    return wide.rename_axis(columns=None)


def _enrichments(
    analysis: Analysis, reference: Reference, branch: str, rhythm: str
) -> pd.DataFrame:
    means = analysis.means
    chosen = (means["measure"] == "enrichment") & (means["part"] == branch)
    means = means[chosen & (means["class"] == rhythm)]
    known = {
        wave_title(wave, rhythm): known_enrichment(
            reference, analysis.ladder.test_set, branch, rhythm, wave
        )
        for wave in WAVES
    }
    titles = means["wave"].map(lambda wave: wave_title(wave, rhythm))
    table = _by_depth(means, titles, 2, known, reference.title)
    counts = means[means["wave"] == WAVES[0]].groupby("depth").apply(span)
    return table.assign(windows=counts.reindex(table.index).fillna(""))


def _range_shown(analysis: Analysis, reference: Reference) -> pd.DataFrame:
    rows = [
        {"": row["part"]}
        | {
            f"{end}, at frozen blocks": with_interval(
                {"value": row[end], "low": row[f"{end}_low"], "high": row[f"{end}_high"]}
            )
            + f" at {row[f'{end}_frozen_layers']}"
            for end in ("lowest", "highest")
        }
        for row in _ranges(analysis, reference)
    ]
    return pd.DataFrame(rows)


def _pretraining_shown(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    table = tables["pretraining"]
    if table.empty:
        return table
    return pd.DataFrame(
        {
            "branch": table["branch"],
            "seed": table["seed"],
            "test set": table["test_set"],
            "metric": table["part"] + ", " + table["metric"],
            "value": [with_interval(row) for row in table.to_dict("records")],
            "n of persons or records": [
                f"{n} of {groups}" for n, groups in table[["n", "n_groups"]].to_numpy()
            ],
        }
    )


def _figures(analysis: Analysis, reference: Reference, folder: Path) -> dict[str, str]:
    """Draws the figures that there is something for; returns them as part of a page."""
    drawn = {kind: draw(analysis, reference) for kind, draw in FIGURES.items()}
    return {
        kind: _inline(save_figure(figure, folder / f"{kind}_{analysis.ladder.test_set}.svg"))
        for kind, figure in drawn.items()
        if figure is not None
    }


def _examples(
    ladder: Ladder, depths: list[int], study: Study | None, seed: int, folder: Path
) -> dict[str, Any]:
    """Pictures of examples with their captions; why there are none, if there are none."""
    shown = []
    try:
        for example in examples(
            ladder, depths, study.explain.rules if study else "innvestigate", seed
        ):
            path = folder / f"example_{example.rhythm}_{ladder.test_set}.svg"
            picture = _inline(save_figure(draw_window(example.window), path))
            shown.append((picture, example))
    except (XECGError, OSError) as error:
        reason = f"Left out, since the networks could not be applied again: {error}"
        return {"examples": [], "no_examples": reason}
    none = "Left out: no window is predicted rightly by every network that was asked for."
    asked = any(depth in ladder.depths for depth in depths)
    return {"examples": shown, "no_examples": none if asked and not shown else ""}


def _facts(folder: Path, study: Study | None, runs: pd.DataFrame) -> dict[str, Any]:
    """What the page says first: cells that are there, and those that the study asks for."""
    there = {run.name for run in runs["folder"]}
    of_study = study if (folder / "study.yaml").exists() else None
    missing = [cell.name for cell in cells_of(of_study)] if of_study else []
    reasons = {path.stem: path.read_text() for path in (folder / "failed").glob("*.txt")}
    return {
        "title": f"Study {folder.resolve().name}: the ladder of frozen depths",
        "tuned": int((runs["branch"] == "").sum()),
        "pretrained": int((runs["branch"] != "").sum()),
        "unfinished": [
            f"{name} (failed: {reasons[name]})" if name in reasons else name
            for name in missing
            if name not in there
        ],
    }


def _page(**values: Any) -> str:
    environment = Environment(loader=PackageLoader("xecg.study"), autoescape=True, trim_blocks=True)
    page = environment.get_template("report.html.j2")
    return page.render(version=version("xecg-lightning"), traded_class=TRADED_CLASS, **values)


def _inline(picture: Path) -> str:
    return f"data:image/svg+xml;base64,{b64encode(picture.read_bytes()).decode()}"

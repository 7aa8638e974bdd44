"""``xecg study report``: tables, figures and a page of what a folder of runs shows."""

from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import ChoiceLoader, Environment, PackageLoader
from jsonargparse import ArgumentParser
from matplotlib import style
from tqdm import tqdm

from xecg.data.datamodules import WindowDataModule
from xecg.errors import ConfigError, DataError, XECGError
from xecg.explain.attributions import BranchExplainer
from xecg.explain.paper import save_figure
from xecg.explain.pictures import ExplainedWindow, draw_page
from xecg.explain.relevance import CLASSES, wave_title
from xecg.files import SUMS, check_sums, read_settings, write_whole
from xecg.inference.explain import inline
from xecg.metrics.bootstrap import with_interval
from xecg.networks.weights import load_xecgarch
from xecg.networks.xecgarch import FUSED
from xecg.study.figures import FIGURES, STYLE, depth_title, p_text, span
from xecg.study.ladder import (
    AGREEMENT,
    EFFECTS,
    KEY,
    METRICS,
    SCRATCH,
    SPECIFICITY,
    Analysis,
    Ladder,
    analyse,
    read_ladders,
    read_runs,
)
from xecg.study.plan import Explain, Reference, Study, cells_of, read_study

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
    own = _own(folder)
    study = read_study(config) if config else own
    reference, explain = (study.reference, study.explain) if study else (Reference(), Explain())
    runs, left_out = read_runs(folder)
    analyses = [
        analyse(ladder, resamples, permutations, seed, reference)
        for ladder in tqdm(list(read_ladders(runs)), "analyse", disable=None)
    ]
    depths = [] if no_examples else example_depths or [0, 3, 8]
    out.mkdir(parents=True, exist_ok=True)
    sections = [
        _section(analysis, reference)
        | {"figures": _figures(analysis, reference, out)}
        | _examples(analysis.ladder, depths, explain.rules, seed, out)
        for analysis in tqdm(analyses, "draw", disable=None)
    ]
    tested = _pretraining(runs)
    _write_tables(analyses, [section["ranges"] for section in sections], tested, out)
    facts = {"runs": runs, "left_out": left_out, "sections": sections, "pretraining": tested}
    facts |= {"reference": reference, "resamples": resamples, "permutations": permutations}
    asked = cells_of(study) if study and own else []
    _write_page(out / PAGE, folder, **facts, cells=[cell.name for cell in asked])
    print(f"Everything is in {out / PAGE}")
    return out / PAGE


def _check(out: Path, resamples: int, permutations: int) -> None:
    if min(resamples, permutations) < 1:
        found = f"{resamples}, {permutations}"
        raise ConfigError(f"--resamples, --permutations: expected 1 or more, found {found}")
    if out.exists() and not (out / PAGE).exists() and (out.is_file() or any(out.iterdir())):
        raise ConfigError(f"--out {out}: holds something that is no report; name another folder")


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
    tables = {tuple(key): pd.read_csv(run / "test_metrics.csv") for *key, run in pretrained}
    if not tables:
        return pd.DataFrame()
    return pd.concat(tables, names=["branch", "seed"]).reset_index(["branch", "seed"])


def _write_tables(
    analyses: list[Analysis], ranges: list[pd.DataFrame], tested: pd.DataFrame, folder: Path
) -> None:
    """Writes the tables for programs that are not empty."""
    means, trends, tradeoffs = (
        pd.concat([getattr(analysis, name) for analysis in analyses])
        for name in ("means", "trends", "tradeoffs")
    )
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
        "accuracy_specificity": tradeoffs.get(["test_set", "part", "class", *_RHO], tradeoffs),
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
        "tradeoffs": analysis.tradeoffs.assign(measure="accuracy", wave=""),
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
    with style.context(STYLE):
        for kind, draw in FIGURES.items():
            if figure := draw(analysis, reference):
                path = folder / f"{kind}_{analysis.ladder.test_set}.svg"
                pictures[kind] = inline(save_figure(figure, path, overwrite=True))["src"]
    return pictures


def _examples(
    ladder: Ladder, depths: list[int], attribution: str, seed: int, folder: Path
) -> dict[str, Any]:
    """Pictures of examples with their captions; why there are none, if there are none."""
    shown, reason = [], ""
    if any(depth in ladder.depths for depth in depths):
        reason = "Left out: no window is predicted rightly by every network that was asked for."
    try:
        for rhythm, of_seed, window in examples(ladder, depths, attribution, seed):
            path = folder / f"example_{rhythm}_{ladder.test_set}.svg"
            picture = inline(save_figure(draw_page([window]), path, overwrite=True))
            shown.append((picture["src"], rhythm, of_seed, window.record))
    except (XECGError, OSError) as error:
        shown, reason = [], f"Left out, since the networks could not be applied again: {error}"
    return {"examples": shown, "no_examples": "" if shown else reason}


def examples(
    ladder: Ladder, depths: Sequence[int], attribution: str, seed: int
) -> Iterator[tuple[str, int, ExplainedWindow]]:
    """Yields a window of each class, explained at several depths by one seed's networks.

    The seed is the first of those that have most of the depths. A window is drawn among those that
    all branches of all these networks predict rightly and that have relevance statistics; a class
    without any has no example. Yields the class, the seed, and the window with its relevance by
    branch and depth. Raises XECGError if the stores or the weights of a run cannot be used.
    """
    cells = ladder.cells[ladder.cells["depth"].isin(depths)]
    cells = cells[cells["seed"].isin(cells["seed"].mode()[:1])].sort_values("depth")
    rows, data = cells.index, None
    for code, rhythm in enumerate(CLASSES if len(cells) else ()):
        suitable = ladder.af == bool(code)
        for branch in ladder.branches:
            known = ladder.columns.get(f"{branch}_enrichment_p", ladder.p_af(branch))[rows]
            suitable &= (ladder.right(branch)[rows] & ~np.isnan(known)).all(axis=0)
        if suitable.any():
            data = data or test_data(cells["folder"].iloc[0])
            row = int(np.random.default_rng([seed, code]).choice(np.flatnonzero(suitable)))
            window = _explained(ladder, row, cells, data, attribution)
            yield rhythm, int(cells["seed"].iloc[0]), window


def test_data(run: Path) -> WindowDataModule:
    """Returns the data of a run, set up as for its test."""
    parser, config = ArgumentParser(exit_on_error=False), run / "config.yaml"
    parser.add_subclass_arguments(WindowDataModule, "data")
    try:
        given = parser.parse_object({"data": read_settings(config)["data"]})
    except (ArgumentError, KeyError, TypeError) as error:
        raise DataError(f"{config}: expected the data of the run ({error})") from error
    data: WindowDataModule = parser.instantiate(given).data
    data.setup("test")
    return data


def _explained(
    ladder: Ladder, row: int, cells: pd.DataFrame, data: WindowDataModule, attribution: str
) -> ExplainedWindow:
    """A window of the ladder, as each network sees it."""
    dataset = next(found for found in data.test_sets if found.name == ladder.test_set)
    record, lead, start_s = ladder.windows[["record", "lead", "start_s"]].iloc[row]
    columns = [dataset.column(name)[row : row + 1] for name in ("record", "lead", "start_s")]
    if [*columns[0], *columns[1]] != [record, lead] or not np.isclose(columns[2], start_s):
        raise DataError(
            f"{ladder.test_set}: expected the window of record {record} at {start_s} s in row "
            f"{row}: the store was prepared again since"
        )
    signal = dataset.__getitems__([row]).signal
    relevance, p_af = {}, {}
    for folder, depth in zip(cells["folder"], cells["depth"], strict=True):
        network, _ = load_xecgarch(folder / "weights.safetensors")
        blocks = "from scratch" if depth == SCRATCH else f"{depth} blocks frozen"
        for branch, said in BranchExplainer(network, attribution).explain(signal).items():
            relevance[f"{blocks}, {branch}"] = said.relevance[0, 0].numpy()
            p_af[f"{blocks}, {branch}"] = float(said.logits.softmax(dim=1)[0, 1])
    predicted = {name: CLASSES[int(p > 0.5)] for name, p in p_af.items()}
    about: dict[str, Any] = {"sampling_rate": data.sampling_rate, "r_peaks": dataset.r_peaks(row)}
    about |= {"relevance": relevance, "p_af": p_af, "predicted": predicted}
    return ExplainedWindow(record, lead, start_s, signal[0, 0].numpy(), unit="", **about)

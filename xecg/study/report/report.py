"""The report of a study: everything is computed, drawn and written, the page last."""

import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from tqdm import tqdm

from xecg.errors import ConfigError, XECGError
from xecg.explain.deep_taylor import RuleSet
from xecg.explain.pictures import save_figure
from xecg.files import write_whole
from xecg.study.folder import StudyFolder
from xecg.study.plan import read_settings
from xecg.study.report.accuracy_tables import accuracy_tables, range_tables
from xecg.study.report.analysis import Analysis, analyse
from xecg.study.report.cells import FINETUNE, missing_cells, read_cells
from xecg.study.report.example_figure import draw_example
from xecg.study.report.examples import examples
from xecg.study.report.figures import write_figures
from xecg.study.report.ladder import Ladder, read_ladders
from xecg.study.report.methods import methods
from xecg.study.report.page import PageFigure, Section, report_page
from xecg.study.report.pretraining_tables import pretraining_tables
from xecg.study.report.relevance_tables import relevance_tables, specificity_tables
from xecg.study.report.sections import closing_sections, test_set_section
from xecg.study.report.settings import ReportSettings
from xecg.study.report.tables import Result, join
from xecg.study.report.trend_tables import tradeoff_tables, trend_tables

PAGE = "report.html"

_TABLES = (
    accuracy_tables,
    range_tables,
    relevance_tables,
    specificity_tables,
    trend_tables,
    tradeoff_tables,
)


def write_report(study: Path, out: Path, settings: ReportSettings) -> str:
    """Report what the finished cells of a study found.

    Args:
        study: Folder of the study.
        out: Where to write: a new folder, an empty one, or that of an earlier report, which is
            replaced file by file.
        settings: How.

    Returns:
        What was found on the claim, and where everything is, in Markdown.

    Raises:
        XECGError: The study or the folder cannot be used.
    """
    _refuse_foreign(out)
    cells = read_cells(study)
    unfinished = missing_cells(study)
    ladders = read_ladders(cells)
    analyses = [analyse(ladder, settings) for ladder in tqdm(ladders, "analyse", delay=2)]
    results = [[tables(analysis) for tables in _TABLES] for analysis in analyses]
    pretraining = pretraining_tables(cells)
    rules = read_settings(StudyFolder(study).settings).explain.rules
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as made:
        folder = Path(made)
        for parts in zip(*results, strict=True):
            join(parts[0].name, parts).write(folder)
        pretraining.write(folder)
        sections = [
            _section(analysis, parts, folder, rules, settings)
            for analysis, parts in zip(tqdm(analyses, "draw", delay=2), results, strict=True)
        ]
        tuned = sum(cell.kind == FINETUNE for cell in cells)
        notes = [
            f"{tuned} fine-tuned networks and {len(cells) - tuned} pre-trained branches are "
            f"finished. xecg {version('xecg-lightning')}. Not a medical device."
        ]
        sections += closing_sections(pretraining, methods(settings))
        title = f"Study {study.resolve().name}: the ladder of frozen depths"
        write_whole(folder / PAGE, report_page(title, notes, unfinished, sections))
        _move(folder, out)
    return _told(results, unfinished, out)


def _section(
    analysis: Analysis,
    results: Sequence[Result],
    folder: Path,
    rules: RuleSet,
    settings: ReportSettings,
) -> Section:
    figures = write_figures(analysis, folder)
    shown, why_none = _examples(analysis.ladder, folder, rules, settings)
    named = {result.name: result for result in results}
    return test_set_section(analysis.ladder.test_set, named, figures, shown, why_none)


def _examples(
    ladder: Ladder, folder: Path, rules: RuleSet, settings: ReportSettings
) -> tuple[list[PageFigure], str]:
    """Figures of examples; if there are none, why."""
    if not settings.example_depths:
        return [], ""
    try:
        found = examples(ladder, settings.example_depths, rules, settings.seed)
    except (XECGError, OSError) as error:
        return [], f"Left out, since the networks could not be applied again: {error}"
    figures = []
    for example in found:
        path = folder / f"example_{example.rhythm}_{ladder.test_set}.svg"
        save_figure(draw_example(example), path)
        caption = (
            f"n = 1 window, {example.rhythm}, of record {example.record}, test set "
            f"{ladder.test_set}; networks of seed {example.seed}."
        )
        figures.append(PageFigure(path, caption))
    return figures, "Left out: no window is predicted rightly by every network that was asked for."


def _refuse_foreign(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: expected a folder, found a file")
    if out.is_dir() and any(out.iterdir()) and not (out / PAGE).exists():
        raise ConfigError(f"--out {out} holds something that is no report; name another folder")


def _move(folder: Path, out: Path) -> None:
    """Move all files into place, the page last."""
    out.mkdir(exist_ok=True)
    for path in sorted(folder.iterdir(), key=lambda path: path.name == PAGE):
        path.replace(out / path.name)


def _told(results: Sequence[Sequence[Result]], unfinished: Sequence[str], out: Path) -> str:
    named = [{result.name: result for result in parts} for parts in results]
    tables = [
        table.markdown()
        for parts in named
        for table in (*parts["trend"].shown[:1], *parts["accuracy_range"].shown)
    ]
    end = f"Everything is in {out / PAGE}"
    if unfinished:
        end = f"{len(unfinished)} cells are not finished: {', '.join(unfinished)}.\n{end}"
    return "\n".join([*tables, end])

"""The figures of one test set, written as SVG, with their captions."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from xecg.explain.pictures import save_figure
from xecg.study.report.accuracy_figure import draw_accuracy
from xecg.study.report.analysis import TRADED_CLASS, Analysis
from xecg.study.report.page import PageFigure
from xecg.study.report.performance import METRICS
from xecg.study.report.references import ORIGINAL_NOTE, ORIGINAL_TEST_SET, PUBLISHED_NOTE
from xecg.study.report.relevance_figure import draw_relevance
from xecg.study.report.rows import of_what
from xecg.study.report.specificity_figure import draw_specificity, draw_tradeoff

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_INTERVALS = "95 % bootstrap intervals over persons or records"


@dataclass(frozen=True)
class _Kind:
    draw: Callable[[Analysis], "Figure"]
    says: str


_KINDS = {
    "accuracy": _Kind(
        draw_accuracy,
        f"{', '.join(METRICS.values())} against the number of frozen blocks, with {_INTERVALS}. "
        f"{PUBLISHED_NOTE}",
    ),
    "relevance": _Kind(
        draw_relevance,
        "Enrichment of the P wave and the QRS complex against the number of frozen blocks, on a "
        f"logarithmic scale, with {_INTERVALS}; 1 is chance. Windows that the branch predicts "
        "rightly, with four beats or more.",
    ),
    "specificity": _Kind(
        draw_specificity,
        f"Domain specificity against the number of frozen blocks, with {_INTERVALS}. Above it "
        "Spearman's rho over depths (scratch left out), its interval and the p of a permutation "
        "test. In AF there is no P wave.",
    ),
    "accuracy_specificity": _Kind(
        draw_tradeoff,
        "Accuracy of each branch against its domain specificity in "
        f"{TRADED_CLASS}; a disc for each depth with its number of frozen blocks (S: from "
        f"scratch), with {_INTERVALS} in both directions.",
    ),
}


def write_figures(analysis: Analysis, folder: Path) -> dict[str, PageFigure]:
    """Draw the figures that the ladder has something for; by kind, with their captions.

    Args:
        analysis: What was found.
        folder: Where ``<kind>_<test set>.svg`` are written.
    """
    has_own_waves = bool(analysis.tradeoffs)
    figures = {}
    for kind, how in _KINDS.items():
        if kind in ("specificity", "accuracy_specificity") and not has_own_waves:
            continue
        path = folder / f"{kind}_{analysis.ladder.test_set}.svg"
        save_figure(how.draw(analysis), path)
        figures[kind] = PageFigure(path, _caption(analysis, how))
    return figures


def _caption(analysis: Analysis, how: _Kind) -> str:
    ladder = analysis.ladder
    sentences = [f"{of_what(ladder)}.", how.says]
    if len(ladder.seeds) > 1:
        dots = "" if how.draw is draw_tradeoff else "; small dots are the seeds"
        sentences.append(f"Means over seeds{dots}.")
    if ladder.test_set == ORIGINAL_TEST_SET:
        sentences.append(f"Dashed or starred: {ORIGINAL_NOTE}")
    if how.draw is draw_accuracy:
        prevalence = max(float(ladder.af.mean()), 1 - float(ladder.af.mean()))
        sentences.append(f"Always saying the commoner class is right in {prevalence:.1%}.")
    return " ".join(sentences)

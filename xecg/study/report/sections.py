"""What a report's page shows of each test set, in which order."""

from collections.abc import Mapping, Sequence

from xecg.study.report.page import Block, PageFigure, Section
from xecg.study.report.tables import Result

_EXAMPLES_SHOWN = (
    "Drawn at random among the windows that every network shown predicts rightly; the middle of "
    "the window. Colour and thickness of the trace are the relevance that the branch gave it for "
    "the class it predicts; enrichments are of the whole window."
)


def test_set_section(
    test_set: str,
    results: Mapping[str, Result],
    figures: Mapping[str, PageFigure],
    example_figures: Sequence[PageFigure],
    why_no_example: str,
) -> Section:
    """Everything of one test set.

    Args:
        test_set: Its name.
        results: Tables by subject.
        figures: By subject.
        example_figures: ECGs at several depths.
        why_no_example: Why there are none; empty where nobody asked for any.
    """

    def figure(kind: str) -> list[PageFigure]:
        return [figures[kind]] if kind in figures else []

    trend = results["trend"].shown
    blocks = [
        Block(
            "Do the branches turn to the waves of their own domain?",
            figures=figure("specificity"),
            tables=trend[:1],
            folded=results["specificity"].shown,
        ),
        Block(
            "Where the branches look",
            figures=figure("relevance"),
            folded=results["relevance"].shown,
        ),
        Block(
            "How well they classify",
            figures=figure("accuracy"),
            tables=results["accuracy_range"].shown,
            folded=results["accuracy"].shown,
        ),
        Block(
            "Accuracy against specificity",
            figures=figure("accuracy_specificity"),
            tables=results["accuracy_specificity"].shown,
        ),
        Block("All trends over depth", folded=trend[1:]),
    ]
    if example_figures:
        blocks.append(
            Block("The same hearts at several depths", example_figures, notes=[_EXAMPLES_SHOWN])
        )
    elif why_no_example:
        blocks.append(Block("The same hearts at several depths", notes=[why_no_example]))
    return Section(f"Test set {test_set}", blocks)


def closing_sections(pretraining: Result, methods: Sequence[str]) -> list[Section]:
    """What comes after the test sets."""
    sections = []
    if pretraining.shown:
        sections.append(Section("Pre-training", [Block("", tables=pretraining.shown)]))
    return [*sections, Section("How the numbers are made", [Block("", notes=methods)])]

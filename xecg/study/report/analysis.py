"""Everything that a report says in numbers about one test set."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from xecg.explain.relevance import BRANCHES
from xecg.study.report.ladder import Ladder
from xecg.study.report.measures import DepthMean, Measure, depth_means
from xecg.study.report.performance import performance
from xecg.study.report.relevance import SPECIFICITY, relevance
from xecg.study.report.resamples import Resamples
from xecg.study.report.settings import ReportSettings
from xecg.study.report.trend import Trend, trend

Key = tuple[str, str, str, str]
"""Measure, part (branch or fused), class, wave; the last two may be empty."""

TRADED_CLASS = "non-AF"
"""The class whose specificity is compared with the accuracy: where there are P waves."""


@dataclass(frozen=True, eq=False)
class Analysed:
    """A measure at every depth, and its trend."""

    measure: Measure
    means: list[DepthMean]
    trend: Trend


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found on one test set.

    Args:
        ladder: The cells.
        found: By measure, part, class and wave.
        tradeoffs: By branch, rho over depths between its domain specificity and its accuracy.
    """

    ladder: Ladder
    found: Mapping[Key, Analysed]
    tradeoffs: Mapping[str, Trend]

    def named(self, name: str) -> list[Analysed]:
        """Everything of one measure."""
        return [analysed for key, analysed in self.found.items() if key[0] == name]


def analyse(ladder: Ladder, settings: ReportSettings) -> Analysis:
    """Compute metrics, relevance, their means, intervals and trends."""
    resamples = Resamples.draw(ladder, settings.resamples, settings.seed)
    measures = chain(performance(ladder, resamples), relevance(ladder, resamples))
    found = {
        (m.name, m.part, m.rhythm, m.wave): Analysed(
            m, depth_means(m, ladder), trend(m, ladder, resamples, settings)
        )
        for m in measures
    }
    tradeoffs = {
        branch: trend(
            found[SPECIFICITY, branch, TRADED_CLASS, ""].measure,
            ladder,
            resamples,
            settings,
            other=found["accuracy", branch, "", ""].measure,
        )
        for branch in ladder.branches
        if branch in BRANCHES
    }
    return Analysis(ladder, found, tradeoffs)

"""Where the branches of every cell look: enrichment of waves, and domain specificity."""

from collections.abc import Iterator

import numpy as np

from xecg.explain.relevance import BRANCHES, CLASSES, WAVES, domain_specificity
from xecg.study.report.ladder import Ladder
from xecg.study.report.measures import Measure
from xecg.study.report.resamples import Resamples

ENRICHMENT, SPECIFICITY = "enrichment", "domain specificity"


def relevance(ladder: Ladder, resamples: Resamples) -> Iterator[Measure]:
    """Mean enrichments and what :func:`domain_specificity` makes of them, by branch and class.

    Means are over the windows that the branch predicts rightly and that have a value, which those
    with fewer than four beats have not, as in :mod:`xecg.explain.relevance`.

    Args:
        ladder: The cells.
        resamples: Drawn of the ladder.

    Yields:
        For each branch and class the enrichment of each wave, then the domain specificity.
    """
    for branch in ladder.branches:
        for code, rhythm in enumerate(CLASSES):
            chosen = ladder.right(branch) & (ladder.af == code)
            found = {}
            for wave in WAVES:
                values = np.where(chosen, ladder.enrichment(branch, wave), np.nan)
                known = ~np.isnan(values)
                found[wave] = Measure(
                    ENRICHMENT,
                    branch,
                    rhythm,
                    wave,
                    resamples.means(values),
                    windows=known.sum(axis=1),
                    groups=(resamples.per_group(known) > 0).sum(axis=1),
                )
            yield from found.values()
            if branch in BRANCHES:  # another branch has no wave of its own
                yield _specificity(found["P"], found["QRS"])


def _specificity(p: Measure, qrs: Measure) -> Measure:
    values = domain_specificity(p.values, qrs.values, p.part)
    return Measure(SPECIFICITY, p.part, p.rhythm, "", values, p.windows, p.groups)

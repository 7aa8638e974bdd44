"""Accuracy, F1 and AUROC of every cell, per branch and fused."""

from collections.abc import Iterator

import numpy as np

from xecg.metrics.bootstrap import FloatArray, divide
from xecg.study.report.concordance import auroc
from xecg.study.report.ladder import Ladder
from xecg.study.report.measures import Measure
from xecg.study.report.resamples import Resamples

METRICS = {"accuracy": "accuracy", "f1": "F1 (AF)", "auroc": "AUROC"}
"""Names of the metrics and how figures and tables call them."""


def performance(ladder: Ladder, resamples: Resamples) -> Iterator[Measure]:
    """The metrics of each branch and fused; AF is called where it is the more probable class.

    Args:
        ladder: The cells.
        resamples: Drawn of the ladder.

    Yields:
        For each output the ``METRICS`` in order, as :mod:`xecg.metrics.classification` defines
        them.
    """
    n_cells = len(ladder.cells)
    n_windows = np.full(n_cells, ladder.af.size)
    n_groups = np.full(n_cells, ladder.n_groups)
    for output in ladder.outputs:
        for name, values in _metrics(ladder, output, resamples).items():
            yield Measure(name, output, "", "", values, n_windows, n_groups)


def _metrics(ladder: Ladder, output: str, resamples: Resamples) -> dict[str, FloatArray]:
    p_af = ladder.p_af(output)
    called, af = p_af > 0.5, ladder.af == 1
    tp, errors = resamples.sums(called & af), resamples.sums(called ^ af)
    total = resamples.sums(np.ones_like(p_af))
    areas = [auroc(row, ladder.af, resamples.codes, resamples.groups) for row in p_af]
    return {
        "accuracy": 1 - divide(errors, total),
        "f1": divide(2 * tp, 2 * tp + errors),  # errors are false positives and negatives
        "auroc": np.stack(areas, axis=1),
    }

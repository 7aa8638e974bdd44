"""Detection of P waves: as a metric over batches, and as a report with intervals over persons."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from xecg.errors import DataError
from xecg.metrics.bootstrap import FloatArray, Interval, Rows, divide, intervals
from xecg.signal.waves import NOT_ANNOTATED, P

IntArray = NDArray[np.int64]

THRESHOLD = 0.5  # smallest probability within a wave
MERGE_GAP_MS = 30.0  # detections less than this apart become one
MIN_DURATION_MS = 30.0  # shorter detections are dropped, after merging
TOLERANCES_MS = {150.0: "_at_150ms", 40.0: "_at_40ms"}  # of onset and offset, and their names
_STEPS = ("step_tp", "step_fp", "step_fn")  # in samples
_WAVES = ("tp", "fp", "fn", "onset_error", "offset_error", "onset_square", "offset_square")
COUNTS = (*_STEPS, *(f"{name}{at}" for at in TOLERANCES_MS.values() for name in _WAVES))


def match(waves: IntArray, others: IntArray, tolerance: float) -> tuple[IntArray, IntArray]:
    """Returns as many pairs as possible and, among those, those of the smallest summed error.

    Both ends of a pair lie within the tolerance, and each wave is in one pair at most (Kuhn 1955).
    Spans are ``(n, 2)`` in samples of one window; the pairs are rows of either side.
    """
    error = np.abs(waves[:, None] - others[None])
    near, error = (error <= tolerance).all(axis=2), error.sum(axis=2)
    no_pair = 1 + error.sum()  # costs more than all pairs together
    rows, columns = linear_sum_assignment(np.where(near, error, no_pair))
    kept = near[rows, columns]
    return rows[kept], columns[kept]


def _runs(inside: Rows, gap: float = 0, shortest: float = 0) -> IntArray:
    """Spans ``(n, 2)`` of true samples, joined over gaps below one, then without short ones."""
    starts, stops = np.flatnonzero(np.diff(inside, prepend=False, append=False)).reshape(-1, 2).T
    apart = starts[1:] - stops[:-1] >= gap
    first, last = np.r_[True, apart][: len(starts)], np.r_[apart, True][: len(starts)]
    spans: IntArray = np.stack([starts[first], stops[last]], axis=1)
    return spans[spans[:, 1] - spans[:, 0] >= shortest]


def _cut(spans: IntArray, unknown: Rows) -> Rows:
    """Whether each span contains or adjoins an unknown sample; windows end in unknown ones."""
    padded = np.pad(unknown, 1, constant_values=True)
    return np.array([padded[start : stop + 2].any() for start, stop in spans], bool)


class WaveDetection(Metric):
    """Waves found, missed and invented, over all batches and processes.

    A wave whose onset or offset is unknown, since it touches samples that are not annotated or the
    end of its window, is neither found nor missed, and a detection that touches it, or such
    samples, is not invented. Probabilities and codes have the ``sampling_rate`` (Hz).
    """

    full_state_update = False
    totals: Tensor

    def __init__(self, sampling_rate: float) -> None:
        super().__init__()
        self.sampling_rate = sampling_rate
        # Whole numbers: sums over processes are exact in any order, on every device.
        zeros = torch.zeros(len(COUNTS), dtype=torch.int64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")

    def counts(self, probability: Tensor, codes: Tensor) -> IntArray:
        """Returns counts of each window, ``(windows, len(COUNTS))``.

        Errors are sums of detection minus reference in samples. Raises DataError unless
        probabilities, in [0, 1], and wave codes are both ``(windows, time)``.
        """
        if probability.ndim != 2 or probability.shape != codes.shape:
            shapes = f"{tuple(probability.shape)} and {tuple(codes.shape)}"
            raise DataError(f"probability and codes must both be (windows, time); found {shapes}")
        p = probability.detach().float().cpu().numpy()
        if not ((p >= 0) & (p <= 1)).all():
            raise DataError("probability must lie between 0 and 1; found values outside or NaN")
        windows = zip(p >= THRESHOLD, codes.detach().cpu().numpy(), strict=True)
        return np.array([self._of_window(called, of) for called, of in windows], np.int64)

    def _of_window(self, called: Rows, codes: NDArray[np.uint8]) -> list[int]:
        unknown, true, per_ms = codes == NOT_ANNOTATED, codes == P, self.sampling_rate / 1000
        steps = called & true, called & ~true & ~unknown, true & ~called
        counts = [int(step.sum()) for step in steps]
        waves, found = _runs(true), _runs(called, MERGE_GAP_MS * per_ms, MIN_DURATION_MS * per_ms)
        cut = _cut(waves, unknown)
        for start, stop in waves[cut]:
            unknown[start:stop] = True
        waves, invented = waves[~cut], ~_cut(found, unknown)
        for tolerance in TOLERANCES_MS:
            one, other = match(waves, found, tolerance * per_ms)
            unmatched, error = invented.copy(), found[other] - waves[one]
            unmatched[other] = False
            counts += [len(one), int(unmatched.sum()), len(waves) - len(one)]
            counts += [*error.sum(axis=0), *(error**2).sum(axis=0)]
        return counts

    def measures(self, counts: FloatArray) -> dict[str, FloatArray]:
        """Returns measures of summed counts ``(..., len(COUNTS))``; undefined ones (0/0) are NaN.

        Per tolerance, ``_at_150ms`` for example: sensitivity, ppv, f1, and mean and standard
        deviation in ms of the onset and offset errors of the waves found.
        """
        measures = {name: divide(*share) for name, share in _shares(counts).items()}
        of, to_ms = dict(zip(COUNTS, counts.T, strict=True)), 1000 / self.sampling_rate
        for at in TOLERANCES_MS.values():
            for point in ("onset", "offset"):
                mean = divide(of[f"{point}_error{at}"], of[f"tp{at}"])
                variance = divide(of[f"{point}_square{at}"], of[f"tp{at}"]) - mean**2
                measures[f"{point}_error_mean_ms{at}"] = mean * to_ms
                measures[f"{point}_error_sd_ms{at}"] = np.sqrt(np.maximum(variance, 0)) * to_ms
        return measures

    def update(self, probability: Tensor, codes: Tensor) -> None:
        """Adds a batch; see :meth:`counts`."""
        sums = torch.from_numpy(self.counts(probability, codes).sum(axis=0))
        self.totals += sums.to(self.totals.device)

    def compute(self) -> dict[str, Tensor]:
        """Returns :meth:`measures` of all windows."""
        measures = self.measures(self.totals.cpu().numpy().astype(float))
        return {name: torch.tensor(float(v), device=self.device) for name, v in measures.items()}


def _shares(counts: FloatArray) -> Mapping[str, tuple[FloatArray, FloatArray]]:
    """Numerator and denominator of the measures that are shares."""
    of = dict(zip(COUNTS, counts.T, strict=True))
    tp, fp, fn = (of[name] for name in _STEPS)
    shares = {"step_f1": (2 * tp, 2 * tp + fp + fn)}
    for at in TOLERANCES_MS.values():
        tp, fp, fn = (of[f"{outcome}{at}"] for outcome in _WAVES[:3])
        shares[f"sensitivity{at}"] = tp, tp + fn
        shares[f"ppv{at}"] = tp, tp + fp
        shares[f"f1{at}"] = 2 * tp, 2 * tp + fp + fn
    return shares


def wave_report(
    counts: IntArray, groups: ArrayLike, detection: WaveDetection, *, n_resamples: int = 1000
) -> dict[str, Interval]:
    """Returns the measures of ``detection`` and its counts with intervals over persons.

    Raises DataError if there is no window, or not a group (person or record) for each.
    """
    if np.shape(groups) != (len(counts),):
        raise DataError(f"expected {len(counts)} groups, one a window; found {np.shape(groups)}")
    table = counts.astype(float)
    over = {name: [below > 0] for name, (_, below) in _shares(table).items()}

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        return detection.measures(weights @ table)

    return intervals(statistics, groups, over=over, n_resamples=n_resamples)

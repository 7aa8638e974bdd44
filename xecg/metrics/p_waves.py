"""Detection of P waves: as a metric over batches, and as a report with intervals over persons."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics import Metric

from xecg.errors import ConfigError, DataError
from xecg.metrics.bootstrap import FloatArray, Interval, Rows, divide, intervals
from xecg.signal.waves import NOT_ANNOTATED, P

IntArray = NDArray[np.int64]


def match(
    windows: IntArray,
    points: IntArray,
    other_windows: IntArray,
    other_points: IntArray,
    tolerance: float,
) -> tuple[IntArray, IntArray]:
    """Returns as many pairs as possible and, among those, those of the smallest summed error.

    A pair is of one window, with every point (onset, offset, or both) within the tolerance, and
    each side is in one pair at most. The result does not depend on which side is the reference.
    Where several partners compete, the assignment problem is solved exactly (Kuhn 1955).

    Args:
        windows: Window of each wave, ``(n,)``, rising.
        points: Samples to compare, ``(n, k)``; the first rises within a window.
        other_windows: Window of each wave of the other side, ``(m,)``.
        other_points: Samples to compare of the other side, ``(m, k)``.
        tolerance: Largest distance of a point to its partner, in samples.

    Returns:
        Rows of the pairs on one side and on the other, in the order of the first.
    """
    one, other = _candidates(windows, points, other_windows, other_points, tolerance)
    contested = (np.bincount(one)[one] > 1) | (np.bincount(other)[other] > 1)
    error = np.abs(points[one] - other_points[other]).sum(axis=1)
    kept = ~contested
    disputes = np.flatnonzero(contested)
    for of_window in np.split(disputes, 1 + np.flatnonzero(np.diff(windows[one[disputes]]))):
        kept[of_window[_assign(one[of_window], other[of_window], error[of_window])]] = True
    return one[kept], other[kept]


def _candidates(
    windows: IntArray,
    points: IntArray,
    other_windows: IntArray,
    other_points: IntArray,
    tolerance: float,
) -> tuple[IntArray, IntArray]:
    """Rows of all pairs within the tolerance, by binary search in one time line of all windows."""
    tolerance = int(tolerance)  # of whole samples
    last = max(points.max(initial=0), other_points.max(initial=0))
    line = windows * (last + tolerance + 1) + points[:, 0]
    other_line = other_windows * (last + tolerance + 1) + other_points[:, 0]
    low = np.searchsorted(other_line, line - tolerance, side="left")
    n = np.searchsorted(other_line, line + tolerance, side="right") - low
    one = np.repeat(np.arange(len(points)), n)
    other = np.arange(n.sum()) + np.repeat(low - np.cumsum(n) + n, n)
    near = (np.abs(points[one] - other_points[other]) <= tolerance).all(axis=1)
    return one[near], other[near]


def _assign(one: IntArray, other: IntArray, error: IntArray) -> IntArray:
    """Positions of the pairs that are kept."""
    rows, row = np.unique(one, return_inverse=True)
    columns, column = np.unique(other, return_inverse=True)
    no_pair = 1 + int(error.sum())  # costs more than all pairs together
    cost = np.full((len(rows), len(columns)), no_pair)
    pair = np.full(cost.shape, -1)
    cost[row, column] = error
    pair[row, column] = np.arange(len(error))
    chosen: IntArray = pair[linear_sum_assignment(cost)]
    return chosen[chosen >= 0]


@dataclass(frozen=True)
class WaveSpans:
    """Waves of several windows, ordered by window and time.

    Args:
        windows: Window of each wave, ``(n,)``.
        spans: First sample and the one after the last, ``(n, 2)``.
        cut: Whether onset or offset is unknown, since the wave touches samples that are not
            annotated or the end of its window, ``(n,)``.
    """

    windows: IntArray
    spans: IntArray
    cut: Rows


def reference_waves(codes: NDArray[np.uint8], wave: int = P) -> WaveSpans:
    """Returns waves of one kind in reference codes ``(windows, time)``."""
    windows, spans = _runs(codes == wave)
    return WaveSpans(windows, spans, _touches(codes == NOT_ANNOTATED, windows, spans))


def detected_waves(
    probability: NDArray[np.float32], threshold: float, merge_gap: float, min_duration: float
) -> tuple[IntArray, IntArray]:
    """Returns window ``(n,)`` and span ``(n, 2)`` of runs of samples at or above a threshold.

    Runs less than ``merge_gap`` samples apart become one; then runs of fewer than ``min_duration``
    samples are dropped.
    """
    windows, spans = _runs(probability >= threshold)
    apart = (np.diff(windows) != 0) | (spans[1:, 0] - spans[:-1, 1] >= merge_gap)
    first, last = np.r_[True, apart][: len(spans)], np.r_[apart, True][: len(spans)]
    windows, spans = windows[first], np.stack([spans[first, 0], spans[last, 1]], axis=1)
    long_enough = spans[:, 1] - spans[:, 0] >= min_duration
    return windows[long_enough], spans[long_enough]


def mark_cut(
    windows: IntArray, spans: IntArray, codes: NDArray[np.uint8], reference: WaveSpans
) -> WaveSpans:
    """Marks detections as cut where they touch samples that the reference cannot judge.

    Those are not annotated, beyond the window, or in a reference wave that is cut.
    """
    unknown = codes == NOT_ANNOTATED
    for window, (start, stop) in zip(
        reference.windows[reference.cut], reference.spans[reference.cut], strict=True
    ):
        unknown[window, start:stop] = True
    return WaveSpans(windows, spans, _touches(unknown, windows, spans))


def _runs(inside: Rows) -> tuple[IntArray, IntArray]:
    """Window ``(n,)`` and span ``(n, 2)`` of each run of true samples."""
    padded = np.zeros((inside.shape[0], inside.shape[1] + 1), dtype=np.int8)
    padded[:, :-1] = inside  # one false sample keeps the runs of two windows apart
    edges = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    windows, samples = np.divmod(edges.reshape(-1, 2), padded.shape[1])
    return windows[:, 0], samples


def _touches(unknown: Rows, windows: IntArray, spans: IntArray) -> Rows:
    """Whether a span contains or adjoins an unknown sample; there is one beyond either end."""
    padded = np.pad(unknown, ((0, 0), (1, 1)), constant_values=True)
    before = np.zeros((padded.shape[0], padded.shape[1] + 1), dtype=np.int32)
    np.cumsum(padded, axis=1, out=before[:, 1:])
    touched: Rows = before[windows, spans[:, 1] + 2] > before[windows, spans[:, 0]]
    return touched


Counts = dict[str, IntArray]
_Share = Callable[[Mapping[str, FloatArray]], tuple[FloatArray, FloatArray]]

_KINDS = {"": [0, 1], "onset_": [0], "offset_": [1]}  # points of a span that must be met
_OUTCOMES = ("tp", "fp", "fn")
_ERRORS = ("onset_error", "onset_square", "offset_error", "offset_square")


@dataclass(frozen=True)
class WaveCounting:
    """How waves are made of probabilities and compared with the reference.

    Args:
        sampling_rate: Sampling rate of probabilities and codes, in Hz.
        threshold: Smallest probability within a wave.
        merge_gap_ms: Detections less than this apart become one.
        min_duration_ms: Shorter detections are dropped, after merging.
        tolerances_ms: Largest distances of onset and offset to the reference.
        wave: Reference code of the wave.

    Raises:
        ConfigError: If the sampling rate or a tolerance is not positive.
    """

    sampling_rate: float
    threshold: float = 0.5
    merge_gap_ms: float = 30.0
    min_duration_ms: float = 30.0
    tolerances_ms: tuple[float, ...] = (150.0, 40.0)
    wave: int = P

    def __post_init__(self) -> None:
        if self.sampling_rate <= 0 or min(self.tolerances_ms, default=0) <= 0:
            raise ConfigError(f"sampling_rate and tolerances_ms must be positive; found {self}")

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the counts of a window."""
        steps = tuple(f"step_{outcome}" for outcome in _OUTCOMES)
        columns = [f"{kind}{outcome}" for kind in _KINDS for outcome in _OUTCOMES] + [*_ERRORS]
        return steps + tuple(f"{name}{at}" for at in self._suffixes().values() for name in columns)

    def count(self, probability: NDArray[np.float32], codes: NDArray[np.uint8]) -> Counts:
        """Returns counts ``(windows,)`` by name; errors are sums in samples, detection - reference.

        Args:
            probability: Probability of the wave at each sample, ``(windows, time)``, in [0, 1].
            codes: Reference wave of each sample, ``(windows, time)``, or ``NOT_ANNOTATED``.

        Raises:
            DataError: If the shapes differ or a value is no probability.
        """
        if probability.ndim != 2 or probability.shape != codes.shape:
            raise DataError(
                "probability and codes must both be (windows, time); found "
                f"{probability.shape} and {codes.shape}"
            )
        if not ((probability >= 0) & (probability <= 1)).all():
            raise DataError("probability must lie between 0 and 1; found values outside or NaN")
        reference = reference_waves(codes, self.wave)
        per_ms = self.sampling_rate / 1000
        windows, spans = detected_waves(
            probability, self.threshold, self.merge_gap_ms * per_ms, self.min_duration_ms * per_ms
        )
        detected = mark_cut(windows, spans, codes, reference)
        counts = self._count_steps(probability, codes)
        for tolerance, at in self._suffixes().items():
            found = _count_waves(reference, detected, tolerance * per_ms, len(codes))
            counts |= {f"{name}{at}": values for name, values in found.items()}
        return counts

    def measures(self, counts: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Returns measures of summed counts of any one shape; undefined ones (0/0) are NaN.

        Per tolerance, ``_at_150ms`` for example: sensitivity, ppv, f1, onset_f1, offset_f1, and
        mean and standard deviation in ms of the onset and offset errors of the waves found.
        """
        measures = {name: divide(*of(counts)) for name, of in self._shares().items()}
        for at in self._suffixes().values():
            tp, to_ms = counts[f"tp{at}"], 1000 / self.sampling_rate
            for point in ("onset", "offset"):
                mean = divide(counts[f"{point}_error{at}"], tp)
                variance = divide(counts[f"{point}_square{at}"], tp) - mean**2
                measures[f"{point}_error_mean_ms{at}"] = mean * to_ms
                measures[f"{point}_error_sd_ms{at}"] = np.sqrt(np.maximum(variance, 0)) * to_ms
        return measures

    def over(self, counts: Mapping[str, FloatArray]) -> dict[str, list[Rows]]:
        """Returns the windows that each measure which is a share is over, of counts by window."""
        return {name: [of(counts)[1] > 0] for name, of in self._shares().items()}

    def _shares(self) -> dict[str, _Share]:
        """Numerator and denominator of the measures that are shares, as functions of counts."""
        shares: dict[str, _Share] = {"step_f1": partial(_f1, kind="step_", at="")}
        for at in self._suffixes().values():
            for name, missed in (("sensitivity", "fn"), ("ppv", "fp")):
                shares[f"{name}{at}"] = partial(_found, missed=f"{missed}{at}", at=at)
            for kind in _KINDS:
                shares[f"{kind}f1{at}"] = partial(_f1, kind=kind, at=at)
        return shares

    def _suffixes(self) -> dict[float, str]:
        return {tolerance: f"_at_{tolerance:g}ms" for tolerance in self.tolerances_ms}

    def _count_steps(self, probability: NDArray[np.float32], codes: NDArray[np.uint8]) -> Counts:
        annotated, true = codes != NOT_ANNOTATED, codes == self.wave
        predicted = (probability >= self.threshold) & annotated
        outcomes = predicted & true, predicted & ~true, true & ~predicted
        return {
            f"step_{name}": samples.sum(axis=1, dtype=np.int64)
            for name, samples in zip(_OUTCOMES, outcomes, strict=True)
        }


def _found(counts: Mapping[str, FloatArray], missed: str, at: str) -> tuple[FloatArray, FloatArray]:
    tp = counts[f"tp{at}"]
    return tp, tp + counts[missed]


def _f1(counts: Mapping[str, FloatArray], kind: str, at: str) -> tuple[FloatArray, FloatArray]:
    tp, fp, fn = (counts[f"{kind}{outcome}{at}"] for outcome in _OUTCOMES)
    return 2 * tp, 2 * tp + fp + fn


def _count_waves(reference: WaveSpans, detected: WaveSpans, tolerance: float, n: int) -> Counts:
    windows, spans = reference.windows[~reference.cut], reference.spans[~reference.cut]
    counts = {}
    for kind, points in _KINDS.items():
        one, other = match(
            windows, spans[:, points], detected.windows, detected.spans[:, points], tolerance
        )
        invented = ~detected.cut
        invented[other] = False
        counts[f"{kind}tp"] = np.bincount(windows[one], minlength=n)
        counts[f"{kind}fp"] = np.bincount(detected.windows[invented], minlength=n)
        counts[f"{kind}fn"] = np.bincount(windows, minlength=n) - counts[f"{kind}tp"]
        if kind == "":
            error = detected.spans[other] - spans[one]
            sums = np.zeros((n, 4), dtype=np.int64)
            np.add.at(sums, windows[one], np.stack([error, error**2], axis=2).reshape(-1, 4))
            counts |= dict(zip(_ERRORS, sums.T, strict=True))
    return counts


class WaveDetection(Metric):
    """Waves found, missed and invented, over all batches and processes.

    ``compute`` returns the measures of :meth:`WaveCounting.measures` by name.

    Args:
        counting: How waves are made of probabilities and compared with the reference.
    """

    full_state_update = False
    totals: Tensor

    def __init__(self, counting: WaveCounting) -> None:
        super().__init__()
        self.counting = counting
        # Whole numbers: sums over processes are exact in any order, on every device.
        zeros = torch.zeros(len(counting.keys), dtype=torch.int64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")

    def counts(self, probability: Tensor, codes: Tensor) -> IntArray:
        """Returns the counts of each window, ``(batch, len(counting.keys))``.

        Args:
            probability: Probability of the wave at each sample, ``(batch, time)``, in [0, 1].
            codes: Reference wave of each sample, uint8 ``(batch, time)``, or ``NOT_ANNOTATED``.

        Raises:
            DataError: If the shapes differ or a value is no probability.
        """
        counts = self.counting.count(
            probability.detach().float().cpu().numpy(), codes.detach().cpu().numpy()
        )
        return np.stack([counts[key] for key in self.counting.keys], axis=1)

    def update(self, probability: Tensor, codes: Tensor) -> None:
        """Adds a batch; see :meth:`counts`."""
        sums = torch.from_numpy(self.counts(probability, codes).sum(axis=0))
        self.totals += sums.to(self.totals.device)

    def compute(self) -> dict[str, Tensor]:
        """Returns measures of all windows; NaN where undefined."""
        totals = self.totals.cpu().numpy().astype(float)
        measures = self.counting.measures(dict(zip(self.counting.keys, totals, strict=True)))
        return {
            name: torch.tensor(float(value), dtype=torch.float32, device=self.device)
            for name, value in measures.items()
        }


def wave_report(
    counts: IntArray,
    groups: ArrayLike,
    counting: WaveCounting,
    *,
    n_resamples: int = 1000,
    seed: int = 0,
) -> dict[str, Interval]:
    """Returns the measures of :class:`WaveDetection` with intervals over persons.

    Args:
        counts: Counts of each window by :meth:`WaveDetection.counts`, ``(windows, keys)``.
        groups: Person (or record) of each window, ``(windows,)``.
        counting: How the waves were counted.
        n_resamples: Number of resamples.
        seed: Random seed of the resampling.

    Raises:
        DataError: If there is no window, or not a group for each.
    """
    if np.shape(groups) != (len(counts),):
        raise DataError(f"expected {len(counts)} groups, one a window; found {np.shape(groups)}")
    table = counts.astype(float)

    def measures(weights: FloatArray) -> dict[str, FloatArray]:
        return counting.measures(dict(zip(counting.keys, (weights @ table).T, strict=True)))

    over = counting.over(dict(zip(counting.keys, table.T, strict=True)))
    return intervals(measures, groups, over=over, n_resamples=n_resamples, seed=seed)

"""Detection of P waves: as a metric over batches, and as a report with intervals over persons."""

from collections.abc import Mapping

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
Counts = dict[str, IntArray]
Waves = tuple[IntArray, IntArray]  # window (n,), rising; first sample and the one after the last

THRESHOLD = 0.5  # smallest probability within a wave
MERGE_GAP_MS = 30.0  # detections less than this apart become one
MIN_DURATION_MS = 30.0  # shorter detections are dropped, after merging
_KINDS = {"": [0, 1], "onset_": [0], "offset_": [1]}  # points of a span that must be met
_OUTCOMES = ("tp", "fp", "fn")
_ERRORS = ("onset_error", "onset_square", "offset_error", "offset_square")


def match(
    windows: IntArray,
    points: IntArray,
    other_windows: IntArray,
    other_points: IntArray,
    tolerance: float,
) -> tuple[IntArray, IntArray]:
    """Returns as many pairs as possible and, among those, those of the smallest summed error.

    A pair is of one window, with every point (onset, offset, or both) within the tolerance, and
    each side is in one pair at most, whichever is the reference. Where several partners compete,
    the assignment problem is solved exactly (Kuhn 1955).

    Each side has the window of each wave ``(n,)``, rising, and points to compare ``(n, k)`` in
    samples, of which the first rises within a window. The pairs are rows of either side.
    """
    # All pairs within the tolerance, by binary search in one time line of all windows.
    tolerance = int(tolerance)  # of whole samples
    length = max(points.max(initial=0), other_points.max(initial=0)) + tolerance + 1
    line, other_line = windows * length + points[:, 0], other_windows * length + other_points[:, 0]
    low = np.searchsorted(other_line, line - tolerance, side="left")
    n = np.searchsorted(other_line, line + tolerance, side="right") - low
    one = np.repeat(np.arange(len(points)), n)
    other = np.arange(n.sum()) + np.repeat(low - np.cumsum(n) + n, n)
    near = (np.abs(points[one] - other_points[other]) <= tolerance).all(axis=1)
    one, other = one[near], other[near]
    kept = (np.bincount(one)[one] == 1) & (np.bincount(other)[other] == 1)
    error = np.abs(points[one] - other_points[other]).sum(axis=1)
    disputes = np.flatnonzero(~kept)
    for of_window in np.split(disputes, 1 + np.flatnonzero(np.diff(windows[one[disputes]]))):
        kept[of_window[_assign(one[of_window], other[of_window], error[of_window])]] = True
    return one[kept], other[kept]


def _assign(one: IntArray, other: IntArray, error: IntArray) -> IntArray:
    """Returns positions of the pairs that are kept."""
    (rows, row), (columns, column) = (np.unique(of, return_inverse=True) for of in (one, other))
    pair = np.full((len(rows), len(columns)), -1)
    pair[row, column] = np.arange(len(error))
    no_pair = 1 + int(error.sum())  # costs more than all pairs together
    cost = np.where(pair >= 0, error[pair], no_pair)
    chosen: IntArray = pair[linear_sum_assignment(cost)]
    return chosen[chosen >= 0]


def _runs(inside: Rows) -> Waves:
    """Returns window ``(n,)`` and span ``(n, 2)`` of each run of true samples."""
    padded = np.zeros((inside.shape[0], inside.shape[1] + 1), dtype=np.int8)
    padded[:, :-1] = inside  # one false sample keeps the runs of two windows apart
    edges = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    windows, samples = np.divmod(edges.reshape(-1, 2), padded.shape[1])
    return windows[:, 0], samples


def _joined(waves: Waves, merge_gap: float, min_duration: float) -> Waves:
    """Joins runs less than a gap apart, then drops short ones; both in samples."""
    windows, spans = waves
    apart = (np.diff(windows) != 0) | (spans[1:, 0] - spans[:-1, 1] >= merge_gap)
    first, last = np.r_[True, apart][: len(spans)], np.r_[apart, True][: len(spans)]
    windows, spans = windows[first], np.stack([spans[first, 0], spans[last, 1]], axis=1)
    long_enough = spans[:, 1] - spans[:, 0] >= min_duration
    return windows[long_enough], spans[long_enough]


def _cut(waves: Waves, unknown: Rows) -> Rows:
    """Returns whether spans contain or adjoin an unknown sample; windows end in unknown ones."""
    windows, spans = waves
    padded = np.pad(unknown, ((0, 0), (1, 1)), constant_values=True)
    before = np.zeros((padded.shape[0], padded.shape[1] + 1), dtype=np.int32)
    np.cumsum(padded, axis=1, out=before[:, 1:])
    touched: Rows = before[windows, spans[:, 1] + 2] > before[windows, spans[:, 0]]
    return touched


class WaveDetection(Metric):
    """Waves found, missed and invented, over all batches and processes.

    A wave whose onset or offset is unknown, since it touches samples that are not annotated or the
    end of its window, is neither found nor missed, and a detection that touches it, or such
    samples, is not invented. Probabilities and codes have the ``sampling_rate`` (Hz); onset and
    offset may be ``tolerances_ms`` from the reference. Raises ConfigError for one not positive.
    """

    full_state_update = False
    totals: Tensor

    def __init__(
        self, sampling_rate: float, tolerances_ms: tuple[float, ...] = (150.0, 40.0)
    ) -> None:
        super().__init__()
        if sampling_rate <= 0 or min(tolerances_ms, default=0) <= 0:
            found = f"{sampling_rate}, {tolerances_ms}"
            raise ConfigError(f"sampling_rate and tolerances_ms must be positive; found {found}")
        self.sampling_rate = sampling_rate
        self.suffixes = {tolerance: f"_at_{tolerance:g}ms" for tolerance in tolerances_ms}
        # Whole numbers: sums over processes are exact in any order, on every device.
        zeros = torch.zeros(len(self.keys), dtype=torch.int64)
        self.add_state("totals", zeros, dist_reduce_fx="sum")

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the counts of a window."""
        columns = [f"{kind}{outcome}" for kind in _KINDS for outcome in _OUTCOMES] + [*_ERRORS]
        steps = [f"step_{outcome}" for outcome in _OUTCOMES]
        return (*steps, *(f"{name}{at}" for at in self.suffixes.values() for name in columns))

    def count(self, probability: NDArray[np.float32], codes: NDArray[np.uint8]) -> Counts:
        """Returns counts ``(windows,)`` by name; errors are sums in samples, detection - reference.

        Probabilities of the wave, in [0, 1], and wave codes are ``(windows, time)``. Raises
        DataError if the shapes differ or a value is no probability.
        """
        if probability.ndim != 2 or probability.shape != codes.shape:
            shapes = f"{probability.shape} and {codes.shape}"
            raise DataError(f"probability and codes must both be (windows, time); found {shapes}")
        if not ((probability >= 0) & (probability <= 1)).all():
            raise DataError("probability must lie between 0 and 1; found values outside or NaN")
        unknown, true, called = codes == NOT_ANNOTATED, codes == P, probability >= THRESHOLD
        steps = called & true, called & ~true & ~unknown, true & ~called
        named = zip(_OUTCOMES, steps, strict=True)
        counts = {f"step_{name}": step.sum(axis=1, dtype=np.int64) for name, step in named}
        windows, spans = _runs(true)
        cut = _cut((windows, spans), unknown)
        for window, (start, stop) in zip(windows[cut], spans[cut], strict=True):
            unknown[window, start:stop] = True
        per_ms = self.sampling_rate / 1000
        detected = _joined(_runs(called), MERGE_GAP_MS * per_ms, MIN_DURATION_MS * per_ms)
        invented, whole = ~_cut(detected, unknown), (windows[~cut], spans[~cut])
        for tolerance, at in self.suffixes.items():
            found = _count_waves(whole, detected, invented, tolerance * per_ms, len(codes))
            counts |= {f"{name}{at}": values for name, values in found.items()}
        return counts

    def measures(self, counts: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Returns measures of summed counts of any one shape; undefined ones (0/0) are NaN.

        Per tolerance, ``_at_150ms`` for example: sensitivity, ppv, f1, onset_f1, offset_f1, and
        mean and standard deviation in ms of the onset and offset errors of the waves found.
        """
        measures = {name: divide(*share) for name, share in self.shares(counts).items()}
        for at in self.suffixes.values():
            tp, to_ms = counts[f"tp{at}"], 1000 / self.sampling_rate
            for point in ("onset", "offset"):
                mean = divide(counts[f"{point}_error{at}"], tp)
                variance = divide(counts[f"{point}_square{at}"], tp) - mean**2
                measures[f"{point}_error_mean_ms{at}"] = mean * to_ms
                measures[f"{point}_error_sd_ms{at}"] = np.sqrt(np.maximum(variance, 0)) * to_ms
        return measures

    def shares(self, counts: Mapping[str, FloatArray]) -> dict[str, tuple[FloatArray, FloatArray]]:
        """Returns numerator and denominator of the measures that are shares."""

        def f1(kind: str, at: str) -> tuple[FloatArray, FloatArray]:
            tp, fp, fn = (counts[f"{kind}{outcome}{at}"] for outcome in _OUTCOMES)
            return 2 * tp, 2 * tp + fp + fn

        shares = {"step_f1": f1("step_", "")}
        for at in self.suffixes.values():
            tp = counts[f"tp{at}"]
            shares[f"sensitivity{at}"] = tp, tp + counts[f"fn{at}"]
            shares[f"ppv{at}"] = tp, tp + counts[f"fp{at}"]
            shares |= {f"{kind}f1{at}": f1(kind, at) for kind in _KINDS}
        return shares

    def counts(self, probability: Tensor, codes: Tensor) -> IntArray:
        """Returns :meth:`count` of each window, ``(batch, len(keys))``."""
        p_wave = probability.detach().float().cpu().numpy()
        counts = self.count(p_wave, codes.detach().cpu().numpy())
        return np.stack([counts[key] for key in self.keys], axis=1)

    def update(self, probability: Tensor, codes: Tensor) -> None:
        """Adds a batch; see :meth:`counts`."""
        sums = torch.from_numpy(self.counts(probability, codes).sum(axis=0))
        self.totals += sums.to(self.totals.device)

    def compute(self) -> dict[str, Tensor]:
        """Returns :meth:`measures` of all windows."""
        totals = self.totals.cpu().numpy().astype(float)
        measures = self.measures(dict(zip(self.keys, totals, strict=True)))
        return {name: torch.tensor(float(v), device=self.device) for name, v in measures.items()}


def _count_waves(
    reference: Waves, detected: Waves, invented: Rows, tolerance: float, n: int
) -> Counts:
    """Returns counts of ``n`` windows; ``invented`` are the detections that may be called so."""
    (windows, spans), (other_windows, other_spans) = reference, detected
    counts = {}
    for kind, points in _KINDS.items():
        pair = spans[:, points], other_windows, other_spans[:, points]
        one, other = match(windows, *pair, tolerance)
        unmatched = invented.copy()
        unmatched[other] = False
        counts[f"{kind}tp"] = np.bincount(windows[one], minlength=n)
        counts[f"{kind}fp"] = np.bincount(other_windows[unmatched], minlength=n)
        counts[f"{kind}fn"] = np.bincount(windows, minlength=n) - counts[f"{kind}tp"]
        if kind == "":
            error = other_spans[other] - spans[one]
            sums = np.zeros((n, 4), dtype=np.int64)
            np.add.at(sums, windows[one], np.stack([error, error**2], axis=2).reshape(-1, 4))
            counts |= dict(zip(_ERRORS, sums.T, strict=True))
    return counts


def wave_report(
    counts: IntArray, groups: ArrayLike, detection: WaveDetection, *, n_resamples: int = 1000
) -> dict[str, Interval]:
    """Returns the measures of :class:`WaveDetection` with intervals over persons.

    ``counts`` are those of each window ``(windows, keys)`` by ``detection``, ``groups`` its person
    or record. Raises DataError if there is no window, or not a group for each.
    """
    if np.shape(groups) != (len(counts),):
        raise DataError(f"expected {len(counts)} groups, one a window; found {np.shape(groups)}")
    table = counts.astype(float)

    def statistics(weights: FloatArray) -> dict[str, FloatArray]:
        return detection.measures(dict(zip(detection.keys, (weights @ table).T, strict=True)))

    shares = detection.shares(dict(zip(detection.keys, table.T, strict=True)))
    over = {name: [below > 0] for name, (_, below) in shares.items()}
    return intervals(statistics, groups, over=over, n_resamples=n_resamples)

"""Waves found, missed and invented, counted per window, and the measures made of such counts.

Tolerances. ANSI/AAMI EC57 accepts a detection within 150 ms of the reference; published work on
LUDB (Sereda et al. 2019, Moskalenko et al. 2019) applies that to onsets and offsets separately.
``onset_f1`` and ``offset_f1`` follow it. ``sensitivity``, ``ppv`` and ``f1`` are stricter: one
detection must meet the onset and the offset of the same wave. 40 ms is less than half a P wave.

Borders. Where the reference ends, nothing can be judged: a reference wave that is cut by the end
of the annotated region or of the window is not counted, nor is a detection that touches what was
not annotated, the end of the window, or such a wave, unless it meets a wave that is counted.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.bootstrap import divide
from xecg.errors import ConfigError, DataError
from xecg.metrics.matching import match
from xecg.metrics.wave_spans import WaveSpans, detected_waves, mark_cut, reference_waves
from xecg.signal.waves import NOT_ANNOTATED, P

Counts = dict[str, NDArray[np.int64]]

_KINDS = {"": [0, 1], "onset_": [0], "offset_": [1]}  # points of a span that must be met
_OUTCOMES = ("tp", "fp", "fn")
_ERRORS = ("onset_error", "onset_square", "offset_error", "offset_square")


@dataclass(frozen=True)
class WaveCounting:
    """How waves are made of probabilities and compared with the reference.

    Args:
        sampling_rate: Of probabilities and codes, in Hz.
        threshold: Smallest probability within a wave.
        merge_gap_ms: Detections less than this apart become one.
        min_duration_ms: Shorter detections are dropped, after merging.
        tolerances_ms: Largest distances of onset and offset to the reference.
        wave: Reference code of the wave.

    Raises:
        ConfigError: The sampling rate or a tolerance is not positive.
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
        """Count per window.

        Args:
            probability: Of the wave at each sample, ``(windows, time)``, in [0, 1].
            codes: Reference wave of each sample, ``(windows, time)``, or ``NOT_ANNOTATED``.

        Returns:
            Counts ``(windows,)`` by name; errors are sums in samples, detection minus reference.

        Raises:
            DataError: The shapes differ or a value is no probability.
        """
        _check(probability, codes)
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

    def measures(self, counts: Mapping[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
        """Measures of summed counts of any one shape; undefined ones (0/0) are NaN.

        Per tolerance, ``_at_150ms`` for example: sensitivity, ppv, f1, onset_f1, offset_f1, and
        mean and standard deviation in ms of the onset and offset errors of the waves found.
        """
        measures = {"step_f1": _f1(counts, "step_", "")}
        for at in self._suffixes().values():
            tp, fp, fn = (counts[f"{outcome}{at}"] for outcome in _OUTCOMES)
            measures[f"sensitivity{at}"] = divide(tp, tp + fn)
            measures[f"ppv{at}"] = divide(tp, tp + fp)
            for kind in _KINDS:
                measures[f"{kind}f1{at}"] = _f1(counts, kind, at)
            for point in ("onset", "offset"):
                mean = divide(counts[f"{point}_error{at}"], tp)
                variance = divide(counts[f"{point}_square{at}"], tp) - mean**2
                to_ms = 1000 / self.sampling_rate
                measures[f"{point}_error_mean_ms{at}"] = mean * to_ms
                measures[f"{point}_error_sd_ms{at}"] = np.sqrt(np.maximum(variance, 0)) * to_ms
        return measures

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


def _f1(counts: Mapping[str, NDArray[np.float64]], kind: str, at: str) -> NDArray[np.float64]:
    tp, fp, fn = (counts[f"{kind}{outcome}{at}"] for outcome in _OUTCOMES)
    return divide(2 * tp, 2 * tp + fp + fn)


def _check(probability: NDArray[np.float32], codes: NDArray[np.uint8]) -> None:
    if probability.ndim != 2 or probability.shape != codes.shape:
        raise DataError(
            "probability and codes must both be (windows, time); found "
            f"{probability.shape} and {codes.shape}"
        )
    if not ((probability >= 0) & (probability <= 1)).all():
        raise DataError("probability must lie between 0 and 1; found values outside or NaN")

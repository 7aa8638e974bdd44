"""R peaks, and how the intervals between them vary."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.preprocessing import bridge_missing

MIN_BEATS = 5
"""Fewest beats for measures of variability: four intervals, three successive differences."""

MIN_DURATION_S = 2.0
"""The detector sets its thresholds on the first two seconds; shorter signals have no R peaks."""

_VARIATION_S = 0.15  # the detector's moving integration


@dataclass(frozen=True)
class RRMeasures:
    """Heart rate variability in the time domain, NaN for fewer than `MIN_BEATS` beats.

    Args:
        n_beats: Number of beats.
        mean_rr_ms: Mean of the RR intervals (ms).
        rmssd_ms: Root mean square of successive differences of the RR intervals (ms).
        sdnn_ms: Standard deviation of the RR intervals, with n - 1 in the denominator (ms).
    """

    n_beats: int
    mean_rr_ms: float
    rmssd_ms: float
    sdnn_ms: float


def detect_r_peaks(signal: NDArray[np.floating], sampling_rate: float) -> NDArray[np.int64]:
    """Find R peaks with sleepecg's modification of Pan and Tompkins (1985).

    Args:
        signal: (time,), raw or band-limited, in any unit. Where it is NaN no peak is found.
        sampling_rate: Samples per second (Hz).

    Returns:
        int64 (peaks,), ascending sample positions. Empty for a signal that is constant, wholly
        missing or shorter than `MIN_DURATION_S`.

    Raises:
        RecordError: `signal` is not one lead, or holds infinite values.
    """
    from sleepecg.heartbeats import detect_heartbeats  # over a second to import

    if signal.ndim != 1 or np.isinf(signal).any():
        raise RecordError(
            f"R peaks: expected one lead of shape (time,) without infinite values, found shape "
            f"{signal.shape} with {np.count_nonzero(np.isinf(signal))} infinite values."
        )
    bridged, missing = bridge_missing(signal)
    if len(signal) < MIN_DURATION_S * sampling_rate or np.ptp(bridged) == 0:
        return np.empty(0, dtype=np.int64)
    if np.ptp(bridged[: -round(_VARIATION_S * sampling_rate)]) == 0:
        return np.empty(0, dtype=np.int64)  # sleepecg refuses it
    peaks = detect_heartbeats(np.ascontiguousarray(bridged, dtype=np.float64), sampling_rate)
    return np.asarray(peaks[~missing[peaks]], dtype=np.int64)


def rr_measures(r_peaks_s: NDArray[np.floating]) -> RRMeasures:
    """Measure RR intervals as the Task Force of ESC and NASPE (Circulation 93:1043, 1996) does.

    Args:
        r_peaks_s: (beats,), times of successive beats in seconds, strictly ascending.

    Raises:
        RecordError: The times do not ascend.
    """
    times = np.asarray(r_peaks_s, dtype=np.float64)
    rr_ms = 1000 * (times[1:] - times[:-1])
    if not (rr_ms > 0).all():
        raise RecordError(
            f"RR intervals: expected strictly ascending times of beats, but beat "
            f"{int(np.flatnonzero(~(rr_ms > 0))[0]) + 2} is not after the one before it."
        )
    if len(times) < MIN_BEATS:
        return RRMeasures(len(times), *[float("nan")] * 3)
    mean = np.add.reduce(rr_ms) / len(rr_ms)  # NumPy's own mean and std take four times as long
    differences, deviations = rr_ms[1:] - rr_ms[:-1], rr_ms - mean
    return RRMeasures(
        n_beats=len(times),
        mean_rr_ms=float(mean),
        rmssd_ms=sqrt(np.add.reduce(differences**2) / len(differences)),
        sdnn_ms=sqrt(np.add.reduce(deviations**2) / (len(rr_ms) - 1)),
    )

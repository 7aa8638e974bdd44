"""R peaks, and how the intervals between them vary."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.preprocessing import bridge_missing

MIN_BEATS = 5
"""Fewest beats for measures of variability: four intervals, three successive differences."""

_MIN_DURATION_S = 2.0  # the detector sets its thresholds on the first two seconds
_INTEGRATION_S = 0.15  # the detector's moving window; it refuses a signal that varies for less


@dataclass(frozen=True)
class RRMeasures:
    """RR intervals: number of beats, mean, RMSSD and SDNN (with n - 1 in its denominator), in ms.

    NaN for fewer than ``MIN_BEATS``.
    """

    n_beats: int
    mean_rr_ms: float
    rmssd_ms: float
    sdnn_ms: float


def detect_r_peaks(signal: NDArray[np.floating], sampling_rate: float) -> NDArray[np.int64]:
    """Finds R peaks with sleepecg's modification of Pan and Tompkins (1985).

    Args:
        signal: (time,), raw or band-limited, in any unit, without infinite values. Where it is
            NaN no peak is found.
        sampling_rate: Samples per second (Hz).

    Returns:
        int64 (peaks,), ascending sample positions. Empty for a signal that is constant, wholly
        missing, shorter than 2 s, or varies in its last 0.15 s only.
    """
    bridged, missing = bridge_missing(signal)
    until = len(signal) - round(_INTEGRATION_S * sampling_rate)
    if len(signal) < _MIN_DURATION_S * sampling_rate or np.ptp(bridged[:until]) == 0:
        return np.empty(0, dtype=np.int64)
    from sleepecg.heartbeats import detect_heartbeats  # over a second to import

    peaks = detect_heartbeats(np.ascontiguousarray(bridged, dtype=np.float64), sampling_rate)
    return np.asarray(peaks[~missing[peaks]], dtype=np.int64)


def rr_measures(r_peaks_s: NDArray[np.floating]) -> RRMeasures:
    """Measures RR intervals as the Task Force of ESC and NASPE (Circulation 93:1043, 1996) does.

    Args:
        r_peaks_s: (beats,), times of successive beats in seconds, strictly ascending.

    Raises:
        RecordError: The times do not ascend.
    """
    rr_ms = 1000 * np.diff(np.asarray(r_peaks_s, dtype=np.float64))
    if not (rr_ms > 0).all():
        raise RecordError(
            f"RR intervals: expected strictly ascending times of beats, but beat "
            f"{int(np.argmin(rr_ms > 0)) + 2} is not after the one before it."
        )
    if len(r_peaks_s) < MIN_BEATS:
        return RRMeasures(len(r_peaks_s), *[float("nan")] * 3)
    return RRMeasures(
        n_beats=len(r_peaks_s),
        mean_rr_ms=float(np.mean(rr_ms)),
        rmssd_ms=float(np.sqrt(np.mean(np.diff(rr_ms) ** 2))),
        sdnn_ms=float(np.std(rr_ms, ddof=1)),
    )

"""R peaks, and how the intervals between them vary."""

from dataclasses import dataclass
from itertools import pairwise
from math import nan

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.preprocessing import bridge_missing

MIN_BEATS = 5  # fewest that are measured: four intervals, three successive differences
_MIN_DURATION_S = 2.0  # the detector sets its thresholds on the first two seconds
_INTEGRATION_S = 0.15  # the detector's moving window; it refuses a signal that varies for less
_BEAT_MS = (220.0, 350.0)  # before and after an R peak: what keeps its shape in equal intervals


@dataclass(frozen=True)
class RRMeasures:
    """RR intervals in ms; NaN for fewer beats than ``MIN_BEATS``."""

    n_beats: int
    mean_rr_ms: float
    rmssd_ms: float
    sdnn_ms: float  # with n - 1 in its denominator


def detect_r_peaks(signal: NDArray[np.floating], sampling_rate: float) -> NDArray[np.int64]:
    """Finds R peaks with sleepecg's modification of Pan and Tompkins (1985).

    The signal (time,) has any unit and band, and no infinite values; where it is NaN no peak is
    found. Peaks are ascending sample positions; a signal that is constant, wholly missing, shorter
    than 2 s, or varies in its last 0.15 s only has none.
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

    Raises RecordError if the times of the beats (beats,), in s, are not strictly ascending.
    """
    n, times_s = len(r_peaks_s), np.asarray(r_peaks_s, dtype=np.float64)
    rr_ms = 1000 * (times_s[1:] - times_s[:-1])
    if not (rr_ms > 0).all():
        raise RecordError(
            f"RR intervals: expected strictly ascending times of beats, but beat "
            f"{int(np.argmin(rr_ms > 0)) + 2} is not after the one before it."
        )
    if n < MIN_BEATS:
        return RRMeasures(n, nan, nan, nan)
    rmssd_ms = np.sqrt(np.square(rr_ms[1:] - rr_ms[:-1]).mean())
    return RRMeasures(n, float(rr_ms.mean()), float(rmssd_ms), float(rr_ms.std(ddof=1)))


def equal_rr(
    signal: NDArray[np.float32], r_peaks: NDArray[np.int64], sampling_rate: float
) -> NDArray[np.float32]:
    """Returns a window ``(time,)`` in which each RR interval is their mean, to the sample.

    What is before the first and after the last R peak stays. Samples from 220 ms before to 350 ms
    after an R peak move with it; the T-P stretch between is stretched or compressed linearly. Where
    the shorter of old and new interval is shorter than 570/0.9 ms, less of it moves, in proportion.
    """
    if len(r_peaks) < 2:
        return signal.copy()
    equal = np.rint(np.linspace(r_peaks[0], r_peaks[-1], len(r_peaks))).astype(np.int64)
    before, after = (ms * sampling_rate / 1000 for ms in _BEAT_MS)
    new, old = [0, equal[0]], [0, r_peaks[0]]
    for (here, there), (start, stop) in zip(pairwise(equal), pairwise(r_peaks), strict=True):
        moved = min(1.0, 0.9 * min(there - here, stop - start) / (before + after))
        a, b = int(moved * after), int(moved * before)
        new += [here + a, there - b, there]
        old += [start + a, stop - b, stop]
    time, last = np.arange(len(signal)), len(signal) - 1
    positions = np.interp(time, [*new, last], [*old, last])
    return np.asarray(np.interp(positions, time, signal), np.float32)

"""R peaks and the intervals between them; wave codes of samples: P, QRS, T, or none of these."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from math import nan

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.wfdb import Annotations

OTHER, P, QRS, T = 0, 1, 2, 3
NOT_ANNOTATED = 255  # no annotator looked here: neither a wave nor the absence of one

# WFDB's codes at the peak of a QRS complex; "!" (a ventricular flutter wave), "x" (a blocked
# atrial beat) and "|" (an artefact) mark none.
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
_CODES = {"p": P, "t": T, "u": OTHER} | dict.fromkeys(BEAT_SYMBOLS, QRS)
_ONSET, _OFFSET = "(", ")"

# Start and end in ms after an R peak, in order of writing: where neighbouring beats meet, ST-T
# (code T) yields to P, and both to QRS.
_WINDOWS_MS = ((T, 100, 350), (P, -220, -60), (QRS, -50, 50))

MIN_BEATS = 5  # fewest that are measured: four intervals, three successive differences
_MIN_DURATION_S = 2.0  # the detector sets its thresholds on the first two seconds
_INTEGRATION_S = 0.15  # the detector's moving window; it refuses a signal that varies for less
_BEAT_MS = (220.0, 350.0)  # before and after an R peak: what keeps its shape in equal intervals

Stretches = Sequence[tuple[int, int]]  # start and stop, in samples


@dataclass(frozen=True)
class RRMeasures:
    """RR intervals in ms; NaN for fewer beats than ``MIN_BEATS``."""

    n_beats: int
    mean_rr_ms: float
    rmssd_ms: float
    sdnn_ms: float  # with n - 1 in its denominator


def detect_r_peaks(signal: NDArray[np.floating], sampling_rate: float) -> NDArray[np.int64]:
    """Finds R peaks, as ascending samples, with sleepecg's form of Pan and Tompkins (1985).

    The signal (time,) has any unit and band; where it is NaN no peak is found. One that is
    constant, wholly missing, shorter than 2 s, or varies in its last 0.15 s only has none.
    """
    from xecg.signal.preprocessing import bridge_missing  # scipy.signal is slow to import

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
        found = f"but beat {int(np.argmin(rr_ms > 0)) + 2} is not after the one before it"
        raise RecordError(f"RR intervals: expected strictly ascending times of beats, {found}.")
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


def wave_codes(
    annotations: Annotations, n_samples: int, *, region: tuple[int, int] | None
) -> NDArray[np.uint8]:
    """Returns the code of each sample, from annotated onsets, peaks and offsets of waves.

    Waves are written in WFDB as ``( p )``, ``( N )``, ``( t )`` at onset, peak and offset; both
    ends belong to the wave. Peaks of one kind in a row are one wave (biphasic T); U waves are
    OTHER. What an annotator left out is not guessed: a T wave (usual in the QT Database) or QRS
    complex without onset or offset begins or ends with its peak, the rest is OTHER; a P wave, of
    which half would be a wrong example as OTHER would be, is NOT_ANNOTATED as far as the
    annotations beside it let it reach.

    ``region`` is the first sample that the annotator looked at and the one after the last, by
    default from the first onset to the last offset; samples outside are NOT_ANNOTATED. Raises
    RecordError for annotations beyond the ``n_samples`` of the lead.
    """
    samples = annotations.samples
    if len(samples) and not 0 <= samples.min() <= samples.max() < n_samples:
        found = f"Wave annotations at samples {samples.min()} to {samples.max()} do not fit"
        why = "they belong to another record or another sampling rate"
        raise RecordError(f"{found} a lead of {n_samples} samples: {why}.")
    marks = list(zip(samples.tolist(), annotations.symbols, strict=True))
    if region is None:  # empty without onset or offset
        onset = next((sample for sample, symbol in marks if symbol == _ONSET), n_samples)
        offset = next((sample for sample, symbol in marks[::-1] if symbol == _OFFSET), -1)
        region = (onset, offset + 1) if onset <= offset else (0, 0)
    start, stop = region
    codes = np.full(n_samples, OTHER, dtype=np.uint8)
    for code, first, last in _waves(marks, n_samples):
        codes[first : last + 1] = code
    codes[:start] = codes[stop:] = NOT_ANNOTATED
    return codes


def _waves(marks: list[tuple[int, str]], n_samples: int) -> Iterator[tuple[int, int, int]]:
    """Yields code, first and last sample of each wave; U waves are left out."""
    of_waves = [mark for mark in marks if mark[1] in _CODES or mark[1] in (_ONSET, _OFFSET)]
    bounded = [(-1, ""), *of_waves, (n_samples, "")]
    runs = [(code, list(run)) for code, run in groupby(bounded, lambda mark: _CODES.get(mark[1]))]
    for (_, left), (code, peaks), (_, right) in zip(runs, runs[1:], runs[2:], strict=False):
        before, after = left[-1], right[0]
        if code not in (P, QRS, T):
            continue
        has_onset, has_offset = before[1] == _ONSET, after[1] == _OFFSET
        if code == P and not (has_onset and has_offset):
            yield NOT_ANNOTATED, before[0] + (not has_onset), after[0] - (not has_offset)
        else:
            first = before[0] if has_onset else peaks[0][0]
            yield code, first, after[0] if has_offset else peaks[-1][0]


def resample_codes(
    codes: NDArray[np.uint8], rate_from: float, rate_to: float, n_samples: int
) -> NDArray[np.uint8]:
    """Returns codes (n_samples,) at another rate (Hz), each of the nearest sample of (time,)."""
    nearest = np.rint(np.arange(n_samples) * (rate_from / rate_to)).astype(np.int64)
    return np.asarray(codes[np.minimum(nearest, len(codes) - 1)])


def codes_around_r_peaks(
    r_peaks: NDArray[np.integer], n_samples: int, sampling_rate: float
) -> NDArray[np.uint8]:
    """Returns codes (n_samples,) where waves usually lie around R peaks, also those outside."""
    codes = np.full(n_samples, OTHER, dtype=np.uint8)
    peaks = np.asarray(r_peaks, dtype=np.int64)[:, np.newaxis]
    for code, start_ms, stop_ms in _WINDOWS_MS:
        start, stop = (round(ms * sampling_rate / 1000) for ms in (start_ms, stop_ms))
        positions = peaks + np.arange(start, stop)
        codes[positions[(positions >= 0) & (positions < n_samples)]] = code
    return codes


def runs_of(mask: NDArray[np.bool_]) -> Stretches:
    """Returns start and stop of each run of true samples of ``(time,)``."""
    edges = np.flatnonzero(np.diff(mask, prepend=False, append=False)).tolist()
    return [*zip(edges[::2], edges[1::2], strict=True)]


def tp_stretches(codes: NDArray[np.uint8]) -> Stretches:
    """Returns the runs of ``OTHER`` from a T wave to the P wave or QRS complex after it."""
    inside = [run for run in runs_of(codes == OTHER) if run[0] > 0 and run[1] < len(codes)]
    return [(a, b) for a, b in inside if codes[a - 1] == T and codes[b] in (P, QRS)]

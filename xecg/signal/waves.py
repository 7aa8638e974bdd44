"""Wave codes: samples of an ECG that belong to a P wave, a QRS complex, a T wave, or to none."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.wfdb import Annotations

OTHER, P, QRS, T = 0, 1, 2, 3
NOT_ANNOTATED = 255  # no annotator looked here: neither a wave nor the absence of one
WAVE_NAMES = ("other", "P", "QRS", "T")

# WFDB's codes at the peak of a QRS complex; "!" (a ventricular flutter wave), "x" (a blocked
# atrial beat) and "|" (an artefact) mark none.
BEAT_SYMBOLS = frozenset("NLRBAaJSVrFejnE/fQ?")
_CODES = {"p": P, "t": T, "u": OTHER} | dict.fromkeys(BEAT_SYMBOLS, QRS)
_ONSET, _OFFSET = "(", ")"

# Start and end in ms after an R peak, in order of writing: ST-T yields to P, and both to QRS.
_WINDOWS_MS = ((T, 100, 350), (P, -220, -60), (QRS, -50, 50))

Stretches = Sequence[tuple[int, int]]  # start and stop, in samples


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
        raise RecordError(
            f"Wave annotations at samples {samples.min()} to {samples.max()} do not fit a lead of "
            f"{n_samples} samples: they belong to another record or another sampling rate."
        )
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
    """Returns codes (n_samples,) at another sampling rate (Hz), each of the nearest sample.

    Beyond the end of ``codes`` (time,), of which there is one at least, the last one is held.
    """
    nearest = np.rint(np.arange(n_samples) * (rate_from / rate_to)).astype(np.int64)
    return np.asarray(codes[np.minimum(nearest, len(codes) - 1)])


def codes_around_r_peaks(
    r_peaks: NDArray[np.integer], n_samples: int, sampling_rate: float
) -> NDArray[np.uint8]:
    """Returns codes (n_samples,) where waves usually lie, for ECGs without annotated waves.

    P lies from -220 to -60 ms of an R peak, QRS from -50 to 50 ms, ST-T (code T) from 100 to
    350 ms. Where neighbouring beats meet, P yields to QRS, and ST-T to both. R peaks (peaks,) are
    sample positions; those outside the lead count as well.
    """
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

"""One lead of a record, cut into the windows that a network takes."""

from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.heartbeats import detect_r_peaks
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.recording import Recording
from xecg.signal.wfdb_files import read_recording
from xecg.signal.windows import Windows, cut_windows, window_starts


@dataclass(frozen=True, eq=False)
class RecordWindows:
    """Windows of one lead, side by side; the last one ends with the record.

    Args:
        record: What the record is called in the results.
        lead: Name of the lead.
        unit: Physical unit of the lead.
        raw: The lead as recorded, float32 ``(time,)`` in ``unit``.
        raw_rate: Sampling rate of ``raw`` in Hz.
        preprocessing: What made the windows.
        starts: First sample of each window, int64 ``(windows,)``, at the rate of the preprocessing.
        filtered: Band-limited windows, float32 ``(windows, window_samples)`` in ``unit``.
        left_out: Which windows cannot be used, and why; empty if all can.
    """

    record: str
    lead: str
    unit: str
    raw: NDArray[np.float32]
    raw_rate: float
    preprocessing: Preprocessing
    starts: NDArray[np.int64]
    filtered: NDArray[np.float32]
    left_out: str

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def start_s(self) -> NDArray[np.float64]:
        """Where each window starts in the record, in seconds, ``(windows,)``."""
        return self.starts / self.preprocessing.sampling_rate

    @property
    def signals(self) -> NDArray[np.float32]:
        """The windows as the network takes them, scaled, ``(windows, window_samples)``."""
        return self.preprocessing.scale(self.filtered)

    def r_peaks(self) -> list[NDArray[np.int64]]:
        """Detected R peaks of each window, in samples of the window.

        They are looked for in the whole lead, so that the detector has settled in every window.
        """
        peaks_s = detect_r_peaks(self.raw, self.raw_rate) / self.raw_rate
        peaks = np.rint(peaks_s * self.preprocessing.sampling_rate).astype(np.int64)
        stops = self.starts + self.preprocessing.window_samples
        firsts, lasts = np.searchsorted(peaks, [self.starts, stops])
        return [
            peaks[first:last] - start
            for first, last, start in zip(firsts, lasts, self.starts, strict=True)
        ]


def read_windows(
    path: Path, preprocessing: Preprocessing, *, lead: str | None = None, record: str = ""
) -> RecordWindows:
    """Read a record and cut one of its leads into windows.

    Args:
        path: A WFDB record.
        preprocessing: What the network's windows have to pass.
        lead: Name of the lead; None takes the preferred one.
        record: What the record is called in the results; its own name if empty.

    Raises:
        RecordError: It cannot be read, has no such lead, is shorter than a window, or has no
            window that can be used.
    """
    recording = read_recording(path)
    _check_duration(recording, preprocessing.window_s)
    index = recording.choose_lead(lead)
    raw = recording.samples[index]
    unscaled = replace(preprocessing, scaling="none")
    cut = cut_windows(
        raw, recording.sampling_rate, unscaled, align_last=True, record=recording.name
    )
    left_out = _left_out(cut, recording, preprocessing)
    if not len(cut):
        raise RecordError(f"Record {recording.name!r}, lead {recording.leads[index]}: {left_out}.")
    return RecordWindows(
        record=record or recording.name,
        lead=recording.leads[index],
        unit=recording.units[index],
        raw=raw,
        raw_rate=recording.sampling_rate,
        preprocessing=preprocessing,
        starts=cut.starts,
        filtered=cut.signals,
        left_out=left_out,
    )


def _check_duration(recording: Recording, window_s: float) -> None:
    """Stricter than resampling, which rounds the length of a record up."""
    missing_samples = window_s * recording.sampling_rate - recording.n_samples
    if missing_samples > 1e-6:
        raise RecordError(
            f"Record {recording.name!r} lasts {recording.duration_s:.6g} s; the network takes "
            f"windows of {window_s:g} s. Leave the record out, or join it to what follows it."
        )


def _left_out(cut: Windows, recording: Recording, preprocessing: Preprocessing) -> str:
    """Number of windows left out by reason, and which part of the record they cover."""
    if not cut.left_out:
        return ""
    window, rate = preprocessing.window_samples, preprocessing.sampling_rate
    n_samples = preprocessing.resampled_length(recording.n_samples, recording.sampling_rate)
    starts = window_starts(n_samples, window, window, align_last=True)
    absent = np.setdiff1d(starts, cut.starts)
    reasons = ", ".join(f"{count} {reason}" for reason, count in cut.left_out.items())
    spans = ", ".join(f"{a / rate:g} to {b / rate:g} s" for a, b in _spans(absent, window))
    noun = "window" if len(starts) == 1 else "windows"
    return f"{len(absent)} of {len(starts)} {noun} cannot be used ({reasons}): {spans}"


def _spans(starts: NDArray[np.int64], window: int) -> list[tuple[int, int]]:
    """First sample and the one after the last of each run of windows that touch."""
    breaks = [i for i, (a, b) in enumerate(pairwise(starts), start=1) if b > a + window]
    edges = [0, *breaks, len(starts)]
    return [(int(starts[a]), int(starts[b - 1]) + window) for a, b in pairwise(edges)]

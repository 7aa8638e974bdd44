"""Windows of fixed length, cut from a filtered lead, scaled, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError, RecordError
from xecg.signal.missing import bridge_missing
from xecg.signal.preprocessing import Preprocessing, whole_samples

MISSING_SAMPLES = "missing samples"
FLAT_LINE = "flat line"
_FLAT_SHARE = 1e-6  # filtered span / largest raw value below which only rounding errors are left


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one lead.

    Args:
        signals: float32 (windows, time), scaled as the preprocessing says.
        starts: int64 (windows,), first sample of each at the rate of the preprocessing.
        left_out: How many windows were left out, by reason.
    """

    signals: NDArray[np.float32]
    starts: NDArray[np.int64]
    left_out: dict[str, int]

    def __len__(self) -> int:
        return len(self.starts)


def window_starts(
    n_samples: int, window: int, stride: int, *, align_last: bool = False
) -> NDArray[np.int64]:
    """First samples of all windows that lie within a record.

    Args:
        n_samples: Length of the record in samples.
        window: Length of a window in samples.
        stride: Samples from one start to the next.
        align_last: Add one window that ends with the record where the last one does not.

    Returns:
        int64 (windows,), ascending; empty if the record is shorter than a window.
    """
    if window < 1 or stride < 1:
        raise ConfigError(
            f"Windows and their stride need at least one sample, found {window} and {stride}."
        )
    starts = np.arange(0, n_samples - window + 1, stride, dtype=np.int64)
    if align_last and len(starts) and starts[-1] + window < n_samples:
        starts = np.append(starts, n_samples - window)
    return starts


def cut_windows(
    signal: NDArray[np.floating],
    sampling_rate: float,
    preprocessing: Preprocessing,
    *,
    stride_s: float | None = None,
    align_last: bool = False,
    record: str = "",
) -> Windows:
    """Filter and resample a lead, cut it into windows, and scale them.

    Missing samples are bridged by straight lines for the filter only: a window that touches one
    is left out. So is a window whose samples are all the same, as from a loose electrode.

    Args:
        signal: (time,) in physical units, NaN where samples are missing.
        sampling_rate: Of `signal` (Hz).
        preprocessing: Band, sampling rate, window length, scaling.
        stride_s: Seconds from one window to the next; None: as long as a window.
        align_last: Add one window that ends with the record.
        record: Name of the record, for messages.

    Raises:
        RecordError: The record is shorter than a window, or cannot be filtered.
    """
    window, rate = preprocessing.window_samples, preprocessing.sampling_rate
    stride = window if stride_s is None else whole_samples(stride_s, rate, "stride_s")
    bridged, missing = bridge_missing(signal)
    try:
        filtered = preprocessing.filter_and_resample(bridged, sampling_rate)
    except RecordError as error:
        raise RecordError(f"Record {record!r}: {error}") from error
    starts = window_starts(len(filtered), window, stride, align_last=align_last)
    if not len(starts):
        raise RecordError(
            f"Record {record!r} lasts {len(signal) / sampling_rate:.2f} s, less than one window "
            f"of {preprocessing.window_s:g} s. Leave it out, or set a shorter window."
        )
    signals = filtered[starts[:, np.newaxis] + np.arange(window)]
    raw_edges = _raw_edges(starts, window, sampling_rate / rate, len(signal))
    faults = [
        _fault(bridged[start:stop], missing[start:stop], cut)
        for (start, stop), cut in zip(raw_edges, signals, strict=True)
    ]
    kept = np.array([fault is None for fault in faults])
    left_out = dict(Counter(fault for fault in faults if fault is not None))
    return Windows(preprocessing.scale(signals[kept]), starts[kept], left_out)


def _raw_edges(
    starts: NDArray[np.int64], window: int, raw_per_sample: float, n_raw: int
) -> NDArray[np.int64]:
    """First raw sample and the one after the last that each window touches, (windows, 2)."""
    first = np.floor(starts * raw_per_sample)
    stop = np.ceil((starts + window) * raw_per_sample)
    return np.stack([first, np.minimum(stop, n_raw)], axis=1).astype(np.int64)


def _fault(
    raw: NDArray[np.floating], missing: NDArray[np.bool_], filtered: NDArray[np.float32]
) -> str | None:
    """Why a window cannot be used; None if it can."""
    if missing.any():
        return MISSING_SAMPLES
    # A constant signal may have a filtered neighbour ringing into it, and a filtered ramp leaves
    # rounding errors, which scaling would blow up to noise: look at both sides of the filter.
    lowest, highest = float(raw.min()), float(raw.max())
    largest = max(abs(lowest), abs(highest))
    if lowest == highest or float(np.ptp(filtered)) <= _FLAT_SHARE * largest:
        return FLAT_LINE
    return None

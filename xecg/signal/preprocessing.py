"""Windows of one length, rate, band and scale, cut from a lead; what is left out, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

from xecg.errors import ConfigError, RecordError

INPUT_RATES_HZ = (100.0, 1000.0)
"""Lowest and highest sampling rate of a recording."""

_OUTPUT_RATES_HZ = (50.0, 1000.0)
MISSING_SAMPLES, FLAT_LINE = "missing samples", "flat line"

_FILTER_ORDER = 3  # -6 dB at each edge, as the filter runs twice, and twice its slope
# Mirrored at both ends, by as much as a 0.5 Hz filter remembers. On cuts of MIT-BIH records this
# leaves a third of the error at the edges that SciPy's default (odd, 21 samples) leaves: a cut
# within a QRS complex is not turned into a step.
_PADDING_S = 2.0
# Terms of the resampling ratio: enough for 250 Hz from any rate up to 500 Hz of two decimals to be
# exact; the filter for larger ones would take longer to design than a record to read.
_LARGEST_FACTOR = 50_000
# Filtered span / largest raw value below which only rounding errors are left
_FLAT_SHARE = 1e-6


def bridge_missing(
    signal: NDArray[np.floating],
) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Replaces NaN by straight lines between the neighbouring samples.

    Filters need every sample, and a line adds the least of its own. At the ends the nearest
    sample is held; a signal of nothing but NaN becomes zeros.

    Returns:
        The signal without NaN, (time,), the same array if none was missing; and the mask of the
        missing samples, (time,), which must not be used as ECG.
    """
    missing = np.isnan(signal)
    if not missing.any():
        return signal, missing
    if missing.all():
        return np.zeros_like(signal), missing
    bridged = signal.copy()
    present = ~missing
    bridged[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(present), signal[present])
    return bridged, missing


def limit_band(
    signal: NDArray[np.float64], sampling_rate: float, low_hz: float | None, high_hz: float | None
) -> NDArray[np.float64]:
    """Limits the band by Butterworth filters of order 3, forwards and backwards: without a shift.

    Args:
        signal: (time,), without missing samples.
        sampling_rate: Sampling rate of ``signal`` (Hz).
        low_hz: Lower edge, None for none.
        high_hz: Upper edge, None for none; at or above half the sampling rate there is nothing to
            take away, and only the lower edge is applied.
    """
    high = high_hz if high_hz is not None and high_hz < sampling_rate / 2 else None
    if low_hz is None and high is None:
        return signal
    padding = min(round(_PADDING_S * sampling_rate), len(signal) - 1)
    limited: NDArray[np.float64] = dsp.sosfiltfilt(
        _sections(low_hz, high, sampling_rate), signal, padtype="even", padlen=padding
    )
    return limited


@lru_cache(maxsize=64)
def _sections(
    low_hz: float | None, high_hz: float | None, sampling_rate: float
) -> NDArray[np.float64]:
    """Second-order sections of the band limit."""
    edges = [edge for edge in (low_hz, high_hz) if edge is not None]
    kind = "lowpass" if low_hz is None else "highpass" if high_hz is None else "bandpass"
    sections: NDArray[np.float64] = dsp.butter(
        _FILTER_ORDER, np.squeeze(edges), kind, output="sos", fs=sampling_rate
    )
    return sections


def resampling_ratio(rate_from: float, rate_to: float) -> Fraction:
    """Returns the ratio of two sampling rates, exact or off by 36 ms in half an hour at most."""
    # by way of text, so that 257.5 and 333.3 are what they look like
    return (Fraction(str(rate_to)) / Fraction(str(rate_from))).limit_denominator(_LARGEST_FACTOR)


@dataclass(frozen=True)
class Preprocessing:
    """Settings that turn a lead into windows of one length, rate, band and scale.

    Args:
        low_hz: Lower edge of the band; null leaves slow baseline wander in.
        high_hz: Upper edge of the band; null leaves the upper limit to the resampling. At or
            above half the sampling rate of an input it takes nothing away from that input, and
            only the lower edge is applied.
        sampling_rate: Samples per second after resampling (Hz).
        window_s: Length of a window in seconds; a whole number of samples.
        scaling: ``minmax`` scales each window to [0, 1]; ``none`` leaves physical units.

    Raises:
        ConfigError: A setting out of its range.
    """

    low_hz: float | None = 0.5
    high_hz: float | None = 40.0
    sampling_rate: float = 250.0
    window_s: float = 10.0
    scaling: Literal["minmax", "none"] = "minmax"

    def __post_init__(self) -> None:
        for name, or_null in (("low_hz", " or null"), ("high_hz", " or null"), ("window_s", "")):
            value = getattr(self, name)
            if value is not None and not 0 < value < np.inf:
                raise ConfigError(
                    f"preprocessing.{name}: expected a positive number{or_null}, found {value}."
                )
        lowest, highest = _OUTPUT_RATES_HZ
        if not lowest <= self.sampling_rate <= highest:
            raise ConfigError(
                f"preprocessing.sampling_rate: expected {lowest:g} to {highest:g} Hz, "
                f"found {self.sampling_rate}."
            )
        nyquist = min(INPUT_RATES_HZ[0], self.sampling_rate) / 2
        upper = nyquist if self.high_hz is None else min(nyquist, self.high_hz)
        if self.low_hz is not None and self.low_hz >= upper:
            raise ConfigError(
                f"preprocessing.low_hz: expected less than {upper:g} Hz, the lowest of high_hz "
                f"and half the sampling rates, found {self.low_hz}."
            )
        if self.scaling not in ("minmax", "none"):
            raise ConfigError(
                f"preprocessing.scaling: expected 'minmax' or 'none', found {self.scaling!r}."
            )
        _whole_samples(self.window_s, self.sampling_rate, "preprocessing.window_s")

    @property
    def window_samples(self) -> int:
        """Samples in a window after resampling."""
        return round(self.window_s * self.sampling_rate)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Makes settings from what ``to_dict`` gave; every one must be there, and no other."""
        expected, found = {field.name for field in fields(cls)}, set(settings)
        if expected != found:
            raise ConfigError(
                f"Preprocessing settings: expected {sorted(expected)}; "
                f"missing {sorted(expected - found)}, unknown {sorted(found - expected)}."
            )
        return cls(**settings)

    def filter_and_resample(
        self, signal: NDArray[np.floating], sampling_rate: float
    ) -> NDArray[np.float32]:
        """Limits the band, then changes the sampling rate; neither shifts the ECG in time.

        A Butterworth filter of order 3 at each edge, as second-order sections, runs forwards and
        backwards over the lead with mirrored ends. Polyphase resampling with its own low-pass
        filter follows; sample 0 stays at time 0.

        Args:
            signal: (time,), without missing samples: a filter would spread them.
            sampling_rate: Sampling rate of ``signal`` (Hz); need not be whole.

        Returns:
            float32 (time',), as long in seconds, rounded up to a whole number of samples.
        """
        resampled = limit_band(
            np.asarray(signal, dtype=np.float64), sampling_rate, self.low_hz, self.high_hz
        )
        ratio = resampling_ratio(sampling_rate, self.sampling_rate)
        if ratio != 1:
            resampled = dsp.resample_poly(
                resampled, ratio.numerator, ratio.denominator, padtype="line"
            )
        return resampled.astype(np.float32)

    def scale(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scales each window by itself: its smallest sample to 0, its largest to 1, exactly.

        Args:
            windows: (..., time), without NaN. A window without any variation becomes zeros;
                ``cut_windows`` leaves such windows out and counts them.

        Returns:
            float32, same shape.
        """
        signals = np.asarray(windows, dtype=np.float32)
        if self.scaling == "none":
            return signals
        lowest = signals.min(axis=-1, keepdims=True)
        span = signals.max(axis=-1, keepdims=True) - lowest
        scaled: NDArray[np.float32] = (signals - lowest) / np.where(span > 0, span, np.float32(1))
        return scaled


def _whole_samples(seconds: float, sampling_rate: float, name: str) -> int:
    """A duration in samples, which must be a whole number of them."""
    samples = seconds * sampling_rate
    if round(samples) < 1 or abs(samples - round(samples)) > 1e-6 * samples:
        nearest = max(round(samples), 1) / sampling_rate
        raise ConfigError(
            f"{name}: {seconds} s are {samples:g} samples at {sampling_rate:g} Hz, expected a "
            f"whole number of them; {nearest:.6g} s would be."
        )
    return round(samples)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one lead.

    Args:
        signals: float32 (windows, time), scaled as the preprocessing says.
        starts: int64 (windows,), first sample of each at the rate of the preprocessing.
        absent: Why each other window is left out, by its first sample.
    """

    signals: NDArray[np.float32]
    starts: NDArray[np.int64]
    absent: dict[int, str]

    @property
    def left_out(self) -> dict[str, int]:
        """Number of windows left out, by reason."""
        return dict(Counter(self.absent.values()))

    def __len__(self) -> int:
        return len(self.starts)


def window_starts(
    n_samples: int, window: int, stride: int, *, align_last: bool = False
) -> NDArray[np.int64]:
    """Returns the first samples of all windows that lie within a record, ascending.

    Args:
        n_samples: Length of the record in samples.
        window: Length of a window in samples.
        stride: Samples from one start to the next.
        align_last: Add one window that ends with the record where the last one does not.
    """
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
    """Filters and resamples a lead, cuts it into windows, and scales them.

    Missing samples are bridged by straight lines for the filter only: a window that touches one
    is left out. So is a window whose samples are all the same, as from a loose electrode.

    Args:
        signal: (time,) in physical units, NaN where samples are missing.
        sampling_rate: Sampling rate of ``signal``, 100 to 1000 Hz.
        preprocessing: Band, sampling rate, window length, scaling.
        stride_s: Seconds from one window to the next; None: as long as a window.
        align_last: Add one window that ends with the record.
        record: Name of the record, for messages.

    Raises:
        RecordError: The record is shorter than a window, or its sampling rate is out of range.
    """
    lowest, highest = INPUT_RATES_HZ
    if not lowest <= sampling_rate <= highest:
        raise RecordError(
            f"Record {record!r}: expected a sampling rate of {lowest:g} to {highest:g} Hz, "
            f"found {sampling_rate} Hz."
        )
    window, rate = preprocessing.window_samples, preprocessing.sampling_rate
    stride = window if stride_s is None else _whole_samples(stride_s, rate, "stride_s")
    bridged, missing = bridge_missing(signal)
    filtered = preprocessing.filter_and_resample(bridged, sampling_rate)
    starts = window_starts(len(filtered), window, stride, align_last=align_last)
    if not len(starts):
        raise RecordError(
            f"Record {record!r} lasts {len(signal) / sampling_rate:.2f} s, less than one window "
            f"of {preprocessing.window_s:g} s. Leave it out, or set a shorter window."
        )
    signals = filtered[starts[:, np.newaxis] + np.arange(window)]
    # first raw sample that each window touches, and the one after the last
    first = np.floor(starts * (sampling_rate / rate)).astype(np.int64)
    stop = np.ceil((starts + window) * (sampling_rate / rate)).astype(np.int64)
    absent = {}
    for start, a, b, cut in zip(starts.tolist(), first, stop, signals, strict=True):
        if missing[a:b].any():
            absent[start] = MISSING_SAMPLES
        elif _is_flat(bridged[a:b], cut):
            absent[start] = FLAT_LINE
    kept = ~np.isin(starts, list(absent))
    return Windows(preprocessing.scale(signals[kept]), starts[kept], absent)


def _is_flat(raw: NDArray[np.floating], filtered: NDArray[np.float32]) -> bool:
    """Whether a window is the same on one side of the filter.

    A constant signal may have a filtered neighbour ringing into it, and a filtered ramp leaves
    rounding errors, which scaling would blow up to noise.
    """
    lowest, highest = float(raw.min()), float(raw.max())
    largest = max(abs(lowest), abs(highest))
    return lowest == highest or float(np.ptp(filtered)) <= _FLAT_SHARE * largest

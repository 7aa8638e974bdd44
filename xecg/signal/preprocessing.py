"""Windows of one length, rate, band and scale, cut from a lead; what is left out, and why."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

from xecg.errors import ConfigError, RecordError

INPUT_RATES_HZ = (100.0, 1000.0)  # lowest and highest sampling rate of a recording
_OUTPUT_RATES_HZ = (50.0, 1000.0)
MISSING_SAMPLES, FLAT_LINE = "missing samples", "flat line"

_FILTER_ORDER = 3  # -6 dB at each edge, as the filter runs twice, and twice its slope
# Mirrored ends, as long as a 0.5 Hz filter remembers: on cuts of MIT-BIH records a third of the
# error at the edges that SciPy's default (odd, 21 samples) leaves.
_PADDING_S = 2.0
# Terms of the resampling ratio: 250 Hz is exact from any rate up to 500 Hz of two decimals; a
# filter for larger ones takes longer to design than a record to read.
_LARGEST_FACTOR = 50_000
_FLAT_SHARE = 1e-6  # filtered span / largest raw value below which only rounding errors are left


def bridge_missing(signal: NDArray[np.floating]) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """Replaces NaN in `signal` (time,) by straight lines between the neighbouring samples.

    At the ends the nearest sample is held; NaN alone become zeros. Returns the bridged signal, the
    same array if nothing was missing, and the mask (time,) of samples that are not ECG.
    """
    missing = np.isnan(signal)
    if not missing.any():
        return signal, missing
    if missing.all():
        return np.zeros_like(signal), missing
    bridged, present = signal.copy(), ~missing
    bridged[missing] = np.interp(np.flatnonzero(missing), np.flatnonzero(present), signal[present])
    return bridged, missing


def limit_band(
    signal: NDArray[np.float64], sampling_rate: float, low_hz: float | None, high_hz: float | None
) -> NDArray[np.float64]:
    """Limits the band by Butterworth filters of order 3, forwards and backwards: without a shift.

    The signal (time,) has no missing samples. An edge of None, or an upper one at or above half the
    sampling rate, is not applied.
    """
    high = high_hz if high_hz is not None and high_hz < sampling_rate / 2 else None
    if low_hz is None and high is None:
        return signal
    padding = min(round(_PADDING_S * sampling_rate), len(signal) - 1)
    sections, settled = _sections(low_hz, high, sampling_rate)
    ends = signal[padding:0:-1], signal[-2 : -padding - 2 : -1]
    filtered = np.concatenate([ends[0], signal, ends[1]])
    for _ in range(2):  # as sosfiltfilt does, which designs ``settled`` anew each time
        filtered = dsp.sosfilt(sections, filtered, zi=settled * filtered[0])[0][::-1]
    return filtered[padding : padding + len(signal)]


@lru_cache(maxsize=64)
def _sections(
    low_hz: float | None, high_hz: float | None, rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns the sections of a filter, and their states after a long time of ones."""
    edges = np.squeeze([edge for edge in (low_hz, high_hz) if edge is not None])
    kind = "lowpass" if low_hz is None else "highpass" if high_hz is None else "bandpass"
    sections = dsp.butter(_FILTER_ORDER, edges, kind, output="sos", fs=rate)
    return sections, dsp.sosfilt_zi(sections)


def resampling_ratio(rate_from: float, rate_to: float) -> Fraction:
    """Returns the ratio of two sampling rates, exact or off by 36 ms in half an hour at most."""
    # by way of text, so that 257.5 and 333.3 are what they look like
    return (Fraction(str(rate_to)) / Fraction(str(rate_from))).limit_denominator(_LARGEST_FACTOR)


@lru_cache(maxsize=8)
def _low_pass(factor: int) -> NDArray[np.float64]:
    """The filter that resample_poly designs, each time, for a larger factor of its two."""
    return np.asarray(dsp.firwin(20 * factor + 1, 1 / factor, window=("kaiser", 5.0)))


@dataclass(frozen=True)
class Preprocessing:
    """Settings that turn a lead into windows of one length, rate, band and scale.

    Raises ConfigError for a setting out of its range.

    Args:
        low_hz: Lower edge of the band; null leaves slow baseline wander in.
        high_hz: Upper edge of the band; null leaves it to the resampling. Where it is at or above
            half the sampling rate of an input, only the lower edge is applied to that input.
        sampling_rate: Samples per second after resampling (Hz).
        window_s: Length of a window in seconds; a whole number of samples.
        scaling: ``minmax`` scales each window to [0, 1]; ``none`` leaves physical units.
    """

    low_hz: float | None = 0.5
    high_hz: float | None = 40.0
    sampling_rate: float = 250.0
    window_s: float = 10.0
    scaling: Literal["minmax", "none"] = "minmax"

    def __post_init__(self) -> None:
        low, high, rate = self.low_hz, self.high_hz, self.sampling_rate
        (lowest, highest), nyquist = _OUTPUT_RATES_HZ, min(INPUT_RATES_HZ[0], rate) / 2
        upper = nyquist if high is None else min(nyquist, high)
        below = f"less than {upper:g} Hz, the lowest of high_hz and half the sampling rates"
        for name, expected, valid in (
            ("low_hz", "a positive number or null", low is None or 0 < low < np.inf),
            ("high_hz", "a positive number or null", high is None or 0 < high < np.inf),
            ("window_s", "a positive number", 0 < self.window_s < np.inf),
            ("sampling_rate", f"{lowest:g} to {highest:g} Hz", lowest <= rate <= highest),
            ("low_hz", below, low is None or low < upper),
            ("scaling", "'minmax' or 'none'", self.scaling in ("minmax", "none")),
        ):
            if not valid:
                found = repr(getattr(self, name))
                raise ConfigError(f"preprocessing.{name}: expected {expected}, found {found}.")
        _whole_samples(self.window_s, rate, "preprocessing.window_s")

    @property
    def window_samples(self) -> int:
        """Samples in a window after resampling."""
        return round(self.window_s * self.sampling_rate)

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Self:
        """Makes settings from ``to_dict``; raises ConfigError if one is missing or unknown."""
        if (expected := vars(cls()).keys()) != settings.keys():
            found = f"expected {sorted(expected)}, found {sorted(settings)}"
            raise ConfigError(f"Preprocessing settings: {found}.")
        return cls(**settings)

    def filter_and_resample(
        self, signal: NDArray[np.floating], sampling_rate: float
    ) -> NDArray[np.float32]:
        """Limits the band, then changes the sampling rate; neither shifts the ECG in time.

        The lead (time,) has no missing samples, which a filter would spread. Polyphase resampling
        has its own low-pass filter; sample 0 stays at time 0. Returns float32 (time',), as long in
        seconds, rounded up to a whole number of samples.
        """
        samples = np.asarray(signal, dtype=np.float64)
        samples = limit_band(samples, sampling_rate, self.low_hz, self.high_hz)
        up, down = resampling_ratio(sampling_rate, self.sampling_rate).as_integer_ratio()
        if up != down:
            low_pass = _low_pass(max(up, down))
            samples = dsp.resample_poly(samples, up, down, window=low_pass, padtype="line")
        return samples.astype(np.float32)

    def scale(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scales each window (..., time): smallest sample to 0, largest to 1; all to 0 if equal."""
        signals = np.asarray(windows, dtype=np.float32)
        if self.scaling == "none":
            return signals
        lowest = signals.min(axis=-1, keepdims=True)
        span = signals.max(axis=-1, keepdims=True) - lowest
        return np.asarray((signals - lowest) / np.where(span > 0, span, np.float32(1)))


def _whole_samples(seconds: float, sampling_rate: float, name: str) -> int:
    """Returns a duration in samples; raises ConfigError if they are no whole number."""
    samples = seconds * sampling_rate
    if round(samples) < 1 or abs(samples - round(samples)) > 1e-6 * samples:
        found = f"{seconds} s are {samples:g} samples at {sampling_rate:g} Hz"
        nearest = f"{max(round(samples), 1) / sampling_rate:.6g} s would be"
        raise ConfigError(f"{name}: {found}, expected a whole number of them; {nearest}.")
    return round(samples)


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of one lead, scaled as the preprocessing says."""

    signals: NDArray[np.float32]  # (windows, time)
    starts: NDArray[np.int64]  # (windows,), first sample of each at the rate of the preprocessing
    absent: dict[int, str]  # why each other window is left out, by its first sample

    def __len__(self) -> int:
        return len(self.starts)


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

    The lead (time,) is in physical units, NaN where samples are missing. They are bridged for the
    filter only: a window that touches one is left out, as is one that is flat for half of its time
    or longer, as from a loose electrode. Windows are ``stride_s`` apart, by default as far as they
    are long; ``align_last`` adds one that ends with the record. Raises RecordError if the record is
    shorter than a window, or its sampling rate is not 100 to 1000 Hz.
    """
    lowest, highest = INPUT_RATES_HZ
    if not lowest <= sampling_rate <= highest:
        wanted = f"expected a sampling rate of {lowest:g} to {highest:g} Hz"
        raise RecordError(f"Record {record!r}: {wanted}, found {sampling_rate} Hz.")
    window, rate = preprocessing.window_samples, preprocessing.sampling_rate
    stride = window if stride_s is None else _whole_samples(stride_s, rate, "stride_s")
    bridged, missing = bridge_missing(signal)
    filtered = preprocessing.filter_and_resample(bridged, sampling_rate)
    starts, last = np.arange(0, len(filtered) - window + 1, stride), len(filtered) - window
    if align_last:
        starts = np.union1d(starts, [last])
    if last < 0:
        lasts = f"{len(signal) / sampling_rate:.2f} s, less than one window"
        lasts += f" of {preprocessing.window_s:g} s. Leave it out, or set a shorter window"
        raise RecordError(f"Record {record!r} lasts {lasts}.")
    signals = filtered[starts[:, np.newaxis] + np.arange(window)]
    # first raw sample that each window touches, and the one after the last
    first = np.floor(starts * (sampling_rate / rate)).astype(np.int64)
    stop = np.ceil((starts + window) * (sampling_rate / rate)).astype(np.int64)
    absent = {}
    for start, a, b, cut in zip(starts.tolist(), first, stop, signals, strict=True):
        raw = bridged[a:b]
        moves = np.flatnonzero(np.diff(raw, prepend=np.nan, append=np.nan))
        if missing[a:b].any():
            absent[start] = MISSING_SAMPLES
        elif 2 * np.diff(moves).max() >= len(raw) or np.ptp(cut) <= _FLAT_SHARE * abs(raw).max():
            absent[start] = FLAT_LINE
    kept = ~np.isin(starts, list(absent))
    return Windows(preprocessing.scale(signals[kept]), starts[kept], absent)

"""From a raw lead to what a network sees: band limit, sampling rate, scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError, RecordError
from xecg.signal.filters import limit_band, resample, resampled_length, resampling_ratio

INPUT_RATES_HZ = (100.0, 1000.0)
"""Lowest and highest sampling rate of a recording."""

OUTPUT_RATES_HZ = (50.0, 1000.0)
"""Lowest and highest sampling rate after resampling."""


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
        scaling: `minmax` scales each window to [0, 1]; `none` leaves physical units.

    Raises:
        ConfigError: A setting out of its range.
    """

    low_hz: float | None = 0.5
    high_hz: float | None = 40.0
    sampling_rate: float = 250.0
    window_s: float = 10.0
    scaling: Literal["minmax", "none"] = "minmax"

    def __post_init__(self) -> None:
        self._check_numbers()
        self._check_band()
        if self.scaling not in ("minmax", "none"):
            raise ConfigError(
                f"preprocessing.scaling: expected 'minmax' or 'none', found {self.scaling!r}."
            )
        whole_samples(self.window_s, self.sampling_rate, "preprocessing.window_s")

    def _check_numbers(self) -> None:
        for name in ("low_hz", "high_hz", "sampling_rate", "window_s"):
            value, optional = getattr(self, name), name in ("low_hz", "high_hz")
            if not (optional and value is None) and not _is_positive(value):
                expected = "a positive number or null" if optional else "a positive number"
                raise ConfigError(f"preprocessing.{name}: expected {expected}, found {value!r}.")
        lowest, highest = OUTPUT_RATES_HZ
        if not lowest <= self.sampling_rate <= highest:
            raise ConfigError(
                f"preprocessing.sampling_rate: expected {lowest:g} to {highest:g} Hz, "
                f"found {self.sampling_rate}."
            )

    def _check_band(self) -> None:
        upper = min(INPUT_RATES_HZ[0], self.sampling_rate) / 2
        if self.high_hz is not None:
            upper = min(upper, self.high_hz)
        if self.low_hz is not None and self.low_hz >= upper:
            raise ConfigError(
                f"preprocessing.low_hz: expected less than {upper:g} Hz, the lowest of high_hz "
                f"and half the sampling rates, found {self.low_hz}."
            )

    @property
    def window_samples(self) -> int:
        """Samples in a window after resampling."""
        return whole_samples(self.window_s, self.sampling_rate, "preprocessing.window_s")

    def to_dict(self) -> dict[str, Any]:
        """The settings as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> Preprocessing:
        """Settings from what `to_dict` gave; every one must be there, and no other."""
        expected, found = {field.name for field in fields(cls)}, set(settings)
        if expected != found:
            raise ConfigError(
                f"Preprocessing settings: expected {sorted(expected)}; "
                f"missing {sorted(expected - found)}, unknown {sorted(found - expected)}."
            )
        return cls(**settings)

    def resampled_length(self, n_samples: int, sampling_rate: float) -> int:
        """Samples that `n_samples` at `sampling_rate` Hz become: the next whole number above."""
        return resampled_length(n_samples, resampling_ratio(sampling_rate, self.sampling_rate))

    def filter_and_resample(
        self, signal: NDArray[np.floating], sampling_rate: float
    ) -> NDArray[np.float32]:
        """Limit the band, then change the sampling rate; neither shifts the ECG in time.

        A Butterworth filter of order 3 at each edge, as second-order sections, runs forwards and
        backwards over the lead with mirrored ends. Polyphase resampling with its own low-pass
        filter follows.

        Args:
            signal: (time,), without missing samples.
            sampling_rate: Of `signal`, 100 to 1000 Hz; need not be a whole number.

        Returns:
            float32 (time',), as long as `resampled_length` says.

        Raises:
            RecordError: Sampling rate out of range, missing samples, wrong shape.
        """
        _check_input(signal, sampling_rate)
        limited = limit_band(
            np.asarray(signal, dtype=np.float64), sampling_rate, self.low_hz, self.high_hz
        )
        ratio = resampling_ratio(sampling_rate, self.sampling_rate)
        return resample(limited, ratio).astype(np.float32)

    def scale(self, windows: NDArray[np.floating]) -> NDArray[np.float32]:
        """Scale each window by itself: its smallest sample to 0, its largest to 1, exactly.

        Args:
            windows: (..., time), without NaN. A window without any variation becomes zeros;
                `cut_windows` leaves such windows out and counts them.

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


def whole_samples(seconds: float, sampling_rate: float, name: str) -> int:
    """A duration in samples; one that is not a whole number of samples is a ConfigError."""
    samples = seconds * sampling_rate
    if round(samples) < 1 or abs(samples - round(samples)) > 1e-6 * samples:
        nearest = max(round(samples), 1) / sampling_rate
        raise ConfigError(
            f"{name}: {seconds} s are {samples:g} samples at {sampling_rate:g} Hz, expected a "
            f"whole number of them; {nearest:.6g} s would be."
        )
    return round(samples)


def _is_positive(value: object) -> bool:
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")
    )


def _check_input(signal: NDArray[np.floating], sampling_rate: float) -> None:
    lowest, highest = INPUT_RATES_HZ
    if not lowest <= sampling_rate <= highest:
        raise RecordError(
            f"Expected a sampling rate of {lowest:g} to {highest:g} Hz, found {sampling_rate} Hz."
        )
    if signal.ndim != 1 or len(signal) < 2:
        raise RecordError(
            f"Expected one lead of shape (time,), two samples at least, found shape {signal.shape}."
        )
    if not np.isfinite(signal).all():
        raise RecordError(
            f"{np.count_nonzero(~np.isfinite(signal))} of {len(signal)} samples are missing or "
            "infinite; a filter would spread them over the record. Bridge them first, as "
            "xecg.signal.windows.cut_windows does."
        )

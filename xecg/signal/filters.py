"""Band limit and change of the sampling rate, neither of which shifts an ECG in time."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal as dsp

FILTER_ORDER = 3
"""Order of the Butterworth filter at each band edge; run forwards and backwards, so -6 dB there
and twice the slope, without a shift in time."""

# Mirrored at both ends, by as much as a 0.5 Hz filter remembers. On cuts of MIT-BIH records this
# leaves a third of the error at the edges that SciPy's default (odd, 21 samples) leaves: a cut
# within a QRS complex is not turned into a step.
_PADDING_S = 2.0

# Terms of the resampling ratio: enough for 250 Hz from any rate up to 500 Hz of two decimals to be
# exact; the filter for larger ones would take longer to design than a record to read.
_LARGEST_FACTOR = 50_000
_HALF_ZEROS = 10  # zero crossings on each side of the resampling filter, SciPy's default


def limit_band(
    signal: NDArray[np.float64],
    sampling_rate: float,
    low_hz: float | None,
    high_hz: float | None,
) -> NDArray[np.float64]:
    """Butterworth filter of order `FILTER_ORDER` at each edge, forwards and backwards.

    Args:
        signal: (time,), without missing samples.
        sampling_rate: Of `signal` (Hz).
        low_hz: Lower edge, None for none.
        high_hz: Upper edge, None for none; at or above half the sampling rate there is nothing
            to take away, and only the lower edge is applied.

    Returns:
        (time,).
    """
    sections = _sections(low_hz, high_hz, sampling_rate)
    if sections is None:
        return signal
    padding = min(round(_PADDING_S * sampling_rate), len(signal) - 1)
    before, after = signal[padding:0:-1], signal[-2 : -(padding + 2) : -1]
    extended = forwards_and_backwards(np.concatenate([before, signal, after]), *sections)
    return extended[padding : padding + len(signal)]


def forwards_and_backwards(
    signal: NDArray[np.float64], sections: NDArray[np.float64], settled: NDArray[np.float64]
) -> NDArray[np.float64]:
    """`scipy.signal.sosfiltfilt` without padding, to the same bits.

    That solves for the filter's settled state at every call, which for a short record takes longer
    than to filter it.

    Args:
        signal: (time,).
        sections: Second-order sections.
        settled: Their state on a constant of 1, as `scipy.signal.sosfilt_zi` gives.

    Returns:
        (time,), a view with the time reversed twice.
    """
    forwards, _ = dsp.sosfilt(sections, signal, zi=settled * signal[0])
    backwards, _ = dsp.sosfilt(sections, forwards[::-1], zi=settled * forwards[-1])
    filtered: NDArray[np.float64] = backwards[::-1]
    return filtered


@lru_cache(maxsize=64)
def _sections(
    low_hz: float | None, high_hz: float | None, sampling_rate: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Second-order sections of the band limit and their state on a constant; None for no limit."""
    high = high_hz if high_hz is not None and high_hz < sampling_rate / 2 else None
    edges = [edge for edge in (low_hz, high) if edge is not None]
    if not edges:
        return None
    kind = "lowpass" if low_hz is None else "highpass" if high is None else "bandpass"
    sections: NDArray[np.float64] = dsp.butter(
        FILTER_ORDER, np.squeeze(edges), kind, output="sos", fs=sampling_rate
    )
    return sections, dsp.sosfilt_zi(sections)


@lru_cache(maxsize=64)
def resampling_ratio(rate_from: float, rate_to: float) -> Fraction:
    """Ratio of two sampling rates, exact or off by 36 ms in half an hour at the very most."""
    # by way of text, so that 257.5 and 333.3 are what they look like
    return (Fraction(str(rate_to)) / Fraction(str(rate_from))).limit_denominator(_LARGEST_FACTOR)


def resampled_length(n_samples: int, ratio: Fraction) -> int:
    """Samples after resampling: the next whole number above `n_samples` times the ratio."""
    return -(-n_samples * ratio.numerator // ratio.denominator)


def resample(signal: NDArray[np.float64], ratio: Fraction) -> NDArray[np.float64]:
    """Polyphase resampling with a low-pass filter below the lower of both Nyquist frequencies.

    Args:
        signal: (time,).
        ratio: Sampling rate after to that before.

    Returns:
        (time',), as long as `resampled_length` says; sample 0 stays at time 0.
    """
    if ratio == 1:
        return signal
    up, down = ratio.numerator, ratio.denominator
    resampled: NDArray[np.float64] = dsp.resample_poly(
        signal, up, down, window=_resampling_filter(max(up, down)), padtype="line"
    )
    return resampled


@lru_cache(maxsize=64)
def _resampling_filter(factor: int) -> NDArray[np.float64]:
    """Low-pass filter that `scipy.signal.resample_poly` would design at every call."""
    coefficients: NDArray[np.float64] = dsp.firwin(
        2 * _HALF_ZEROS * factor + 1, 1 / factor, window=("kaiser", 5.0)
    )
    return coefficients

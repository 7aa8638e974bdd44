"""Windows for a file of `xecg export`, of any ECG, by NumPy and SciPy alone.

    settings = json.loads(metadata["preprocessing"])
    windows, start_s = preprocess(ecg, sampling_rate, **settings)

To be copied. What it returns is equal to the bit to what xecg itself gives the network.
"""

from fractions import Fraction

import numpy as np
from scipy import signal as dsp

ORDER = 3  # of the Butterworth filter, which runs forwards and backwards
PADDING_S = 2.0  # of mirrored signal at both ends
LARGEST_FACTOR = 50_000  # of the ratio of sampling rates


def preprocess(
    ecg, rate, *, low_hz=0.5, high_hz=40.0, sampling_rate=250.0, window_s=10.0, scaling="minmax"
):
    """Returns windows (n, 1, time), float32, side by side; the last one ends with the ECG.

    Args:
        ecg: One lead (time,), in any unit, at least as long as a window.
        rate: Sampling rate of it in Hz, 100 to 1000.
        low_hz: Lower edge of the band; None for none.
        high_hz: Upper edge of the band; None for none.
        sampling_rate: Sampling rate of the windows in Hz.
        window_s: Length of a window in seconds.
        scaling: "minmax" scales each window to [0, 1], "none" does not.

    Returns:
        The windows, and where each begins, in seconds (n,). xecg leaves out windows that are flat
        for half of their time, and does not judge those of low quality; this does neither.

    Raises:
        ValueError: The ECG has missing samples or another shape, or is too short.
    """
    ecg = np.asarray(ecg, dtype=np.float32)  # as xecg reads a record
    if ecg.ndim != 1 or not np.isfinite(ecg).all():
        raise ValueError("expected one lead (time,) of finite numbers")
    if len(ecg) / rate < window_s - 1e-6 or not 100 <= rate <= 1000:
        raise ValueError(f"expected at least {window_s} s of 100 to 1000 Hz")
    resampled = resample(
        limit_band(ecg.astype(np.float64), rate, low_hz, high_hz), rate, sampling_rate
    )
    resampled, length = resampled.astype(np.float32), round(window_s * sampling_rate)
    starts = np.arange(0, len(resampled) - length + 1, length)
    if starts[-1] + length < len(resampled):
        starts = np.append(starts, len(resampled) - length)
    windows = np.stack([resampled[start : start + length] for start in starts])
    if scaling == "minmax":
        lowest = windows.min(axis=1, keepdims=True)
        span = windows.max(axis=1, keepdims=True) - lowest
        windows = (windows - lowest) / np.where(span > 0, span, np.float32(1))
    return windows[:, None], starts / sampling_rate


def limit_band(samples, rate, low_hz, high_hz):
    """Butterworth of order 3, forwards and backwards, so that nothing is shifted."""
    high = high_hz if high_hz is not None and high_hz < rate / 2 else None
    if low_hz is None and high is None:
        return samples
    edges = np.squeeze([edge for edge in (low_hz, high) if edge is not None])
    kind = "lowpass" if low_hz is None else "highpass" if high is None else "bandpass"
    sections = dsp.butter(ORDER, edges, kind, output="sos", fs=rate)
    padding = min(round(PADDING_S * rate), len(samples) - 1)
    return dsp.sosfiltfilt(sections, samples, padtype="even", padlen=padding)


def resample(samples, rate, to):
    """Polyphase, with the low-pass filter that SciPy designs for it; sample 0 stays at time 0."""
    ratio = (Fraction(str(float(to))) / Fraction(str(float(rate)))).limit_denominator(
        LARGEST_FACTOR
    )
    up, down = ratio.as_integer_ratio()
    return samples if up == down else dsp.resample_poly(samples, up, down, padtype="line")

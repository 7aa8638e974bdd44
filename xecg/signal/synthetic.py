"""Synthetic ECGs with exact truth: every wave, R peak and rhythm is known because it was put there.

person -> beats (when) -> waves (where, how wide) -> dipole (x, y, z) -> leads -> noise
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args
from zlib import crc32

import numpy as np
import scipy.fft
from numpy.random import Generator
from numpy.typing import NDArray

from xecg.errors import ConfigError, check_ranges
from xecg.signal import synthetic_heart as heart
from xecg.signal.preprocessing import INPUT_RATES_HZ
from xecg.signal.recording import LEADS, Recording
from xecg.signal.synthetic_heart import OFFSET, ONSET, PEAK, Floats
from xecg.signal.waves import OTHER, QRS, P, T

# Directions of I, II, V1 to V6 for a dipole (x left, y down, z back): Dower's matrix
# (Clin. Cardiol. 3:87, 1980); the other limb leads follow from I and II.
_I, _II, *_CHEST = np.array([
    [0.632, -0.235, 0.059], [0.235, 1.066, -0.132],
    [-0.515, 0.157, -0.917], [0.044, 0.164, -1.387], [0.882, 0.098, -1.277],
    [1.213, 0.127, -0.601], [1.125, 0.127, -0.086], [0.831, 0.076, 0.230],
])  # fmt: skip
_LIMB = (_I, _II, _II - _I, -(_I + _II) / 2, _I - _II / 2, _II - _I / 2)
_VECTORS = dict(zip(LEADS, (*_LIMB, *_CHEST), strict=True))
Rhythm = Literal["N", "AF", "O"]  # sinus, atrial fibrillation, sinus with ectopic beats
RHYTHMS: tuple[Rhythm, ...] = get_args(Rhythm)
_REACH_SIGMAS = 5.0  # beyond them a Gaussian of 2 mV is below 0.01 uV
_F_WAVE_SIZE = 0.1  # peak to peak, of the R waves' height
_LARGEST = np.finfo(float).max
# Typical RMS of noise: below 0.5 Hz, partly in step with the breath; 1/f from 0.5 Hz, the band of
# P, T and fibrillatory waves; 20-120 Hz, in bursts.
_WANDER_MV, _ELECTRODE_MV, _MUSCLE_MV = 0.08, 0.012, 0.01


def _noise(rng: Generator, times_s: Floats, breathing: heart.Breathing) -> Floats:
    """Draws the noise (time,), mV, of one lead, of its own size, at evenly spaced ``times_s``."""
    wander, electrode, muscle, _ = rng.lognormal(0, 0.6, 4)
    drift = 0.6 * breathing.at(times_s) + 0.9 * heart.slow_variation(rng, times_s, 0.02, 0.45)
    bursts = np.exp(0.5 * heart.slow_variation(rng, times_s, 0.05, 0.8))
    rate = 1 / times_s[1]
    slow = _coloured(rng, times_s.size, rate, 0.5, 40.0, power=1.0)
    fast = _coloured(rng, times_s.size, rate, 20.0, 120.0, power=0.0)
    rng.random()  # an ECG of a seed stays what it was when mains hum could be had
    noise = _WANDER_MV * wander * drift + _ELECTRODE_MV * electrode * slow
    return np.asarray(noise + _MUSCLE_MV * muscle * bursts * fast)


def _coloured(
    rng: Generator, n: int, rate: float, low_hz: float, high_hz: float, *, power: float
) -> Floats:
    """Draws Gaussian noise of unit variance whose spectrum falls as 1 / f**power within a band."""
    length = scipy.fft.next_fast_len(max(n, 16), real=True)
    spectrum = scipy.fft.rfft(rng.normal(size=length))
    frequencies = scipy.fft.rfftfreq(length, 1 / rate)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    gains = np.where(inside, np.maximum(frequencies, low_hz) ** (-power / 2), 0.0)
    noise = scipy.fft.irfft(spectrum * gains, length)[:n]
    return np.asarray(noise * np.sqrt(length / max(2 * np.sum(gains**2), 1e-12)))


@dataclass(frozen=True, eq=False)
class SyntheticECG:
    """A recording with its truth, the same for all leads.

    A wave reaches to 2.5 standard deviations of its outermost Gaussians, both ends included; T ends
    where the next wave begins, and the record's ends cut any. In AF there is no P.
    """

    recording: Recording  # in mV
    r_peaks: NDArray[np.int64]  # (n,), samples of the main QRS deflections, ascending
    codes: NDArray[np.uint8]  # (time,), see xecg.signal.waves
    waves: NDArray[np.int64]  # (m, 4): code, onset, peak and offset in samples, in order of time
    rhythm: Rhythm
    beat_symbols: tuple[str, ...]  # "N", "V" or "A" for each R peak
    person: str  # such as "synthetic-7" for person_seed=7


def synthesize(
    rhythm: Rhythm,
    *,
    duration_s: float = 10.0,
    sampling_rate: float = 250.0,
    seed: int,
    person_seed: int | None = None,
    leads: Sequence[str] = ("II",),
    noise: float = 1.0,
    name: str = "synthetic",
) -> SyntheticECG:
    """Synthesizes an ECG of ``duration_s`` (1 s or more) at ``sampling_rate`` (100 to 1000 Hz).

    ``rhythm`` is "N" for sinus rhythm, "AF", or "O" for sinus rhythm with ectopic beats; ``leads``
    are names among ``LEADS``, each at most once; ``noise`` is its size, 1 as usual, 0 for a clean
    signal. ``seed`` gives beats, breath, fibrillatory waves and noise; ``person_seed``, by default
    the same, gives shapes of the waves, usual rate and variability. The same arguments give the
    same samples, bit for bit; another sampling rate, lead or noise leaves the beats where they
    were. Raises ConfigError for a setting outside its range.
    """
    person_seed = seed if person_seed is None else person_seed
    if rhythm not in RHYTHMS:
        raise ConfigError(f"rhythm: expected one of {', '.join(RHYTHMS)}, found {rhythm!r}")
    named = not isinstance(leads, str) and leads and set(leads) <= set(LEADS)
    if not named or len(set(leads)) < len(leads):
        wanted = f"a list of different names among {', '.join(LEADS)}"
        raise ConfigError(f"leads: expected {wanted}, found {leads!r}")
    check_ranges(
        duration_s=(duration_s, 1, _LARGEST),
        sampling_rate=(sampling_rate, *INPUT_RATES_HZ),
        seed=(seed, 0),
        person_seed=(person_seed, 0),
        noise=(noise, 0, _LARGEST),
    )
    pacing, shapes, atria, interference = np.random.default_rng(seed).spawn(4)
    person, breathing = heart.draw_person(person_seed), heart.Breathing.draw(pacing)
    if af := rhythm == "AF":
        beats = heart.fibrillation_beats(pacing, duration_s)
    else:
        beats = heart.sinus_beats(pacing, person, breathing, duration_s, ectopic=rhythm == "O")
    gaussians, extents_s = heart.place_waves(shapes, person, beats, breathing, with_p=not af)
    times_s = np.arange(round(duration_s * sampling_rate)) / sampling_rate
    dipole = sum_gaussians(gaussians, times_s.size, sampling_rate)
    if af:
        dipole += fibrillatory_waves(atria, times_s)
    samples = np.stack([_VECTORS[lead] for lead in leads]) @ dipole
    samples += noise * np.stack([_noise(interference, times_s, breathing) for _ in leads])
    rate, units = float(sampling_rate), ("mV",) * len(leads)
    recording = Recording(name, samples.astype(np.float32), rate, tuple(leads), units)
    return _with_truth(recording, rhythm, beats, extents_s, f"synthetic-{person_seed}")


def sum_gaussians(
    gaussians: Iterable[heart.Gaussians], n_samples: int, sampling_rate: float
) -> NDArray[np.float64]:
    """Sums Gaussians into a dipole, (3, n_samples), mV; only near each of them."""
    dipole = np.zeros((3, n_samples))
    for group in gaussians:
        widest = max(group.rise_s.max(initial=0), group.fall_s.max(initial=0))
        reach = int(np.ceil(_REACH_SIGMAS * widest * sampling_rate))
        near = np.rint(group.centres_s * sampling_rate).astype(np.int64)
        samples = near[:, None] + np.arange(-reach, reach + 1)
        away_s = samples / sampling_rate - group.centres_s[:, None]
        sigmas = np.where(away_s < 0, group.rise_s[:, None], group.fall_s[:, None])
        shapes = np.exp(-0.5 * (away_s / sigmas) ** 2)
        inside = (samples >= 0) & (samples < n_samples)
        for axis in range(3):
            values = (group.dipoles_mv[:, axis, None] * shapes)[inside]
            dipole[axis] += np.bincount(samples[inside], values, minlength=n_samples)
    return dipole


def fibrillatory_waves(rng: Generator, times_s: Floats) -> NDArray[np.float64]:
    """Draws the dipole (3, time), mV, of fibrillating atria: a sawtooth that wanders.

    After Stridh and Sornmo (IEEE Trans. Biomed. Eng. 48:105, 2001), with smooth random courses of
    frequency (4-9 Hz) and size for their sinusoids.
    """
    wandering = rng.uniform(0.1, 0.4) * heart.slow_variation(rng, times_s, 0.05, 1.0)
    frequency = np.clip(rng.uniform(4.5, 8.5) + wandering, 4, 9)
    theta = 2 * np.pi * np.cumsum(frequency) * times_s[1] + rng.uniform(0, 2 * np.pi)
    unrest = rng.uniform(0.2, 0.6)
    wave = np.zeros_like(times_s)
    for harmonic in range(1, 5):
        size = np.clip(1 + unrest * heart.slow_variation(rng, times_s, 0.1, 1.5), 0.1, None)
        wave -= size / harmonic * np.sin(harmonic * theta)
    direction = np.array([0.3, 0.55, -0.6]) + 0.2 * rng.normal(size=3)
    return np.outer(heart.log_uniform(rng, 0.012, 0.11) * direction, wave)


def add_f_waves(
    signal: NDArray[np.float32], r_peaks: NDArray[np.int64], sampling_rate: float, seed: int = 0
) -> NDArray[np.float32]:
    """Returns a window ``(time,)`` with fibrillatory waves of the synthetic heart, 4 to 9 Hz.

    Peak to peak (2 sqrt 2 of their RMS) they are a tenth as high as the median R peak above the
    median of the window. They depend on the seed and the window alone.
    """
    rng = np.random.default_rng([seed, crc32(signal.tobytes())])
    wave = _II @ fibrillatory_waves(rng, np.arange(len(signal)) / sampling_rate)
    height = abs(np.median(signal[r_peaks]) - np.median(signal)) if len(r_peaks) else 0.0
    scaled = wave * (_F_WAVE_SIZE * height / (2 * np.sqrt(2) * wave.std()))
    return np.asarray(signal + scaled, np.float32)


def _with_truth(
    recording: Recording, rhythm: Rhythm, beats: heart.Beats, extents_s: Floats, person: str
) -> SyntheticECG:
    """Converts what is known in seconds to samples, which the ends of the record cut."""
    n_samples, rate = recording.n_samples, recording.sampling_rate
    beat, wave = np.nonzero(~np.isnan(extents_s[:, :, PEAK]))
    extents = np.rint(extents_s[beat, wave] * rate).astype(np.int64)
    onset = np.maximum(extents[:, ONSET], 0)
    offset = np.minimum(extents[:, OFFSET], n_samples) - 1  # the last sample of the wave
    peak = np.clip(extents[:, PEAK], onset, np.maximum(onset, offset))
    waves = np.column_stack([np.array([P, QRS, T])[wave], onset, peak, offset])
    waves = waves[offset >= onset]
    waves = waves[np.argsort(waves[:, 1], kind="stable")]
    codes = np.full(n_samples, OTHER, dtype=np.uint8)
    for code, first, _, last in waves:  # which do not overlap
        codes[first : last + 1] = code
    r_peaks = np.rint(beats.times_s * rate).astype(np.int64)
    inside = (r_peaks >= 0) & (r_peaks < n_samples)
    symbols = tuple(beats.symbols[inside].tolist())
    return SyntheticECG(recording, r_peaks[inside], codes, waves, rhythm, symbols, person)

"""The heart's dipole over time: a sum of Gaussians, and in AF the atria's fibrillatory waves."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from xecg.signal.synthetic.modulation import Floats, log_uniform, slow_variation
from xecg.signal.synthetic.placement import Gaussians

# Beyond five standard deviations a Gaussian of 2 mV is below 0.01 uV.
_REACH_SIGMAS = 5.0


def sum_gaussians(
    gaussians: Iterable[Gaussians], n_samples: int, sampling_rate: float
) -> NDArray[np.float64]:
    """Sum Gaussians into a dipole, touching only the samples near each of them.

    Returns:
        Shape (3, n_samples), mV.
    """
    dipole = np.zeros((3, n_samples))
    for group in gaussians:
        if group.centres_s.size:
            _add(dipole, group, sampling_rate)
    return dipole


def _add(dipole: Floats, group: Gaussians, sampling_rate: float) -> None:
    """Add one group of Gaussians to `dipole` in place."""
    widest = max(group.rise_s.max(), group.fall_s.max())
    reach = int(np.ceil(_REACH_SIGMAS * widest * sampling_rate))
    near = np.rint(group.centres_s * sampling_rate).astype(np.int64)
    samples = near[:, None] + np.arange(-reach, reach + 1)
    away_s = samples / sampling_rate - group.centres_s[:, None]
    sigmas = np.where(away_s < 0, group.rise_s[:, None], group.fall_s[:, None])
    shapes = np.exp(-0.5 * (away_s / sigmas) ** 2)
    inside = (samples >= 0) & (samples < dipole.shape[1])
    index = samples[inside]
    for axis in range(3):
        values = (group.dipoles_mv[:, axis, None] * shapes)[inside]
        dipole[axis] += np.bincount(index, values, minlength=dipole.shape[1])


def fibrillatory_waves(rng: np.random.Generator, times_s: Floats) -> NDArray[np.float64]:
    """Draw the fibrillatory waves of the atria: a sawtooth whose frequency and size wander.

    After the model of Stridh & Sornmo 2001 (IEEE Trans. Biomed. Eng. 48:105), a harmonic series
    with slowly modulated frequency (here 4-9 Hz) and amplitude; smooth random modulation stands in
    for their single sinusoids.

    Returns:
        Dipole, shape (3, time), mV.
    """
    wandering = rng.uniform(0.1, 0.4) * slow_variation(rng, times_s, 0.05, 1.0)
    frequency = np.clip(rng.uniform(4.5, 8.5) + wandering, 4, 9)
    theta = 2 * np.pi * np.cumsum(frequency) * times_s[1] + rng.uniform(0, 2 * np.pi)
    unrest = rng.uniform(0.2, 0.6)
    wave = np.zeros_like(times_s)
    for harmonic in range(1, 5):
        size = np.clip(1 + unrest * slow_variation(rng, times_s, 0.1, 1.5), 0.1, None)
        wave -= size / harmonic * np.sin(harmonic * theta)
    direction = np.array([0.3, 0.55, -0.6]) + 0.2 * rng.normal(size=3)
    return np.outer(log_uniform(rng, 0.012, 0.11) * direction, wave)

"""What changes slowly: the breath, and band-limited variation of amplitudes and frequencies."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a positive number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def slow_variation(
    rng: np.random.Generator, times_s: Floats, low_hz: float, high_hz: float, terms: int = 5
) -> Floats:
    """Sum sinusoids of random frequency and phase to a smooth course of unit variance.

    Args:
        rng: Source of the frequencies and phases.
        times_s: Times at which the course is wanted, shape (time,), s.
        low_hz: Lowest frequency drawn, Hz.
        high_hz: Highest frequency drawn, Hz.
        terms: How many sinusoids are summed.
    """
    course = np.zeros_like(times_s)
    for frequency, phase in zip(
        rng.uniform(low_hz, high_hz, terms), rng.uniform(0, 2 * np.pi, terms), strict=True
    ):
        course += np.sin(2 * np.pi * frequency * times_s + phase)
    return np.asarray(course * np.sqrt(2 / terms))


@dataclass(frozen=True)
class Breathing:
    """One breath drives the RR intervals, the height of the R waves and the baseline alike.

    Attributes:
        rate_hz: Breaths per second, 0.15-0.4 Hz.
        phase: Phase at time 0, rad.
        unrest_hz: Frequency at which the breath's phase wanders, Hz.
        unrest: How far it wanders, rad.
    """

    rate_hz: float
    phase: float
    unrest_hz: float
    unrest: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Self:
        """Draw the breathing of one recording."""
        return cls(
            rate_hz=rng.uniform(0.15, 0.4),
            phase=rng.uniform(0, 2 * np.pi),
            unrest_hz=rng.uniform(0.01, 0.05),
            unrest=rng.uniform(0.2, 0.8),
        )

    def at(self, times_s: Floats) -> Floats:
        """Depth of the breath at `times_s`, from -1 (out) to 1 (in)."""
        wandering = self.unrest * np.sin(2 * np.pi * self.unrest_hz * times_s)
        return np.sin(2 * np.pi * self.rate_hz * times_s + self.phase + wandering)

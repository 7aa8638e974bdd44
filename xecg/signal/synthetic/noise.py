"""What a real recording adds: a wandering baseline, muscle, electrodes, the mains."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from xecg.errors import ConfigError
from xecg.signal.synthetic.modulation import Breathing, Floats, slow_variation


@dataclass(frozen=True)
class Noise:
    """Typical size of each kind of noise; every lead draws its own around it (log-normal).

    Attributes:
        wander_mv: Baseline wander below 0.5 Hz, partly in step with the breath, RMS, mV.
        electrode_mv: Electrode movement, 1/f from 0.5 Hz, RMS, mV: it fills the band of P, T and
            fibrillatory waves.
        muscle_mv: Muscle noise, 20-120 Hz, in bursts, RMS, mV.
        powerline_mv: Amplitude of the mains, mV; 0 where a recorder has filtered it.
        powerline_hz: Frequency of the mains, Hz.

    Raises:
        ConfigError: A negative or non-finite size.
    """

    wander_mv: float = 0.08
    electrode_mv: float = 0.012
    muscle_mv: float = 0.01
    powerline_mv: float = 0.0
    powerline_hz: float = 50.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not (np.isfinite(value) and value >= 0):
                raise ConfigError(f"noise.{field.name}: expected 0 or more, found {value}")

    @classmethod
    def none(cls) -> Self:
        """No noise at all."""
        return cls(wander_mv=0, electrode_mv=0, muscle_mv=0)

    def draw(
        self, rng: np.random.Generator, times_s: Floats, n_leads: int, breathing: Breathing
    ) -> NDArray[np.float64]:
        """Draw noise for every lead.

        Args:
            rng: Source of the noise.
            times_s: Evenly spaced from 0, shape (time,), s.
            n_leads: How many leads.
            breathing: What part of the baseline follows.

        Returns:
            Shape (leads, time), mV.

        Raises:
            ConfigError: The mains cannot be shown at this sampling rate.
        """
        rate = 1 / times_s[1]
        if self.powerline_mv and self.powerline_hz >= rate / 2:
            raise ConfigError(
                f"noise.powerline_hz: expected less than {rate / 2:g} Hz, half the sampling rate, "
                f"found {self.powerline_hz:g}; set powerline_mv to 0 or sample faster"
            )
        return np.stack([self._one_lead(rng, times_s, breathing) for _ in range(n_leads)])

    def _one_lead(self, rng: np.random.Generator, times_s: Floats, breathing: Breathing) -> Floats:
        wander, electrode, muscle, mains = rng.lognormal(0, 0.6, 4)
        drift = 0.6 * breathing.at(times_s) + 0.9 * slow_variation(rng, times_s, 0.02, 0.45)
        bursts = np.exp(0.5 * slow_variation(rng, times_s, 0.05, 0.8))
        rate = 1 / times_s[1]
        slow = _coloured(rng, times_s.size, rate, 0.5, 40.0, power=1.0)
        fast = _coloured(rng, times_s.size, rate, 20.0, 120.0, power=0.0)
        hum = np.sin(2 * np.pi * (self.powerline_hz * times_s + rng.random()))
        return np.asarray(
            self.wander_mv * wander * drift
            + self.electrode_mv * electrode * slow
            + self.muscle_mv * muscle * bursts * fast
            + self.powerline_mv * mains * hum
        )


def _coloured(
    rng: np.random.Generator, n: int, rate: float, low_hz: float, high_hz: float, *, power: float
) -> Floats:
    """Gaussian noise of unit variance whose spectrum falls as 1 / f**power within a band."""
    length = scipy.fft.next_fast_len(max(n, 16), real=True)
    spectrum = scipy.fft.rfft(rng.normal(size=length))
    frequencies = scipy.fft.rfftfreq(length, 1 / rate)
    inside = (frequencies >= low_hz) & (frequencies <= high_hz)
    gains = np.where(inside, np.maximum(frequencies, low_hz) ** (-power / 2), 0.0)
    noise = scipy.fft.irfft(spectrum * gains, length)[:n]
    return np.asarray(noise * np.sqrt(length / max(2 * np.sum(gains**2), 1e-12)))

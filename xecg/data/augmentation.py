"""Augmentation of training batches, drawn anew at every step."""

from dataclasses import dataclass
from math import inf, tau
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from xecg.errors import check_ranges
from xecg.signal.waves import NOT_ANNOTATED


@dataclass(frozen=True)
class Augmentation:
    """Changes of training windows, each switched off by 0.

    Sizes are relative to a window's range; changed windows are scaled to [0, 1] again. Raises
    ConfigError if a size is outside its range.

    Args:
        share: Share of the windows that is changed. The others stay as they are, so that batch
            statistics fit the clean windows of evaluation as well.
        polarity: Probability of turning a window upside down (exchanged electrodes, other leads).
        amplitude: Largest relative swing of the gain within a window (breathing).
        noise: Largest standard deviation of added white noise.
        motion: Largest standard deviation of noise of 1-8 Hz, as of moving electrodes, in a third
            of the changed windows; 0.35 is as strong as QRS complexes that fill the range (0 dB).
        muscle: The same of noise of 5-45 Hz, as of muscles.
        wander: Largest amplitude of each of three added baseline oscillations of 0.05-0.7 Hz.
        time_shift_s: Largest shift in seconds; the gap is filled with the edge's value. Labels per
            sample move along; RR variability would not, so its windows are never shifted.
    """

    share: float = 0.5
    polarity: float = 0.2
    amplitude: float = 0.2
    noise: float = 0.03
    motion: float = 0.0
    muscle: float = 0.0
    wander: float = 0.1
    time_shift_s: float = 0.5

    def __post_init__(self) -> None:
        shares = dict.fromkeys(("share", "polarity", "amplitude"), (0, 1))
        ranges = {name: (value, *shares.get(name, (0,))) for name, value in vars(self).items()}
        check_ranges("augmentation.", **ranges)

    def __call__(
        self, signals: Tensor, codes: Tensor | None, sampling_rate: float, generator: Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Returns copies of windows ``(batch, 1, time)``, some changed; the others are equal.

        Labels per sample, ``(batch, time)`` uint8, move along with a shift. The generator is on
        the CPU.
        """
        chosen = torch.rand(len(signals), generator=generator) < self.share
        rows = chosen.nonzero()[:, 0].to(signals.device)
        draw = _Draw(len(rows), signals.device, generator)
        changed = signals[rows]
        if self.time_shift_s > 0:
            samples = torch.arange(changed.shape[-1], device=changed.device)
            shift = draw.uniform(-1, 1) * self.time_shift_s * sampling_rate
            source = samples - shift.round().long()
            inside = source.clamp(0, len(samples) - 1)
            changed = changed.gather(-1, inside)
            if codes is not None:
                moved = codes[rows].gather(-1, inside[:, 0])
                moved = moved.masked_fill((source != inside)[:, 0], NOT_ANNOTATED)
                codes = codes.index_copy(0, rows, moved)
        changed = self._distort(changed, sampling_rate, draw)
        low, high = changed.aminmax(dim=-1, keepdim=True)
        scaled = (changed - low) / (high - low).clamp_min(torch.finfo(changed.dtype).tiny)
        return signals.index_copy(0, rows, scaled.to(signals.dtype)), codes

    def _distort(self, signals: Tensor, sampling_rate: float, draw: "_Draw") -> Tensor:
        time = torch.arange(signals.shape[-1], device=signals.device) / sampling_rate
        if self.amplitude > 0:
            middle = signals.mean(dim=-1, keepdim=True)
            gain = 1 + draw.uniform(0, self.amplitude) * draw.oscillation(time, 0.1, 0.5)
            signals = middle + (signals - middle) * gain
        if self.wander > 0:
            for _ in range(3):
                wave = draw.oscillation(time, 0.05, 0.7)
                signals = signals + draw.uniform(0, self.wander) * wave
        if self.noise > 0:
            signals = signals + draw.uniform(0, self.noise) * draw.noise(time)
        for size, low_hz, high_hz in ((self.motion, 1.0, 8.0), (self.muscle, 5.0, 45.0)):
            if size > 0:
                # Evenly in decibels, down to 24 dB less.
                sizes = size * 10 ** draw.uniform(-1.2, 0) * (draw.uniform(0, 1) < 1 / 3)
                signals = signals + sizes * draw.noise(time, low_hz, high_hz)
        if self.polarity > 0:
            signals = torch.where(draw.uniform(0, 1) < self.polarity, -signals, signals)
        return signals


class _Draw(NamedTuple):
    """Draws ``(batch, 1, 1)`` numbers, or ``(batch, 1, time)`` oscillations and noise."""

    batch: int
    device: torch.device
    generator: Generator

    def uniform(self, low: float, high: float) -> Tensor:
        values = torch.rand(self.batch, 1, 1, generator=self.generator)
        return (low + (high - low) * values).to(self.device)

    def oscillation(self, time: Tensor, low_hz: float, high_hz: float) -> Tensor:
        return torch.sin(tau * (self.uniform(low_hz, high_hz) * time + self.uniform(0, 1)))

    def noise(self, time: Tensor, low_hz: float = 0.0, high_hz: float = inf) -> Tensor:
        """White noise limited to a band, of a standard deviation of 1."""
        noise = torch.randn(self.batch, 1, len(time), generator=self.generator).to(self.device)
        if high_hz < inf:
            hz = torch.fft.rfftfreq(len(time), (time[1] - time[0]).item())
            inside = ((hz >= low_hz) & (hz <= high_hz)).to(self.device)
            noise = torch.fft.irfft(torch.fft.rfft(noise) * inside, len(time))
            noise = noise / noise.std(dim=-1, keepdim=True)
        return noise

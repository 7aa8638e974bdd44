"""The heart's dipole over time: a sum of Gaussians, and in AF the atria's fibrillatory waves."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from xecg.signal.synthetic.person import Floats, Person, Wave, log_uniform


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


# Beats reach this far beyond both ends of the record, so that cut waves are there too.
MARGIN_S = 2.0
# No RR interval is shorter than this share of the mean one, on average over a record.
SHORTEST_MEAN = 0.6


@dataclass(frozen=True, eq=False)
class Beats:
    """Heartbeats from before a record's start to after its end.

    Attributes:
        times_s: Centres of the R waves, shape (n,), s from the record's start, ascending.
        rr_s: RR interval before each beat, shape (n,), s.
        symbols: "N", "V" or "A" per beat, shape (n,).
    """

    times_s: Floats
    rr_s: Floats
    symbols: NDArray[np.str_]


def sinus_beats(
    rng: np.random.Generator, person: Person, breathing: Breathing, duration_s: float
) -> Beats:
    """Sinus rhythm at about the person's rate and RMSSD."""
    mean = _mean_sinus_rr(rng, person)
    n = _enough(duration_s, mean)
    rr = _sinus_rr(rng, n, mean, person.rmssd_ms, breathing)
    return _beats_within(rng, rr, np.full(n, "N"), duration_s)


def ectopic_beats(
    rng: np.random.Generator, person: Person, breathing: Breathing, duration_s: float
) -> Beats:
    """Sinus rhythm with ventricular or atrial ectopic beats, at least one within the record.

    A ventricular beat comes early and is followed by a compensatory pause (the sinus node keeps
    its pace); an atrial one resets the node.
    """
    mean = max(_mean_sinus_rr(rng, person), 60 / 105)
    n = _enough(duration_s, mean)
    symbols = _ectopic_symbols(rng, n)
    rr = _sinus_rr(rng, n, mean, person.rmssd_ms, breathing)
    early = np.flatnonzero(symbols != "N")
    coupling = rng.uniform(0.6, 0.85) * rng.lognormal(0, 0.03, early.size)
    pause = np.where(symbols[early] == "V", 2 - coupling, rng.uniform(1, 1.2, early.size))
    rr[early] *= coupling
    rr[early + 1] *= pause
    return _beats_within(rng, rr, symbols, duration_s)


def fibrillation_beats(rng: np.random.Generator, duration_s: float) -> Beats:
    """Atrial fibrillation: log-normal RR intervals above a refractory floor.

    The spread shrinks with the mean, so that fast AF may look nearly regular.
    """
    mean = 60 / rng.uniform(60, 160)
    floor = max(0.26, 0.5 * mean)
    spread = rng.uniform(0.06, 0.3) * mean * np.sqrt(mean / 0.75)
    variance = np.log1p((spread / (mean - floor)) ** 2)
    n = _enough(duration_s, mean)
    drawn = rng.lognormal(np.log(mean - floor) - variance / 2, np.sqrt(variance), n)
    return _beats_within(rng, np.minimum(floor + drawn, 2.2), np.full(n, "N"), duration_s)


def _mean_sinus_rr(rng: np.random.Generator, person: Person) -> float:
    """Mean RR interval of one recording, s: the person's rate, a little up or down."""
    return 60 / float(np.clip(person.heart_rate_bpm * rng.lognormal(0, 0.1), 45, 120))


def _enough(duration_s: float, mean_rr_s: float) -> int:
    """Intervals that cover the record and its margins from any beat within it."""
    return 2 * int(np.ceil((duration_s + MARGIN_S) / (SHORTEST_MEAN * mean_rr_s))) + 1


def _sinus_rr(
    rng: np.random.Generator, n: int, mean_s: float, rmssd_ms: float, breathing: Breathing
) -> Floats:
    """RR intervals with respiratory, Mayer (0.1 Hz) and slower variation of a given RMSSD.

    For sinusoids a_i of frequency f_i and jitter s, sampled once per beat of mean length RR,
    RMSSD**2 = sum a_i**2 (1 - cos(2 pi f_i RR)) + 2 s**2; all sizes are scaled to fit it.
    """
    times = mean_s * np.arange(n, dtype=np.float64)
    frequencies = np.array([breathing.rate_hz, rng.uniform(0.07, 0.13), rng.uniform(0.01, 0.04)])
    sizes = np.array([1.0, rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2)])
    phases = rng.uniform(0, 2 * np.pi, (2, 1))
    slower = np.sin(2 * np.pi * frequencies[1:, None] * times + phases)
    jitter = rng.uniform(0.05, 0.2)
    courses = sizes[0] * breathing.at(times) + sizes[1:] @ slower + jitter * rng.normal(size=n)
    squared = np.sum(sizes**2 * (1 - np.cos(2 * np.pi * frequencies * mean_s))) + 2 * jitter**2
    wanted = rmssd_ms / 1000 * rng.lognormal(0, 0.15)
    # At a fast rate the heart cannot swing as far: no interval leaves 65-135 % of the mean.
    scale = min(wanted / np.sqrt(squared), 0.35 * mean_s / np.abs(courses).max())
    return np.asarray(mean_s + scale * courses)


def _ectopic_symbols(rng: np.random.Generator, n: int) -> NDArray[np.str_]:
    """Mark ectopic beats: scattered, bigeminal or trigeminal, never two in a row.

    The middle beat is always one.
    """
    middle = n // 2
    period = int(rng.choice([0, 2, 3], p=[0.7, 0.15, 0.15]))
    if period:
        ectopic = (np.arange(n) - middle) % period == 0
    else:
        ectopic = rng.random(n) < log_uniform(rng, 0.04, 0.3)
        ectopic[middle] = True
        ectopic[[middle - 1, middle + 1]] = False
        ectopic[1:] &= ~ectopic[:-1]
    ectopic[-1] = False
    ventricular = rng.random(n) < rng.choice([0.0, 0.5, 1.0], p=[0.45, 0.1, 0.45])
    return np.where(ectopic, np.where(ventricular, "V", "A"), "N")


def _beats_within(
    rng: np.random.Generator, rr_s: Floats, symbols: NDArray[np.str_], duration_s: float
) -> Beats:
    """Let the middle beat fall at random within the record, and keep what the margins hold."""
    times = np.cumsum(rr_s)
    times += rng.uniform(0.05, 0.95) * duration_s - times[rr_s.size // 2]
    kept = (times > -MARGIN_S) & (times < duration_s + MARGIN_S)
    return Beats(times[kept], rr_s[kept], symbols[kept])


ONSET, PEAK, OFFSET = 0, 1, 2


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians to be summed, one per row.

    Attributes:
        centres_s: Shape (n,), s from the record's start.
        rise_s: Standard deviations before the centre, shape (n,), s.
        fall_s: Standard deviations after the centre, shape (n,), s.
        dipoles_mv: Dipoles at the centre, shape (n, 3), mV.
    """

    centres_s: Floats
    rise_s: Floats
    fall_s: Floats
    dipoles_mv: Floats


@dataclass(frozen=True, eq=False)
class PlacedWaves:
    """All waves of a record.

    Attributes:
        gaussians: What they are made of, one entry per wave shape.
        extents_s: Shape (beats, 3, 3): onset, peak, offset of P, QRS, T; nan where there is none.
    """

    gaussians: tuple[Gaussians, ...]
    extents_s: Floats


def place_waves(
    rng: np.random.Generator,
    person: Person,
    beats: Beats,
    breathing: Breathing,
    *,
    with_p: bool,
) -> PlacedWaves:
    """Lay the person's waves around each beat.

    QT scales with the square root of RR (Bazett), PR a little. The RR interval that counts is
    half the last one and half the record's mean, as repolarisation follows the rate slowly.
    """
    n = beats.times_s.size
    pace = np.sqrt((beats.rr_s + beats.rr_s.mean()) / 2)
    height = 1 + rng.uniform(0.02, 0.12) * breathing.at(beats.times_s)
    ventricular, atrial = beats.symbols == "V", beats.symbols == "A"
    placed, extents = [], np.full((n, 3, 3), np.nan)

    def lay(column: int, wave: Wave, which: NDArray[np.bool_], at: Floats, stretch: Floats) -> None:
        size = height[which] * rng.lognormal(0, 0.04, which.sum())
        placed.append(_gaussians(wave, at[which], stretch[which], size))
        extents[which, column] = _extents(wave, at[which], stretch[which])

    whole = np.ones(n)
    late = rng.normal(0, 0.003, n)
    for qrs, t, which in (
        (person.qrs, person.t, ~ventricular),
        (person.ectopic_qrs, person.ectopic_t, ventricular),
    ):
        t_end = beats.times_s + qrs.onset_s + person.qtc_s * pace + late
        t_end += 0.5 * (qrs.offset_s - person.qrs.offset_s)  # a broad QRS prolongs QT
        lay(1, qrs, which, beats.times_s, whole)
        lay(2, t, which, t_end - t.offset_s * pace, pace)
    if with_p:
        p_onset = beats.times_s + person.qrs.onset_s - person.pr_s * (0.75 + 0.25 * pace) + late
        lay(0, person.p, ~ventricular & ~atrial, p_onset - person.p.onset_s, whole)
        lay(0, person.ectopic_p, atrial, p_onset - person.ectopic_p.onset_s + 0.015, whole)
    return PlacedWaves(tuple(placed), _without_overlap(extents))


def _gaussians(wave: Wave, at_s: Floats, stretch: Floats, size: Floats) -> Gaussians:
    """Repeat `wave` at the times `at_s`, widened by `stretch` and heightened by `size`."""
    return Gaussians(
        (at_s[:, None] + np.outer(stretch, wave.centres_s)).ravel(),
        np.outer(stretch, wave.rise_s).ravel(),
        np.outer(stretch, wave.fall_s).ravel(),
        (size[:, None, None] * wave.dipoles_mv).reshape(-1, 3),
    )


def _extents(wave: Wave, at_s: Floats, stretch: Floats) -> Floats:
    """Onset, peak and offset of each repetition, shape (n, 3)."""
    return np.asarray(at_s[:, None] + np.outer(stretch, [wave.onset_s, 0.0, wave.offset_s]))


def _without_overlap(extents_s: Floats) -> Floats:
    """Let QRS keep its extent, P end and begin at QRS, and T yield to both.

    So a sample belongs to one wave only, and an annotator's brackets never interleave.
    """
    extents = extents_s.copy()
    p, qrs, t = extents[:, 0], extents[:, 1], extents[:, 2]
    p[:, OFFSET] = np.minimum(p[:, OFFSET], qrs[:, ONSET])
    p[1:, ONSET] = np.maximum(p[1:, ONSET], qrs[:-1, OFFSET])
    t[:, ONSET] = np.maximum(t[:, ONSET], qrs[:, OFFSET])
    next_wave = np.fmin(p[1:, ONSET], qrs[1:, ONSET])
    t[:-1, OFFSET] = np.minimum(t[:-1, OFFSET], next_wave)
    return extents


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

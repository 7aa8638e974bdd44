"""A person's heart: the shapes of its waves, when it beats, and where the waves then lie."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Symbols = NDArray[np.str_]  # "N", "V" or "A" for each beat
ONSET, PEAK, OFFSET = 0, 1, 2

_EXTENT_SIGMAS = 2.5  # a wave ends where its outermost Gaussian is exp(-2.5**2 / 2) = 4 %
_MARGIN_S = 2.0  # beats go beyond both ends of the record, so that cut waves are there too
_SHORTEST_MEAN = 0.6  # smallest share of the mean RR interval, on average over a record


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """Draws a positive number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


@dataclass(frozen=True, eq=False)
class Gaussians:
    """Gaussians to be summed, one a row: of one wave, or of all repetitions of it in a record."""

    centres_s: Floats  # (n,), from the wave's reference point or the record's start
    rise_s: Floats  # (n,), standard deviation before the centre
    fall_s: Floats  # (n,), standard deviation after the centre
    dipoles_mv: Floats  # (n, 3), at the centre

    @property
    def onset_s(self) -> float:
        """Beginning of the wave."""
        return float((self.centres_s - _EXTENT_SIGMAS * self.rise_s).min())

    @property
    def offset_s(self) -> float:
        """End of the wave."""
        return float((self.centres_s + _EXTENT_SIGMAS * self.fall_s).max())


@dataclass(frozen=True, eq=False)
class Person:
    """Rates and waves that stay the same from one recording of a person to the next.

    PR and T are those at 60 beats a minute, QT is after Bazett. Time 0 is the middle of P, the
    centre of R, the main deflection of an ectopic QRS, the peak of T.
    """

    heart_rate_bpm: float
    rmssd_ms: float
    pr_s: float
    qtc_s: float
    p: Gaussians
    qrs: Gaussians
    t: Gaussians
    ectopic_p: Gaussians
    ectopic_qrs: Gaussians
    ectopic_t: Gaussians


def draw_person(person_seed: int) -> Person:
    """Draws the person that belongs to ``person_seed``."""
    rng = np.random.default_rng(person_seed)
    axis = _rotation(np.radians(rng.uniform(-25, 12)), np.radians(rng.uniform(-20, 20)))
    p, broad = _p_wave(rng, axis), _ectopic_qrs(rng)
    rates = float(np.clip(rng.normal(72, 15), 48, 112)), log_uniform(rng, 5, 100)
    intervals = rng.uniform(0.13, 0.2), rng.uniform(0.37, 0.44)
    qrs, t = _qrs(rng, axis), _t_wave(rng, axis)
    # Another focus: the atria are crossed in another direction, often upwards.
    direction = np.array([rng.uniform(-0.8, 1), rng.uniform(-1.2, 0.4), rng.uniform(-1, 1)])
    other_p = Gaussians(p.centres_s, p.rise_s, p.fall_s, _scatter(rng, p.dipoles_mv * direction))
    # Repolarisation runs against the broad complex that it follows.
    dipole = -rng.uniform(0.3, 0.5) * broad.dipoles_mv[1:2]
    rise, fall = rng.uniform([0.055, 0.040], [0.070, 0.050])
    discordant_t = Gaussians(np.zeros(1), np.array([rise]), np.array([fall]), dipole)
    return Person(*rates, *intervals, p, qrs, t, other_p, broad, discordant_t)


def _rotation(frontal: float, horizontal: float) -> Floats:
    """Returns the turn of the heart in the frontal (x, y), then the horizontal (x, z) plane."""
    cos, sin = np.cos(frontal), np.sin(frontal)
    in_frontal = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    cos, sin = np.cos(horizontal), np.sin(horizontal)
    in_horizontal = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    return np.asarray(in_horizontal @ in_frontal)


def _scatter(rng: Generator, dipoles: NDArray[np.float64] | list[list[float]]) -> Floats:
    """Varies each dipole by up to a quarter of its length in every direction."""
    dipoles = np.asarray(dipoles)
    lengths = np.linalg.norm(dipoles, axis=1, keepdims=True)
    return np.asarray(dipoles + 0.25 * lengths * rng.uniform(-1, 1, dipoles.shape))


def _p_wave(rng: Generator, axis: Floats) -> Gaussians:
    """Draws the right atrium, then the left: the notch in some leads, the biphasic P in V1."""
    gap = rng.uniform(0.022, 0.042)
    sigmas = rng.uniform(0.013, 0.018, 2)
    dipoles = log_uniform(rng, 0.4, 1.4) * _scatter(rng, [[0.04, 0.09, -0.05], [0.08, 0.08, 0.06]])
    return Gaussians(np.array([-gap / 2, gap / 2]), sigmas, sigmas, dipoles @ axis.T)


def _qrs(rng: Generator, axis: Floats) -> Gaussians:
    """Draws septum (Q), free walls (R), base (S)."""
    breadth = rng.uniform(0.85, 1.2)
    centres = breadth * np.array([-rng.uniform(0.020, 0.027), 0, rng.uniform(0.020, 0.028)])
    sigmas = breadth * rng.uniform([0.006, 0.009, 0.008], [0.008, 0.012, 0.011])
    sizes = rng.lognormal([-0.2, 0, -0.2], [0.5, 0.25, 0.5])[:, None]
    dipoles = sizes * _scatter(rng, [[-0.15, -0.08, -0.25], [1.0, 0.85, 0.3], [-0.2, -0.2, 0.45]])
    return Gaussians(centres, sigmas, sigmas, dipoles @ axis.T)


def _t_wave(rng: Generator, axis: Floats) -> Gaussians:
    """Draws a wave that rises slowly and falls faster."""
    fall = rng.uniform(0.030, 0.040)
    rise = fall * rng.uniform(1.2, 1.7)
    dipoles = log_uniform(rng, 0.3, 1.2) * _scatter(rng, [[0.38, 0.28, -0.15]])
    return Gaussians(np.zeros(1), np.array([rise]), np.array([fall]), dipoles @ axis.T)


def _ectopic_qrs(rng: Generator) -> Gaussians:
    """Draws a broad, slurred complex, from the right outflow tract downwards or an apex upwards."""
    main = np.array([[0.4, 1.2, 0.8], [0.9, -0.9, 0.6], [-0.7, -0.8, -0.7]][rng.integers(3)])
    early, late = rng.uniform([-0.3, -0.4], [0.3, 0.4])
    breadth = rng.uniform(0.85, 1.15)
    sigmas = breadth * rng.uniform([0.011, 0.015, 0.016], [0.014, 0.020, 0.022])
    dipoles = _scatter(rng, np.stack([early * main[[1, 2, 0]], main, late * main[[2, 0, 1]]]))
    size = log_uniform(rng, 0.8, 1.6)
    return Gaussians(breadth * np.array([-0.038, 0, 0.045]), sigmas, sigmas, size * dipoles)


def slow_variation(rng: Generator, times_s: Floats, low_hz: float, high_hz: float) -> Floats:
    """Draws a smooth course of unit variance at ``times_s``, (time,): a sum of five sinusoids."""
    rates, phases = rng.uniform(low_hz, high_hz, 5), rng.uniform(0, 2 * np.pi, 5)
    pairs = zip(rates, phases, strict=True)
    waves = (np.sin(2 * np.pi * f * times_s + phase) for f, phase in pairs)
    return np.asarray(sum(waves) * np.sqrt(2 / 5))


@dataclass(frozen=True)
class Breathing:
    """Breathing, which drives RR intervals, height of the R waves and baseline alike."""

    rate_hz: float
    phase: float  # rad
    unrest_hz: float
    unrest: float  # by which the phase wanders, rad

    @classmethod
    def draw(cls, rng: Generator) -> Self:
        """Draws the breathing of one recording."""
        ranges = (0.15, 0.4), (0, 2 * np.pi), (0.01, 0.05), (0.2, 0.8)
        return cls(*(rng.uniform(low, high) for low, high in ranges))

    def at(self, times_s: Floats) -> Floats:
        """Returns the depth of the breath at ``times_s``, from -1 (out) to 1 (in)."""
        wandering = self.unrest * np.sin(2 * np.pi * self.unrest_hz * times_s)
        return np.sin(2 * np.pi * self.rate_hz * times_s + self.phase + wandering)


@dataclass(frozen=True, eq=False)
class Beats:
    """Heartbeats from before a record's start to after its end; times in seconds."""

    times_s: Floats  # (n,), centres of the R waves from the record's start, ascending
    rr_s: Floats  # (n,), RR interval before each beat
    symbols: Symbols  # (n,)


def sinus_beats(
    rng: Generator, person: Person, breathing: Breathing, duration_s: float, *, ectopic: bool
) -> Beats:
    """Draws sinus rhythm at about the person's rate and RMSSD, with ectopic beats or without.

    At least one is within the record. A ventricular one comes early and is followed by a
    compensatory pause (the sinus node keeps its pace); an atrial one resets the node.
    """
    rate_bpm = person.heart_rate_bpm * rng.lognormal(0, 0.1)
    mean = 60 / float(np.clip(rate_bpm, 45, 105 if ectopic else 120))
    n = _enough(duration_s, mean)
    symbols = _ectopic_symbols(rng, n) if ectopic else np.full(n, "N")
    rr = _sinus_rr(rng, n, mean, person.rmssd_ms, breathing)
    if ectopic:
        early = np.flatnonzero(symbols != "N")
        coupling = rng.uniform(0.6, 0.85) * rng.lognormal(0, 0.03, early.size)
        pause = np.where(symbols[early] == "V", 2 - coupling, rng.uniform(1, 1.2, early.size))
        rr[early] *= coupling
        rr[early + 1] *= pause
    return _beats_within(rng, rr, symbols, duration_s)


def fibrillation_beats(rng: Generator, duration_s: float) -> Beats:
    """Draws AF: log-normal RR intervals above a refractory floor, more regular where it is fast."""
    mean = 60 / rng.uniform(60, 160)
    floor = max(0.26, 0.5 * mean)
    spread = rng.uniform(0.06, 0.3) * mean * np.sqrt(mean / 0.75)
    variance = np.log1p((spread / (mean - floor)) ** 2)
    n = _enough(duration_s, mean)
    drawn = rng.lognormal(np.log(mean - floor) - variance / 2, np.sqrt(variance), n)
    return _beats_within(rng, np.minimum(floor + drawn, 2.2), np.full(n, "N"), duration_s)


def _enough(duration_s: float, mean_rr_s: float) -> int:
    """Returns how many intervals cover the record and its margins from any beat within it."""
    return 2 * int(np.ceil((duration_s + _MARGIN_S) / (_SHORTEST_MEAN * mean_rr_s))) + 1


def _sinus_rr(rng: Generator, n: int, mean: float, rmssd_ms: float, breathing: Breathing) -> Floats:
    """Draws RR intervals with respiratory, Mayer (0.1 Hz) and slower variation of a given RMSSD.

    For sinusoids a_i of frequency f_i and jitter s, sampled once per beat of mean length RR (s),
    RMSSD**2 = sum a_i**2 (1 - cos(2 pi f_i RR)) + 2 s**2; all sizes are scaled to fit it.
    """
    times = mean * np.arange(n, dtype=np.float64)
    frequencies = np.array([breathing.rate_hz, rng.uniform(0.07, 0.13), rng.uniform(0.01, 0.04)])
    sizes = np.array([1.0, rng.uniform(0.3, 1.2), rng.uniform(0.3, 1.2)])
    phases = rng.uniform(0, 2 * np.pi, (2, 1))
    slower = sizes[1:] @ np.sin(2 * np.pi * frequencies[1:, None] * times + phases)
    jitter = rng.uniform(0.05, 0.2)
    courses = sizes[0] * breathing.at(times) + slower + jitter * rng.normal(size=n)
    squared = np.sum(sizes**2 * (1 - np.cos(2 * np.pi * frequencies * mean))) + 2 * jitter**2
    wanted = rmssd_ms / 1000 * rng.lognormal(0, 0.15)
    # At a fast rate the heart cannot swing as far: no interval leaves 65-135 % of the mean.
    scale = min(wanted / np.sqrt(squared), 0.35 * mean / np.abs(courses).max())
    return np.asarray(mean + scale * courses)


def _ectopic_symbols(rng: Generator, n: int) -> Symbols:
    """Marks the middle beat and others, scattered, bigeminal or trigeminal, never two in a row."""
    middle = n // 2
    if period := int(rng.choice([0, 2, 3], p=[0.7, 0.15, 0.15])):
        ectopic = (np.arange(n) - middle) % period == 0
    else:
        ectopic = rng.random(n) < log_uniform(rng, 0.04, 0.3)
        ectopic[middle] = True
        ectopic[[middle - 1, middle + 1]] = False
        ectopic[1:] &= ~ectopic[:-1]
    ectopic[-1] = False
    ventricular = rng.random(n) < rng.choice([0.0, 0.5, 1.0], p=[0.45, 0.1, 0.45])
    return np.where(ectopic, np.where(ventricular, "V", "A"), "N")


def _beats_within(rng: Generator, rr_s: Floats, symbols: Symbols, duration_s: float) -> Beats:
    """Places the middle beat at random within the record and keeps what the margins hold."""
    times = np.cumsum(rr_s)
    times += rng.uniform(0.05, 0.95) * duration_s - times[rr_s.size // 2]
    kept = (times > -_MARGIN_S) & (times < duration_s + _MARGIN_S)
    return Beats(times[kept], rr_s[kept], symbols[kept])


def place_waves(
    rng: Generator, person: Person, beats: Beats, breathing: Breathing, *, with_p: bool
) -> tuple[list[Gaussians], Floats]:
    """Places the person's waves around each beat; QT scales with the square root of RR (Bazett).

    The RR interval that counts is half the last one and half the record's mean, as repolarisation
    follows the rate slowly. Returns Gaussians for each wave shape; and onset, peak and offset of P,
    QRS and T of each beat, (beats, 3, 3), s, NaN where there is no such wave.
    """
    n, whole = beats.times_s.size, np.ones(beats.times_s.size)
    pace = np.sqrt((beats.rr_s + beats.rr_s.mean()) / 2)
    height = 1 + rng.uniform(0.02, 0.12) * breathing.at(beats.times_s)
    ventricular, atrial = beats.symbols == "V", beats.symbols == "A"
    placed, extents = [], np.full((n, 3, 3), np.nan)

    def lay(
        column: int, wave: Gaussians, which: NDArray[np.bool_], at: Floats, stretch: Floats
    ) -> None:
        at, stretch = at[which, None], stretch[which, None]
        size = height[which] * rng.lognormal(0, 0.04, which.sum())
        times = at + stretch * wave.centres_s, stretch * wave.rise_s, stretch * wave.fall_s
        centres, rise, fall = (time.ravel() for time in times)
        dipoles = (size[:, None, None] * wave.dipoles_mv).reshape(-1, 3)
        placed.append(Gaussians(centres, rise, fall, dipoles))
        extents[which, column] = at + stretch * np.array([wave.onset_s, 0.0, wave.offset_s])

    late = rng.normal(0, 0.003, n)
    ectopic = person.ectopic_qrs, person.ectopic_t, ventricular
    for qrs, t, which in ((person.qrs, person.t, ~ventricular), ectopic):
        t_end = beats.times_s + qrs.onset_s + person.qtc_s * pace + late
        t_end += 0.5 * (qrs.offset_s - person.qrs.offset_s)  # a broad QRS prolongs QT
        lay(1, qrs, which, beats.times_s, whole)
        lay(2, t, which, t_end - t.offset_s * pace, pace)
    if with_p:
        p_onset = beats.times_s + person.qrs.onset_s - person.pr_s * (0.75 + 0.25 * pace) + late
        lay(0, person.p, ~ventricular & ~atrial, p_onset - person.p.onset_s, whole)
        lay(0, person.ectopic_p, atrial, p_onset - person.ectopic_p.onset_s + 0.015, whole)
    return placed, _without_overlap(extents)


def _without_overlap(extents_s: Floats) -> Floats:
    """Cuts P where it meets QRS, and T where it meets either: a sample has one wave only."""
    extents = extents_s.copy()
    p, qrs, t = extents[:, 0], extents[:, 1], extents[:, 2]
    p[:, OFFSET] = np.minimum(p[:, OFFSET], qrs[:, ONSET])
    p[1:, ONSET] = np.maximum(p[1:, ONSET], qrs[:-1, OFFSET])
    t[:, ONSET] = np.maximum(t[:, ONSET], qrs[:, OFFSET])
    next_wave = np.fmin(p[1:, ONSET], qrs[1:, ONSET])
    t[:-1, OFFSET] = np.minimum(t[:-1, OFFSET], next_wave)
    return extents

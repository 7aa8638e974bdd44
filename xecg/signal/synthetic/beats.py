"""When the heart beats: RR intervals of sinus rhythm, of ectopy and of atrial fibrillation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.signal.synthetic.modulation import Breathing, Floats, log_uniform
from xecg.signal.synthetic.person import Person

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

"""From beats to waves: where each Gaussian of a record lies, where each wave begins and ends."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.signal.synthetic.beats import Beats
from xecg.signal.synthetic.modulation import Breathing, Floats
from xecg.signal.synthetic.person import Person, Wave

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

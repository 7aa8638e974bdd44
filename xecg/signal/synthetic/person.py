"""A person: the shapes of the waves, the usual heart rate and its variability."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a positive number whose logarithm is uniform between those of `low` and `high`."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


# A wave begins and ends where its outermost Gaussian has fallen to exp(-2.5**2 / 2) = 4 %.
EXTENT_SIGMAS = 2.5


@dataclass(frozen=True, eq=False)
class Wave:
    """Gaussians that make one wave; times are relative to the wave's reference point.

    Attributes:
        centres_s: Centre of each Gaussian, shape (k,), s.
        rise_s: Standard deviation before the centre, shape (k,), s.
        fall_s: Standard deviation after the centre, shape (k,), s.
        dipoles_mv: Dipole at the centre, shape (k, 3), mV.
    """

    centres_s: Floats
    rise_s: Floats
    fall_s: Floats
    dipoles_mv: Floats

    @property
    def onset_s(self) -> float:
        """Where the wave begins."""
        return float((self.centres_s - EXTENT_SIGMAS * self.rise_s).min())

    @property
    def offset_s(self) -> float:
        """Where the wave ends."""
        return float((self.centres_s + EXTENT_SIGMAS * self.fall_s).max())


@dataclass(frozen=True, eq=False)
class Person:
    """What stays the same from one recording of a person to the next.

    Attributes:
        heart_rate_bpm: Usual sinus rate.
        rmssd_ms: Usual RMSSD in sinus rhythm, 5-100 ms.
        pr_s: PR interval at 60 beats a minute, s.
        qtc_s: QT interval after Bazett, s.
        p: P wave, relative to its middle.
        qrs: QRS complex, relative to the R wave's centre.
        t: T wave, relative to its peak, at 60 beats a minute.
        ectopic_p: P wave of the atrial focus.
        ectopic_qrs: QRS complex of the ventricular focus, relative to its main deflection.
        ectopic_t: The discordant T wave that follows it.
    """

    heart_rate_bpm: float
    rmssd_ms: float
    pr_s: float
    qtc_s: float
    p: Wave
    qrs: Wave
    t: Wave
    ectopic_p: Wave
    ectopic_qrs: Wave
    ectopic_t: Wave


def draw_person(person_seed: int) -> Person:
    """Draw the person that belongs to `person_seed`."""
    rng = np.random.default_rng(person_seed)
    axis = _rotation(np.radians(rng.uniform(-25, 12)), np.radians(rng.uniform(-20, 20)))
    p = _p_wave(rng, axis)
    ectopic_qrs = _ectopic_qrs(rng)
    return Person(
        heart_rate_bpm=float(np.clip(rng.normal(72, 15), 48, 112)),
        rmssd_ms=log_uniform(rng, 5, 100),
        pr_s=rng.uniform(0.13, 0.2),
        qtc_s=rng.uniform(0.37, 0.44),
        p=p,
        qrs=_qrs(rng, axis),
        t=_t_wave(rng, axis),
        ectopic_p=_ectopic_p(rng, p),
        ectopic_qrs=ectopic_qrs,
        ectopic_t=_discordant_t(rng, ectopic_qrs),
    )


def _rotation(frontal: float, horizontal: float) -> Floats:
    """Turn the heart's axis in the frontal (x, y) and then in the horizontal (x, z) plane."""
    cos, sin = np.cos(frontal), np.sin(frontal)
    in_frontal = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    cos, sin = np.cos(horizontal), np.sin(horizontal)
    in_horizontal = np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    return np.asarray(in_horizontal @ in_frontal)


def _scatter(rng: np.random.Generator, dipoles: NDArray[np.float64] | list[list[float]]) -> Floats:
    """Vary each dipole by up to a quarter of its length in every direction."""
    dipoles = np.asarray(dipoles)
    lengths = np.linalg.norm(dipoles, axis=1, keepdims=True)
    return np.asarray(dipoles + 0.25 * lengths * rng.uniform(-1, 1, dipoles.shape))


def _p_wave(rng: np.random.Generator, axis: Floats) -> Wave:
    """The right atrium, then the left one: the notch in some leads, the biphasic P in V1."""
    gap = rng.uniform(0.022, 0.042)
    sigmas = rng.uniform(0.013, 0.018, 2)
    dipoles = log_uniform(rng, 0.4, 1.4) * _scatter(rng, [[0.04, 0.09, -0.05], [0.08, 0.08, 0.06]])
    return Wave(np.array([-gap / 2, gap / 2]), sigmas, sigmas, dipoles @ axis.T)


def _qrs(rng: np.random.Generator, axis: Floats) -> Wave:
    """Septum (Q), free walls (R), base (S)."""
    breadth = rng.uniform(0.85, 1.2)
    centres = breadth * np.array([-rng.uniform(0.020, 0.027), 0, rng.uniform(0.020, 0.028)])
    sigmas = breadth * rng.uniform([0.006, 0.009, 0.008], [0.008, 0.012, 0.011])
    sizes = rng.lognormal([-0.2, 0, -0.2], [0.5, 0.25, 0.5])[:, None]
    dipoles = sizes * _scatter(rng, [[-0.15, -0.08, -0.25], [1.0, 0.85, 0.3], [-0.2, -0.2, 0.45]])
    return Wave(centres, sigmas, sigmas, dipoles @ axis.T)


def _t_wave(rng: np.random.Generator, axis: Floats) -> Wave:
    """A wave that rises slowly and falls faster."""
    fall = rng.uniform(0.030, 0.040)
    rise = fall * rng.uniform(1.2, 1.7)
    dipoles = log_uniform(rng, 0.3, 1.2) * _scatter(rng, [[0.38, 0.28, -0.15]])
    return Wave(np.zeros(1), np.array([rise]), np.array([fall]), dipoles @ axis.T)


def _ectopic_p(rng: np.random.Generator, p: Wave) -> Wave:
    """Another focus: the atria are crossed in another direction, often upwards."""
    direction = np.array([rng.uniform(-0.8, 1), rng.uniform(-1.2, 0.4), rng.uniform(-1, 1)])
    return Wave(p.centres_s, p.rise_s, p.fall_s, _scatter(rng, p.dipoles_mv * direction))


def _ectopic_qrs(rng: np.random.Generator) -> Wave:
    """A broad, slurred complex: from the right outflow tract downwards, from an apex upwards."""
    main = np.array([[0.4, 1.2, 0.8], [0.9, -0.9, 0.6], [-0.7, -0.8, -0.7]][rng.integers(3)])
    early, late = rng.uniform([-0.3, -0.4], [0.3, 0.4])
    breadth = rng.uniform(0.85, 1.15)
    sigmas = breadth * rng.uniform([0.011, 0.015, 0.016], [0.014, 0.020, 0.022])
    dipoles = _scatter(rng, np.stack([early * main[[1, 2, 0]], main, late * main[[2, 0, 1]]]))
    size = log_uniform(rng, 0.8, 1.6)
    return Wave(breadth * np.array([-0.038, 0, 0.045]), sigmas, sigmas, size * dipoles)


def _discordant_t(rng: np.random.Generator, qrs: Wave) -> Wave:
    """Repolarisation runs against the broad complex that it follows."""
    dipole = -rng.uniform(0.3, 0.5) * qrs.dipoles_mv[1:2]
    rise, fall = rng.uniform([0.055, 0.040], [0.070, 0.050])
    return Wave(np.zeros(1), np.array([rise]), np.array([fall]), dipole)

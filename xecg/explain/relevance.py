"""Where relevance lies on an ECG: a column per statistic, and means of them with intervals.

A statistic is a function of :class:`Maps` with a name in ``STATISTICS``. It becomes a column of
the table that :func:`wave_relevance` returns, whose means are logged while a network trains, and
which explanations and studies write and read.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError, DataError
from xecg.metrics.bootstrap import FloatArray, intervals
from xecg.plugins import Registry
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T, codes_around_r_peaks

WAVES = ("P", "QRS", "ST-T", "other")
WAVE_CODES = (P, QRS, T, OTHER)  # in the order of WAVES
CLASSES = ("non-AF", "AF")
OWN_WAVE: Mapping[str, str] = {"morphology": "P", "rhythm": "QRS"}
"""Wave of each branch's own domain; a branch that is not here has none."""

FEWEST_BEATS = 4  # R peaks of a window whose waves are measured, as in the published tables
POINTING_TOLERANCE_MS = 50.0  # the half-width of the QRS window
SPECIFICITY = "domain_specificity"
_ROUNDING = 1e-4  # of a map's largest value: what single precision may leave below zero


def slug(title: str) -> str:
    """A title as part of a name: ``ST-T`` becomes ``st_t``."""
    return re.sub(r"\W+", "_", title.lower())


def enrichment_column(wave: str) -> str:
    """Name of the column with a wave's enrichment."""
    return f"enrichment_{slug(wave)}"


def wave_title(wave: str, rhythm: str) -> str:
    """Title of a wave's column: in AF there is no P wave, only the place where it would be."""
    return "where P would be" if wave == "P" and rhythm == "AF" else wave


@dataclass(frozen=True, eq=False)
class Maps:
    """Relevance maps of ``n`` windows, and what is known of the windows.

    Args:
        relevance: ``(n, time)``, not negative.
        codes: Wave codes ``(n, time)``; ``NOT_ANNOTATED`` where the wave is not known.
        r_peaks: R peaks of each window, in samples.
        sampling_rate: Sampling rate in Hz.
        logits: Logit that each map explains, ``(n,)``; NaN where it is not known.
    """

    relevance: NDArray[np.floating]
    codes: NDArray[np.uint8]
    r_peaks: Sequence[NDArray[np.int64]]
    sampling_rate: float
    logits: FloatArray

    @cached_property
    def wave_sums(self) -> FloatArray:
        """Sum of the relevance in each of ``WAVES``, ``(n, 4)``."""
        return np.stack([self._sum(self.codes == code) for code in WAVE_CODES], axis=1)

    @cached_property
    def wave_samples(self) -> NDArray[np.int64]:
        """Number of samples of each of ``WAVES``, ``(n, 4)``."""
        return np.stack([(self.codes == code).sum(axis=1) for code in WAVE_CODES], axis=1)

    def _sum(self, where: NDArray[np.bool_]) -> FloatArray:
        total: FloatArray = np.where(where, self.relevance, 0).sum(axis=1, dtype=np.float64)
        return total


Statistic = Callable[[Maps], ArrayLike]

STATISTICS: Registry[Statistic] = Registry("statistics")
"""Functions of :class:`Maps` that return a number for each map, ``(n,)``; NaN where undefined."""


def enrichment(maps: Maps, wave: str) -> FloatArray:
    """Share of the relevance in a wave / share of time in it; 1 is chance."""
    column = WAVES.index(wave)
    share = ratio(maps.wave_sums[:, column], maps.wave_sums.sum(axis=1))
    return ratio(share, ratio(maps.wave_samples[:, column], maps.wave_samples.sum(axis=1)))


def pointing(maps: Maps) -> FloatArray:
    """Pointing game (Zhang et al. 2018, doi 10.1007/s11263-017-1059-x) played on R peaks.

    1 where the largest relevance lies within 50 ms of an R peak, else 0.
    """
    rows = np.arange(len(maps.relevance))
    hits: FloatArray = _near_r_peaks(maps)[rows, maps.relevance.argmax(axis=1)].astype(np.float64)
    return hits


def pointing_chance(maps: Maps) -> FloatArray:
    """Share of the window within 50 ms of an R peak: chance for :func:`pointing`."""
    share: FloatArray = _near_r_peaks(maps).mean(axis=1)
    return share


def _near_r_peaks(maps: Maps) -> NDArray[np.bool_]:
    tolerance = int(POINTING_TOLERANCE_MS * maps.sampling_rate / 1000)
    reach = np.arange(-tolerance, tolerance + 1)
    near = np.zeros(maps.relevance.shape, dtype=np.bool_)
    for row, peaks in zip(near, maps.r_peaks, strict=True):
        row[np.clip(peaks[:, None] + reach, 0, row.size - 1)] = True
    return near


def gini(maps: Maps) -> FloatArray:
    """Gini coefficient over samples (Hurley and Rickard 2009, doi 10.1109/TIT.2009.2027527).

    0 for relevance that is spread evenly, towards 1 for a single sample that is not zero.
    """
    rows = np.sort(maps.relevance, axis=1)
    time = rows.shape[1]
    ranks = np.arange(1, time + 1, dtype=np.float64)
    total = rows.sum(axis=1, dtype=np.float64)
    weighted = np.einsum("ij,j->i", rows, ranks)  # casts in small pieces, a matmul all at once
    coefficients: FloatArray = ratio(2 * weighted, time * total) - (time + 1) / time
    return coefficients


def conservation(maps: Maps) -> FloatArray:
    """Sum of the map / the logit that it explains; NaN where that is not positive or known."""
    return ratio(maps.relevance.sum(axis=1, dtype=np.float64), maps.logits)


for _wave in WAVES:
    STATISTICS.register(enrichment_column(_wave), partial(enrichment, wave=_wave))
for _statistic in (conservation, gini, pointing, pointing_chance):
    STATISTICS.register(_statistic.__name__, _statistic)


def wave_relevance(
    relevance: ArrayLike,
    r_peaks: Sequence[ArrayLike],
    sampling_rate: float,
    waves: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    min_beats: int = FEWEST_BEATS,
    statistics: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Measures relevance maps wave by wave.

    A row is NaN in all columns if its window has too few R peaks, no annotated sample, or a map
    that is not finite or zero everywhere: the mean of a column is that of the measured windows.

    Args:
        relevance: ``(n, time)`` or ``(n, 1, time)``, not negative, as deep Taylor relevance is.
        r_peaks: R peaks of each window, in samples of the window.
        sampling_rate: Sampling rate of the maps, in Hz.
        waves: True wave codes, uint8 ``(n, time)``; samples that are ``NOT_ANNOTATED`` count
            neither as relevance nor as time. None takes windows relative to the R peaks.
        logits: Logit that each map explains, ``(n,)``; without it conservation is NaN.
        min_beats: Fewest R peaks of a window that is measured.
        statistics: Names in ``STATISTICS``, or class paths; None computes all that have a name.

    Returns:
        A row a window and a float64 column a statistic.

    Raises:
        DataError: Shapes disagree, the sampling rate is not positive, relevance is negative, a
            wave code is unknown, an R peak lies outside its window, or a statistic does not
            return a number for each window.
        ConfigError: No statistic has such a name.
    """
    maps, finite = _checked(relevance, r_peaks, sampling_rate, waves, logits)
    n, found = len(maps.r_peaks), {}
    for name in STATISTICS if statistics is None else statistics:
        column = np.asarray(STATISTICS[name](maps), dtype=np.float64)
        if column.shape != (n,):
            raise DataError(f"Statistic {name}: expected {n} numbers, found {column.shape}.")
        found[name.rpartition(".")[2]] = column
    enough = np.array([window.size >= min_beats for window in maps.r_peaks], dtype=np.bool_)
    table = pd.DataFrame(found)
    table.loc[~(finite & enough & (maps.wave_sums.sum(axis=1) > 0))] = np.nan
    return table


def _checked(
    relevance: ArrayLike,
    r_peaks: Sequence[ArrayLike],
    sampling_rate: float,
    waves: ArrayLike | None,
    logits: ArrayLike | None,
) -> tuple[Maps, NDArray[np.bool_]]:
    """The maps, zero where they are not finite, and whether each is, ``(n,)``."""
    if not sampling_rate > 0:
        raise DataError(f"Expected a positive sampling rate in Hz, found {sampling_rate}.")
    maps = np.asarray(relevance)
    if maps.ndim == 3 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 2 or 0 in maps.shape or not np.issubdtype(maps.dtype, np.floating):
        raise DataError(
            f"Expected relevance (n, time) or (n, 1, time) of floating-point numbers, found shape "
            f"{maps.shape} of {maps.dtype}."
        )
    lowest = maps.min(axis=1)
    for negative in np.flatnonzero(lowest < -_ROUNDING * np.abs(maps).max(axis=1)):
        raise DataError(
            f"Expected relevance that is not negative, found {lowest[negative]:.3g} in window "
            f"{negative}. "
            "Shares of signed relevance are undefined: take its absolute value first."
        )
    n, time = maps.shape
    if len(r_peaks) != n:
        raise DataError(f"Expected R peaks of {n} windows, found {len(r_peaks)}.")
    peaks = [np.asarray(window, dtype=np.int64).reshape(-1) for window in r_peaks]
    for row, window in enumerate(peaks):
        if window.size and not 0 <= window.min() <= window.max() < time:
            raise DataError(
                f"Expected R peaks in samples of the window, 0 to {time - 1}, found "
                f"{window.min()} to {window.max()} in window {row}."
            )
    if waves is None:
        codes = np.array([codes_around_r_peaks(p, time, sampling_rate) for p in peaks])
    else:
        codes = np.asarray(waves)
    known = np.isin(codes, (*WAVE_CODES, NOT_ANNOTATED))
    if codes.shape != maps.shape or codes.dtype != np.uint8 or not known.all():
        raise DataError(
            f"Expected wave codes 0 to 3 or {NOT_ANNOTATED}, uint8 {maps.shape}; found "
            f"{codes.shape} of {codes.dtype} with codes {np.unique(codes[~known])[:5]} beside them."
        )
    explained = np.full(n, np.nan) if logits is None else np.asarray(logits, dtype=np.float64)
    if explained.shape != (n,):
        raise DataError(f"Expected one logit for each of {n} maps, found shape {explained.shape}.")
    finite: NDArray[np.bool_] = np.isfinite(maps).all(axis=1)
    zeroed = np.where(finite[:, None], maps, 0)
    return Maps(zeroed, codes, peaks, sampling_rate, explained), finite


def domain_specificity(
    enrichment_p: ArrayLike, enrichment_qrs: ArrayLike, branch: str
) -> FloatArray:
    """Says in one number whether a branch looks at the wave of its own domain.

    ``log2(own / other)``: P wave over QRS complex for the morphology branch, QRS complex over P
    wave for the rhythm branch. 0 is no preference, 1 twice the other's enrichment. Mean
    enrichments belong here: in a single window one of the two may be zero.

    Args:
        enrichment_p: Enrichment of the P wave, any shape.
        enrichment_qrs: Enrichment of the QRS complex, the same shape.
        branch: Name of a branch in ``OWN_WAVE``.

    Returns:
        The number, of the same shape; NaN where an enrichment is not positive.

    Raises:
        ConfigError: Another branch, which has no wave of its own.
    """
    if branch not in OWN_WAVE:
        raise ConfigError(f"Expected a branch of {', '.join(OWN_WAVE)}, found {branch!r}.")
    p = np.asarray(enrichment_p, dtype=np.float64)
    qrs = np.asarray(enrichment_qrs, dtype=np.float64)
    preference = ratio(p, qrs) if OWN_WAVE[branch] == "P" else ratio(qrs, p)
    nothing = np.full(preference.shape, np.nan)
    specificity: FloatArray = np.log2(preference, out=nothing, where=preference > 0)
    return specificity


def ratio(numerator: ArrayLike, denominator: ArrayLike) -> FloatArray:
    """Divides, with NaN where the denominator is not positive."""
    above, below = np.asarray(numerator), np.asarray(denominator)
    quotient = np.full(np.broadcast_shapes(above.shape, below.shape), np.nan)
    np.divide(above, below, out=quotient, where=below > 0)
    return quotient


def summarize(
    table: pd.DataFrame,
    classes: ArrayLike,
    correct: ArrayLike | None,
    groups: ArrayLike,
    *,
    branch: str,
    **resampling: Any,
) -> pd.DataFrame:
    """Means over the windows of each class and kind of prediction, with intervals over persons.

    Args:
        table: What :func:`wave_relevance` returned for a branch.
        classes: Class of each window, ``(n,)``: 0 non-AF, 1 AF. The true one where it is known,
            since it says whether there is a P wave; negative leaves the window out.
        correct: Whether the branch's prediction was right, ``(n,)``; None: not known.
        groups: Person or record of each window, ``(n,)``.
        branch: Name of the branch.
        resampling: ``n_resamples``, ``seed`` and ``confidence`` of
            :func:`xecg.metrics.bootstrap.intervals`.

    Returns:
        Columns ``branch``, ``class``, ``prediction`` (``right``, ``wrong``, or ``all``),
        ``statistic``, ``value``, ``low``, ``high``, ``n_windows`` and ``n_groups`` with a value.

    Raises:
        DataError: The lengths disagree, or there is another class.
    """
    kinds = {"all": np.ones(len(table), np.bool_)}
    if correct is not None:
        kinds = {"right": np.asarray(correct, np.bool_), "wrong": ~np.asarray(correct, np.bool_)}
    af, persons, (known, *_) = np.asarray(classes), np.asarray(groups), kinds.values()
    for name, values in {"classes": af, "groups": persons, "correct": known}.items():
        if values.shape != (len(table),):
            raise DataError(f"Expected {name} of {len(table)} windows, found {values.shape}.")
    if af.max(initial=0) >= len(CLASSES):
        raise DataError(f"Expected classes 0, 1 or negative, found {af.max()}.")
    measured, rows = table.notna().any(axis=1).to_numpy(), []
    for (code, rhythm), (kind, of_kind) in product(enumerate(CLASSES), kinds.items()):
        chosen = measured & of_kind & (af == code)
        if not chosen.any():
            continue
        by_group = table[chosen].groupby(persons[chosen])
        sums, counts = by_group.sum(), by_group.count()
        means, numbers = partial(_means, sums, counts, branch), np.arange(len(sums))
        for name, interval in intervals(means, numbers, **resampling).items():
            present = counts[enrichment_column("P") if name == SPECIFICITY else name]
            n = int(present.sum()), int((present > 0).sum())
            key = branch, rhythm, kind, name
            rows.append((*key, interval.value, interval.low, interval.high, *n))
    names = ["branch", "class", "prediction", "statistic", "value", "low", "high"]
    return pd.DataFrame(rows, columns=[*names, "n_windows", "n_groups"])


def _means(
    sums: pd.DataFrame, counts: pd.DataFrame, branch: str, weights: FloatArray
) -> dict[str, FloatArray]:
    """Means over windows for weights of groups ``(r, groups)``."""
    means = ratio(weights @ sums.to_numpy(), weights @ counts.to_numpy())
    named = dict(zip(sums.columns, means.T, strict=True))
    p, qrs = enrichment_column("P"), enrichment_column("QRS")
    if branch in OWN_WAVE and {p, qrs} <= named.keys():
        named[SPECIFICITY] = domain_specificity(named[p], named[qrs], branch)
    return named

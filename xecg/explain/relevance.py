"""Where relevance lies on an ECG: a row a window, a column each of ``STATISTICS``."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError, DataError
from xecg.metrics.bootstrap import FloatArray, divide
from xecg.plugins import Registry
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T, codes_around_r_peaks

WAVES = ("P", "QRS", "ST-T", "other")
WAVE_CODES = (P, QRS, T, OTHER)  # in the order of WAVES
CLASSES = ("non-AF", "AF")
OWN_WAVE: Mapping[str, str] = {"morphology": "P", "rhythm": "QRS"}  # of a branch's domain
FEWEST_BEATS = 4  # R peaks of a window whose waves are measured, as in the published tables
SPECIFICITY = "domain_specificity"
_ROUNDING = 1e-4  # of a map's largest value: what single precision may leave below zero


def slug(title: str) -> str:
    """Returns a title as part of a name: ``ST-T`` becomes ``st_t``."""
    return re.sub(r"\W+", "_", title.lower())


def enrichment_column(wave: str) -> str:
    """Returns the name of the column with a wave's enrichment."""
    return f"enrichment_{slug(wave)}"


def wave_title(wave: str, rhythm: str) -> str:
    """Returns a column's title: in AF there is no P wave, only the place where it would be."""
    return "where P would be" if wave == "P" and rhythm == "AF" else wave


@dataclass(frozen=True, eq=False)
class Maps:
    """Relevance maps of ``n`` windows, and what is known of the windows."""

    relevance: NDArray[np.floating]  # (n, time), not negative
    codes: NDArray[np.uint8]  # wave codes (n, time); NOT_ANNOTATED where the wave is not known
    r_peaks: Sequence[NDArray[np.int64]]  # of each window, in samples
    sampling_rate: float  # Hz
    logits: FloatArray  # explained by each map, (n,); NaN where it is not known

    @cached_property
    def wave_sums(self) -> FloatArray:
        """Sum of the relevance in each of ``WAVES``, ``(n, 4)``."""
        return self._sums(self.relevance)

    @cached_property
    def wave_samples(self) -> FloatArray:
        """Number of samples of each of ``WAVES``, ``(n, 4)``."""
        return self._sums(np.True_)

    def _sums(self, values: Any) -> FloatArray:
        parts = [(self.codes == code) * values for code in WAVE_CODES]
        return np.stack([part.sum(axis=1, dtype=np.float64) for part in parts], axis=1)


STATISTICS: Registry[Callable[[Maps], ArrayLike]] = Registry("statistics")
"""Functions of :class:`Maps` that return a number for each map, ``(n,)``; NaN where undefined."""


def enrichment(maps: Maps, wave: str) -> FloatArray:
    """Share of the relevance in a wave / share of time in it; 1 is chance."""
    column, sums, samples = WAVES.index(wave), maps.wave_sums, maps.wave_samples
    share = divide(sums[:, column], sums.sum(axis=1))
    return divide(share, divide(samples[:, column], samples.sum(axis=1)))


def conservation(maps: Maps) -> FloatArray:
    """Sum of the map / the logit that it explains; NaN where that is not positive or known."""
    explained = np.where(maps.logits > 0, maps.logits, np.nan)
    return divide(maps.relevance.sum(axis=1, dtype=np.float64), explained)


for _wave in WAVES:
    STATISTICS.register(enrichment_column(_wave), partial(enrichment, wave=_wave))
STATISTICS.register("conservation", conservation)


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
    """Measures relevance maps wave by wave: a row a window, a float64 column a statistic.

    A row is NaN in all columns if its window has too few R peaks, no annotated sample, or a map
    that is not finite or zero everywhere: the mean of a column is that of the measured windows.

    Args:
        relevance: ``(n, time)`` or ``(n, 1, time)``, not negative.
        r_peaks: R peaks of each window, in samples of the window.
        sampling_rate: Sampling rate of the maps, in Hz.
        waves: True wave codes, uint8 ``(n, time)``; samples that are ``NOT_ANNOTATED`` do not
            count. None takes windows relative to the R peaks.
        logits: Logit that each map explains, ``(n,)``; without it conservation is NaN.
        min_beats: Fewest R peaks of a window that is measured.
        statistics: Names in ``STATISTICS``, or class paths; None computes all that have a name.

    Raises DataError if shapes disagree, relevance is negative, a wave code is unknown, an R peak
    lies outside its window, or a statistic does not return a number for each window; ConfigError if
    no statistic has such a name.
    """
    rows = np.asarray(relevance)
    rows = rows[:, 0] if rows.ndim == 3 and rows.shape[1] == 1 else rows
    _expect(
        rows.ndim == 2 and 0 not in rows.shape and np.issubdtype(rows.dtype, np.floating),
        f"relevance (n, time) or (n, 1, time) of floats, found {rows.shape} of {rows.dtype}",
    )
    lowest = rows.min(axis=1)
    for row in np.flatnonzero(lowest < -_ROUNDING * np.abs(rows).max(axis=1)):
        found = f"found {lowest[row]:.3g} in window {row}; take its absolute value first"
        raise DataError(f"expected relevance that is not negative, {found}")
    n, (peaks, codes) = len(rows), checked_waves(r_peaks, sampling_rate, waves, rows.shape)
    explained = np.full(n, np.nan) if logits is None else np.asarray(logits, dtype=np.float64)
    _expect(explained.shape == (n,), f"a logit for each of {n} maps, found {explained.shape}")
    finite = np.isfinite(rows).all(axis=1)
    maps = Maps(np.where(finite[:, None], rows, 0), codes, peaks, sampling_rate, explained)
    table = pd.DataFrame()
    for name in STATISTICS if statistics is None else statistics:
        column = np.asarray(STATISTICS[name](maps), dtype=np.float64)
        _expect(column.shape == (n,), f"{n} numbers of {name}, found {column.shape}")
        table[name.rpartition(".")[2]] = column
    enough = np.array([window.size >= min_beats for window in peaks], dtype=np.bool_)
    table.loc[~(finite & enough & (maps.wave_sums.sum(axis=1) > 0))] = np.nan
    return table


def checked_waves(
    r_peaks: Sequence[ArrayLike], rate: float, waves: ArrayLike | None, shape: tuple[int, ...]
) -> tuple[list[NDArray[np.int64]], NDArray[np.uint8]]:
    """Returns R peaks of each window and wave codes of ``shape``, (n, time).

    The arguments are those of :func:`wave_relevance`. Raises DataError if they do not fit.
    """
    n, time = shape
    _expect(rate > 0, f"a positive sampling rate in Hz, found {rate}")
    peaks = [np.asarray(window, dtype=np.int64).reshape(-1) for window in r_peaks]
    _expect(len(peaks) == n, f"R peaks of {n} windows, found {len(peaks)}")
    for row, window in enumerate(peaks):
        outside = ", ".join(map(str, window[(window < 0) | (window >= time)][:5]))
        _expect(not outside, f"R peaks from 0 to {time - 1}, found {outside} in window {row}")
    around = (codes_around_r_peaks(window, time, rate) for window in peaks)
    codes = np.array([*around]) if waves is None else np.asarray(waves)
    unknown = np.setdiff1d(codes, (*WAVE_CODES, NOT_ANNOTATED))[:5]
    _expect(
        codes.shape == shape and codes.dtype == np.uint8 and not unknown.size,
        f"wave codes 0 to 3 or {NOT_ANNOTATED}, uint8 {shape}, found {codes.shape} of "
        f"{codes.dtype} with codes {unknown} beside them",
    )
    return peaks, codes


def _expect(fits: bool, wanted: str) -> None:
    if not fits:
        raise DataError(f"expected {wanted}")


def domain_specificity(
    enrichment_p: ArrayLike, enrichment_qrs: ArrayLike, branch: str
) -> FloatArray:
    """Returns ``log2(own / other)`` of mean enrichments, own being the wave of a branch's domain.

    That is P over QRS for the morphology branch, QRS over P for the rhythm branch. 0 is no
    preference, NaN where one is not positive. Raises ConfigError for any other branch.
    """
    if branch not in OWN_WAVE:
        raise ConfigError(f"expected a branch of {', '.join(OWN_WAVE)}, found {branch!r}")
    p, qrs = np.asarray(enrichment_p, np.float64), np.asarray(enrichment_qrs, np.float64)
    own, other = (p, qrs) if OWN_WAVE[branch] == "P" else (qrs, p)
    return np.log2(divide(np.where((own > 0) & (other > 0), own, np.nan), other))

"""Where in the heartbeat a branch finds its evidence, window by window, measured against chance.

The enrichment of a wave is its share of the relevance divided by its share of the time: 1 is what
relevance spread evenly would give. The waves are windows relative to the R peaks, or true masks
where a database has them. In atrial fibrillation there is no P wave; what is measured under "P"
is then the place where it would be, and :func:`xecg.explain.summary.wave_title` says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xecg.errors import DataError
from xecg.explain.wave_measures import (
    WAVE_CODES,
    WAVES,
    FloatArray,
    conservation,
    gini,
    pointing_at_r_peaks,
    ratio,
    wave_sums,
)
from xecg.signal.waves import NOT_ANNOTATED, codes_around_r_peaks

MIN_BEATS = 4

_ROUNDING = 1e-4  # of a map's largest value: what single precision may leave below zero


@dataclass(frozen=True)
class RelevanceStatistics:
    """Measures of ``n`` relevance maps; NaN where a measure is undefined.

    Args:
        share: For each wave, its share of the relevance, ``(n,)``; the four sum to 1.
        mean: For each wave, the mean relevance of its samples, ``(n,)``, in units of the logit.
        enrichment: For each wave, share of relevance / share of time, ``(n,)``; 1 is chance.
        pointing: 1 where the most relevant sample lies within 50 ms of an R peak, else 0, ``(n,)``.
        pointing_chance: Share of the window that lies within 50 ms of an R peak, ``(n,)``.
        gini: Gini coefficient of the relevance over samples, ``(n,)``: 0 where it is spread evenly,
            towards 1 where it is on a single sample.
        conservation: Sum of the relevance / logit where the logit is positive, ``(n,)``.
        n_beats: Number of R peaks, ``(n,)``.
        valid: Windows whose waves were measured, ``(n,)``.
        left_out: Number of the other windows by reason.
    """

    share: Mapping[str, FloatArray]
    mean: Mapping[str, FloatArray]
    enrichment: Mapping[str, FloatArray]
    pointing: FloatArray
    pointing_chance: FloatArray
    gini: FloatArray
    conservation: FloatArray
    n_beats: NDArray[np.int64]
    valid: NDArray[np.bool_]
    left_out: Mapping[str, int]

    def __len__(self) -> int:
        return self.valid.size


def relevance_statistics(
    relevance: ArrayLike,
    r_peaks: Sequence[ArrayLike],
    sampling_rate: float,
    waves: ArrayLike | None = None,
    *,
    logits: ArrayLike | None = None,
    min_beats: int = MIN_BEATS,
) -> RelevanceStatistics:
    """Measure relevance maps wave by wave.

    Args:
        relevance: ``(n, time)`` or ``(n, 1, time)``, not negative, as deep Taylor relevance is.
        r_peaks: R peaks of each window, in samples of the window.
        sampling_rate: Of the maps, in Hz.
        waves: True wave codes ``(n, time)``; samples that are ``NOT_ANNOTATED`` count neither as
            relevance nor as time. None takes windows relative to the R peaks.
        logits: Logit that each map explains, ``(n,)``; without it conservation is NaN.
        min_beats: With fewer R peaks a window's waves are not measured.

    Returns:
        The measures, in the order of the maps.

    Raises:
        DataError: Shapes disagree, the sampling rate is not positive, relevance is negative, a
            wave code is unknown, or an R peak lies outside its window.
    """
    if not sampling_rate > 0:
        raise DataError(f"Expected a positive sampling rate in Hz, found {sampling_rate}.")
    maps = _maps(relevance)
    peaks = _peaks(r_peaks, maps.shape)
    finite = np.isfinite(maps).all(axis=1)
    maps = np.where(finite[:, None], maps, 0)
    sums, samples = wave_sums(maps, _codes(peaks, sampling_rate, waves, maps.shape))
    share = ratio(sums, sums.sum(axis=1, keepdims=True))
    time_share = ratio(samples, samples.sum(axis=1, keepdims=True))
    n_beats = np.array([window.size for window in peaks], dtype=np.int64)
    reasons = {
        "not finite": ~finite,
        "nothing annotated": samples.sum(axis=1) == 0,
        "no relevance": sums.sum(axis=1) <= 0,
        f"fewer than {min_beats} beats": n_beats < min_beats,
    }
    valid, left_out = _count_left_out(reasons)
    pointing, chance = pointing_at_r_peaks(maps, peaks, sampling_rate)
    return RelevanceStatistics(
        share=_by_wave(share, valid),
        mean=_by_wave(ratio(sums, samples), valid),
        enrichment=_by_wave(ratio(share, time_share), valid),
        pointing=np.where(valid, pointing, np.nan),
        pointing_chance=np.where(valid, chance, np.nan),
        gini=gini(maps),
        conservation=np.where(finite, conservation(maps, _logits(logits, len(maps))), np.nan),
        n_beats=n_beats,
        valid=valid,
        left_out=left_out,
    )


def _maps(relevance: ArrayLike) -> NDArray[np.floating]:
    maps = np.asarray(relevance)
    if maps.ndim == 3 and maps.shape[1] == 1:
        maps = maps[:, 0]
    if maps.ndim != 2 or maps.shape[1] == 0:
        raise DataError(f"Expected relevance (n, time) or (n, 1, time), found shape {maps.shape}.")
    if not np.issubdtype(maps.dtype, np.floating):
        raise DataError(f"Expected relevance as floating-point numbers, found {maps.dtype}.")
    lowest = maps.min(axis=1)
    negative = np.flatnonzero(lowest < -_ROUNDING * np.abs(maps).max(axis=1))
    if negative.size:
        raise DataError(
            f"Expected relevance that is not negative, found {lowest[negative[0]]:.3g} in window "
            f"{negative[0]} ({negative.size} of {len(maps)} windows). Shares of signed relevance "
            "are undefined: take its positive part or its absolute value first."
        )
    return maps


def _peaks(r_peaks: Sequence[ArrayLike], shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    n, time = shape
    if len(r_peaks) != n:
        raise DataError(f"Expected R peaks of {n} windows, found {len(r_peaks)}.")
    peaks = [np.asarray(window, dtype=np.int64).reshape(-1) for window in r_peaks]
    for row, window in enumerate(peaks):
        if window.size and not 0 <= window.min() <= window.max() < time:
            raise DataError(
                f"Expected R peaks in samples of the window, 0 to {time - 1}, found "
                f"{window.min()} to {window.max()} in window {row}."
            )
    return peaks


def _codes(
    peaks: list[NDArray[np.int64]],
    sampling_rate: float,
    waves: ArrayLike | None,
    shape: tuple[int, ...],
) -> Iterator[NDArray[np.uint8]]:
    """Wave codes of one window after the other."""
    if waves is None:
        return (codes_around_r_peaks(window, shape[1], sampling_rate) for window in peaks)
    codes = np.asarray(waves)
    if codes.shape != shape or codes.dtype != np.uint8:
        raise DataError(
            f"Expected wave codes {shape} of uint8, found {codes.shape} of {codes.dtype}."
        )
    if unknown := set(np.unique(codes).tolist()) - {*WAVE_CODES, NOT_ANNOTATED}:
        raise DataError(
            f"Expected wave codes {sorted(WAVE_CODES)} or {NOT_ANNOTATED}, found {unknown}."
        )
    return iter(codes)


def _logits(logits: ArrayLike | None, n: int) -> FloatArray:
    if logits is None:
        return np.full(n, np.nan)
    explained = np.asarray(logits, dtype=np.float64)
    if explained.shape != (n,):
        raise DataError(f"Expected one logit for each of {n} maps, found shape {explained.shape}.")
    return explained


def _count_left_out(
    reasons: Mapping[str, NDArray[np.bool_]],
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Which windows remain, and how many were left out, each under its first reason."""
    remain = np.ones_like(next(iter(reasons.values())))
    left_out = {}
    for reason, windows in reasons.items():
        if count := int((remain & windows).sum()):
            left_out[reason] = count
        remain &= ~windows
    return remain, left_out


def _by_wave(columns: FloatArray, valid: NDArray[np.bool_]) -> dict[str, FloatArray]:
    known = np.where(valid[:, None], columns, np.nan)
    return {wave: known[:, column] for column, wave in enumerate(WAVES)}

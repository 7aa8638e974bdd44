"""Relevance statistics summed up over windows: by class and by correctness, with intervals.

Values are means over windows, so that every window counts alike; intervals resample whole persons
or records. Where there is one window per record, a mean is the mean over records.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError, DataError
from xecg.markdown import markdown_table
from xecg.metrics.bootstrap import FloatArray, Interval, divide, intervals
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, P, T, codes_around_r_peaks

WAVES = ("P", "QRS", "ST-T", "other")
WAVE_CODES = (P, QRS, T, OTHER)  # in the order of WAVES
POINTING_TOLERANCE_MS = 50.0  # the half-width of the QRS window


def wave_sums(
    maps: NDArray[np.floating], codes: Iterable[NDArray[np.uint8]]
) -> tuple[FloatArray, FloatArray]:
    """Add up the relevance and the samples of each wave.

    Args:
        maps: Relevance, ``(n, time)``.
        codes: Wave codes ``(time,)`` of one map after the other.

    Returns:
        Relevance and number of samples in the order of ``WAVES``, both ``(n, 4)``.
    """
    sums = np.empty((len(maps), len(WAVES)))
    samples = np.empty_like(sums)
    columns = list(WAVE_CODES)
    for row, window in enumerate(codes):
        sums[row] = np.bincount(window, maps[row], minlength=NOT_ANNOTATED + 1)[columns]
        samples[row] = np.bincount(window, minlength=NOT_ANNOTATED + 1)[columns]
    return sums, samples


def gini(values: ArrayLike) -> FloatArray:
    """Gini coefficient of each row of ``(n, time)``; NaN where a row sums to nothing.

    0 for values that are all equal, towards 1 for a single value that is not zero (Hurley and
    Rickard 2009, doi 10.1109/TIT.2009.2027527).
    """
    rows = np.sort(np.asarray(values), axis=1)
    time = rows.shape[1]
    ranks = np.arange(1, time + 1, dtype=np.float64)
    total = rows.sum(axis=1, dtype=np.float64)
    weighted = np.einsum("ij,j->i", rows, ranks)  # casts in small pieces, a matmul all at once
    coefficients: FloatArray = ratio(2 * weighted, time * total) - (time + 1) / time
    return coefficients


def pointing_at_r_peaks(
    maps: NDArray[np.floating], peaks: Sequence[NDArray[np.int64]], sampling_rate: float
) -> tuple[FloatArray, FloatArray]:
    """Pointing game (Zhang et al. 2018, doi 10.1007/s11263-017-1059-x) played on R peaks.

    Args:
        maps: Relevance, ``(n, time)``.
        peaks: R peaks of each map, in samples.
        sampling_rate: In Hz.

    Returns:
        1 where the largest relevance lies within ``POINTING_TOLERANCE_MS`` of an R peak and 0
        elsewhere, ``(n,)``; and the share of the samples that do, which is chance, ``(n,)``.
    """
    tolerance = int(POINTING_TOLERANCE_MS * sampling_rate / 1000)
    reach = np.arange(-tolerance, tolerance + 1)
    pointing, chance = np.zeros(len(maps)), np.zeros(len(maps))
    near = np.empty(maps.shape[1], dtype=np.bool_)
    for row, top in enumerate(maps.argmax(axis=1)):
        near[:] = False
        near[np.clip(peaks[row][:, None] + reach, 0, near.size - 1)] = True
        pointing[row], chance[row] = near[top], near.mean()
    return pointing, chance


def conservation(maps: NDArray[np.floating], logits: ArrayLike) -> FloatArray:
    """Sum of each map / the logit that it explains, ``(n,)``; NaN where that is not positive."""
    return ratio(maps.sum(axis=1, dtype=np.float64), np.asarray(logits, dtype=np.float64))


def domain_specificity(
    enrichment_p: ArrayLike, enrichment_qrs: ArrayLike, branch: str
) -> FloatArray:
    """Say in one number whether a branch looks at the wave of its own domain.

    ``log2(own / other)``: of the morphology branch the P wave over the QRS complex, of the rhythm
    branch the QRS complex over the P wave. 0 is no preference, 1 twice the other's enrichment.
    Give it mean enrichments: in a single window one of the two may be zero.

    Args:
        enrichment_p: Enrichment of the P wave, any shape.
        enrichment_qrs: Enrichment of the QRS complex, the same shape.
        branch: ``"morphology"`` or ``"rhythm"``.

    Returns:
        The number, of the same shape; NaN where an enrichment is not positive.

    Raises:
        ConfigError: Another branch, which has no wave of its own.
    """
    if branch not in ("morphology", "rhythm"):
        raise ConfigError(f"Expected the branch 'morphology' or 'rhythm', found {branch!r}.")
    p = np.asarray(enrichment_p, dtype=np.float64)
    qrs = np.asarray(enrichment_qrs, dtype=np.float64)
    own, other = (p, qrs) if branch == "morphology" else (qrs, p)
    preference = ratio(own, other)
    specificity: FloatArray = np.log2(
        preference, out=np.full(preference.shape, np.nan), where=preference > 0
    )
    return specificity


def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
    """Divide, with NaN where the denominator is not positive."""
    quotient = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), np.nan)
    np.divide(numerator, denominator, out=quotient, where=denominator > 0)
    return quotient


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


CLASSES = ("non-AF", "AF")
BRANCHES = ("morphology", "rhythm")

_SPECIFICITY = "domain specificity"
_OF_WAVES = ("share", "mean", "enrichment")
_SCALARS = ("pointing", "pointing_chance", "gini", "conservation")


@dataclass(frozen=True)
class SummaryRow:
    """One mean over the windows of one class and one kind of prediction.

    Args:
        branch: Name of the branch.
        rhythm: ``"non-AF"`` or ``"AF"``.
        prediction: ``"right"``, ``"wrong"``, or ``"all"`` where correctness was not given.
        measure: A field of :class:`RelevanceStatistics`, or ``"domain specificity"``, which is
            computed from the mean enrichments.
        wave: One of ``WAVES``; empty where the measure is not one of a wave.
        value: The mean; NaN where no window has a value.
        low: Lower end of its interval.
        high: Upper end.
        n_windows: Windows that have a value.
        n_groups: Persons or records that they come from.
    """

    branch: str
    rhythm: str
    prediction: str
    measure: str
    wave: str
    value: float
    low: float
    high: float
    n_windows: int
    n_groups: int


def wave_title(wave: str, rhythm: str) -> str:
    """Title of a wave's column: in AF there is no P wave, only the place where it would be."""
    return "where P would be" if wave == "P" and rhythm == "AF" else wave


def summarize(
    statistics: RelevanceStatistics,
    classes: ArrayLike,
    correct: ArrayLike | None,
    groups: ArrayLike,
    *,
    branch: str,
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> list[SummaryRow]:
    """Sum up the maps of one branch.

    Args:
        statistics: Of ``n`` maps.
        classes: Class of each window, ``(n,)``: 0 non-AF, 1 AF. The true one where it is known,
            since it says whether there is a P wave; negative leaves the window out.
        correct: Whether the branch's prediction was right, ``(n,)``; None: not known.
        groups: Person or record of each window, ``(n,)``.
        branch: Name of the branch.
        n_resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.
        confidence: Coverage of the intervals.

    Returns:
        Rows by class, then right before wrong, then measure; a class or kind of prediction
        without a measured window has none.

    Raises:
        DataError: The lengths disagree, or there is another class.
    """
    rhythm = _column(classes, "classes", len(statistics))
    if (unknown := rhythm >= len(CLASSES)).any():
        raise DataError(f"Expected classes 0, 1 or negative, found {rhythm[unknown][0]}.")
    names = _column(groups, "groups", len(statistics))
    measures = _measures(statistics)
    rows: list[SummaryRow] = []
    for code, title in enumerate(CLASSES):
        for prediction, kind in _predictions(correct, len(statistics)):
            chosen = np.flatnonzero(statistics.valid & (rhythm == code) & kind)
            if not chosen.size:
                continue
            values = np.stack([column[chosen] for column in measures.values()], axis=1)
            means = _Means(list(measures), values, names[chosen], branch)
            found = intervals(
                means, means.groups, n_resamples=n_resamples, seed=seed, confidence=confidence
            )
            rows += means.rows(found, title, prediction)
    return rows


def summary_table(rows: Sequence[SummaryRow]) -> str:
    """Enrichments as a Markdown table, a line for each branch, class and kind of prediction."""
    head = ["branch", "class", "prediction", "windows", "groups", *WAVES, _SPECIFICITY]
    head[head.index("P")] = f"P (AF: {wave_title('P', 'AF')})"
    lines = [head]
    for key in dict.fromkeys((row.branch, row.rhythm, row.prediction) for row in rows):
        cells = {
            row.wave or row.measure: row
            for row in rows
            if (row.branch, row.rhythm, row.prediction) == key
            and row.measure in ("enrichment", _SPECIFICITY)
        }
        counts = [str(cells["other"].n_windows), str(cells["other"].n_groups)]
        shown = [_cell(cells.get(name)) for name in (*WAVES, _SPECIFICITY)]
        lines.append([*key, *counts, *shown])
    return markdown_table(lines)


class _Means:
    """Means over windows as a function of group weights, for the bootstrap.

    Sums are taken per group first: a resample then costs as much as there are groups.
    """

    def __init__(
        self,
        keys: list[tuple[str, str]],
        values: FloatArray,
        names: NDArray[Any],
        branch: str,
    ) -> None:
        self.keys, self.branch = keys, branch
        unique, codes = np.unique(names, return_inverse=True)
        self.groups = np.arange(unique.size)
        present = ~np.isnan(values)
        self.counts = np.zeros((unique.size, len(keys)))
        self.sums = np.zeros_like(self.counts)
        np.add.at(self.counts, codes, present)
        np.add.at(self.sums, codes, np.where(present, values, 0.0))

    def __call__(self, weights: FloatArray) -> dict[str, FloatArray]:
        means = divide(weights @ self.sums, weights @ self.counts)
        named = {"/".join(key): column for key, column in zip(self.keys, means.T, strict=True)}
        if self.branch in BRANCHES:
            named[_SPECIFICITY] = domain_specificity(
                named["enrichment/P"], named["enrichment/QRS"], self.branch
            )
        return named

    def rows(
        self, found: dict[str, Interval], rhythm: str, prediction: str
    ) -> Iterator[SummaryRow]:
        for name, interval in found.items():
            measure, _, wave = name.partition("/")
            key = ("enrichment", "P") if measure == _SPECIFICITY else (measure, wave)
            present = self.counts[:, self.keys.index(key)]
            yield SummaryRow(
                branch=self.branch,
                rhythm=rhythm,
                prediction=prediction,
                measure=measure,
                wave=wave,
                value=interval.value,
                low=interval.low,
                high=interval.high,
                n_windows=int(present.sum()),
                n_groups=int(np.count_nonzero(present)),
            )


def _measures(statistics: RelevanceStatistics) -> dict[tuple[str, str], FloatArray]:
    """Columns to average, by measure and wave."""
    of_waves = {
        (measure, wave): getattr(statistics, measure)[wave]
        for measure in _OF_WAVES
        for wave in WAVES
    }
    return of_waves | {(measure, ""): getattr(statistics, measure) for measure in _SCALARS}


def _predictions(correct: ArrayLike | None, n: int) -> list[tuple[str, NDArray[np.bool_]]]:
    if correct is None:
        return [("all", np.ones(n, dtype=np.bool_))]
    right = _column(correct, "correct", n).astype(np.bool_)
    return [("right", right), ("wrong", ~right)]


def _column(values: ArrayLike, name: str, n: int) -> NDArray[Any]:
    column = np.asarray(values)
    if column.shape != (n,):
        raise DataError(f"Expected {name} of {n} windows, found shape {column.shape}.")
    return column


def _cell(row: SummaryRow | None) -> str:
    """A mean with its interval; a dash where there is none."""
    if row is None or np.isnan(row.value):
        return "-"
    return f"{row.value:.3f} [{row.low:.3f}, {row.high:.3f}]"

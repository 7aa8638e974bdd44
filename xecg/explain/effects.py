"""What a branch uses, by observation: how its decision changes when the ECG is changed."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from xecg.errors import ConfigError
from xecg.explain.attributions import BranchExplainer
from xecg.explain.relevance import (
    FEWEST_BEATS,
    WAVE_CODES,
    WAVES,
    checked_waves,
    slug,
    wave_relevance,
)
from xecg.metrics.bootstrap import FloatArray, rank_correlation
from xecg.signal.synthetic import add_f_waves
from xecg.signal.waves import NOT_ANNOTATED, OTHER, P, Stretches, equal_rr, runs_of, tp_stretches

Signals = NDArray[np.float32]  # (n, time)
FILLINGS = ("line", "baseline", "stretch")
TITLES = {slug(wave): wave for wave in WAVES} | {"rr": "equal RR", "f_waves": "f waves"}
_P_MS = 160.0  # how much of a T-P stretch is replaced where no P wave says it


def wave_effects(
    network: nn.Module | BranchExplainer,
    x: Tensor,
    r_peaks: Sequence[ArrayLike],
    sampling_rate: float,
    waves: ArrayLike | None = None,
    *,
    filling: str = "line",
    min_beats: int = FEWEST_BEATS,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Measures what each branch of a network uses: by branch, a row a window.

    The margin of a decision is the logit of the decided class minus the largest other one.
    ``effect_p`` is how much it falls when the P waves are replaced: positive where the decision
    rested on them. ``flips_p`` is 1 where another class is decided then, else 0. So are ``qrs``
    and ``st_t``; ``other``, the middle of each T-P stretch, as long as a P wave; ``rr``, RR
    intervals made equal; ``f_waves``, fibrillatory waves added. A row is NaN where the window has
    too few R peaks or no annotated sample, a column where it has no such wave, or fewer samples of
    T-P stretches than half of P waves. Raises ConfigError if there is no such filling, DataError if
    shapes disagree.

    Args:
        network: Network with branches, as of :func:`xecg.explain.attributions.branch_outputs`.
        x: Windows ``(n, 1, time)``, scaled as in training, on the network's device.
        r_peaks: R peaks of each window, in samples of the window.
        sampling_rate: Sampling rate of the windows, in Hz.
        waves: True wave codes, uint8 ``(n, time)``. None takes windows relative to the R peaks.
        filling: What replaces a wave. ``line``: straight between the samples beside it.
            ``baseline``: the line through the means of the T-P stretches, with an edge where a
            wave does not begin on it. ``stretch``: as ``line``, and added to it what varies in the
            longest T-P stretch of another of the windows, repeated. Changed windows are not scaled
            again: where QRS complexes are gone, all other waves would grow, with effects of that.
        min_beats: Fewest R peaks of a window that is measured.
        seed: Random seed of fibrillatory waves and of where stretches are from.
    """
    if filling not in FILLINGS:
        raise ConfigError(f"filling: expected one of {', '.join(FILLINGS)}, found {filling!r}")
    explainer = network if isinstance(network, BranchExplainer) else BranchExplainer(network)
    signals, rate = x.detach().float().cpu().numpy()[:, 0], sampling_rate
    peaks, codes = checked_waves(r_peaks, rate, waves, signals.shape)
    missing = np.array([len(window) < min_beats for window in peaks], np.bool_)
    missing |= (codes == NOT_ANNOTATED).all(axis=1)
    decisions = {name: _margins(logits) for name, logits in explainer.logits(x).items()}
    tables = {name: pd.DataFrame(index=range(len(x))) for name in decisions}
    for change, changed in _changes(signals, peaks, codes, rate, filling, seed):
        changed[missing] = np.nan
        after = explainer.logits(torch.from_numpy(changed).unsqueeze(1).to(x.device))
        for name, (decided, margin) in decisions.items():
            left = _margins(after[name], decided)[1]
            tables[name][f"effect_{change}"] = margin - left
            tables[name][f"flips_{change}"] = np.where(np.isnan(left), np.nan, left < 0)
    return tables


class Measured(NamedTuple):
    """What a branch makes of windows, and where it looks in them."""

    table: pd.DataFrame  # a row a window, the columns of wave_relevance and wave_effects
    logits: Tensor  # (n, classes)
    relevance: Tensor  # (n, time)


def measured(
    explainer: BranchExplainer,
    x: Tensor,
    r_peaks: Sequence[ArrayLike],
    sampling_rate: float,
    waves: ArrayLike | None = None,
    *,
    effects: bool = True,
    statistics: Sequence[str] | None = None,
) -> dict[str, Measured]:
    """Explains windows and measures, by branch, relevance per wave and, if asked for, effects.

    The arguments are those of :func:`wave_effects` and :func:`wave_relevance`.
    """
    place, found = (r_peaks, sampling_rate, waves), {}
    used = wave_effects(explainer, x, *place) if effects else {}
    for branch, explained in explainer.explain(x).items():
        logits, maps = (tensor.cpu() for tensor in explained)
        decided = logits.amax(dim=1)
        table = wave_relevance(maps, *place, logits=decided, statistics=statistics)
        found[branch] = Measured(table.join(used.get(branch, [])), logits, maps[:, 0])
    return found


def agreement(table: pd.DataFrame) -> Callable[[FloatArray], FloatArray]:
    """Says whether a branch uses what its maps show, in one number.

    Takes enrichments and effects of windows, a row each; waves without a column are left out.
    Returns a function of weights of the rows ``(r, n)``: Spearman's rho over waves and windows
    between enrichment, which is the density of relevance, and effect, ``(r,)``.
    """
    density, effect = (
        table.reindex(columns=[f"{kind}_{slug(wave)}" for wave in WAVES]).to_numpy(float).T.ravel()
        for kind in ("enrichment", "effect")
    )
    known = np.isfinite(density + effect)
    rows = np.tile(np.arange(len(table)), len(WAVES))[known]
    return lambda weights: rank_correlation(density[known], effect[known], weights[:, rows])


def _margins(logits: Tensor, decided: Tensor | None = None) -> tuple[Tensor, FloatArray]:
    """Class that is decided, and its margin; the other logit of a single one is 0."""
    logits = logits.double().cpu()
    if logits.shape[1] == 1:
        logits = torch.nn.functional.pad(logits, (1, 0))
    decided = logits.argmax(dim=1, keepdim=True) if decided is None else decided
    others = logits.scatter(1, decided, -torch.inf).amax(dim=1)
    return decided, (logits.gather(1, decided)[:, 0] - others).numpy()


def _changes(
    signals: Signals, peaks: list[Any], codes: NDArray[Any], rate: float, filling: str, seed: int
) -> Iterator[tuple[str, Signals]]:
    """Yields changed windows ``(n, time)``; NaN where there is nothing to replace."""
    stretches = [tp_stretches(row) for row in codes]
    for wave, code in zip(WAVES, WAVE_CODES, strict=True):
        gone = codes == code
        if code == OTHER:
            gone = np.array([_middles(*of, rate) for of in zip(codes, stretches, strict=True)])
        changed = bridged(signals, gone)
        for row, lost in enumerate(gone if filling != "line" else ()):
            if filling == "baseline":
                changed[row, lost] = _baseline(signals[row], stretches[row])[lost]
            else:
                other = _varying(signals, stretches, row, seed)
                for start, stop in runs_of(lost):
                    changed[row, start:stop] += _level(np.resize(other, stop - start))
        changed[~gone.any(axis=1)] = np.nan
        yield slug(wave), changed
    both = [*zip(signals, peaks, strict=True)]
    yield "rr", np.array([equal_rr(*window, rate) for window in both])
    yield "f_waves", np.array([add_f_waves(*window, rate, seed) for window in both])


def bridged(signals: Signals, replaced: NDArray[np.bool_]) -> Signals:
    """Replaces samples of signals ``(..., time)`` by straight lines between those that are kept.

    Beyond the first and the last it is constant; where none is kept, it is the mean.
    """
    filled = np.ascontiguousarray(np.where(replaced, np.float32(0), signals))
    rows = zip(*(a.reshape(-1, a.shape[-1]) for a in (filled, signals, replaced)), strict=True)
    for row, signal, gone in rows:
        kept = np.flatnonzero(~gone)
        known = signal[kept] if kept.size else signal.mean(keepdims=True)
        row[gone] = np.interp(np.flatnonzero(gone), kept if kept.size else [0], known)
    return filled


def _middles(codes: NDArray[np.uint8], stretches: Stretches, rate: float) -> NDArray[np.bool_]:
    """The middle of each stretch, as long as a P wave; nothing if that is too little."""
    lengths = [stop - start for start, stop in runs_of(codes == P)]
    length = round(np.mean(lengths)) if lengths else round(_P_MS * rate / 1000)
    chosen = np.zeros(len(codes), np.bool_)
    for start, stop in stretches:
        first = start + max(0, stop - start - length) // 2
        chosen[first : min(stop, first + length)] = True
    enough = np.bool_(2 * chosen.sum() >= sum(lengths))
    return chosen & enough


def _baseline(signal: NDArray[np.float32], stretches: Stretches) -> FloatArray:
    """The line through the means of the stretches, ``(time,)``; NaN without any."""
    middles = [(start + stop - 1) / 2 for start, stop in stretches] or [0.0]
    means = [float(signal[start:stop].mean()) for start, stop in stretches] or [np.nan]
    return np.interp(np.arange(len(signal)), middles, means)


def _varying(signals: Signals, stretches: Sequence[Stretches], row: int, seed: int) -> Signals:
    """The longest stretch of another window, level; NaN if none has one."""
    others = [other for other, found in enumerate(stretches) if found and other != row]
    if not others:
        return np.array([np.nan])
    other = int(np.random.default_rng([seed, row]).choice(others))
    start, stop = max(stretches[other], key=lambda run: run[1] - run[0])
    return _level(signals[other, start:stop])


def _level(samples: NDArray[Any]) -> NDArray[Any]:
    return samples - np.linspace(samples[0], samples[-1], len(samples))

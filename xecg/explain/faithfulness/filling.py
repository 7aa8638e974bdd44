"""What stands in place of samples that are taken away.

Each filling makes a signal that nobody recorded, and which maps look faithful depends on it: so
there are two. *Interpolation* bridges a gap in a straight line, which takes a wave away and adds
no edge. *Zero* is, in a min-max scaled window, the lowest value of that window (in most leads the
deepest S wave or trough of the baseline, not the isoelectric line): each gap becomes a pit with
two edges.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Filling = Callable[[Floats, NDArray[np.bool_]], Floats]


def interpolate(signals: Floats, replaced: NDArray[np.bool_]) -> Floats:
    """Replace samples by straight lines between their kept neighbours.

    At the ends of a window its first or last kept sample is held; where nothing is kept, the
    window's mean stands.

    Args:
        signals: ``(..., time)``.
        replaced: Which samples go, ``(..., time)``.

    Returns:
        ``(..., time)``.
    """
    time = signals.shape[-1]
    samples = np.arange(time)
    before = np.maximum.accumulate(np.where(replaced, -1, samples), axis=-1)
    after = np.minimum.accumulate(np.where(replaced, time, samples)[..., ::-1], axis=-1)[..., ::-1]
    left, right = _kept(signals, before, after), _kept(signals, after, before)
    weight = np.clip((samples - before) / np.maximum(after - before, 1), 0, 1).astype(np.float32)
    bridged = left + (right - left) * weight
    nothing_kept = replaced.all(axis=-1, keepdims=True)
    filled: Floats = np.where(nothing_kept, signals.mean(axis=-1, keepdims=True), bridged)
    return filled


def zero(signals: Floats, replaced: NDArray[np.bool_]) -> Floats:
    """Replace samples by zero; arguments and result as of ``interpolate``."""
    return np.where(replaced, np.float32(0), signals)


FILLINGS: Mapping[str, Filling] = MappingProxyType({"interpolation": interpolate, "zero": zero})


def _kept(signals: Floats, index: NDArray[Any], otherwise: NDArray[Any]) -> Floats:
    """Samples at ``index``; where that lies outside the window, at ``otherwise``."""
    time = signals.shape[-1]
    inside = (index >= 0) & (index < time)
    chosen = np.clip(np.where(inside, index, otherwise), 0, time - 1)
    return np.take_along_axis(signals, chosen, axis=-1)

"""Waves as spans of samples, found in probabilities and in reference codes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.signal.waves import NOT_ANNOTATED, P

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class WaveSpans:
    """Waves of several windows, ordered by window and time.

    Args:
        windows: Window of each wave, ``(n,)``.
        spans: First sample and the one after the last, ``(n, 2)``.
        cut: Whether the wave touches what was not annotated or the end of its window, so that its
            onset or offset is unknown, ``(n,)``.
    """

    windows: IntArray
    spans: IntArray
    cut: BoolArray


def reference_waves(codes: NDArray[np.uint8], wave: int = P) -> WaveSpans:
    """Waves of one kind in reference codes ``(windows, time)``."""
    windows, spans = _runs(codes == wave)
    return WaveSpans(windows, spans, _touches(codes == NOT_ANNOTATED, windows, spans))


def detected_waves(
    probability: NDArray[np.float32], threshold: float, merge_gap: float, min_duration: float
) -> tuple[IntArray, IntArray]:
    """Runs of samples at or above a threshold.

    Args:
        probability: ``(windows, time)``.
        threshold: Smallest probability within a wave.
        merge_gap: Runs less than this number of samples apart become one, first.
        min_duration: Runs of fewer samples are dropped, then.

    Returns:
        Window of each wave ``(n,)``; first sample and the one after the last, ``(n, 2)``.
    """
    windows, spans = _runs(probability >= threshold)
    apart = (np.diff(windows) != 0) | (spans[1:, 0] - spans[:-1, 1] >= merge_gap)
    first, last = np.r_[True, apart][: len(spans)], np.r_[apart, True][: len(spans)]
    windows, spans = windows[first], np.stack([spans[first, 0], spans[last, 1]], axis=1)
    long_enough = spans[:, 1] - spans[:, 0] >= min_duration
    return windows[long_enough], spans[long_enough]


def mark_cut(
    windows: IntArray, spans: IntArray, codes: NDArray[np.uint8], reference: WaveSpans
) -> WaveSpans:
    """Detections, cut where they touch what a reference cannot judge.

    That is what was not annotated, the ends of the window, and reference waves that are cut.
    """
    unknown = codes == NOT_ANNOTATED
    for window, (start, stop) in zip(
        reference.windows[reference.cut], reference.spans[reference.cut], strict=True
    ):
        unknown[window, start:stop] = True
    return WaveSpans(windows, spans, _touches(unknown, windows, spans))


def _runs(inside: BoolArray) -> tuple[IntArray, IntArray]:
    """Window ``(n,)`` and span ``(n, 2)`` of each run of true samples."""
    padded = np.zeros((inside.shape[0], inside.shape[1] + 1), dtype=np.int8)
    padded[:, :-1] = inside  # one false sample keeps the runs of two windows apart
    edges = np.flatnonzero(np.diff(padded.ravel(), prepend=np.int8(0)))
    windows, samples = np.divmod(edges.reshape(-1, 2), padded.shape[1])
    return windows[:, 0], samples


def _touches(unknown: BoolArray, windows: IntArray, spans: IntArray) -> BoolArray:
    """Whether a span contains or adjoins an unknown sample; there is one beyond either end."""
    padded = np.pad(unknown, ((0, 0), (1, 1)), constant_values=True)
    before = np.zeros((padded.shape[0], padded.shape[1] + 1), dtype=np.int32)
    np.cumsum(padded, axis=1, out=before[:, 1:])
    touched: BoolArray = before[windows, spans[:, 1] + 2] > before[windows, spans[:, 0]]
    return touched

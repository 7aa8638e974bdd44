"""What is known about a window: its rhythm, its heartbeats, whether all of them are sinus beats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import LEFT_OUT, LabelledRecording, RhythmSpan
from xecg.data.databases.wfdb_labels import UNLABELLED
from xecg.signal.heartbeats import detect_r_peaks

SINUS_RHYTHMS = frozenset({"N", "SBR"})
"""Sinus rhythm and sinus bradycardia, as the WFDB annotations that come with beats call them."""

SINUS_BEATS = frozenset("NLRB")
"""Beats that the sinus node started: normal, or conducted with a bundle branch block.

An atrial (`e`) or nodal (`j`) escape beat is in the AAMI class of normal beats, but its RR
interval is not one of the sinus node: heart rate variability (Task Force 1996) leaves it out.
"""


def rhythm_between(
    spans: Sequence[RhythmSpan], start_s: float, stop_s: float, tolerance_s: float
) -> tuple[str, int]:
    """The rhythm of a window and whether it is AF.

    Args:
        spans: The spans of the record, in order of time.
        start_s: Where the window begins.
        stop_s: Where it ends.
        tolerance_s: Overlaps and gaps up to this length do not count.

    Returns:
        The label and AF (1), not AF (0) or left out (-1). One span over the whole window gives
        its own. Several give their labels joined by `+` in order of time, and their AF if they
        agree on it, else -1. A stretch that no span covers counts as one that is unlabelled.
    """
    overlaps = [
        (span, min(span.stop_s, stop_s) - max(span.start_s, start_s))
        for span in spans
        if span.start_s < stop_s and span.stop_s > start_s
    ]
    touched = [span for span, overlap in overlaps if overlap > tolerance_s]
    labels = [span.label for span in touched]
    kinds = {span.af for span in touched}
    if sum(overlap for _, overlap in overlaps) < stop_s - start_s - tolerance_s:
        labels.append(UNLABELLED)
        kinds.add(LEFT_OUT)
    return "+".join(dict.fromkeys(labels)), kinds.pop() if len(kinds) == 1 else LEFT_OUT


def heartbeats(
    labelled: LabelledRecording, signal: NDArray[np.float32]
) -> tuple[NDArray[np.float64], NDArray[np.str_]]:
    """The heartbeats of a lead: the reference where there is one, else detected.

    Args:
        labelled: The record with its labels.
        signal: `(time,)` the lead, at the recording's rate.

    Returns:
        `(beats,)` the R peaks in seconds, rising, and `(beats,)` their WFDB symbols; the symbols
        of detected beats are empty.
    """
    rate = labelled.recording.sampling_rate
    if labelled.r_peaks is None or labelled.beat_symbols is None:
        r_peaks_s = detect_r_peaks(signal, rate) / rate
        return r_peaks_s, np.zeros(len(r_peaks_s), dtype="U1")
    order = np.argsort(labelled.r_peaks, kind="stable")
    return labelled.r_peaks[order] / rate, np.asarray(labelled.beat_symbols, dtype=np.str_)[order]


def only_sinus(rhythm: str, symbols: NDArray[np.str_]) -> bool:
    """Whether a window is known to hold sinus beats in sinus rhythm and nothing else.

    Args:
        rhythm: Label of the window.
        symbols: `(beats,)` WFDB symbols of its beats.
    """
    in_sinus_rhythm = all(label in SINUS_RHYTHMS for label in rhythm.split("+"))
    return in_sinus_rhythm and len(symbols) > 0 and SINUS_BEATS.issuperset(symbols.tolist())

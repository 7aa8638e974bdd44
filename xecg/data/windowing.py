"""A record with its labels, cut into windows with theirs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xecg.data.databases.base import LEFT_OUT, LabelledRecording, RhythmSpan
from xecg.data.databases.labels import UNLABELLED
from xecg.data.store import DTYPES, Index, Leads, Ragged, index_of
from xecg.data.store import concatenate as concatenate_indices
from xecg.signal.heartbeats import detect_r_peaks, rr_measures
from xecg.signal.preprocessing import Preprocessing, Windows, cut_windows
from xecg.signal.recording import Recording
from xecg.signal.waves import NOT_ANNOTATED, resample_codes


def digest(samples: NDArray[np.float32]) -> np.uint64:
    """A 64-bit digest of samples: equal samples, equal digest.

    Two different signals out of a million share one with a probability of 3e-8; their groups
    would then be split together, which does no harm.

    Args:
        samples: `(time,)`.
    """
    hashed = hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=8)
    return np.uint64(int.from_bytes(hashed.digest(), "little"))


def merge_groups(groups: NDArray[np.str_], digests: NDArray[np.uint64]) -> NDArray[np.str_]:
    """Gives groups that share a signal, directly or by way of others, one name.

    Args:
        groups: `(windows,)` the group of each window.
        digests: `(windows,)` the digest of each window's samples.

    Returns:
        `(windows,)` the groups; joined ones bear the name that comes first in order.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    signals, signal_of = np.unique(digests, return_inverse=True)
    n_nodes = len(names) + len(signals)
    edges = (np.ones(len(groups), dtype=np.int8), (group_of, len(names) + signal_of))
    _, component = connected_components(coo_array(edges, shape=(n_nodes, n_nodes)), directed=False)
    component_of_name = component[: len(names)]
    _, first_name, joined = np.unique(component_of_name, return_index=True, return_inverse=True)
    return names[first_name[joined]][group_of]


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


@dataclass(frozen=True)
class LabelledWindows:
    """Windows with everything that a store keeps of them.

    Args:
        signals: `(windows, window_samples)` scaled.
        waves: `(annotated windows, window_samples)` wave codes; `index.wave_row` counts in here.
        index: One line per window.
        r_peaks: Per window, the R peaks in samples of the window.
        digests: `(windows,)` of the unprocessed samples, to find signals that occur twice.
        left_out: How many windows were left out, by reason.
    """

    signals: NDArray[np.float32]
    waves: NDArray[np.uint8]
    index: Index
    r_peaks: Ragged
    digests: NDArray[np.uint64]
    left_out: Counter[str] = field(default_factory=Counter)


def labelled_windows(
    labelled: LabelledRecording, preprocessing: Preprocessing, leads: Leads, stride_s: float
) -> LabelledWindows:
    """Cuts the chosen leads of a record into windows and labels each.

    Args:
        labelled: The record with its labels.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: `"preferred"`, `"all"`, or names of leads.
        stride_s: From one window's start to the next.

    Raises:
        RecordError: If a named lead is missing, or the record is shorter than a window.
    """
    chosen = choose_leads(labelled.recording, leads)
    return concatenate([_windows_of(labelled, lead, preprocessing, stride_s) for lead in chosen])


def choose_leads(recording: Recording, leads: Leads) -> list[int]:
    """Positions of the chosen leads: the preferred one, all of them, or those named."""
    if leads == "preferred":
        return [recording.choose_lead()]
    if leads == "all":
        return list(range(len(recording.leads)))
    return list(dict.fromkeys(recording.choose_lead(lead) for lead in leads))


def concatenate(parts: Sequence[LabelledWindows]) -> LabelledWindows:
    """All windows of `parts`, in their order. At least one part."""
    if len(parts) == 1:
        return parts[0]
    first_wave_row = np.cumsum([0, *(len(part.waves) for part in parts)])
    index = concatenate_indices(
        [
            part.index.shifted_waves(int(first)) if first else part.index
            for part, first in zip(parts, first_wave_row[:-1], strict=True)
        ]
    )
    return LabelledWindows(
        signals=np.concatenate([part.signals for part in parts]),
        waves=np.concatenate([part.waves for part in parts]),
        index=index,
        r_peaks=Ragged.concatenate(part.r_peaks for part in parts),
        digests=np.concatenate([part.digests for part in parts]),
        left_out=sum((part.left_out for part in parts), Counter()),
    )


def _windows_of(
    labelled: LabelledRecording, lead: int, preprocessing: Preprocessing, stride_s: float
) -> LabelledWindows:
    recording = labelled.recording
    signal = recording.samples[lead]
    cut = cut_windows(
        signal, recording.sampling_rate, preprocessing, stride_s=stride_s, record=recording.name
    )
    beats_s, symbols = heartbeats(labelled, signal)
    waves, wave_row, annotated_share = _waves_of(labelled, lead, preprocessing, cut.starts)
    columns, r_peaks = _beats_and_rhythms(labelled, beats_s, symbols, preprocessing, cut)
    person, name = labelled.person, recording.name
    columns |= {
        "record": _constant(name, cut),
        "person": _constant(person, cut),
        "group": _constant(person or name, cut),
        "source": _constant(labelled.source, cut),
        "lead": _constant(recording.leads[lead], cut),
        "wave_row": wave_row,
        "annotated_share": annotated_share,
    }
    return LabelledWindows(
        signals=cut.signals,
        waves=waves,
        index=index_of(columns),
        r_peaks=r_peaks,
        digests=_digests(signal, recording.sampling_rate, preprocessing, cut.starts),
        left_out=Counter(cut.left_out),
    )


def _beats_and_rhythms(
    labelled: LabelledRecording,
    beats_s: NDArray[np.float64],
    symbols: NDArray[np.str_],
    preprocessing: Preprocessing,
    cut: Windows,
) -> tuple[dict[str, NDArray[Any]], Ragged]:
    """The columns of rhythm and heartbeats, and the R peaks."""
    rate, window = preprocessing.sampling_rate, preprocessing.window_samples
    beats = np.rint(beats_s * rate).astype(np.int64)
    rows = []
    r_peaks = []
    for start in cut.starts.tolist():
        inside = slice(*np.searchsorted(beats, (start, start + window)))
        rhythm, af = rhythm_between(
            labelled.rhythms, start / rate, (start + window) / rate, tolerance_s=1 / rate
        )
        rr = rr_measures(beats_s[inside])
        normal = only_sinus(rhythm, symbols[inside])
        rows.append((start / rate, rhythm, af, rr.n_beats, rr.rmssd_ms, rr.sdnn_ms, normal))
        r_peaks.append((beats[inside] - start).astype(np.int32))
    names = ("start_s", "rhythm", "af", "n_beats", "rmssd_ms", "sdnn_ms", "normal_beats")
    values = list(zip(*rows, strict=True)) or [()] * len(names)
    columns: dict[str, NDArray[Any]] = {
        name: np.array(column, dtype=DTYPES[name])
        for name, column in zip(names, values, strict=True)
    }
    columns["reference_beats"] = np.full(len(rows), labelled.r_peaks is not None)
    return columns, Ragged.of(r_peaks)


def _waves_of(
    labelled: LabelledRecording,
    lead: int,
    preprocessing: Preprocessing,
    starts: NDArray[np.int64],
) -> tuple[NDArray[np.uint8], NDArray[np.int32], NDArray[np.float32]]:
    """Wave codes of the annotated windows, their row per window (or -1), the annotated share."""
    window = preprocessing.window_samples
    codes = labelled.codes.get(labelled.recording.leads[lead])
    if codes is None or not len(starts):
        nothing = np.zeros((0, window), dtype=np.uint8)
        return nothing, np.full(len(starts), -1, np.int32), np.zeros(len(starts), np.float32)
    resampled = resample_codes(
        codes,
        labelled.recording.sampling_rate,
        preprocessing.sampling_rate,
        int(starts.max()) + window,
    )
    waves = resampled[starts[:, np.newaxis] + np.arange(window)]
    share = (waves != NOT_ANNOTATED).mean(axis=1, dtype=np.float32)
    annotated = share > 0
    wave_row = np.where(annotated, np.cumsum(annotated) - 1, -1).astype(np.int32)
    return waves[annotated], wave_row, share


def _digests(
    signal: NDArray[np.float32],
    sampling_rate: float,
    preprocessing: Preprocessing,
    starts: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """Digests of the recorded samples under each window, before any filter."""
    first = np.rint(starts / preprocessing.sampling_rate * sampling_rate).astype(np.int64)
    length = round(preprocessing.window_s * sampling_rate)
    return np.array([digest(signal[i : i + length]) for i in first.tolist()], dtype=np.uint64)


def _constant(text: str, cut: Windows) -> NDArray[np.str_]:
    return np.full(len(cut.starts), text)  # dtype str_ would cut it to one letter

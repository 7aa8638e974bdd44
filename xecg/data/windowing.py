"""A record with its labels, cut into windows with theirs."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import LEFT_OUT, LabelledRecording, RhythmSpan
from xecg.data.databases.labels import UNLABELLED
from xecg.signal.preprocessing import Preprocessing, cut_windows
from xecg.signal.recording import Recording, ecg_lead
from xecg.signal.waves import NOT_ANNOTATED, detect_r_peaks, resample_codes, rr_measures

SINUS_RHYTHMS = frozenset({"N", "SBR"})  # WFDB's sinus rhythm and sinus bradycardia
# Beats that the sinus node started: normal, or with a bundle branch block. AAMI's normal class also
# has atrial (e) and nodal (j) escapes; heart rate variability (Task Force 1996) leaves them out.
SINUS_BEATS = frozenset("NLRB")


@dataclass(frozen=True)
class LabelledWindows:
    """Windows of one lead with everything that a store keeps of them."""

    signals: NDArray[np.float32]  # (windows, time), scaled
    waves: NDArray[np.uint8] | None  # (windows, time) wave codes; null where the lead has none
    rows: list[dict[str, Any]]  # of the index, one per window, and its R peaks in samples
    left_out: Mapping[str, int]  # number of windows, by reason


def labelled_windows(
    labelled: LabelledRecording,
    record: str,
    preprocessing: Preprocessing,
    leads: str | Sequence[str],
    stride_s: float,
) -> Iterator[LabelledWindows]:
    """Cuts each chosen lead of a record into labelled windows, one every ``stride_s`` seconds.

    Raises RecordError if a named lead is missing, or the record is shorter than a window.
    """
    recording, rate = labelled.recording, preprocessing.sampling_rate
    raw_rate = recording.sampling_rate
    age, sex = age_and_sex(recording.comments)
    same: dict[str, Any] = {"record": record, "person": labelled.person, "source": labelled.source}
    same |= {"reference_beats": labelled.r_peaks is not None, "age": age, "sex": sex}
    for lead in choose_leads(recording, leads):
        signal, name = recording.samples[lead], recording.leads[lead]
        cut = cut_windows(signal, raw_rate, preprocessing, stride_s=stride_s, record=record)
        beats_s, symbols = heartbeats(labelled, signal)
        beats = np.rint(beats_s * rate).astype(np.int64)
        codes, waves = labelled.codes.get(name), None
        if codes is not None and len(cut):
            places = cut.starts[:, np.newaxis] + np.arange(preprocessing.window_samples)
            waves = resample_codes(codes, raw_rate, rate, int(places.max()) + 1)[places]
        rows = []
        for number, start in enumerate(cut.starts.tolist()):
            start_s, stop = start / rate, start + preprocessing.window_samples
            inside = slice(*np.searchsorted(beats, (start, stop)))
            rhythm, af = rhythm_between(labelled.rhythms, start_s, stop / rate, 1 / rate)
            first = round(start_s * raw_rate)
            samples = signal[first : first + round(preprocessing.window_s * raw_rate)]
            coded = (
                0.0 if waves is None else (waves[number] != NOT_ANNOTATED).mean(dtype=np.float32)
            )
            row = {"lead": name, "start_s": start_s, "rhythm": rhythm, "af": af}
            row |= vars(rr_measures(beats_s[inside])) | {"annotated_share": coded}
            row |= {"digest": digest(samples), "normal_beats": only_sinus(rhythm, symbols[inside])}
            row["beat_symbols"] = "".join(sorted({*symbols[inside].tolist()}))
            row["r_peaks"] = (beats[inside] - start).astype(np.int32)
            rows.append(same | row)
        yield LabelledWindows(cut.signals, waves, rows, Counter(cut.absent.values()))


def choose_leads(recording: Recording, leads: str | Sequence[str]) -> list[int]:
    """Returns positions of the chosen leads: ``"preferred"`` (one), ``"all"`` ECGs, or names."""
    if leads == "preferred":
        return [recording.choose_lead()]
    if leads == "all":
        named = enumerate(zip(recording.leads, recording.units, strict=True))
        known = [position for position, (name, unit) in named if ecg_lead(name, unit)]
        return known or [recording.choose_lead()]
    return list(dict.fromkeys(recording.choose_lead(lead) for lead in leads))


def rhythm_between(
    spans: Sequence[RhythmSpan], start_s: float, stop_s: float, tolerance_s: float
) -> tuple[str, int]:
    """Returns the rhythm of a window and whether it is AF (1), not AF (0) or left out (-1).

    Several spans give their labels joined by ``+`` in order of time, and their AF if they agree on
    it, else -1. A stretch without a span is unlabelled. Overlaps and gaps up to ``tolerance_s`` do
    not count.
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
    """Returns R peaks in seconds, rising, and their WFDB symbols: ``(beats,)`` each.

    Without a reference they are detected in ``signal``, ``(time,)``, and their symbols are empty.
    """
    rate = labelled.recording.sampling_rate
    if labelled.r_peaks is None or labelled.beat_symbols is None:
        r_peaks_s = detect_r_peaks(signal, rate) / rate
        return r_peaks_s, np.zeros(len(r_peaks_s), dtype="U1")
    order = np.argsort(labelled.r_peaks, kind="stable")
    return labelled.r_peaks[order] / rate, np.asarray(labelled.beat_symbols, dtype=np.str_)[order]


def age_and_sex(comments: Sequence[str]) -> tuple[float, str]:
    """Returns age in years, NaN if unknown, and sex, ``F``, ``M`` or empty, as headers give them.

    That is ``Age: 61`` and ``Sex: Female``, also in angle brackets, or MIT-BIH's ``69 M``.
    """
    text = "\n".join(comments)
    age = re.search(r"(?im)^<?age>?: *(\d{1,3})(?:\.0)?$|^(\d{1,3}) [MF]\b", text)
    sex = re.search(r"(?im)^(?:<?sex>?: *|-?\d+ )([MF])(?:emale|ale)?\b", text)
    return float(age[1] or age[2]) if age else nan, sex[1].upper() if sex else ""


def only_sinus(rhythm: str, symbols: NDArray[np.str_]) -> bool:
    """Returns whether a window of a rhythm and beats is known to be sinus and nothing else."""
    in_sinus_rhythm = SINUS_RHYTHMS.issuperset(rhythm.split("+"))
    return in_sinus_rhythm and len(symbols) > 0 and SINUS_BEATS.issuperset(symbols.tolist())


def digest(samples: NDArray[np.float32]) -> np.uint64:
    """Returns a digest of samples ``(time,)``; 64 bits rarely collide (3e-8 in a million)."""
    hashed = hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=8)
    return np.uint64(int.from_bytes(hashed.digest(), "little"))

"""QT Database: two-lead ambulatory ECGs, about 30 beats each with P, QRS and T by hand."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import AF, LEFT_OUT, Database, Download, LabelledRecording, RhythmSpan
from xecg.data.databases.labels import (
    UNLABELLED,
    beats,
    p_waves_are_marked,
    rhythm_spans,
    whole_record,
)
from xecg.data.databases.mitdb import person_of as mitdb_person_of
from xecg.signal.recording import Recording
from xecg.signal.waves import BEAT_SYMBOLS, NOT_ANNOTATED, wave_codes
from xecg.signal.wfdb import Annotations, read_annotations, read_recording

# The header names the record that an excerpt was cut from. MIT-BIH Arrhythmia records have the
# numbers 100-124 and 200-234; 3xx are from the ST change, 8xx from the supraventricular database.
_CUT_FROM_MITDB = re.compile(r"from record (1[0-2]\d|2[0-3]\d)\b")

# The European ST-T Database (records e....) has 90 records of 79 people. Of the people with more
# than one, three are here twice; the headers agree in their age, sex and diagnoses.
_SAME_PERSON = {"sele0122": "sele0121", "sele0126": "sele0124", "sele0133": "sele0129"}

# Two marked beats are neighbours if they are nearer than this many typical RR intervals.
_NEIGHBOURS = 1.5


class QTDB(Database):
    """Fifteen-minute records; manual wave boundaries (`.q1c`) hold for both leads.

    Only some thirty beats of each record are marked, and in 41 records not in one run. The
    codes are `NOT_ANNOTATED` before, after and between the runs, see `unmarked_stretches`.

    On nine records P is marked on fewer than half of the beats. In sel221 because of AF: its
    codes stay. In the other eight that is no knowledge (in sel310 the P waves are plain to see):
    these get no codes, see `p_waves_are_marked`.

    Rhythm: where the reference annotations (`.atr`) name it, with the meaning it has in mitdb;
    unlabelled elsewhere. Beats: from `.atr`, which 24 records do not have.
    """

    name = "qtdb"
    title = "QT Database"
    version = "1.0.0"
    licence = "ODC-BY 1.0"
    citation = (
        "Laguna P, Mark RG, Goldberger A, Moody GB. A database for evaluation of algorithms for "
        "measurement of QT and other waveform intervals in the ECG. Computers in Cardiology "
        "24:673-676, 1997. doi:10.1109/CIC.1997.648140; "
        "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. "
        "Circulation 101(23):e215-e220, 2000. doi:10.1161/01.CIR.101.23.e215"
    )
    url = "https://physionet.org/content/qtdb/1.0.0/"
    markers: ClassVar[tuple[str, ...]] = ("sel*.q1c",)
    # 57 headers carry later signal names than the published checksums, and sel233.atr is listed
    # but not there.
    download = Download(
        ("RECORDS", "sel*.hea", "sel*.dat", "sel*.atr", "sel*.q1c"),
        unchecked=("sel*.hea",),
        withdrawn=("sel*.atr",),
    )

    def records(self) -> list[str]:
        """The records' names, sorted."""
        return sorted(path.stem for path in self.folder.glob("sel*.hea"))

    def read(self, record: str) -> LabelledRecording:
        """One record with its waves and, where they were annotated, rhythms and beats."""
        path = self.folder / record
        recording = read_recording(path)
        rhythms = whole_record(UNLABELLED, LEFT_OUT, recording.duration_s)
        r_peaks, symbols = None, None
        if path.with_suffix(".atr").is_file():
            reference = read_annotations(path, "atr")
            rhythms = rhythm_spans(reference, recording.n_samples, recording.sampling_rate)
            r_peaks, symbols = beats(reference)
        return LabelledRecording(
            recording,
            person=person_of(record, recording.comments),
            rhythms=rhythms,
            r_peaks=r_peaks,
            beat_symbols=symbols,
            codes=_codes(read_annotations(path, "q1c"), recording, rhythms),
        )


def person_of(record: str, comments: tuple[str, ...]) -> str:
    """The person of a record, named as mitdb names them where they are the same."""
    for comment in comments:
        if cut := _CUT_FROM_MITDB.search(comment):
            return mitdb_person_of(cut[1])
    return f"qtdb-{_SAME_PERSON.get(record, record)}"


def _codes(
    annotations: Annotations, recording: Recording, rhythms: tuple[RhythmSpan, ...]
) -> dict[str, NDArray[np.uint8]]:
    """The marks' codes for each lead; none where the lack of P marks says nothing."""
    in_af = any(rhythm.af == AF for rhythm in rhythms)
    if not (p_waves_are_marked(annotations) or in_af):
        return {}
    codes = wave_codes(annotations, recording.n_samples, region=None)
    for start, stop in unmarked_stretches(annotations):
        codes[start:stop] = NOT_ANNOTATED
    return dict.fromkeys(recording.leads, codes)


def unmarked_stretches(annotations: Annotations) -> list[tuple[int, int]]:
    """Stretches between the first and the last mark of which the annotator said nothing.

    Where two successive marked beats are farther apart than 1.5 typical RR intervals, beats
    between them may be unmarked; the widest step between marks there is such a stretch. A
    typical RR interval is the first quartile, for in some records every second beat is marked.
    A pause between true neighbours is lost by this rule, which does no harm.

    Returns:
        First sample and the one after the last, of each stretch.
    """
    samples, symbols = annotations.samples, annotations.symbols
    peaks = [i for i, symbol in enumerate(symbols) if symbol in BEAT_SYMBOLS]
    rr = np.diff(samples[peaks])
    limit = _NEIGHBOURS * float(np.percentile(rr, 25)) if len(rr) else 0.0
    widest = [
        beat + int(np.argmax(np.diff(samples[beat : next_beat + 1])))
        for beat, next_beat, interval in zip(peaks, peaks[1:], rr, strict=False)
        if interval > limit
    ]
    return [(int(samples[i]) + 1, int(samples[i + 1])) for i in widest]

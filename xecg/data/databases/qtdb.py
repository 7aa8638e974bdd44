"""QT Database: two-lead ambulatory ECGs, about 30 beats each with P, QRS and T by hand."""

from __future__ import annotations

import re
from typing import ClassVar

import numpy as np

from xecg.data.databases import labels
from xecg.data.databases.base import AF, LEFT_OUT, Database, Download, LabelledRecording
from xecg.data.databases.holter import SVDB
from xecg.data.databases.mitdb import MITDB
from xecg.data.databases.physionet import PHYSIONET
from xecg.signal.waves import BEAT_SYMBOLS, NOT_ANNOTATED, wave_codes
from xecg.signal.wfdb import Annotations, read_annotations, read_recording

# The header names the record that an excerpt was cut from. MIT-BIH Arrhythmia records have the
# numbers 100-124 and 200-234; 3xx are from the ST change, 8xx from the supraventricular database.
_CUT_FROM = re.compile(r"from record (1[0-2]\d|2[0-3]\d|8\d\d)\b")

# The European ST-T Database (records e....) has 90 records of 79 people. Of the people with more
# than one, three are here twice; the headers agree in their age, sex and diagnoses.
_SAME_PERSON = {"sele0122": "sele0121", "sele0126": "sele0124", "sele0133": "sele0129"}

# Two marked beats are neighbours if they are nearer than this many typical RR intervals.
_NEIGHBOURS = 1.5


class QTDB(Database):
    """Fifteen-minute records; manual wave boundaries (``.q1c``) hold for both leads.

    Only some thirty beats of each record are marked, and in 41 records not in one run. The
    codes are ``NOT_ANNOTATED`` before, after and between the runs, see ``unmarked_stretches``.

    On nine records P is marked on fewer than half of the beats. In sel221 because of AF: its
    codes stay. In the other eight that is no knowledge (in sel310 the P waves are plain to see):
    these get no codes, see ``p_waves_are_marked``.

    Rhythm: where the reference annotations (``.atr``) name it, with the meaning it has in mitdb;
    unlabelled elsewhere. Beats: from ``.atr``, which 24 records do not have.
    """

    name = "qtdb"
    title = "QT Database"
    version = "1.0.0"
    licence = "ODC-BY 1.0"
    citation = (
        "Laguna P, Mark RG, Goldberger A, Moody GB. A database for evaluation of algorithms for "
        "measurement of QT and other waveform intervals in the ECG. Computers in Cardiology "
        f"24:673-676, 1997. doi:10.1109/CIC.1997.648140; {PHYSIONET}"
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
        """Returns the records' names, sorted."""
        return sorted(path.stem for path in self.folder.glob("sel*.hea"))

    def read(self, record: str) -> LabelledRecording:
        """Reads one record with its waves and, where they were annotated, rhythms and beats."""
        path = self.folder / record
        recording = read_recording(path)
        n_samples = recording.n_samples
        rhythms = labels.whole_record(labels.UNLABELLED, LEFT_OUT, recording.duration_s)
        r_peaks, symbols = None, None
        if path.with_suffix(".atr").is_file():
            reference = read_annotations(path, "atr")
            rhythms = labels.rhythm_spans(reference, n_samples, recording.sampling_rate)
            r_peaks, symbols = labels.beats(reference)
        codes = {}
        waves = read_annotations(path, "q1c")
        if labels.p_waves_are_marked(waves) or any(rhythm.af == AF for rhythm in rhythms):
            of_both = wave_codes(waves, n_samples, region=None)
            for start, stop in unmarked_stretches(waves):
                of_both[start:stop] = NOT_ANNOTATED
            codes = dict.fromkeys(recording.leads, of_both)
        return LabelledRecording(
            recording,
            person=person_of(record, recording.comments),
            rhythms=rhythms,
            r_peaks=r_peaks,
            beat_symbols=symbols,
            codes=codes,
        )


def person_of(record: str, comments: tuple[str, ...]) -> str:
    """Returns the person of a record, named as in mitdb or svdb where it is cut from there."""
    for comment in comments:
        if cut := _CUT_FROM.search(comment):
            origin = SVDB if cut[1].startswith("8") else MITDB
            return origin.person_of(cut[1])
    return f"qtdb-{_SAME_PERSON.get(record, record)}"


def unmarked_stretches(annotations: Annotations) -> list[tuple[int, int]]:
    """Returns stretches between the first and the last mark of which the annotator said nothing.

    Where two successive marked beats are farther apart than 1.5 typical RR intervals, beats
    between them may be unmarked; the widest step between marks there is such a stretch. A
    typical RR interval is the first quartile, for in some records every second beat is marked.
    A pause between true neighbours is lost by this rule, which does no harm.

    Returns:
        First sample, and the one after the last, of each stretch.
    """
    samples = annotations.samples
    peaks = [i for i, symbol in enumerate(annotations.symbols) if symbol in BEAT_SYMBOLS]
    rr = np.diff(samples[peaks])
    typical = np.percentile(rr, 25) if len(rr) else 0.0
    stretches = []
    for i in np.flatnonzero(rr > _NEIGHBOURS * typical):
        marks = samples[peaks[i] : peaks[i + 1] + 1]
        widest = np.argmax(np.diff(marks))
        stretches.append((int(marks[widest]) + 1, int(marks[widest + 1])))
    return stretches

"""Databases of PhysioNet whose rhythms, beats or waves are annotated, or listed beside them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, LabelledRecording, RhythmSpan
from xecg.data.databases.labels import UNLABELLED, LabelTable, beats, rhythm_spans
from xecg.errors import RecordError
from xecg.signal.recording import LEADS, Recording
from xecg.signal.waves import BEAT_SYMBOLS, NOT_ANNOTATED, wave_codes
from xecg.signal.wfdb import Annotations, read_annotations, read_recording

PHYSIONET = (  # to be cited with each of its databases
    "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. "
    "Circulation 101(23):e215-e220, 2000. doi:10.1161/01.CIR.101.23.e215"
)
TABLE, MEANING = "records.csv", {"af": AF, "not_af": NOT_AF}
_NO_MARKS = Annotations(np.empty(0, np.int64), (), ())
# Rhythms in which the atria beat without P waves, and what they say about AF.
RHYTHMS_WITHOUT_P = {"Atrial fibrillation": AF, "Atrial flutter, typical": LEFT_OUT}
# The record that an excerpt was cut from, of mitdb or svdb; 3xx are of the ST change database.
_CUT_FROM = re.compile(r"from record (1[0-2]\d|2[0-3]\d|8\d\d)\b")


class PhysioNet(Database):
    """Records with or without reference annotations (``.atr``) of rhythms, of beats, or of both.

    AFIB is AF; AFL (atrial flutter) is left out of AF classification, and so is what precedes a
    record's first rhythm annotation; every other rhythm is not AF. A subclass says which files are
    the records, and what else is known.
    """

    licence = "ODC-BY 1.0"
    version = "1.0.0"
    download: ClassVar[tuple[str, ...]] = ("RECORDS", "*.hea", "*.dat", "*.atr")
    before: ClassVar[str] = UNLABELLED  # rhythm before the first one that is annotated
    ends_annotated: ClassVar[bool] = False  # nothing is known after the last annotation
    persons: ClassVar[Mapping[str, str]] = {}  # of records that are not of a person each
    # Rhythms count as listed in a table ``record,label,start_s,end_s`` with the labels ``af`` and
    # ``not_af``, where somebody has made it; records that it does not name are left out.
    listed: ClassVar[bool] = False

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        table = LabelTable(self.folder / TABLE, MEANING, root=self.folder)
        self._labels = table if self.listed and table.path.is_file() else None

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its person, and the rhythms and beats that are known."""
        path = self.folder / record
        recording = read_recording(path)
        annotated = os.path.lexists(path.with_suffix(".atr"))
        marks = read_annotations(path, "atr") if annotated else _NO_MARKS
        r_peaks, symbols = beats(marks)
        known = (r_peaks, symbols) if symbols else (None, None)  # nobody annotated them
        rhythms = self.rhythms(record, recording, marks)
        return LabelledRecording(recording, self.person_of(path.name), "", rhythms, *known)

    def rhythms(
        self, record: str, recording: Recording, marks: Annotations
    ) -> tuple[RhythmSpan, ...]:
        """Returns the rhythms of a record: as listed, else as annotated or published."""
        if self._labels:
            return self._labels.rhythms(record, recording)
        last = marks.samples.max(initial=0) if self.ends_annotated else recording.n_samples
        before = self.rhythm_before(recording)
        return rhythm_spans(marks, int(last), recording.sampling_rate, before)

    def rhythm_before(self, recording: Recording) -> str:  # noqa: ARG002
        """Returns the rhythm before the first one that is annotated."""
        return self.before

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record, by the name of its files."""
        return cls.persons.get(name, f"{cls.name}-{name}")


class MITDB(PhysioNet):
    """Half-hour records of 47 people with beat and rhythm annotations."""

    name = "mitdb"
    title = "MIT-BIH Arrhythmia Database"
    citation = (
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. IEEE Engineering in "
        f"Medicine and Biology Magazine 20(3):45-50, 2001. doi:10.1109/51.932724; {PHYSIONET}"
    )
    url = "https://physionet.org/content/mitdb/1.0.0/"
    # Not the folder x_mitdb beside the records: it repeats parts of them.
    markers = ("[12][0-9][0-9].atr",)
    download = ("RECORDS", "[12]??.hea", "[12]??.dat", "[12]??.atr")
    persons: ClassVar = {"202": "mitdb-201"}  # from one tape of one man


class AFDB(PhysioNet):
    """Ten-hour Holter records of 25 people, most with paroxysmal AF; rhythms by hand.

    The records 00735 and 03665 have no signals and are passed over. ``.atr`` holds no beats, and
    those of ``.qrs`` are a detector's.
    """

    name = "afdb"
    title = "MIT-BIH Atrial Fibrillation Database"
    citation = (
        "Moody GB, Mark RG. A new method for detecting atrial fibrillation using R-R intervals. "
        f"Computers in Cardiology 10:227-230, 1983; {PHYSIONET}"
    )
    url = "https://physionet.org/content/afdb/1.0.0/"
    markers = ("0[0-9][0-9][0-9][0-9].dat",)


class LTAFDB(PhysioNet):
    """Day-long Holter records of 84 people with paroxysmal or sustained AF, every beat annotated.

    What follows the last annotation is unlabelled. It is not published whether the records of
    ``aftdb`` were cut from these: do not train on one and test on the other.
    """

    name = "ltafdb"
    title = "Long-Term AF Database"
    citation = (
        "Petrutiu S, Sahakian AV, Swiryn S. Abrupt changes in fibrillatory wave characteristics at "
        "the termination of paroxysmal atrial fibrillation in humans. Europace 9:466-470, 2007. "
        f"doi:10.1093/europace/eum096; {PHYSIONET}"
    )
    url = "https://physionet.org/content/ltafdb/1.0.0/"
    markers = ("[0-9][0-9].atr", "[0-9][0-9][0-9].atr")
    ends_annotated = True


class CPSC2021(PhysioNet):
    """Pieces of Holter and wearable records of 105 people, at 200 Hz; beats and episodes of AF.

    All episodes are marked from ``(AFIB`` or ``(AFL`` to ``(N``: what precedes the first is not AF,
    nor is a record without any, if its header gives a diagnosis other than persistent AF.
    ``data_61_3`` is of person 61.
    """

    name = "cpsc2021"
    title = "Paroxysmal Atrial Fibrillation Events Detection (China Physiological Signal Challenge)"
    licence = "open access, see its page"
    citation = (
        "Wang X et al. Paroxysmal atrial fibrillation events detection from dynamic ECG "
        "recordings: the 4th China Physiological Signal Challenge 2021. PhysioNet, 2021. "
        f"doi:10.13026/ksya-qw89; {PHYSIONET}"
    )
    url = "https://physionet.org/content/cpsc2021/1.0.0/"
    markers = ("*/data_[0-9]*_[0-9]*.atr", "data_[0-9]*_[0-9]*.atr")
    download = ("*data_*.hea", "*data_*.dat", "*data_*.atr")

    def rhythm_before(self, recording: Recording) -> str:
        """Returns ``N`` by the diagnosis in the header."""
        diagnoses = {comment.strip().lower() for comment in recording.comments}
        known = diagnoses & {"non atrial fibrillation", "paroxysmal atrial fibrillation"}
        return "N" if known else UNLABELLED

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record."""
        return f"{cls.name}-{name.split('_')[1]}"


class SVDB(PhysioNet):
    """Half-hour records with many supraventricular beats, each beat annotated (``.atr``).

    No rhythm is published: without ``records.csv`` every window is left out of AF classification
    and serves RR measures alone. Five people are in ``afpdb`` too, thirteen in ``qtdb``.
    """

    name = "svdb"
    title = "MIT-BIH Supraventricular Arrhythmia Database"
    citation = (
        "Greenwald SD, Patil RS, Mark RG. Improved detection and classification of arrhythmias in "
        "noise-corrupted electrocardiograms using contextual information. Computers in Cardiology "
        f"17:461-464, 1990. doi:10.1109/CIC.1990.144257; {PHYSIONET}"
    )
    url = "https://physionet.org/content/svdb/1.0.0/"
    markers = ("8[0-9][0-9].hea",)
    listed = True
    persons: ClassVar = {  # the same recordings
        "866": "afpdb-p07", "844": "afpdb-p13", "845": "afpdb-p15", "841": "afpdb-p23",
        "824": "afpdb-p25",
    }  # fmt: skip


class AFPDB(PhysioNet):
    """Excerpts of 50 people with paroxysmal AF or without (n, p) and of 50 others (t).

    Published is that the people of the records n have no documented AF. When there is AF in the
    records p and t is not: without ``records.csv`` they are left out of AF classification.
    ``.qrs`` holds a detector's unaudited beats and is not used.
    """

    name = "afpdb"
    title = "PAF Prediction Challenge Database"
    citation = (
        "Moody GB, Goldberger AL, McClennen S, Swiryn SP. Predicting the onset of paroxysmal "
        "atrial fibrillation: the Computers in Cardiology Challenge 2001. Computers in Cardiology "
        f"28:113-116, 2001. doi:10.1109/CIC.2001.977604; {PHYSIONET}"
    )
    url = "https://physionet.org/content/afpdb/1.0.0/"
    markers = ("p[0-9][0-9].hea",)
    listed = True
    files = ("[npt][0-9]*.hea",)
    download = ("RECORDS", "[npt][0-9]*.hea", "[npt][0-9]*.dat")

    def rhythm_before(self, recording: Recording) -> str:
        """Returns ``not_af`` for the records n."""
        return "not_af" if recording.name.startswith("n") else UNLABELLED

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person, called by the first of a pair: p15, p15c, p16 and p16c are one."""
        number = int(name[1:].rstrip("c"))
        return f"afpdb-{name[0]}{number - 1 + number % 2:02d}"


class AFTDB(PhysioNet):
    """One-minute records of atrial fibrillation, in three folders; ``.qrs`` is a detector's."""

    name = "aftdb"
    title = "AF Termination Challenge Database"
    citation = (
        "Moody GB. Spontaneous termination of atrial fibrillation: a challenge from PhysioNet and "
        "Computers in Cardiology 2004. Computers in Cardiology 31:101-104, 2004. "
        f"doi:10.1109/CIC.2004.1442881; {PHYSIONET}"
    )
    url = "https://physionet.org/content/aftdb/1.0.0/"
    markers = ("learning-set/s[0-9][0-9].hea", "s[0-9][0-9].hea")
    listed = True
    files = ("[abnst][0-9][0-9].hea", "*-set*/[abnst][0-9][0-9].hea")
    download = ("RECORDS", "*[abnst][0-9][0-9].hea", "*[abnst][0-9][0-9].dat")
    before = "af"

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person; s and t of one number are from one recording."""
        return f"aftdb-st{name[1:]}" if name[0] in "st" else f"aftdb-{name}"


class LUDB(PhysioNet):
    """Ten-second records of 200 people, waves annotated on each lead (``.i``, ``.ii``, ...).

    The annotators worked from about 1.3 s to 8.6 s; outside, the codes are ``NOT_ANNOTATED``. In AF
    and flutter there is no P. Six other records in which it is never marked (paced rhythms, AV
    block) get no codes, see ``p_waves_are_marked``. Rhythms are those of the headers.
    """

    name = "ludb"
    title = "Lobachevsky University Electrocardiography Database"
    version = "1.0.1"
    citation = (
        "Kalyakulina AI et al. LUDB: a new open-access validation tool for electrocardiogram "
        "delineation algorithms. IEEE Access 8:186181-186190, 2020. "
        f"doi:10.1109/ACCESS.2020.3029211; {PHYSIONET}"
    )
    url = "https://physionet.org/content/ludb/1.0.1/"
    leads = "all"
    markers = ("[0-9]*.avr",)
    download = ("RECORDS", "data/*")

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythm and the waves of each of its leads."""
        labelled = super().read(record)
        recording, (rhythm,) = labelled.recording, labelled.rhythms
        standard = {lead.lower(): lead for lead in LEADS}
        leads = tuple(standard.get(lead.lower(), lead) for lead in recording.leads)
        codes = {}
        for lead in leads:
            waves = read_annotations(self.folder / record, lead.lower())
            if p_waves_are_marked(waves) or rhythm.label in RHYTHMS_WITHOUT_P:
                codes[lead] = wave_codes(waves, recording.n_samples, region=None)
        return replace(labelled, recording=replace(recording, leads=leads), codes=codes)

    def rhythms(
        self,
        record: str,
        recording: Recording,
        marks: Annotations,  # noqa: ARG002
    ) -> tuple[RhythmSpan, ...]:
        """Returns the rhythm that the header names."""
        if not (rhythm := (recording.comment("Rhythm") or "").rstrip(".")):
            expected = "a comment '#Rhythm: ...' in the header"
            raise RecordError(f"{record}: expected {expected}, found none; fetch the header again")
        af = RHYTHMS_WITHOUT_P.get(rhythm, NOT_AF)
        return (RhythmSpan(0.0, recording.duration_s, rhythm, af),)


class QTDB(PhysioNet):
    """Fifteen-minute records; manual wave boundaries (``.q1c``) hold for both leads.

    Only some thirty beats of each record are marked, and in 41 records not in one run. The
    codes are ``NOT_ANNOTATED`` before, after and between the runs, see ``unmarked_stretches``.

    On nine records P is marked on fewer than half of the beats. In sel221 because of AF: its
    codes stay. The other eight get no codes, see ``p_waves_are_marked``. 24 have no ``.atr``.
    """

    name = "qtdb"
    title = "QT Database"
    citation = (
        "Laguna P, Mark RG, Goldberger A, Moody GB. A database for evaluation of algorithms for "
        "measurement of QT and other waveform intervals in the ECG. Computers in Cardiology "
        f"24:673-676, 1997. doi:10.1109/CIC.1997.648140; {PHYSIONET}"
    )
    url = "https://physionet.org/content/qtdb/1.0.0/"
    markers = ("sel*.q1c",)
    download = ("RECORDS", "sel*.hea", "sel*.dat", "sel*.atr", "sel*.q1c")
    changed = ("sel*.hea", "sel233.atr")  # 57 headers have later signal names, sel233.atr is gone
    persons: ClassVar = {  # of the European ST-T Database; headers agree in age, sex, diagnoses
        "sele0122": "qtdb-sele0121", "sele0126": "qtdb-sele0124", "sele0133": "qtdb-sele0129",
    }  # fmt: skip

    def read(self, record: str) -> LabelledRecording:
        """Reads one record with its waves and, where they were annotated, rhythms and beats."""
        labelled = super().read(record)
        recording, codes = labelled.recording, {}
        waves = read_annotations(self.folder / record, "q1c")
        if p_waves_are_marked(waves) or any(rhythm.af == AF for rhythm in labelled.rhythms):
            of_both = wave_codes(waves, recording.n_samples, region=None)
            for start, stop in unmarked_stretches(waves):
                of_both[start:stop] = NOT_ANNOTATED
            codes = dict.fromkeys(recording.leads, of_both)
        return replace(labelled, person=qtdb_person(record, recording.comments), codes=codes)


def qtdb_person(record: str, comments: tuple[str, ...]) -> str:
    """Returns the person of a record, named as in mitdb or svdb where it is cut from there."""
    if cut := _CUT_FROM.search("\n".join(comments)):
        origin = SVDB if cut[1].startswith("8") else MITDB
        return origin.person_of(cut[1])
    return QTDB.person_of(record)


def unmarked_stretches(annotations: Annotations) -> list[tuple[int, int]]:
    """Returns stretches between the first and the last mark of which the annotator said nothing.

    Where two marked beats are farther apart than 1.5 typical RR intervals (the first quartile, for
    in some records every second beat is marked), beats between them may be unmarked: the widest
    step between marks there is given, from its first sample to the one after its last.
    """
    samples, stretches = annotations.samples, []
    peaks = [i for i, symbol in enumerate(annotations.symbols) if symbol in BEAT_SYMBOLS]
    rr = np.diff(samples[peaks])
    for i in np.flatnonzero(rr > 1.5 * np.percentile(rr, 25)) if len(rr) else []:
        marks = samples[peaks[i] : peaks[i + 1] + 1]
        widest = np.argmax(np.diff(marks))
        stretches.append((int(marks[widest]) + 1, int(marks[widest + 1])))
    return stretches


def p_waves_are_marked(annotations: Annotations) -> bool:
    """Returns whether an annotator who marked QRS complexes marked P before half of them or more.

    Where P is marked never or once although P waves can be seen (paced rhythms, AV block, P taken
    for U), a beat without a P mark does not say that it has no P wave.
    """
    return 2 * annotations.symbols.count("p") >= len(beats(annotations)[1])

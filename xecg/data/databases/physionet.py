"""Databases of PhysioNet whose rhythms are annotated (``.atr``), listed beside them, or both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from xecg.data.databases.base import AF, NOT_AF, UNLABELLED, Database, LabelledRecording, Rhythms
from xecg.data.databases.labels import LabelTable, beats, rhythm_spans
from xecg.signal.recording import Recording
from xecg.signal.wfdb import Annotations, read_annotations, read_recording

PHYSIONET = (  # to be cited with each of its databases
    "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. "
    "Circulation 101(23):e215-e220, 2000. doi:10.1161/01.CIR.101.23.e215"
)
TABLE, MEANING = "records.csv", {"af": AF, "not_af": NOT_AF}
_NO_MARKS = Annotations(np.empty(0, np.int64), (), ())
# Five people of svdb are in afpdb too, in the same recordings.
_SVDB_IN_AFPDB = {"866": "p07", "844": "p13", "845": "p15", "841": "p23", "824": "p25"}


class PhysioNet(Database):
    """Records with or without reference annotations (``.atr``) of rhythms, of beats, or of both.

    AFIB is AF; AFL (atrial flutter) is left out of AF classification, and so is what precedes a
    record's first rhythm annotation; every other rhythm is not AF. A subclass says which files are
    the records, and what else is known.
    """

    licence = "ODC-BY 1.0"
    version = "1.0.0"
    download = ("RECORDS", "*.hea", "*.dat", "*.atr")
    files: ClassVar[tuple[str, ...]] = ()  # one of each record; those of ``markers`` by default
    ends_annotated: ClassVar[bool] = False  # nothing is known after the last annotation
    # Rhythms count as listed in a table ``record,label,start_s,end_s`` with the labels ``af`` and
    # ``not_af``, where somebody has made it; records that it does not name are left out.
    listed: ClassVar[bool] = False

    @property
    def _labels(self) -> LabelTable | None:
        table = self.folder / TABLE
        is_there = self.listed and table.is_file()
        return LabelTable(table, MEANING, root=self.folder) if is_there else None

    def tables(self) -> list[Path]:
        """Returns the table of stretches, if there is one."""
        return [labels.path] if (labels := self._labels) else []

    def records(self) -> list[str]:
        """Returns the records' names, sorted: paths below the folder, without ending."""
        if labels := self._labels:
            return labels.records()
        found = {path for like in self.files or self.markers for path in self.folder.glob(like)}
        return sorted(path.relative_to(self.folder).with_suffix("").as_posix() for path in found)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its person, and the rhythms and beats that are known."""
        path = self.folder / record
        recording = read_recording(path)
        annotated = os.path.lexists(path.with_suffix(".atr"))
        marks = read_annotations(path, "atr") if annotated else _NO_MARKS
        r_peaks, symbols = beats(marks)
        return LabelledRecording(
            recording,
            self.person_of(path.name),
            rhythms=self.rhythms(record, recording, marks),
            r_peaks=r_peaks if symbols else None,  # nobody annotated them
            beat_symbols=symbols or None,
        )

    def rhythms(self, record: str, recording: Recording, marks: Annotations) -> Rhythms:
        """Returns the rhythms of a record: as listed, else as annotated or published."""
        if labels := self._labels:
            return labels.rhythms(record, recording)
        last = marks.samples.max(initial=0) if self.ends_annotated else recording.n_samples
        before = self.rhythm_before(recording)
        return rhythm_spans(marks, int(last), recording.sampling_rate, before)

    def rhythm_before(self, recording: Recording) -> str:  # noqa: ARG002
        """Returns the rhythm before the first one that is annotated."""
        return UNLABELLED

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record, by the name of its files."""
        return f"{cls.name}-{name}"


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

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record; 201 and 202 are from one tape of one man."""
        return f"mitdb-{'201' if name == '202' else name}"


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

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record, named as in afpdb where it is the same recording."""
        excerpt = _SVDB_IN_AFPDB.get(name)
        return f"afpdb-{excerpt}" if excerpt else f"svdb-{name}"


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
    """One-minute records of atrial fibrillation, in three folders as published.

    ``.qrs`` holds a detector's unaudited beats and is not used.
    """

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

    def rhythm_before(self, recording: Recording) -> str:  # noqa: ARG002
        """Returns ``af`` for all records."""
        return "af"

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person; s and t of one number are from one recording."""
        return f"aftdb-st{name[1:]}" if name[0] in "st" else f"aftdb-{name}"

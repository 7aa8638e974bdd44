"""Three sets of Holter excerpts at 128 Hz whose rhythms are listed beside them, if anywhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

from xecg.data.databases import labels
from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Download, LabelledRecording
from xecg.data.databases.physionet import PHYSIONET, PhysioNet

TABLE, MEANING = "records.csv", {"af": AF, "not_af": NOT_AF}
LABELS = {AF: "af", NOT_AF: "not_af", LEFT_OUT: labels.UNLABELLED}
# Five people of svdb are in afpdb too, in the same recordings.
_SVDB_IN_AFPDB = {"866": "p07", "844": "p13", "845": "p15", "841": "p23", "824": "p25"}


class Listed(PhysioNet):
    """Records as published, and the table ``records.csv`` where somebody has labelled them.

    The table has the columns ``record,label,start_s,end_s``, with the labels ``af`` and ``not_af``;
    records that it does not name are left out. Persons follow from the records' names.
    """

    # Whether whole records are AF, by the first letter of their names, as far as it is published.
    published: ClassVar[dict[str, int]] = {}

    def tables(self) -> list[Path]:
        """Returns the table of stretches, if there is one."""
        return [table] if (table := self.folder / TABLE).is_file() else []

    def records(self) -> list[str]:
        """Returns the records that the table lists, else all, sorted: paths below the folder."""
        if (rows := self._listed()) is None:
            return super().records()
        labels.check_labels(self.folder / TABLE, rows, MEANING, "correct the table")
        return sorted(rows)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its beats if audited, and its rhythms as listed or as published."""
        labelled = super().read(record)
        recording = labelled.recording
        if (listed := self._listed()) is not None:
            rows = labels.rows_of(record, listed, self.folder / TABLE, MEANING)
            return replace(labelled, rhythms=labels.spans_of(rows, MEANING, recording))
        af = self.published.get(recording.name[0], LEFT_OUT)
        rhythms = labels.whole_record(LABELS[af], af, recording.duration_s)
        return replace(labelled, rhythms=rhythms)

    def _listed(self) -> labels.Rows | None:
        table = self.folder / TABLE
        return labels.read_labels(table, root=self.folder) if table.is_file() else None


class SVDB(Listed):
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
    files = markers
    download = Download(("RECORDS", "8??.hea", "8??.dat", "8??.atr"))

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person of a record, named as in afpdb where it is the same recording."""
        excerpt = _SVDB_IN_AFPDB.get(name)
        return f"afpdb-{excerpt}" if excerpt else f"svdb-{name}"


class AFPDB(Listed):
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
    annotated = False
    files = ("[npt][0-9]*.hea",)
    published: ClassVar = {"n": NOT_AF}
    download = Download(("RECORDS", "[npt][0-9]*.hea", "[npt][0-9]*.dat"))

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person, called by the first of a pair: p15, p15c, p16 and p16c are one."""
        number = int(name[1:].rstrip("c"))
        return f"afpdb-{name[0]}{number - 1 + number % 2:02d}"


class AFTDB(Listed):
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
    annotated = False
    files = ("[abnst][0-9][0-9].hea", "*-set*/[abnst][0-9][0-9].hea")
    published: ClassVar = dict.fromkeys("abnst", AF)
    download = Download(("RECORDS", "*[abnst][0-9][0-9].hea", "*[abnst][0-9][0-9].dat"))

    @classmethod
    def person_of(cls, name: str) -> str:
        """Returns the person; s and t of one number are from one recording."""
        return f"aftdb-st{name[1:]}" if name[0] in "st" else f"aftdb-{name}"

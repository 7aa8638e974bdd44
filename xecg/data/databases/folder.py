"""Any tree of WFDB records with a table of labels: the way to bring one's own ECGs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, LabelledRecording
from xecg.data.databases.labels import check_labels, read_labels, whole_record
from xecg.errors import DataError, RecordError
from xecg.signal.wfdb import read_recording

AF_LABELS = ("A", "AF", "AFIB", "1", "true")
NOT_AF_LABELS = ("N", "O", "NSR", "SR", "non-AF", "normal", "other", "0", "false")


class Folder(Database):
    """Records anywhere below a folder, and a table with the columns `record,label[,person]`.

    Args:
        root: The folder.
        table: Path of the table, relative to the folder. The first column names the records as
            paths relative to the table's folder, with or without extension.
        af: The labels that mean AF.
        not_af: The labels that mean another rhythm.
        left_out: The labels of records to be left out of AF classification.

    Raises:
        DataError: If the folder or the table is missing, or a label is listed twice.
    """

    name = "folder"
    title = "WFDB records with a table of labels"
    licence = "the owner's"
    citation = ""
    markers: ClassVar[tuple[str, ...]] = ("**/*.hea",)

    def __init__(
        self,
        root: Path | str,
        table: str = "records.csv",
        af: Sequence[str] = AF_LABELS,
        not_af: Sequence[str] = NOT_AF_LABELS,
        left_out: Sequence[str] = (),
    ) -> None:
        super().__init__(root)
        self.table = self.root / table
        if not self.table.is_file():
            raise self._wrong_root(f"the table {table}")
        self.meaning = _meaning(af=af, not_af=not_af, left_out=left_out)

    def records(self) -> list[str]:
        """The records that the table lists, sorted."""
        rows = read_labels(self.table)
        check_labels(self.table, rows, self.meaning, "name their meaning by af, not_af or left_out")
        return sorted(rows)

    def read(self, record: str) -> LabelledRecording:
        """One record, its rhythm and its person."""
        row = read_labels(self.table).get(record)
        if row is None or row.label not in self.meaning:
            raise RecordError(f"{record}: expected a label for it in {self.table}, found none")
        recording = read_recording(self.table.parent / record)
        return LabelledRecording(
            recording,
            person=f"{self.root.resolve().name}-{row.person}" if row.person else "",
            rhythms=whole_record(row.label, self.meaning[row.label], recording.duration_s),
        )


def _meaning(**labels: Sequence[str]) -> dict[str, int]:
    """What each label says about AF."""
    values = {"af": AF, "not_af": NOT_AF, "left_out": LEFT_OUT}
    meaning: dict[str, int] = {}
    for name, listed in labels.items():
        for label in listed:
            if meaning.setdefault(label, values[name]) != values[name]:
                raise DataError(f"label {label!r} is listed in {name} and in another list: choose")
    return meaning

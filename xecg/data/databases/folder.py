"""Any tree of WFDB records with a table of labels: the way to bring one's own ECGs."""

from collections.abc import Sequence
from pathlib import Path

from xecg.data.databases.base import AF, LEFT_OUT, NOT_AF, Database, LabelledRecording
from xecg.data.databases.labels import listed_records, rows_of, spans_of
from xecg.errors import DataError
from xecg.signal.wfdb import read_recording

AF_LABELS = ("A", "AF", "AFIB", "1", "true")
NOT_AF_LABELS = ("N", "O", "NSR", "SR", "non-AF", "normal", "other", "0", "false")


class Folder(Database):
    """Records anywhere below a folder, and a table `record,label[,person][,start_s,end_s]`.

    With ``start_s,end_s`` (seconds from the start of the record) a record may have several rows,
    as a Holter with several rhythms has; what no row covers is left out of AF classification.
    A record is its path below the folder, and a person is one of this folder: the ``001`` of
    another folder is somebody else.

    ``table`` is the path of the table below the folder; it names the records by paths relative to
    its own folder, with or without ending. ``af``, ``not_af`` and ``left_out`` are the labels that
    mean AF, another rhythm, and records to be left out of AF classification. Raises DataError if
    the folder or the table is missing, or a label is listed twice.
    """

    name = "folder"
    title = "WFDB records with a table of labels"
    licence = "the owner's"
    citation = ""
    by_place = True
    markers = ("**/*.hea",)
    download = "these are your own records"

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
        self.meaning: dict[str, int] = {}
        lists = {"af": (AF, af), "not_af": (NOT_AF, not_af), "left_out": (LEFT_OUT, left_out)}
        for name, (value, labels) in lists.items():
            for label in labels:
                if self.meaning.setdefault(label, value) != value:
                    raise DataError(f"label {label!r} is listed in {name} and in another list")

    def tables(self) -> list[Path]:
        """Returns the table of labels."""
        return [self.table]

    def records(self) -> list[str]:
        """Returns the records that the table lists, sorted: paths below the folder."""
        do = "name their meaning by --af, --not_af or --left_out"
        return listed_records(self.table, self.meaning, do, root=self.root)

    def read(self, record: str) -> LabelledRecording:
        """Reads one record, its rhythms and its person."""
        rows = rows_of(record, self.table, self.meaning, root=self.root)
        recording = read_recording(self.root / record)
        return LabelledRecording(
            recording,
            person=f"{self.identity}/{rows[0].person}" if rows[0].person else "",
            rhythms=spans_of(rows, self.meaning, recording),
        )

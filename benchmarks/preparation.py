"""Preparation of a database beside reading its records with wfdb alone.

    XECG_DATA=FOLDER python benchmarks/preparation.py [--json FILE]

Of CinC 2017 where XECG_DATA names a folder with it, else of records of the same shape made up. Read
are the same records in one process. About 6 minutes on two idle cores. Two cores are compared with
one in time only, not in processor seconds.
"""

import os
import tempfile
from pathlib import Path

import wfdb
from made_data import MadeDatabase, made_rhythm, wfdb_records
from side_by_side import BUSY, Row, alternate, medians, run_alone

from xecg.data.databases import get_database
from xecg.data.databases.base import Database, LabelledRecording
from xecg.data.prepare import prepare
from xecg.signal.wfdb import read_recording

N_RECORDS = 8000


class WrittenDatabase(MadeDatabase):
    """The made records as WFDB files."""

    name = "written"
    markers = ("*.hea",)

    def records(self) -> list[str]:
        return sorted(path.stem for path in self.root.glob("*.hea"))

    def read(self, record: str) -> LabelledRecording:
        return LabelledRecording(read_recording(self.root / record), rhythms=made_rhythm(record))


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        database, paths, name = _database(Path(folder))
        hours = _hours(paths)
        stores = iter(range(1000))

        def prepared(jobs: int) -> None:
            out = Path(folder) / f"store{next(stores)}"
            prepare(database, out, limit=len(paths), jobs=jobs)

        def read() -> None:
            for path in paths:
                wfdb.rdrecord(str(path))

        cases = {"reading": read, "on one core": lambda: prepared(1)}
        if not BUSY:
            cases["on two"] = lambda: prepared(2)
        seconds = medians(alternate(cases))
    measured = {case: f"{hours / value:.2f} h of ECG/s" for case, value in seconds.items()}
    rows = [
        Row(
            what=f"preparation of {name}, one core",
            against="reading the same records with wfdb alone",
            value=seconds["on one core"] / seconds["reading"],
            goal=1.5,
            better="at most",
            measured={case: measured[case] for case in ("reading", "on one core")},
        )
    ]
    if not BUSY:
        two = Row(
            what=f"preparation of {name}, two cores",
            against="one core, hours of ECG a second",
            value=seconds["on one core"] / seconds["on two"],
            goal=1.8,
            better="at least",
            measured={case: measured[case] for case in ("on one core", "on two")},
        )
        rows.append(two)
    return rows


def _database(scratch: Path) -> tuple[Database, list[Path], str]:
    real = Path(os.environ.get("XECG_DATA", "nowhere")) / "cinc2017"
    if not real.is_dir():
        paths = wfdb_records(scratch / "records", N_RECORDS, 30.0)
        return WrittenDatabase(scratch / "records"), paths, "records like CinC 2017's"
    database = get_database("cinc2017", real)
    files = {path.stem: path.with_suffix("") for path in real.rglob("A*.hea")}
    return database, [files[record] for record in database.records()[:N_RECORDS]], "CinC 2017"


def _hours(paths: list[Path]) -> float:
    headers = [wfdb.rdheader(str(path)) for path in paths]
    return sum(header.sig_len / header.fs for header in headers) / 3600


if __name__ == "__main__":
    run_alone(measure, __doc__)

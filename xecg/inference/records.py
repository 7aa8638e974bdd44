"""Windows of one lead, cut from a record or an array, and work on many records in parts."""

import json
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from glob import escape
from hashlib import sha256
from os.path import commonpath
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xecg.errors import ConfigError, RecordError, WorkerDiedError, XECGError
from xecg.executors import Part, executor, run_parts
from xecg.files import csv_text, whole_file, write_whole
from xecg.signal.formats import find_ecgs, read_ecg
from xecg.signal.preprocessing import Preprocessing, cut_windows
from xecg.signal.quality import Quality, window_quality
from xecg.signal.recording import Recording
from xecg.signal.waves import detect_r_peaks

_PIECES = 16  # at least, of many records
_PROBLEMS = "problems"  # in the attributes of a part's table


@dataclass(frozen=True, eq=False)
class LeadWindows:
    """Windows of one lead, side by side; the last one ends with the lead."""

    record: str  # name in the results
    lead: str
    unit: str
    raw: NDArray[np.float32]  # (time,), the lead as recorded, in ``unit``
    raw_rate: float  # Hz
    preprocessing: Preprocessing
    starts: NDArray[np.int64]  # (windows,), at the rate of the preprocessing
    filtered: NDArray[np.float32]  # (windows, window_samples), band-limited, in ``unit``
    absent: dict[int, str]  # why each other window cannot be used, by its first sample

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def start_s(self) -> NDArray[np.float64]:
        """Start of each window in seconds, ``(windows,)``."""
        return self.starts / self.preprocessing.sampling_rate

    @property
    def signals(self) -> NDArray[np.float32]:
        """The windows as the network takes them, scaled, ``(windows, window_samples)``."""
        return self.preprocessing.scale(self.filtered)

    @cached_property
    def r_peaks(self) -> list[NDArray[np.int64]]:
        """Detected R peaks of each window, in samples of the window.

        They are looked for in the whole lead, so that the detector has settled in every window.
        """
        peaks_s = detect_r_peaks(self.raw, self.raw_rate) / self.raw_rate
        peaks = np.rint(peaks_s * self.preprocessing.sampling_rate).astype(np.int64)
        stops = self.starts + self.preprocessing.window_samples
        pairs = np.searchsorted(peaks, [self.starts, stops]).T
        return [peaks[a:b] - start for (a, b), start in zip(pairs, self.starts, strict=True)]

    @cached_property
    def quality(self) -> list[Quality]:
        """Quality of each window."""
        rate, length_s = self.preprocessing.sampling_rate, self.preprocessing.window_s
        edges = np.rint(np.stack([self.start_s, self.start_s + length_s]).T * self.raw_rate)
        windows = zip(edges.astype(int), self.filtered, self.r_peaks, strict=True)
        return [window_quality(self.raw[a:b], one, peaks, rate) for (a, b), one, peaks in windows]

    @property
    def left_out(self) -> str:
        """How many windows cannot be used, by reason, and the first; empty if all can."""
        if not self.absent:
            return ""
        n, first = len(self.absent), min(self.absent) / self.preprocessing.sampling_rate
        why = ", ".join(f"{count} {why}" for why, count in Counter(self.absent.values()).items())
        return f"{n} of {len(self) + n} windows cannot be used ({why}), first at {first:g} s"


def cut_lead(recording: Recording, index: int, preprocessing: Preprocessing) -> LeadWindows:
    """Cuts a lead of a recording, NaN where samples are missing, into windows.

    Raises RecordError if it is shorter than a window, or its sampling rate is out of range.
    """
    raw, rate, window_s = recording.samples[index], recording.sampling_rate, preprocessing.window_s
    if window_s * rate - len(raw) > 1e-6:  # stricter than resampling, which rounds up
        raise RecordError(
            f"Record {recording.name!r} lasts {len(raw) / rate:.6g} s; the network takes windows "
            f"of {window_s:g} s. Leave the record out, or join it to what follows it."
        )
    unscaled = replace(preprocessing, scaling="none")
    cut = cut_windows(raw, rate, unscaled, align_last=True, record=recording.name)
    about = recording.name, recording.leads[index], recording.units[index]
    return LeadWindows(*about, raw, rate, preprocessing, cut.starts, cut.signals, cut.absent)


def read_windows(
    path: Path,
    preprocessing: Preprocessing,
    sampling_rate: float | None = None,
    *,
    lead: str | None = None,
    record: str = "",
) -> LeadWindows:
    """Reads an ECG, as ``read_ecg`` does, and cuts a lead (null: the preferred one) into windows.

    ``record`` is its name in the results, its own if empty. Raises RecordError if it cannot be
    read, has no such lead, is shorter than a window, or has no window that can be used.
    """
    recording = read_ecg(path, sampling_rate)
    windows = cut_lead(recording, recording.choose_lead(lead), preprocessing)
    if not len(windows):
        raise RecordError(f"Record {recording.name!r}, lead {windows.lead}: {windows.left_out}.")
    return replace(windows, record=record or recording.name)


def list_records(
    paths: Iterable[Path], sampling_rate: float | None = None
) -> tuple[dict[str, Path], dict[str, str]]:
    """Finds the records that paths stand for.

    The name of a record is that of its file. Records of one name in several folders get the path
    below the folder that all of them are in: ``clinic/100``, ``home/100``. Returns the path of each
    record by name, in the order of ``paths`` (records, with or without suffix, or folders), each
    once; and for each path that stands for no record the reason.
    """
    folders: dict[str, set[Path]] = {}  # of records by the names of their files
    failures: dict[str, str] = {}
    records: list[Path] = []
    for path in paths:
        try:
            # The folder alone is resolved: a linked file keeps the name that its header knows.
            records += [r.parent.resolve() / r.name for r in find_ecgs(path, sampling_rate)]
        except (XECGError, OSError) as error:
            failures[str(path)] = str(error)
    for record in records:
        folders.setdefault(record.name, set()).add(record.parent)
    tops = {name: commonpath(of) for name, of in folders.items()}
    names = {record: str(record.relative_to(tops[record.name])) for record in records}
    # Bytes of a name that are no UTF-8 are escaped.
    return {n.encode(errors="backslashreplace").decode(): r for r, n in names.items()}, failures


class Problem(NamedTuple):
    """Why a record failed, or which of its windows are left out."""

    record: str
    reason: str
    failed: bool


@dataclass(frozen=True)
class Made:
    """Results of many records, in parts: parquet files in a folder, in the order of the records."""

    folder: Path
    parts: list[Path]
    problems: list[Problem]

    @property
    def failures(self) -> dict[str, str]:
        """Why there is no result, by record."""
        return {record: reason for record, reason, failed in self.problems if failed}

    def add(self, part: Part) -> None:
        """Adds a part, or that there is none since a record killed whoever worked on it."""
        if isinstance(part.error, WorkerDiedError):
            name = part.items[0].partition("\0")[0]
            self.problems.append(Problem(name, "the process that worked on it died", True))
        elif part.error is not None:
            raise part.error
        else:
            self.parts.append(part.path)
            found = pd.read_parquet(part.path, columns=[]).attrs[_PROBLEMS]
            self.problems.extend(Problem(*problem) for problem in found)

    def tables(self) -> Iterator[pd.DataFrame]:
        """Yields the rows of each part that has any."""
        yield from (table for part in self.parts if len(table := pd.read_parquet(part)))

    def write(self, path: Path) -> None:
        """Writes all rows as one CSV file."""
        with whole_file(path) as file:
            for table in self.tables():
                if "start_s" in table:
                    table["start_s"] = [f"{start:.10g}" for start in table["start_s"]]
                file.write(csv_text(table, header=file.tell() == 0, na_rep="nan"))

    def report(self, path: Path) -> None:
        """Prints all problems and writes them as a table; without any, removes an earlier one."""
        for problem in self.problems:
            print(f"xecg: {problem.record}: {problem.reason}", file=sys.stderr)
        path.unlink(missing_ok=True)
        if self.problems:
            table = pd.DataFrame(self.problems)[["record", "reason"]]
            write_whole(path, csv_text(table))


@contextmanager
def made_in_parts(
    work: "partial[None]",
    paths: Iterable[Path],
    out: Path,
    size: int,
    few: int,
    jobs: int | None,
    cluster: str | None,
    sampling_rate: float | None = None,
) -> Iterator[Made]:
    """Yields the results of all records in parts, which lie beside ``out`` and are then removed.

    They are kept if the command is killed, and used when it is given again. ``work(items, part)``
    reads at most ``size`` records by :func:`read_items` and ends with :func:`write_part`; its bound
    arguments are all that a part depends on. Below ``few`` records other processes do not pay.
    Raises RecordError if no record gives a result, and leaves nothing behind; ConfigError if the
    parts cannot be written; ExecutorError if the cluster cannot be reached or is lost.
    """
    records, failures = list_records(paths, sampling_rate)
    items = [item_of(name, path, sampling_rate) for name, path in records.items()]
    size = max(1, min(size, len(items) // _PIECES))  # whatever the number of processes
    pieces = [items[start : start + size] for start in range(0, len(items), size)]
    settings = json.dumps([work.func.__name__, work.args, items], default=str)
    out = out.absolute()
    folder = Path(f"{out}.parts-{sha256(settings.encode()).hexdigest()[:16]}")
    made = Made(folder, [], [Problem(name, reason, True) for name, reason in failures.items()])
    new = [parent for parent in out.parents if not parent.exists()]
    with executor(1 if jobs is None and len(items) < few else jobs, cluster) as pool:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written ({error})") from error
        for part in run_parts(work, pieces, folder, pool, title=out.name):
            made.add(part)
    if len(made.failures) == len(records) + len(failures):
        shutil.rmtree(folder)
        for parent in new:
            parent.rmdir()
        reasons = [f"{name}: {reason}" for name, reason, _ in made.problems[:3]]
        more = f" (and {len(made.problems) - 3} more)" if made.problems[3:] else ""
        raise RecordError(f"there is no result: {'; '.join(reasons) or 'no paths'}{more}")
    yield made
    for place in out.parent.glob(f"{escape(out.name)}.parts-*"):
        shutil.rmtree(place)


def item_of(name: str, path: Path, sampling_rate: float | None = None) -> str:
    """Returns a record of a piece, as :func:`read_items` takes it."""
    return f"{name}\0{path}\0{sampling_rate or ''}"


def read_items(
    items: Iterable[str], preprocessing: Preprocessing, lead: str | None, problems: list[Problem]
) -> Iterator[LeadWindows]:
    """Yields the windows of each record of a piece; adds to ``problems`` what cannot be used."""
    for item in items:
        name, path, rate = item.split("\0")
        what = Path(path), preprocessing, float(rate) if rate else None
        try:
            windows = read_windows(*what, lead=lead, record=name)
        except (XECGError, OSError) as error:
            problems.append(Problem(name, str(error), True))
            continue
        if windows.absent:
            problems.append(Problem(name, windows.left_out, False))
        yield windows


def write_part(table: pd.DataFrame, problems: list[Problem], path: Path) -> None:
    """Writes a table of results as a part, with its problems."""
    table.attrs[_PROBLEMS] = problems
    write_whole(path, table.to_parquet(index=False))

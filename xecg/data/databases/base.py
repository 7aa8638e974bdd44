"""What every database gives: its records, and per record the signal with what is known about it."""

from __future__ import annotations

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError, DataError, RecordError
from xecg.signal.recording import Recording

if TYPE_CHECKING:
    from xecg.data.databases.labels import LabelTable

AF, NOT_AF, LEFT_OUT = 1, 0, -1


@dataclass(frozen=True)
class RhythmSpan:
    """One rhythm over a stretch of a record."""

    start_s: float  # from the start of the record
    stop_s: float  # exclusive
    label: str  # the database's own word for it
    af: int  # 1 AF, 0 not AF, -1 to be left out of AF classification (noise, flutter, unlabelled)

    def __post_init__(self) -> None:
        if self.af not in (AF, NOT_AF, LEFT_OUT) or not 0 <= self.start_s < self.stop_s:
            expected = "af of 1, 0 or -1 and 0 <= start < stop"
            found = f"af {self.af} from {self.start_s} s to {self.stop_s} s"
            raise DataError(f"rhythm {self.label!r}: expected {expected}, found {found}")


@dataclass(frozen=True, eq=False)
class LabelledRecording:
    """A recording with everything that its database knows about it."""

    recording: Recording
    person: str = ""  # who was recorded, unique over all databases; empty if unknown
    source: str = ""  # the collection it came from, where the database is a mixture of several
    # In order of time, not overlapping; a stretch that none covers is as one with af=-1.
    rhythms: tuple[RhythmSpan, ...] = ()
    # (beats,) in samples; empty if there are none, null if unknown
    r_peaks: NDArray[np.int64] | None = None
    beat_symbols: tuple[str, ...] | None = None  # WFDB symbol of each of r_peaks
    # (time,) wave codes of xecg.signal.waves, by name of the lead
    codes: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        name, shape = self.recording.name, (self.recording.n_samples,)
        beats, symbols = (x if x is None else len(x) for x in (self.r_peaks, self.beat_symbols))
        if beats != symbols:
            found = f"{beats} beats and {symbols} symbols"
            raise RecordError(f"{name}: one symbol per beat expected, found {found}")
        for lead, codes in self.codes.items():
            if codes.shape != shape:
                wrong = f"must have shape {shape}, found {codes.shape}"
                raise RecordError(f"{name}: wave codes of lead {lead!r} {wrong}")


class Database(ABC):
    """A folder of records whose labels are understood.

    A subclass says what the database's labels mean, its licence and its citation, and what is
    downloaded of it; ``name``, ``title``, ``licence``, ``citation`` and the methods ``records`` and
    ``read`` are enough. Workers call them, so an instance is small and can be pickled. Attributes
    that are settings decide about reusing a store; others begin with ``_``. The records may lie up
    to three folders below ``root``, as after unpacking an archive. Raises DataError if it is no
    folder, or holds no records of this database.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[str] = ""
    licence: ClassVar[str]
    citation: ClassVar[str]
    url: ClassVar[str] = ""
    leads: ClassVar[str] = "preferred"  # prepared by default: one per record, or "all"
    by_place: ClassVar[bool] = False  # folders hold other records of the same names
    # Patterns of files by which the folder of records is recognised; none takes the root.
    markers: ClassVar[tuple[str, ...]] = ()
    files: ClassVar[tuple[str, ...]] = ()  # one of each record; those of ``markers`` by default
    # What is downloaded from ``url``: patterns of paths in its list of checksums, and of those
    # among them that were changed or withdrawn after they were listed.
    download: ClassVar[tuple[str, ...]] = ()
    changed: ClassVar[tuple[str, ...]] = ()
    _labels: LabelTable | None = None  # the table that lists the records, if there is one

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        if not self.root.is_dir():
            raise self._wrong_root("the database")
        self.folder = self._find_folder()

    def records(self) -> list[str]:
        """Returns the records' names, sorted: paths below the folder, without ending.

        Raises DataError if the labels that belong to them are missing or not understood.
        """
        if self._labels:
            return self._labels.records()
        found = {path for like in self.files or self.markers for path in self.folder.glob(like)}
        return sorted(path.relative_to(self.folder).with_suffix("").as_posix() for path in found)

    @abstractmethod
    def read(self, record: str) -> LabelledRecording:
        """Reads one record with its labels; raises RecordError if it cannot be read."""

    @property
    def identity(self) -> str:
        """Name that tells two owners of a record ``001`` apart."""
        return f"{self.name}:{self.root.resolve().as_posix()}" if self.by_place else self.name

    def tables(self) -> list[Path]:
        """Returns tables of labels; a store is out of date if their content changes."""
        return [self._labels.path] if self._labels else []

    def options(self) -> dict[str, Any]:
        """Returns the settings that decide about a store; raises ConfigError if one is no JSON."""
        found = {}
        for name, value in vars(self).items():
            if name in ("root", "folder") or name.startswith("_"):
                continue
            plain = os.path.relpath(value, self.root) if isinstance(value, Path) else value
            try:
                found[name] = json.loads(json.dumps(plain))
            except TypeError as error:
                other = f"{name} of type {type(value).__name__}; call it _{name} if it is none"
                expected = "expected numbers, text, lists or paths as settings"
                raise ConfigError(f"{self.name}: {expected}, found {other}") from error
        return found

    def _find_folder(self) -> Path:
        """The nearest folder, at most three below ``root``, that holds a file like the markers."""
        deeper = (sorted(self.root.glob("*/" * depth)) for depth in (1, 2, 3))
        for folder in chain([self.root], chain.from_iterable(deeper)):
            files = (path for mark in self.markers for path in folder.glob(mark))
            if not self.markers or any(path.is_file() for path in files):
                return folder
        raise self._wrong_root(f"files like {' or '.join(self.markers)}")

    def _wrong_root(self, expected: str) -> DataError:
        found = "a file" if self.root.exists() else "nothing"
        if self.root.is_dir():
            names = sorted(path.name + "/" * path.is_dir() for path in self.root.iterdir())
            found = ", ".join(names[:6]) or "an empty folder"
        cure = "give the folder of the database as downloaded"
        place = f"in or below {self.root}"
        return DataError(f"{self.name}: expected {expected} {place}, found {found}; {cure}")

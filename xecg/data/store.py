"""How many windows, records and persons a store has, by rhythm and part of the split."""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import Database
from xecg.errors import ConfigError, StoreError, XECGError
from xecg.signal.preprocessing import Preprocessing


def file_digest(folder: Path) -> str:
    """Number, total size, and a digest over path, size and time of change of all files below.

    Hidden files and folders are passed over. 17,000 files take about 0.1 s.

    Args:
        folder: The folder of a database.

    Returns:
        For example `"96 files, 100423568 bytes, 0f343b0931126a20"`.
    """
    hashed = hashlib.sha256()
    n_files = n_bytes = 0
    for path, stat in _files(folder, ""):
        hashed.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        n_files += 1
        n_bytes += stat.st_size
    return f"{n_files} files, {n_bytes} bytes, {hashed.hexdigest()[:16]}"


def _files(folder: Path | str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in visible:
        if entry.is_dir():
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.stat()


@dataclass(frozen=True)
class Ragged:
    """Row `i` is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: `(total,)` int32, the rows one after the other.
        offsets: `(rows + 1,)` int64, from 0 to `total`, never falling.

    Raises:
        StoreError: If the offsets do not fit the values.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        ends_fit = (
            len(self.offsets) > 0
            and self.offsets[0] == 0
            and self.offsets[-1] == len(self.values)
            and bool(np.all(np.diff(self.offsets) >= 0))
        )
        if not ends_fit:
            raise StoreError(
                f"ragged array: offsets must rise from 0 to {len(self.values)}, the number of "
                f"values; found {len(self.offsets)} offsets that do not"
            )

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.int32]]) -> Ragged:
        """The given rows, in their order."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        values = np.concatenate([np.zeros(0, dtype=np.int32), *rows])
        return cls(values.astype(np.int32, copy=False), offsets)

    @classmethod
    def concatenate(cls, parts: Iterable[Ragged]) -> Ragged:
        """All rows of `parts`, in their order."""
        parts = list(parts)
        lengths = [np.diff(part.offsets) for part in parts]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum()
        values = np.concatenate([np.zeros(0, dtype=np.int32), *(part.values for part in parts)])
        return cls(values.astype(np.int32, copy=False), offsets.astype(np.int64, copy=False))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        row = range(len(self))[row]  # negative rows count from the end, others raise IndexError
        return self.values[self.offsets[row] : self.offsets[row + 1]]


@dataclass(frozen=True)
class Index:
    """What is known about each window. All columns have the shape `(windows,)`.

    Args:
        record: Name of the record.
        person: Who was recorded; empty if unknown.
        group: What a split keeps together: the person, else the record, and one common name for
            groups that hold an identical signal.
        source: The collection the record came from, where the database is a mixture; else empty.
        lead: Name of the lead.
        start_s: Where the window begins in its record, in seconds.
        rhythm: The database's word for the rhythm; several are joined by `+` in order of time.
        af: 1 AF, 0 not AF, -1 to be left out of AF classification.
        n_beats: Heartbeats within the window.
        rmssd_ms: RMSSD in ms; NaN below five beats.
        sdnn_ms: SDNN in ms; NaN below five beats.
        reference_beats: Whether the heartbeats come from annotations, not from the detector.
        normal_beats: Whether the rhythm is annotated as sinus and so is every beat.
        wave_row: Row of the store's `waves`; -1 where no sample has a wave annotation.
        annotated_share: Share of the samples that have a wave annotation.

    Raises:
        StoreError: If columns differ in length or hold another kind of value.
    """

    record: NDArray[np.str_]
    person: NDArray[np.str_]
    group: NDArray[np.str_]
    source: NDArray[np.str_]
    lead: NDArray[np.str_]
    start_s: NDArray[np.float64]
    rhythm: NDArray[np.str_]
    af: NDArray[np.int8]
    n_beats: NDArray[np.int32]
    rmssd_ms: NDArray[np.float32]
    sdnn_ms: NDArray[np.float32]
    reference_beats: NDArray[np.bool_]
    normal_beats: NDArray[np.bool_]
    wave_row: NDArray[np.int32]
    annotated_share: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, kind in DTYPES.items():
            column = getattr(self, name)
            fits = column.dtype.kind == "U" if kind == "U" else column.dtype == np.dtype(kind)
            if column.ndim != 1 or not fits:
                raise StoreError(
                    f"index column {name!r}: expected one dimension of type {kind}, "
                    f"found shape {column.shape} of type {column.dtype}"
                )
            if len(column) != len(self.record):
                raise StoreError(
                    f"index column {name!r}: expected {len(self.record)} windows as in 'record', "
                    f"found {len(column)}"
                )

    def __len__(self) -> int:
        return len(self.record)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, not copied."""
        return {name: getattr(self, name) for name in DTYPES}

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> Index:
        """The table of the given rows, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        return index_of({name: column[rows] for name, column in self.columns().items()})

    def shifted_waves(self, first: int) -> Index:
        """The table where the rows of `waves` are counted from `first` on."""
        return replace(
            self, wave_row=np.where(self.wave_row < 0, -1, self.wave_row + first).astype(np.int32)
        )


DTYPES: dict[str, str] = {
    field.name: {
        "NDArray[np.str_]": "U",
        "NDArray[np.float64]": "f8",
        "NDArray[np.float32]": "f4",
        "NDArray[np.int32]": "i4",
        "NDArray[np.int8]": "i1",
        "NDArray[np.bool_]": "?",
    }[str(field.type)]
    for field in fields(Index)
}
"""NumPy type of each column, in the order of `Index`."""


def index_of(columns: dict[str, NDArray[Any]]) -> Index:
    """An index out of columns by name.

    Raises:
        StoreError: If columns are missing or do not fit.
    """
    missing = [name for name in DTYPES if name not in columns]
    if missing:
        raise StoreError(f"index: the columns {', '.join(missing)} are missing")
    return Index(**{name: columns[name] for name in DTYPES})


def concatenate(parts: Sequence[Index]) -> Index:
    """All lines of `parts`, in their order."""
    return index_of(
        {
            name: np.concatenate(
                [np.zeros(0, dtype=kind), *(getattr(part, name) for part in parts)]
            )
            for name, kind in DTYPES.items()
        }
    )


INDEX_FILE = "index.npz"
_R_PEAKS, _OFFSETS = "r_peaks", "r_peak_offsets"


def write_index(folder: Path, index: Index, r_peaks: Ragged) -> None:
    """Writes the index and the R peaks, one array per column."""
    arrays: dict[str, NDArray[Any]] = {_R_PEAKS: r_peaks.values, _OFFSETS: r_peaks.offsets}
    np.savez(folder / INDEX_FILE, allow_pickle=False, **arrays, **index.columns())


def read_index(folder: Path, n_windows: int) -> tuple[Index, Ragged]:
    """Reads what `write_index` wrote.

    Args:
        folder: The store.
        n_windows: How many windows it must have.

    Raises:
        StoreError: If the file is missing, damaged, or has another number of windows.
    """
    path = folder / INDEX_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = index_of({name: arrays[name] for name in DTYPES if name in arrays})
            r_peaks = Ragged(arrays[_R_PEAKS], arrays[_OFFSETS])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, StoreError) as error:
        raise damaged(path, error) from error
    if len(index) != n_windows or len(r_peaks) != n_windows:
        found = f"{len(index)} and R peaks of {len(r_peaks)}"
        raise damaged(path, f"expected {n_windows} windows, found {found}")
    return index, r_peaks


def damaged(path: Path, why: object) -> StoreError:
    """The error for a file of a store that is not as it was written."""
    return StoreError(
        f"{path}: missing or damaged ({why}); prepare the store again with --overwrite"
    )


FORMAT = 1
"""Raised when another release computes other values from the same records."""

Leads = str | tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides about the content of a store.

    Args:
        database: Name of the database.
        database_version: Its version, empty if unknown.
        options: What else the database was given, such as the meaning of labels.
        files: Number, size and digest of the database's files.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: `"preferred"` (one per record), `"all"`, or the names of leads.
        stride_s: From one window's start to the next, in seconds.
        limit: Only the first records, None for all of them.
        format: Version of the store's layout and content.

    Raises:
        ConfigError: If a setting is out of its range.
    """

    database: str
    database_version: str
    options: str
    files: str
    preprocessing: Preprocessing
    leads: Leads
    stride_s: float
    limit: int | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.stride_s > 0:
            raise ConfigError(f"stride_s: expected more than 0 s, found {self.stride_s}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: expected at least 1 record, found {self.limit}")
        if isinstance(self.leads, str) and self.leads not in ("preferred", "all"):
            raise ConfigError(
                f"leads: expected 'preferred', 'all' or a list of names, found {self.leads!r}"
            )
        if not self.leads:
            raise ConfigError("leads: expected at least one name, found an empty list")

    @classmethod
    def of(
        cls,
        database: Database,
        preprocessing: Preprocessing,
        leads: str | Sequence[str] | None = None,
        stride_s: float | None = None,
        limit: int | None = None,
    ) -> Recipe:
        """The recipe of a database as it lies on disk.

        Args:
            database: Where the records come from.
            preprocessing: Band limits, sampling rate, window, scaling.
            leads: As in `Recipe`; None takes what suits the database.
            stride_s: As in `Recipe`; None sets windows side by side.
            limit: As in `Recipe`.
        """
        if leads is None:
            leads = database.leads
        return cls(
            database=database.name,
            database_version=database.version,
            options=_options(database),
            files=file_digest(database.root),
            preprocessing=preprocessing,
            leads=leads if isinstance(leads, str) else tuple(leads),
            stride_s=preprocessing.window_s if stride_s is None else float(stride_s),
            limit=limit,
        )

    @property
    def fingerprint(self) -> str:
        """Equal for equal recipes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Recipe) -> list[str]:
        """One line per setting that differs: `"stride_s: 10.0 here, 5.0 asked for"`."""
        here, there = _flat(self.to_dict()), _flat(other.to_dict())
        return [
            f"{name}: {here.get(name)} here, {there.get(name)} asked for"
            for name in sorted(here.keys() | there.keys())
            if here.get(name) != there.get(name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["preprocessing"] = self.preprocessing.to_dict()
        plain["leads"] = self.leads if isinstance(self.leads, str) else list(self.leads)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`.

        Raises:
            StoreError: If keys are missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if plain.keys() != names:
            raise StoreError(
                f"recipe: expected the keys {', '.join(sorted(names))}, "
                f"found {', '.join(sorted(plain))}"
            )
        leads = plain["leads"]
        return cls(
            **{
                **plain,
                "preprocessing": Preprocessing.from_dict(plain["preprocessing"]),
                "leads": leads if isinstance(leads, str) else tuple(leads),
            }
        )


def _options(database: Database) -> str:
    """The database's own settings as JSON; paths below its folder are relative to it."""
    settings = {
        name: str(value.relative_to(database.root)) if isinstance(value, Path) else value
        for name, value in vars(database).items()
        if name not in ("root", "folder")
    }
    return json.dumps(settings, sort_keys=True)


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the preprocessing as `preprocessing.low_hz` and so on."""
    inner = {f"preprocessing.{name}": value for name, value in plain["preprocessing"].items()}
    return {name: value for name, value in plain.items() if name != "preprocessing"} | inner


INFO_FILE = "store.json"


@dataclass(frozen=True)
class StoreInfo:
    """The contents of `store.json`.

    Args:
        recipe: Everything that decides about the content.
        title: Name of the database in full.
        licence: Licence of the database.
        citation: What to cite.
        n_windows: Windows in the store.
        n_annotated: Windows with wave annotations.
        n_records: Records that were read and cut.
        skipped: Records that could not be used, and why.
        left_out: How many windows of the other records were left out, by reason.
        xecg_version: The release that wrote the store.
    """

    recipe: Recipe
    title: str
    licence: str
    citation: str
    n_windows: int
    n_annotated: int
    n_records: int
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    xecg_version: str = field(default_factory=lambda: version("xecg-lightning"))

    @property
    def database(self) -> str:
        """Name of the database."""
        return self.recipe.database

    @property
    def preprocessing(self) -> Preprocessing:
        """Band limits, sampling rate, window, scaling."""
        return self.recipe.preprocessing

    @property
    def leads(self) -> Leads:
        """`"preferred"`, `"all"`, or names of leads."""
        return self.recipe.leads

    @property
    def stride_s(self) -> float:
        """From one window's start to the next, in seconds."""
        return self.recipe.stride_s

    @property
    def fingerprint(self) -> str:
        """Equal for stores made of the same files with the same settings."""
        return self.recipe.fingerprint

    @property
    def format(self) -> int:
        """Version of the store's layout and content."""
        return self.recipe.format

    def write(self, folder: Path) -> None:
        """Writes `store.json` into a folder."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {"recipe": self.recipe.to_dict(), "fingerprint": self.fingerprint}
        text = json.dumps(plain, indent=2, ensure_ascii=False)
        (folder / INFO_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> StoreInfo:
        """Reads `store.json` from a folder.

        Raises:
            StoreError: If it is missing, damaged, or written in another format.
        """
        path = folder / INFO_FILE
        if not path.is_file():
            raise StoreError(
                f"{folder}: expected a prepared store, found no {INFO_FILE}; prepare one with "
                f"`xecg data prepare NAME --out {folder}`"
            )
        try:
            plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found_format = plain["recipe"]["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(path, error) from error
        if found_format != FORMAT:
            raise StoreError(
                f"{path}: expected format {FORMAT}, found {found_format}; another release of "
                "xecg wrote this store. Prepare it again with --overwrite"
            )
        plain.pop("fingerprint", None)
        try:
            return cls(**{**plain, "recipe": Recipe.from_dict(plain["recipe"])})
        except (TypeError, XECGError) as error:
            raise damaged(path, error) from error


SIGNALS_FILE = "signals.npy"
WAVES_FILE = "waves.npy"


@dataclass(frozen=True, eq=False)
class Store:
    """Windows of one database, ready for training.

    Opening reads the index only; signals and waves stay on disk until they are used. A store that
    is sent to another process is opened there anew.

    Args:
        path: The folder.
        signals: `(windows, window_samples)` float32, scaled as `info.preprocessing` says.
        waves: `(annotated windows, window_samples)` uint8 wave codes; `index.wave_row` points here.
        index: One line per window.
        info: Where the windows come from and how they were made.
        ragged_r_peaks: R peaks of all windows; see `r_peaks`.
    """

    path: Path
    signals: NDArray[np.float32]
    waves: NDArray[np.uint8]
    index: Index
    info: StoreInfo
    ragged_r_peaks: Ragged

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Opens a prepared store.

        Args:
            path: Its folder.

        Raises:
            StoreError: If it is missing, incomplete, damaged, or of another format.
        """
        path = Path(path)
        info = StoreInfo.read(path)
        window = info.preprocessing.window_samples
        signals = _open_array(path / SIGNALS_FILE, (info.n_windows, window), np.dtype("f4"))
        waves = _open_array(path / WAVES_FILE, (info.n_annotated, window), np.dtype("u1"))
        index, r_peaks = read_index(path, info.n_windows)
        return cls(path, signals, waves, index, info, r_peaks)

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)

    def r_peaks(self, row: int) -> NDArray[np.int32]:
        """`(beats,)` R peaks of a window, in samples from its start."""
        return self.ragged_r_peaks[row]


def _open_array(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Maps a `.npy` file of which shape and type are known."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    if array.shape != shape or array.dtype != dtype:
        raise damaged(
            path, f"expected shape {shape} of {dtype}, found {array.shape} of {array.dtype}"
        )
    return array  # type: ignore[no-any-return]


MEANINGS = {1: "AF", 0: "not AF", -1: "left out"}
"""What `af` says about a window."""

_LISTED = 8  # rhythms of each meaning with a line of their own; joined rhythms can be many


@dataclass(frozen=True)
class Count:
    """What some windows amount to.

    Args:
        windows: How many there are.
        records: How many records they come from.
        persons: How many known persons they come from.
    """

    windows: int
    records: int
    persons: int

    @classmethod
    def of(cls, index: Index, rows: NDArray[np.int64]) -> Count:
        """Counts the given rows."""
        persons = np.unique(index.person[rows])
        return cls(len(rows), len(np.unique(index.record[rows])), int((persons != "").sum()))


@dataclass(frozen=True)
class ClassCounts:
    """One line of the table.

    Args:
        meaning: One of `MEANINGS`, or `"all"`.
        rhythm: The database's word; empty where all rhythms of that meaning are counted.
        counts: Per part of the split.
    """

    meaning: str
    rhythm: str
    counts: dict[str, Count]


def count_classes(index: Index, parts: Mapping[str, NDArray[np.int64]]) -> list[ClassCounts]:
    """Counts everything, then each meaning, then its most frequent rhythms.

    Args:
        index: The index of a store.
        parts: Rows of each part.
    """
    return [
        ClassCounts(
            meaning,
            rhythm,
            {part: Count.of(index, rows[chosen[rows]]) for part, rows in parts.items()},
        )
        for meaning, rhythm, chosen in _classes(index)
    ]


def _classes(index: Index) -> Iterator[tuple[str, str, NDArray[np.bool_]]]:
    yield "all", "", np.ones(len(index), dtype=bool)
    for af, meaning in MEANINGS.items():
        of_meaning = index.af == af
        if not of_meaning.any():
            continue
        yield meaning, "", of_meaning
        rhythms, windows = np.unique(index.rhythm[of_meaning], return_counts=True)
        by_count = rhythms[np.argsort(-windows, kind="stable")]
        for rhythm in by_count[:_LISTED]:
            yield meaning, str(rhythm), of_meaning & (index.rhythm == rhythm)
        if len(others := by_count[_LISTED:]):
            yield meaning, f"{len(others)} others", of_meaning & np.isin(index.rhythm, others)

"""Windows of one database in one folder, ready for training."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from xecg.errors import ConfigError, StoreError, XECGError
from xecg.files import write_whole
from xecg.signal.preprocessing import Preprocessing

FORMAT = 2
"""Raised when another release computes other values from the same records."""
INFO_FILE, SIGNALS_FILE, WAVES_FILE = "store.json", "signals.npy", "waves.npy"
INDEX_FILE, R_PEAKS = "index.parquet", "r_peaks"
Leads = str | tuple[str, ...]

COLUMNS = {
    "record": "category",
    "person": "category",
    "group": "category",
    "source": "category",
    "lead": "category",
    "start_s": "float64",
    "rhythm": "category",
    "af": "int8",
    "n_beats": "int32",
    "rmssd_ms": "float32",
    "sdnn_ms": "float32",
    "reference_beats": "bool",
    "normal_beats": "bool",
    "wave_row": "int32",
    "annotated_share": "float32",
    "digest": "uint64",
}
"""Columns of the index and their types.

``record``: path of the record below the folder of the database, without ending. ``person``: a name
that is the same in all databases, or empty. ``group``: what a split keeps together, which is the
person, else database and record, and one name for groups with an identical signal. ``source``: the
collection that the record is from. ``start_s``: start of the window in its record. ``rhythm``: the
database's word; several are joined by ``+``. ``af``: 1 AF, 0 not AF, -1 left out. ``rmssd_ms``,
``sdnn_ms``: NaN below five beats. ``reference_beats``: whether the heartbeats are annotations.
``normal_beats``: whether all beats and the rhythm are annotated as sinus. ``wave_row``: row of
``Store.waves``, or -1. ``annotated_share``: share of the samples with a wave annotation.
``digest``: of the samples as they were recorded.
"""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides about the content of a store.

    Args:
        database: Name of the database.
        database_version: Its version, empty if unknown.
        options: Other settings of the database, such as the meaning of labels.
        files: Number, size and digest of the database's files.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: ``"preferred"`` (one per record), ``"all"``, or names of leads.
        stride_s: Seconds from the start of a window to the next one's.
        limit: Number of records to take, the first ones; null for all.
        format: Version of the store's layout and content.

    Raises:
        ConfigError: If a setting is out of its range.
    """

    database: str
    database_version: str
    options: dict[str, Any]
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

    @property
    def fingerprint(self) -> str:
        """A digest; equal for equal recipes."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def differences(self, other: Recipe) -> list[str]:
        """Returns a line per setting that differs: ``"stride_s: 10.0 here, 5.0 asked for"``."""
        here, there = _flat(asdict(self)), _flat(asdict(other))
        changed = [name for name in {**here, **there} if here.get(name) != there.get(name)]
        return [
            _files_changed(self.files, other.files)
            if name == "files"
            else f"{name}: {here.get(name)} here, {there.get(name)} asked for"
            for name in sorted(changed)
        ]

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """Returns the recipe of which ``asdict`` made ``plain``."""
        leads = plain["leads"]
        made = {
            "preprocessing": Preprocessing.from_dict(plain["preprocessing"]),
            "leads": leads if isinstance(leads, str) else tuple(leads),
        }
        return cls(**plain | made)


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings by name; those of the preprocessing as ``preprocessing.low_hz``."""
    flat: dict[str, Any] = {}
    for name, value in plain.items():
        inner = value if isinstance(value, dict) else {}
        flat |= {f"{name}.{key}": setting for key, setting in inner.items()} or {name: value}
    return flat


def _files_changed(here: str, there: str) -> str:
    sizes = [text.rpartition(", ")[0] for text in (here, there)]
    if sizes[0] == sizes[1]:
        return f"files: names or labels of the database's {sizes[0]} have changed since"
    return f"files: the database had {sizes[0]} and has {sizes[1]} now"


@dataclass(frozen=True)
class StoreInfo:
    """The contents of ``store.json``.

    Args:
        recipe: Everything that decides about the content.
        identity: Name that tells the database from any other; see ``Database.identity``.
        title: Name of the database in full.
        licence: Licence of the database.
        citation: What to cite.
        n_windows: Number of windows.
        n_annotated: Number of windows with wave annotations.
        n_records: Number of records that were read and cut.
        skipped: Records that could not be used, and why.
        left_out: Number of windows of the other records that were left out, by reason.
        data: Folder of the arrays and the index within the store.
        xecg_version: Release that wrote the store.
    """

    recipe: Recipe
    identity: str
    title: str
    licence: str
    citation: str
    n_windows: int
    n_annotated: int
    n_records: int
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    data: str = "data"
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
    def stride_s(self) -> float:
        """Seconds from the start of a window to the next one's."""
        return self.recipe.stride_s

    @property
    def fingerprint(self) -> str:
        """A digest; equal for stores made of the same files with the same settings."""
        return self.recipe.fingerprint

    def write(self, folder: Path) -> None:
        """Writes ``store.json`` into a folder."""
        plain = asdict(self) | {"fingerprint": self.fingerprint}
        text = json.dumps(plain, indent=2, ensure_ascii=False)
        write_whole(folder / INFO_FILE, text + "\n")

    @classmethod
    def read(cls, folder: Path) -> StoreInfo:
        """Reads ``store.json`` from a folder.

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
            recipe = plain["recipe"]
            found, name = recipe["format"], recipe["database"]
        except (ValueError, TypeError, KeyError) as error:
            raise _damaged(path, error) from error
        if found != FORMAT:
            raise StoreError(
                f"{folder}: expected a store of format {FORMAT}, found format {found}, of another "
                "release of xecg; prepare it again: "
                f"`xecg data prepare {name} --root FOLDER --out {folder} --overwrite`"
            )
        plain.pop("fingerprint", None)
        try:
            return cls(**plain | {"recipe": Recipe.from_dict(recipe)})
        except (TypeError, KeyError, XECGError) as error:
            raise _damaged(path, error) from error


@dataclass(frozen=True, eq=False)
class Store:
    """Windows of one database, ready for training.

    Opening reads the index only; signals and waves stay on disk until they are used. A store that
    is sent to another process is opened there anew.

    Args:
        path: The folder.
        signals: ``(windows, time)`` float32, scaled as ``info.preprocessing`` says.
        waves: ``(annotated windows, time)`` uint8 wave codes; ``index.wave_row`` points here.
        index: One line per window, with ``COLUMNS``.
        info: Where the windows come from and how they were made.
        beats: R peaks of all windows, as a list per window; see ``r_peaks``.
    """

    path: Path
    signals: NDArray[np.float32]
    waves: NDArray[np.uint8]
    index: pd.DataFrame
    info: StoreInfo
    beats: tuple[NDArray[np.int32], NDArray[np.int32]]

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
        data, window = path / info.data, info.preprocessing.window_samples
        signals = _open_array(data / SIGNALS_FILE, (info.n_windows, window), np.dtype("f4"))
        waves = _open_array(data / WAVES_FILE, (info.n_annotated, window), np.dtype("u1"))
        index, beats = _read_index(data / INDEX_FILE, info.n_windows)
        return cls(path, signals, waves, index, info, beats)

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path.resolve(),)

    def r_peaks(self, row: int) -> NDArray[np.int32]:
        """Returns the R peaks of a window, in samples from its start: ``(beats,)``."""
        values, ends = self.beats
        row = range(len(self))[row]  # negative rows count from the end, others raise IndexError
        return values[ends[row] : ends[row + 1]]


def _read_index(
    path: Path, n_windows: int
) -> tuple[pd.DataFrame, tuple[NDArray[np.int32], NDArray[np.int32]]]:
    try:
        table = parquet.read_table(path).combine_chunks()
        r_peaks = pa.concat_arrays([pa.array([], pa.list_(pa.int32())), *table[R_PEAKS].chunks])
        index = table.select(list(COLUMNS)).to_pandas()
    except (OSError, KeyError, pa.ArrowException) as error:
        raise _damaged(path, error) from error
    found = index.dtypes.astype(str).to_dict()
    if found != COLUMNS or len(index) != n_windows:
        wrong = {name: kind for name, kind in found.items() if kind != COLUMNS[name]}
        raise _damaged(path, f"expected {n_windows} windows, found {len(index)}; {wrong}")
    return index, (r_peaks.values.to_numpy(), r_peaks.offsets.to_numpy())


def _open_array(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Maps a ``.npy`` file whose shape and type are known."""
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if array.shape != shape or array.dtype != dtype:
        raise _damaged(
            path, f"expected shape {shape} of {dtype}, found {array.shape} of {array.dtype}"
        )
    return array


def _damaged(path: Path, why: object) -> StoreError:
    return StoreError(
        f"{path}: missing or damaged ({why}); prepare the store again with --overwrite"
    )

"""Windows of one database in one folder, ready for training."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import parquet

from xecg.data.splits import PARTS, Split, split_stores
from xecg.errors import ConfigError, StoreError, check_ranges
from xecg.files import json_digest, sha256, write_whole
from xecg.signal.preprocessing import Preprocessing

FORMAT = 4  # raised when a release keeps other values of the same records
INFO, SIGNALS, WAVES = "store.json", "signals.npy", "waves.npy"
INDEX, R_PEAKS = "index.parquet", "r_peaks"
MEANINGS = {1: "AF", 0: "not AF", -1: "left out"}
_LISTED = 16  # rhythms and leads that are named

COLUMNS = {  # of the index, and their types
    "record": "category",  # path below the folder of the database, without ending
    "person": "category",  # a name that is the same in all databases, or empty
    # What a split keeps together: the person, else the record; one for identical signals.
    "group": "category",
    "source": "category",  # the collection that the record is from
    "lead": "category",
    "start_s": "float64",  # start of the window in its record
    "rhythm": "category",  # the database's word; several are joined by +
    "af": "int8",  # 1 AF, 0 not AF, -1 left out
    "beat_symbols": "category",  # WFDB symbols of its annotated beats, each once: "NV"
    "age": "float32",  # years, NaN if unknown
    "sex": "category",  # F, M, or empty
    "n_beats": "int32",
    "rmssd_ms": "float32",  # NaN below five beats, as sdnn_ms
    "sdnn_ms": "float32",
    "reference_beats": "bool",  # whether the heartbeats are annotations
    "normal_beats": "bool",  # whether all beats and the rhythm are annotated as sinus
    "wave_row": "int32",  # row of Store.waves, or -1
    "annotated_share": "float32",  # share of the samples with a wave annotation
    "digest": "uint64",  # of the samples as they were recorded
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides about a store; raises ConfigError if a setting is out of range."""

    database: str
    database_version: str  # empty if unknown
    options: dict[str, Any]  # other settings of the database, such as the meaning of labels
    files: str  # number, size and digest of the database's files
    preprocessing: Preprocessing
    leads: str | Sequence[str]  # "preferred" (one per record), "all", or names
    stride_s: float  # from the start of a window to the next one's
    limit: int | None = None  # number of records to take, the first ones; null for all
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.stride_s > 0:
            raise ConfigError(f"stride_s: expected more than 0 s, found {self.stride_s}")
        check_ranges(limit=(1 if self.limit is None else self.limit, 1))
        if not isinstance(self.leads, str) and self.leads:
            object.__setattr__(self, "leads", tuple(self.leads))
        elif self.leads not in ("preferred", "all"):
            known = "'preferred', 'all' or a list of names"
            raise ConfigError(f"leads: expected {known}, found {self.leads!r}")

    @property
    def fingerprint(self) -> str:
        """A digest; equal for equal recipes."""
        return json_digest(asdict(self))

    def differences(self, other: Self) -> list[str]:
        """Returns a line per setting that differs: ``"stride_s: 10.0 here, 5.0 asked for"``."""
        tables = [pd.json_normalize(asdict(recipe), max_level=1) for recipe in (self, other)]
        here, there = (table.to_dict("records")[0] for table in tables)
        changed = sorted(str(n) for n in here | there if here.get(n) != there.get(n))
        return [f"{n}: {here.get(n)} here, {there.get(n)} asked for" for n in changed]


@dataclass(frozen=True)
class StoreInfo:
    """The contents of ``store.json``."""

    recipe: Recipe
    identity: str  # tells the database from any other; see Database.identity
    title: str
    licence: str
    citation: str
    n_windows: int
    n_annotated: int  # windows with wave annotations
    n_records: int  # records that were read and cut
    sha256: dict[str, str]  # digests of the arrays and the index, by name
    skipped: dict[str, str] = field(default_factory=dict)  # records that cannot be used, and why
    left_out: dict[str, int] = field(default_factory=dict)  # windows of the others, by reason
    data: str = "data"  # folder of the arrays and the index within the store
    xecg_version: str = field(default_factory=lambda: version("xecg-lightning"))

    @property
    def preprocessing(self) -> Preprocessing:
        """Band limits, sampling rate, window, scaling."""
        return self.recipe.preprocessing

    @property
    def fingerprint(self) -> str:
        """A digest; equal for stores made of the same files with the same settings."""
        return self.recipe.fingerprint

    def write(self, folder: Path) -> None:
        """Writes ``store.json`` into a folder, with a digest of itself."""
        plain = asdict(self) | {"fingerprint": self.fingerprint}
        plain["digest"] = json_digest(plain)
        write_whole(folder / INFO, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads ``store.json``; raises StoreError if missing, damaged or of another format."""
        path = folder / INFO
        if not path.is_file():
            todo = f"prepare one with `xecg data prepare NAME --out {folder}`"
            raise StoreError(f"{folder}: expected a prepared store, found no {INFO}; {todo}")
        try:
            plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            recipe = plain["recipe"]
            if recipe["format"] != FORMAT:
                raise StoreError(
                    f"{folder}: expected a store of format {FORMAT}, found format "
                    f"{recipe['format']}, of another release of xecg; prepare it again: `xecg data "
                    f"prepare {recipe['database']} --root FOLDER --out {folder} --overwrite`"
                )
            if plain.pop("digest") != json_digest(plain):
                raise ValueError("its digest is not that of its contents")
            recipe["preprocessing"] = Preprocessing.from_dict(recipe["preprocessing"])
            del plain["fingerprint"]
            return cls(**plain | {"recipe": Recipe(**recipe)})
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise _damaged(path, error) from error


@dataclass(frozen=True, eq=False)
class Store:
    """Windows of one database, ready for training.

    Opening reads the index and compares digests, about a second per GB; signals and waves stay on
    disk until they are used. A store that is sent to another process is opened there anew.
    """

    path: Path
    signals: NDArray[np.float32]  # (windows, time), scaled as info.preprocessing says
    waves: NDArray[np.uint8]  # (annotated windows, time); index.wave_row points here
    index: pd.DataFrame  # one line per window, with COLUMNS
    info: StoreInfo  # where the windows come from and how they were made
    beats: pa.ListArray  # of all windows; see r_peaks

    @classmethod
    def open(cls, path: Path | str) -> Self:
        """Opens a store; raises StoreError if missing, damaged or of another format."""
        path = Path(path)
        info = StoreInfo.read(path)
        data = path / info.data
        for name, digest in info.sha256.items():
            try:
                found = sha256(data / name)
            except OSError as error:
                raise _damaged(data / name, error) from error
            if found != digest:
                raise _damaged(data / name, "its digest is not that of what was prepared")
        signals, waves = (np.load(data / name, mmap_mode="r") for name in (SIGNALS, WAVES))
        table = parquet.read_table((data / INDEX).absolute())  # else "a:b" is an address
        index, beats = table.select(list(COLUMNS)).to_pandas(), table[R_PEAKS].combine_chunks()
        return cls(path, signals, waves, index, info, beats)

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path.resolve(),)

    def r_peaks(self, row: int) -> NDArray[np.int32]:
        """Returns the R peaks of a window, in samples from its start: ``(beats,)``."""
        r_peaks: NDArray[np.int32] = self.beats[row].values.to_numpy()
        return r_peaks


def _damaged(path: Path, why: object) -> StoreError:
    todo = "prepare the store again with --overwrite"
    return StoreError(f"{path}: missing or damaged ({why}); {todo}")


def show(store: str, split: Split = Split()) -> None:  # noqa: B008 (frozen)
    """Counts what a store holds, by class, rhythm and part of a split.

    Args:
        store: Folder of a store, or the name of one in ``stores``.
        split: Shares of the persons or records by which is counted.
    """
    by_name = Path("stores") / store
    opened = Store.open(by_name if by_name.is_dir() and not Path(store).is_dir() else store)
    info, index, settings = opened.info, opened.index, opened.info.preprocessing
    leads = [f"{lead} ({n})" for lead, n in index["lead"].value_counts().items() if n][:_LISTED]
    left_out = [f"{count} {reason}" for reason, count in sorted(info.left_out.items())]
    print(f"""{opened.path}
  {info.title}, version {info.recipe.database_version or "unknown"}
  licence: {info.licence}
  cite: {info.citation}
  windows: {len(opened)} of {settings.window_s:g} s, one every {info.recipe.stride_s:g} s, at \
{settings.sampling_rate:g} Hz; band {settings.low_hz} to {settings.high_hz} Hz; \
scaling {settings.scaling}
  leads: {", ".join(leads)}
  heartbeats: annotated in {index["reference_beats"].sum()} windows, detected in the others
  waves: annotated in {info.n_annotated} windows
  windows left out: {", ".join(left_out) or "none"}
  records skipped: {len(info.skipped)} (store.json says why)

{count_classes(opened, split).to_string()}""")


def count_classes(store: Store, split: Split) -> pd.DataFrame:
    """Returns numbers of windows, records and persons, by class and rhythm and part of a split.

    A row without a rhythm is of all rhythms; rare ones are counted together.
    """
    index = store.index[["record", "person", "rhythm"]].astype(str)
    index["person"] = index["person"].where(index["person"] != "")  # unknown ones are not counted
    common = index["rhythm"].value_counts().index[:_LISTED]
    index["rhythm"] = index["rhythm"].where(index["rhythm"].isin(common), "other rhythms")
    index["class"] = store.index["af"].map(MEANINGS)
    (rows_of,) = split_stores([("", store.index)], [split])
    parts = (index.iloc[rows_of[part]].assign(part=part) for part in PARTS)
    named = pd.concat([index.assign(part="whole store"), *parts])
    totals = named.assign(rhythm="")
    lines = pd.concat([totals.assign(**{"class": "all"}), totals, named])
    lines["class"] = pd.Categorical(lines["class"], ["all", *MEANINGS.values()])
    lines["part"] = pd.Categorical(lines["part"], ["whole store", *PARTS])
    counts = lines.groupby(["class", "rhythm", "part"], observed=True).agg(
        windows=("record", "size"), records=("record", "nunique"), persons=("person", "nunique")
    )
    table = pd.DataFrame(counts.unstack("part", fill_value=0)).swaplevel(axis=1)
    return table.sort_index(axis=1, level=0, sort_remaining=False)

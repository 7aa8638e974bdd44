"""From a database to a store, once: prepared piece by piece, reused from then on."""

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock
from pyarrow import parquet

from xecg.data.databases import Database, get_database
from xecg.data.databases.base import LEFT_OUT
from xecg.data.databases.synthetic import SyntheticSettings, synthetic_records
from xecg.data.splits import merge_groups, opposed
from xecg.data.store import COLUMNS, INDEX, INFO, R_PEAKS, SIGNALS, WAVES, Recipe, Store, StoreInfo
from xecg.data.windowing import labelled_windows
from xecg.errors import ConfigError, DataError, StoreError, WorkerDiedError, XECGError
from xecg.executors import Part, executor, run_parts
from xecg.files import json_digest, sha256, whole_file
from xecg.signal.header import is_file
from xecg.signal.preprocessing import Preprocessing

_log = logging.getLogger(__name__)
_LOGGED = 5  # skipped records in the log; store.json names all of them
_LARGEST_PIECE, _PIECES = 32, 64  # records of a piece; pieces of a small database


def prepare(
    database: str | Database,
    out: Path | str | None = None,
    *,
    root: Path | str | None = None,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
    leads: str | list[str] | None = None,
    stride_s: float | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    jobs: int | None = 1,
    cluster: str | None = None,
    table: str | None = None,
    af: list[str] | None = None,
    not_af: list[str] | None = None,
    left_out: list[str] | None = None,
    synthetic: SyntheticSettings | None = None,
) -> Store:
    """Cuts a database into windows, ready for training, validation and test.

    A store of the same files and settings is used again. A record that cannot be used is skipped
    and counted. A command that was killed continues when it is given again.

    Args:
        database: Name of the database (``xecg data list``), or class path of your own.
        out: Folder of the store; ``stores/NAME`` by default.
        root: Folder that holds the database; ``data/NAME`` by default.
        preprocessing: Band (null for no edge), sampling rate, length and scaling of the windows.
        leads: ``preferred`` (one per record), ``all``, or names; by default what suits it.
        stride_s: Seconds from window to window; the length of a window by default.
        limit: Number of records to take, to try things out; all by default.
        overwrite: Replace a store that was made with other settings.
        jobs: Number of processes; null, which commands have by default, is one per core.
        cluster: Address or scheduler file of a dask cluster, in place of processes.
        table: Folder: table of record, label and, if known, person, start_s, end_s; ``records.csv``
            by default.
        af: Folder: labels that mean AF; by default A, AF, AFIB, 1, true.
        not_af: Folder: labels that mean another rhythm; by default N, O, NSR, SR, non-AF, normal,
            other, 0, false.
        left_out: Folder: labels of records to be left out of AF classification.
        synthetic: Synthetic ECGs that are made now: persons, records, AF.

    Raises:
        StoreError: If something else is at ``out``.
        DataError: If no record gives a window.
        ConfigError: If a setting is out of its range or has no effect.
    """
    leads = leads[0] if leads in (["preferred"], ["all"]) else leads
    if not isinstance(database, Database):
        given = {"table": table, "af": af, "not_af": not_af, "left_out": left_out}
        options = {name: value for name, value in given.items() if value is not None}
        records = Path(f"{out or Path('stores') / database}-records")
        root = _root(database, root, options, synthetic, leads, records)
        database = get_database(database, root, **options)
    out = Path("stores") / database.name if out is None else Path(out)
    recipe = recipe_of(database, preprocessing, leads, stride_s, limit)
    store = _prepared(database, recipe, out, overwrite, jobs, cluster)
    print(f"{out}: {len(store)} windows of {store.info.n_records} records")
    return store


def _root(
    name: str,
    root: Path | str | None,
    options: Mapping[str, Any],
    synthetic: SyntheticSettings | None,
    leads: str | list[str] | None,
    records: Path,
) -> Path | str:
    """The folder of a database by name; synthetic ECGs are made now, in ``records``."""
    if options and name != "folder":
        raise ConfigError(f"--{', --'.join(options)}: only for the database 'folder'; leave it out")
    if name == "synthetic" and root is None:
        settings = synthetic or SyntheticSettings()
        settings = replace(settings, leads=tuple(leads)) if isinstance(leads, list) else settings
        return synthetic_records(records, settings)
    if synthetic is not None:
        raise ConfigError("--synthetic: only for 'synthetic' without --root; leave it out")
    return root or Path("data") / name


def _prepared(
    database: Database,
    recipe: Recipe,
    out: Path,
    overwrite: bool,
    jobs: int | None,
    cluster: str | None,
) -> Store:
    if out.resolve().is_relative_to(database.root.resolve()):
        why = "where a new file makes the store out of date; give another --out"
        raise ConfigError(f"{out} lies in the folder of the database, {why}")
    if out.exists() and not (out / INFO).is_file():
        found = "something else, which is never replaced; give another --out"
        raise StoreError(f"{out}: expected a store or nothing, found {found}")
    if store := _reusable(out, recipe, overwrite):
        return store
    records = database.records()[: recipe.limit]
    with executor(jobs, cluster) as pool, only_one(out):
        if store := _reusable(out, recipe, overwrite):  # another process made it
            return store
        parts = Path(f"{out}.parts-{json_digest([recipe.fingerprint, database.identity])[:16]}")
        size = max(1, min(_LARGEST_PIECE, len(records) // _PIECES))
        pieces = [records[i : i + size] for i in range(0, len(records), size)]
        work = partial(prepare_piece, database, recipe)
        made = list(run_parts(work, pieces, parts, pool, title=database.name))
        info = _merge(made, database, recipe, parts / "store")
        _install(parts / "store", out)
        for folder in out.parent.glob(f"{out.name}.parts-*"):
            shutil.rmtree(folder, ignore_errors=True)
    for record, reason in list(info.skipped.items())[:_LOGGED]:
        _log.warning("skipped %s: %s", record, reason)
    if n := len(info.skipped):
        counts = f"{n} of {info.n_records + n} records skipped, {min(n, _LOGGED)} of them above"
        _log.warning("%s; all: %s", counts, out / INFO)
    return Store.open(out)


def recipe_of(
    database: Database,
    preprocessing: Preprocessing,
    leads: str | Sequence[str] | None = None,
    stride_s: float | None = None,
    limit: int | None = None,
) -> Recipe:
    """Returns the recipe of a database as it lies on disk; arguments as in :func:`prepare`."""
    what = database.name, database.version, database.options()
    files = file_digest(database.root, database.tables())
    leads = database.leads if leads is None else leads
    stride_s = preprocessing.window_s if stride_s is None else float(stride_s)
    return Recipe(*what, files, preprocessing, leads, stride_s, limit)


def file_digest(folder: Path, tables: Iterable[Path] = ()) -> str:
    """Returns ``"96 files of 100423568 bytes, 0f343b0931126a20"``: all but hidden files.

    The digest is over paths and sizes, and over the contents of ``tables``.
    """
    sizes: list[tuple[str, int]] = []
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (resolved := os.path.realpath(place)) in seen:  # a link that leads round
            folders.clear()
            continue
        seen.add(resolved)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = f"{Path(place).relative_to(folder).as_posix()}/".removeprefix("./")
        for name in (name for name in names if not name.startswith(".")):
            path = f"{place}/{name}"  # a Path would take as long as all of the rest
            size = os.stat(path, follow_symlinks=is_file(path)).st_size  # noqa: PTH116
            sizes.append((below + name, size))
    read = [hashlib.sha256(table.read_bytes()).hexdigest() for table in tables]
    n_bytes = sum(size for _, size in sizes)
    return f"{len(sizes)} files of {n_bytes} bytes, {json_digest([sorted(sizes), read])[:16]}"


def _reusable(out: Path, recipe: Recipe, overwrite: bool) -> Store | None:
    """The store at ``out`` if it was made so; null if there is none, or another to overwrite."""
    if not out.exists():
        return None
    try:
        store = Store.open(out)
        if differences := store.info.recipe.differences(recipe):
            why = f"{'; '.join(differences)}. Pass --overwrite to replace it, or another --out"
            raise StoreError(f"{out}: there is a store made with other settings: {why}")
    except StoreError:
        if overwrite:
            return None
        raise
    _log.info("%s: prepared already; its %d windows are reused", out, len(store))
    return store


@contextmanager
def only_one(out: Path) -> Iterator[None]:
    """Holds a lock beside ``out`` that the end of the process frees; another process waits for it.

    Raises StoreError if something cannot be written meanwhile.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{out}.lock"):
            yield
    except OSError as error:
        why = f"cannot be written ({error}); free the space or give another --out"
        raise StoreError(f"{out}: {why}") from error


def prepare_piece(database: Database, recipe: Recipe, records: Sequence[str], path: Path) -> None:
    """Writes signals, waves and index of the windows of records, and what is missing.

    A record that cannot be used is skipped.
    """
    how = recipe.preprocessing, recipe.leads, recipe.stride_s
    rows: list[dict[str, Any]] = []
    none = np.empty((0, recipe.preprocessing.window_samples))
    signals, waves = [none.astype(np.float32)], [none.astype(np.uint8)]
    skipped: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    for record in records:
        labelled = None
        try:
            record.encode()  # a name that is no text cannot be stored
            labelled = database.read(record)
            found = [*labelled_windows(labelled, record, *how)]
        except (XECGError, OSError) as error:
            skipped[record] = str(error)
            continue
        except Exception as error:
            if labelled is None:  # damaged bytes bring parsers to raise anything
                skipped[record] = f"cannot be read ({type(error).__name__}: {error})"
                continue
            error.add_note(f"while record {record} of {database.name} was cut into windows")
            raise
        known = {"group": labelled.person or f"{database.identity}/{record}", "wave_row": -1}
        for windows in found:
            left_out.update(windows.left_out)
            annotated = [row["annotated_share"] > 0 for row in windows.rows]
            signals.append(windows.signals)
            waves += [] if windows.waves is None else [windows.waves[annotated]]
            rows += [row | known for row in windows.rows]
    index = pd.DataFrame(rows, columns=[*COLUMNS, R_PEAKS])
    index.attrs = {"skipped": skipped, "left_out": left_out}
    with whole_file(path, "wb") as file:
        np.save(file, np.concatenate(signals))
        np.save(file, np.concatenate(waves))
        file.write(index.to_parquet())  # pandas 2 keeps no attributes in feather


def _merge(parts: Sequence[Part], database: Database, recipe: Recipe, folder: Path) -> StoreInfo:
    """Writes the parts, in their order, as one store."""
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    (data := folder / "data").mkdir(parents=True)
    window = recipe.preprocessing.window_samples
    tables: list[pd.DataFrame] = []
    skipped: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    paths = data / SIGNALS, data / WAVES
    with _rows(paths[0], "<f4", window) as signals, _rows(paths[1], "|u1", window) as waves:
        for part in parts:
            if isinstance(part.error, WorkerDiedError):
                skipped[part.items[0]] = str(part.error)
                continue
            if part.error is not None:
                raise part.error
            with part.path.open("rb") as file:
                signals.write(np.load(file))
                waves.write(np.load(file))
                table = pd.read_parquet(BytesIO(file.read()))
            tables += [table] if len(table) else []
            skipped |= table.attrs["skipped"]
            left_out.update(table.attrs["left_out"])
    n_records = sum(len(part.items) for part in parts)
    if not tables:
        shutil.rmtree(folder.parent, ignore_errors=True)
        why = [f"{n} windows left out: {reason}" for reason, n in left_out.most_common()]
        why += [f"{record}: {reason}" for record, reason in skipped.items()]
        wanted = f"at least one usable window in the {n_records} records of {database.root}"
        found = "; ".join(why[:_LOGGED]) or "nothing"
        raise DataError(f"{database.name}: expected {wanted}, found {found}")
    index, unclear = _whole_index(tables)
    for reason, n in unclear.most_common(_LOGGED):
        _log.warning("%d windows left out: %s", n, reason)
    parquet.write_table(index, (data / INDEX).absolute())  # else "a:b" is an address
    info = StoreInfo(
        recipe=recipe,
        identity=database.identity,
        title=database.title,
        licence=database.licence,
        citation=database.citation,
        n_windows=len(index),
        n_annotated=int((index["wave_row"].to_numpy() >= 0).sum()),
        n_records=n_records - len(skipped),
        skipped=skipped,
        left_out=dict(left_out + unclear),
        sha256={path.name: sha256(path) for path in (*paths, data / INDEX)},
    )
    info.write(folder)
    return info


@contextmanager
def _rows(path: Path, dtype: str, width: int) -> Iterator[IO[bytes]]:
    """A ``.npy`` file that rows are appended to; their number is in its header at the end."""
    header = {"descr": dtype, "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (0, width)})
        begin = file.tell()
        yield file
        n_rows = (file.tell() - begin) // (width * np.dtype(dtype).itemsize)
        file.seek(0)
        np.lib.format.write_array_header_1_0(file, header | {"shape": (n_rows, width)})


def _whole_index(tables: Sequence[pd.DataFrame]) -> tuple[pa.Table, Counter[str]]:
    """All lines, with the rows of the waves, and one group for identical signals.

    Identical signals that are AF and not AF are left out of AF, and counted with their records.
    """
    index = pd.concat(tables, ignore_index=True)
    annotated = index["annotated_share"] > 0
    index["wave_row"] = (annotated.cumsum() - 1).where(annotated, -1).astype(np.int32)
    unclear = index["digest"].map("AF and not AF for one signal, of " + opposed([("", index)]))
    unclear = unclear[index["af"] != LEFT_OUT].dropna()
    index.loc[unclear.index, "af"] = LEFT_OUT
    columns: dict[str, Any] = {}
    for name, kind in COLUMNS.items():
        texts = kind == "category"
        column = pa.array(index[name].to_numpy(dtype=object if texts else kind))
        columns[name] = column.dictionary_encode() if texts else column
    codes, groups = pd.factorize(index["group"].to_numpy(dtype=object), sort=True)
    merged = pa.array(merge_groups(codes, index["digest"].to_numpy()), pa.int32())
    columns["group"] = pa.DictionaryArray.from_arrays(merged, pa.array(groups))
    columns[R_PEAKS] = pa.array(index[R_PEAKS].tolist(), pa.list_(pa.int32()))
    return pa.table(columns), Counter(unclear)


def _install(new: Path, out: Path) -> None:
    """Moves a whole store to its place; one that is there is readable until it is replaced."""
    if not out.exists():
        new.rename(out)
        return
    info = StoreInfo.read(new)
    name = f"data-{info.fingerprint[:16]}"  # another recipe's, or that of a damaged store
    shutil.rmtree(out / name, ignore_errors=True)
    (new / info.data).rename(out / name)
    replace(info, data=name).write(out)  # from here on it is the new store
    for old in {*out.glob("data*")} - {out / name}:
        shutil.rmtree(old, ignore_errors=True)

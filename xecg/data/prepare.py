"""From a database to a store, once: prepared piece by piece, reused from then on."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from pyarrow import compute, parquet

from xecg.data.databases import get_database
from xecg.data.databases.base import Database
from xecg.data.store import (
    COLUMNS,
    INDEX_FILE,
    INFO_FILE,
    R_PEAKS,
    SIGNALS_FILE,
    WAVES_FILE,
    Recipe,
    Store,
    StoreInfo,
)
from xecg.data.windowing import LabelledWindows, labelled_windows, merge_groups
from xecg.errors import ConfigError, DataError, RecordError, StoreError, WorkerDiedError, XECGError
from xecg.executors import Part, executor, run_parts
from xecg.files import whole_file
from xecg.signal.preprocessing import Preprocessing

_log = logging.getLogger(__name__)
_LOGGED = 5  # skipped records in the log; store.json names all of them
_LARGEST_PIECE, _PIECES = 32, 64  # records of a piece; pieces of a small database
_MERGED = ("group", "wave_row")  # known when all parts are there
_ARROW = {"category": pa.string(), "float64": pa.float64(), "float32": pa.float32()}
_ARROW |= {"bool": pa.bool_(), "int8": pa.int8(), "int32": pa.int32(), "uint64": pa.uint64()}


def prepare(
    database: Database | str,
    out: Path | str | None = None,
    *,
    root: Path | str | None = None,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
    leads: str | Sequence[str] | None = None,
    stride_s: float | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    jobs: int | None = 1,
    cluster: str | None = None,
) -> Store:
    """Prepares a database, or reuses the store that is there already.

    The store appears at ``out`` when it is whole; until then parts are kept beside it, from which
    the same call continues if it was killed. If several processes prepare the same store, one
    works, the others wait and reuse. A record that cannot be used is skipped, logged and counted
    in the store's info. The result does not depend on the number of processes.

    Args:
        database: Where the records come from: a database, or the name of one.
        out: Folder of the store; ``stores/<database>`` by default.
        root: Folder of the named database; ``data/<database>`` by default.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: ``"preferred"`` (one per record), ``"all"``, or names; null takes what suits the
            database.
        stride_s: Seconds from the start of a window to the next one's; null sets them side by side.
        limit: Number of records to take, to try things out; null takes all.
        overwrite: Replace a store that is there.
        jobs: Number of processes; 1 works in this process, null takes one per core.
        cluster: Address or scheduler file of a dask cluster, in place of processes.

    Raises:
        StoreError: If there is a store made with other settings, or something else, at ``out``.
        DataError: If no record gives a window.
        ConfigError: If a setting is out of its range.
    """
    if isinstance(database, str):
        database = get_database(database, root or Path("data") / database)
    out = Path("stores") / database.name if out is None else out
    out = Path(out)
    _check(database, out)
    records = database.records()[:limit]
    recipe = recipe_of(database, preprocessing, leads, stride_s, limit)
    if not overwrite and (store := _reusable(out, recipe)):
        return store
    with executor(jobs, cluster) as pool, only_one(out) as waited:
        if waited and (store := _made_meanwhile(out, recipe, overwrite)):
            return store
        parts = Path(f"{out}.parts-{_digest(recipe.fingerprint, database.identity)}")
        size = max(1, min(_LARGEST_PIECE, len(records) // _PIECES))  # whatever the number of jobs
        pieces = [records[i : i + size] for i in range(0, len(records), size)]
        work = partial(prepare_piece, database, recipe)
        made = list(run_parts(work, pieces, parts, pool, title=database.name))
        try:
            info = _merge(made, database, recipe, parts / "store")
        except DataError:  # no window
            shutil.rmtree(parts, ignore_errors=True)
            raise
        _install(parts / "store", out)
        for folder in out.parent.glob(f"{out.name}.parts-*"):
            shutil.rmtree(folder, ignore_errors=True)
    _log_skipped(info)
    return Store.open(out)


def recipe_of(
    database: Database,
    preprocessing: Preprocessing,
    leads: str | Sequence[str] | None = None,
    stride_s: float | None = None,
    limit: int | None = None,
) -> Recipe:
    """Returns the recipe of a database as it lies on disk; arguments as in :func:`prepare`."""
    leads = database.leads if leads is None else leads
    return Recipe(
        database=database.name,
        database_version=database.version,
        options=database.options(),
        files=file_digest(database.root, database.tables()),
        preprocessing=preprocessing,
        leads=leads if isinstance(leads, str) else tuple(leads),
        stride_s=preprocessing.window_s if stride_s is None else float(stride_s),
        limit=limit,
    )


def file_digest(folder: Path, tables: Iterable[Path] = ()) -> str:
    """Returns number, total size and a digest of all files below a folder.

    The digest is over paths and sizes, and over the contents of tables of labels; hidden files are
    passed over. 17,000 files take about 0.1 s.

    Args:
        folder: Folder of a database.
        tables: Files whose content counts.

    Returns:
        For example ``"96 files of 100423568 bytes, 0f343b0931126a20"``.
    """
    sizes = sorted(_sizes(folder, ""))
    read = [hashlib.sha256(table.read_bytes()).hexdigest() for table in tables]
    total = sum(size for _, size in sizes)
    return f"{len(sizes)} files of {total} bytes, {_digest(sizes, read)}"


def _sizes(folder: Path | str, prefix: str) -> Iterator[tuple[str, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from _sizes(entry.path, f"{prefix}{entry.name}/")
            else:
                yield prefix + entry.name, entry.stat(follow_symlinks=entry.is_file()).st_size


def _digest(*things: Any) -> str:
    return hashlib.sha256(json.dumps(things).encode()).hexdigest()[:16]


def prepare_piece(database: Database, recipe: Recipe, records: Sequence[str], path: Path) -> None:
    """Reads, cuts and labels records into one part; one that cannot be used is skipped.

    Args:
        database: Where the records come from.
        recipe: The settings.
        records: Their names.
        path: File to write, in Arrow's format: a batch per lead of a record, and an empty one that
            bears what was skipped and left out.
    """
    window = recipe.preprocessing.window_samples
    schema = pa.schema(
        [
            *((name, _ARROW[kind]) for name, kind in COLUMNS.items() if name not in _MERGED[1:]),
            (R_PEAKS, pa.list_(pa.int32())),
            ("waves", pa.binary()),
            ("signals", pa.binary(4 * window)),
        ]
    )
    skipped: dict[str, str] = {}
    left_out: Counter[str] = Counter()
    with whole_file(path, "wb") as file, pa.ipc.new_file(file, schema) as writer:
        for record in records:
            try:
                found = _prepare_record(database, recipe, record)
            except (XECGError, OSError) as error:
                skipped[record] = str(error)
                continue
            for windows in found:
                left_out.update(windows.left_out)
                windows.columns["group"] = windows.columns["person"] or (
                    f"{database.identity}/{record}"
                )
                writer.write_batch(_batch(windows, schema))
        counts = json.dumps({"skipped": skipped, "left_out": left_out})
        writer.write_batch(
            pa.RecordBatch.from_pylist([], schema), custom_metadata={"counts": counts}
        )


def _prepare_record(database: Database, recipe: Recipe, record: str) -> list[LabelledWindows]:
    try:
        labelled = database.read(record)
    except (XECGError, OSError):
        raise
    except Exception as error:
        # Damaged bytes bring parsers to raise anything. It is counted and named, and if no record
        # can be read, it is the message that the user sees.
        raise RecordError(f"cannot be read ({type(error).__name__}: {error})") from error
    try:
        return labelled_windows(
            labelled, record, recipe.preprocessing, recipe.leads, recipe.stride_s
        )
    except Exception as error:
        error.add_note(f"while record {record} of {database.name} was cut into windows")
        raise


def _batch(windows: LabelledWindows, schema: pa.Schema) -> pa.RecordBatch:
    n = len(windows)
    columns = {
        name: np.broadcast_to(
            np.asarray(value, dtype=np.str_ if COLUMNS[name] == "category" else COLUMNS[name]), n
        )
        for name, value in windows.columns.items()
    }
    signals = pa.py_buffer(np.ascontiguousarray(windows.signals))
    waves = [None] * n if windows.waves is None else [codes.tobytes() for codes in windows.waves]
    shares = columns["annotated_share"].tolist()
    arrays = columns | {
        R_PEAKS: pa.array(windows.r_peaks, pa.list_(pa.int32())),
        "waves": [codes if share > 0 else None for codes, share in zip(waves, shares, strict=True)],
        "signals": pa.FixedSizeBinaryArray.from_buffers(
            schema.field("signals").type, n, [None, signals]
        ),
    }
    return pa.RecordBatch.from_arrays(
        [pa.array(arrays[field.name], field.type) for field in schema], schema=schema
    )


def _merge(parts: Sequence[Part], database: Database, recipe: Recipe, folder: Path) -> StoreInfo:
    """Writes the parts, in their order, as one store."""
    indices, skipped, left_out = [], {}, Counter[str]()
    for part in parts:
        if isinstance(part.error, WorkerDiedError):
            skipped[part.items[0]] = str(part.error)
        elif isinstance(part.error, OSError):
            raise cannot_write(folder, part.error)
        elif part.error is not None:
            raise part.error
        else:
            index, counts = _index_of(part.path)
            indices.append(index)
            skipped |= counts["skipped"]
            left_out.update(counts["left_out"])
    n_records = sum(len(part.items) for part in parts)
    n_windows = sum(len(index) for index in indices)
    if not n_windows:
        raise _nothing_usable(database, n_records, skipped, left_out)
    index = _whole_index(indices)
    info = StoreInfo(
        recipe=recipe,
        identity=database.identity,
        title=database.title,
        licence=database.licence,
        citation=database.citation,
        n_windows=n_windows,
        n_annotated=int(compute.sum(compute.greater_equal(index["wave_row"], 0)).as_py()),
        n_records=n_records - len(skipped),
        skipped=skipped,
        left_out=dict(left_out),
    )
    shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
    try:
        data = folder / info.data
        data.mkdir(parents=True)
        parquet.write_table(index, data / INDEX_FILE)
        window = recipe.preprocessing.window_samples
        paths = [part.path for part in parts if part.error is None]
        _write_rows(data / SIGNALS_FILE, (n_windows, window), "<f4", "signals", paths)
        _write_rows(data / WAVES_FILE, (info.n_annotated, window), "|u1", "waves", paths)
        info.write(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    return info


def _index_of(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """The index of a part, and the counts of what it lacks."""
    n_columns = len(COLUMNS) - 1 + 1  # without wave_row, with the R peaks
    options = pa.ipc.IpcReadOptions(included_fields=list(range(n_columns)))
    with pa.ipc.open_file(path.read_bytes(), options=options) as reader:
        last = reader.get_batch_with_custom_metadata(reader.num_record_batches - 1)
        table = reader.read_all()
    encoded = [
        column.dictionary_encode() if COLUMNS.get(name) == "category" else column
        for name, column in zip(table.column_names, table.columns, strict=True)
    ]
    counts = json.loads(last.custom_metadata[b"counts"])
    return pa.table(encoded, names=table.column_names).combine_chunks(), counts


def _whole_index(indices: Sequence[pa.Table]) -> pa.Table:
    """All lines, with the rows of the waves, and one group for identical signals."""
    index = pa.concat_tables(indices).unify_dictionaries().combine_chunks()
    annotated = index["annotated_share"].to_numpy() > 0
    wave_row = np.where(annotated, np.cumsum(annotated) - 1, -1).astype(np.int32)
    groups = index["group"].combine_chunks()
    names = np.sort(groups.dictionary.to_numpy(zero_copy_only=False).astype(np.str_))
    rank = np.searchsorted(names, groups.dictionary.to_numpy(zero_copy_only=False).astype(np.str_))
    merged = merge_groups(rank[groups.indices.to_numpy()], index["digest"].to_numpy())
    whole = dict(zip(index.column_names, index.columns, strict=True)) | {
        "wave_row": pa.array(wave_row),
        "group": pa.DictionaryArray.from_arrays(pa.array(merged, pa.int32()), pa.array(names)),
    }
    return pa.table({name: whole[name] for name in [*COLUMNS, R_PEAKS]})


def _write_rows(
    path: Path, shape: tuple[int, int], dtype: str, column: str, parts: Sequence[Path]
) -> None:
    """Writes a column of the parts as the rows of a ``.npy`` file."""
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part in parts:
            with pa.memory_map(str(part)) as source, pa.ipc.open_file(source) as reader:
                for number in range(reader.num_record_batches):
                    values = reader.get_batch(number).column(column).drop_null()
                    size = shape[1] * np.dtype(dtype).itemsize * len(values)
                    file.write(memoryview(values.buffers()[-1] or b"")[:size])


def _install(new: Path, out: Path) -> None:
    """Moves a whole store to its place; one that is there is readable until it is replaced."""
    try:
        if not out.exists():
            new.rename(out)
            return
        info = StoreInfo.read(new)
        try:
            used = StoreInfo.read(out).data
        except StoreError:
            used = "data" if (out / "data").exists() else ""
        name = "data-2" if used == "data" else "data"
        shutil.rmtree(out / name, ignore_errors=True)
        (new / info.data).rename(out / name)
        replace(info, data=name).write(out)  # from here on it is the new store
        for old in {"data", "data-2"} - {name}:
            shutil.rmtree(out / old, ignore_errors=True)
    except OSError as error:
        raise cannot_write(out, error) from error


@contextmanager
def only_one(out: Path) -> Iterator[bool]:
    """Holds the lock on ``out``, a file beside it, which is freed even if the process is killed.

    Yields:
        Whether another process had the lock and was waited for.

    Raises:
        StoreError: If the lock file cannot be written.
    """
    lock = FileLock(f"{out}.lock")
    waited = False
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            waited = True
            _log.warning("%s: another process is preparing it; waiting", out)
            lock.acquire()
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield waited
    finally:
        lock.release()


def cannot_write(out: Path, error: OSError) -> StoreError:
    """Returns the error for a place that takes no files."""
    return StoreError(f"{out}: cannot be written ({error}); free the space or give another --out")


def _check(database: Database, out: Path) -> None:
    if out.absolute().is_relative_to(database.root.resolve()) or (
        out.resolve().is_relative_to(database.root.resolve())
    ):
        raise ConfigError(
            f"{out} lies in the folder of the database, where a new file makes the store out of "
            "date; give another --out"
        )
    if out.exists() and not (out / INFO_FILE).is_file():
        raise StoreError(
            f"{out}: expected a store or nothing, found something else, which is never replaced; "
            "give another --out"
        )


def _reusable(out: Path, recipe: Recipe) -> Store | None:
    """The store at ``out``; null if there is none. One with other settings is an error."""
    if not out.exists():
        return None
    store = Store.open(out)
    if differences := store.info.recipe.differences(recipe):
        raise StoreError(
            f"{out}: there is a store made with other settings: {'; '.join(differences)}. "
            "Pass --overwrite to replace it, or another --out"
        )
    _log.info("%s: prepared already; its %d windows are reused", out, len(store))
    return store


def _made_meanwhile(out: Path, recipe: Recipe, overwrite: bool) -> Store | None:
    """The store that the process waited for has made, if it is the one that is wanted."""
    try:
        return _reusable(out, recipe)
    except StoreError:
        if overwrite:
            return None
        raise


def _nothing_usable(
    database: Database, n_records: int, skipped: dict[str, str], left_out: Counter[str]
) -> DataError:
    example = next(iter(skipped.items()), None)
    found = [f"{len(skipped)} records that could not be used"] if skipped else []
    found += [f"{count} windows left out: {reason}" for reason, count in left_out.most_common()]
    return DataError(
        f"{database.name}: expected at least one usable window in the {n_records} records of "
        f"{database.root}, found {'; '.join(found) or 'nothing'}"
        + (f". The first of them, {example[0]}: {example[1]}" if example else "")
    )


def _log_skipped(info: StoreInfo) -> None:
    skipped, n_skipped = info.skipped, len(info.skipped)
    for record, reason in list(skipped.items())[:_LOGGED]:
        _log.warning("skipped %s: %s", record, reason)
    if skipped:
        more = f", {_LOGGED} of them above" if n_skipped > _LOGGED else ""
        n_records = info.n_records + n_skipped
        where = f"; the store's {INFO_FILE} names them all"
        _log.warning("%d of %d records skipped%s%s", n_skipped, n_records, more, where)

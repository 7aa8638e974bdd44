"""From a database to a store, once: prepared with all cores, reused from then on."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from tqdm import tqdm

from xecg.data.databases.base import Database
from xecg.data.store import (
    INFO_FILE,
    SIGNALS_FILE,
    WAVES_FILE,
    Index,
    Ragged,
    Recipe,
    Store,
    StoreInfo,
    write_index,
)
from xecg.data.store import concatenate as concatenate_indices
from xecg.data.windowing import LabelledWindows, concatenate, labelled_windows, merge_groups
from xecg.errors import ConfigError, DataError, RecordError, StoreError, XECGError
from xecg.signal.preprocessing import Preprocessing

Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 3  # items per worker that wait in the queue or for their turn in the results

_worker_function: Callable[[Any], Any]


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int
) -> Iterator[Result]:
    """`map(function, items)` in worker processes.

    Args:
        function: Sent to each worker once.
        items: Taken as results are fetched, a few ahead.
        workers: Number of processes; 1 works in this process.

    Yields:
        The results in the order of the items, whatever the number of workers.

    Raises:
        DataError: If a worker died. What `function` raises is raised here.
    """
    if workers == 1:
        yield from map(function, items)
        return
    # On Linux a fork is ready at once and needs no guard around the caller's main module;
    # elsewhere it is not safe.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    pool = ProcessPoolExecutor(workers, context, _start_worker, (function,))
    try:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(_work, item))
            if len(pending) >= _AHEAD * workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process died, most likely for want of memory; use fewer workers"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(function: Callable[[Any], Any]) -> None:
    global _worker_function
    _worker_function = function
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Leaves no worker behind when the parent is killed: it would keep the parent's lock."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(item: Any) -> Any:
    return _worker_function(item)


_log = logging.getLogger(__name__)


@contextmanager
def only_one(out: Path) -> Iterator[bool]:
    """Holds the lock on `out`, a file beside it, which is freed even if the process is killed.

    Yields:
        Whether another process had the lock and was waited for.

    Raises:
        StoreError: If the lock file cannot be written.
    """
    lock = FileLock(f"{out}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        waited = not _acquired_at_once(lock)
        if waited:
            _log.warning("%s: another process is preparing it; waiting", out)
            lock.acquire()
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield waited
    finally:
        lock.release()


@contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """Gives a folder to fill beside `out`, and moves it there when all went well.

    What was at `out` is replaced; it stays if anything fails. Call it under `only_one`.

    Yields:
        Path of the folder, which does not exist yet.

    Raises:
        StoreError: If files cannot be written.
    """
    filling, replaced = Path(f"{out}.partial"), Path(f"{out}.replaced")
    _remove(filling, replaced)  # left over from a process that was killed
    try:
        yield filling
        if out.exists():
            out.rename(replaced)
        try:
            filling.rename(out)
        except OSError:
            if replaced.exists():
                replaced.rename(out)
            raise
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        _remove(filling, replaced)


def cannot_write(out: Path, error: OSError) -> StoreError:
    """The error for a place that takes no files."""
    return StoreError(f"{out}: cannot be written ({error}); free the space or give another --out")


def _acquired_at_once(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


class GrowingArray:
    """Writes rows to a `.npy` file; the header is set right when it is closed.

    NumPy (1.25 and newer) leaves room in the header for the first axis to grow, so that the
    header of no rows and the header of all rows have the same length.

    Args:
        path: The file to write; an existing one is replaced.
        row_shape: Shape of one row.
        dtype: Type of the values.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.path = path
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.n_rows = 0
        self._file = path.open("wb")
        self._write_header()
        self._header_length = self._file.tell()

    def append(self, rows: NDArray[np.generic]) -> None:
        """Adds rows at the end.

        Args:
            rows: `(rows, *row_shape)` of the array's type.

        Raises:
            StoreError: If the rows do not fit.
        """
        if rows.shape[1:] != self.row_shape or rows.dtype != self.dtype:
            raise StoreError(
                f"{self.path}: expected rows of shape {self.row_shape} and type {self.dtype}, "
                f"found {rows.shape[1:]} and {rows.dtype}"
            )
        self._file.write(np.ascontiguousarray(rows).data)
        self.n_rows += len(rows)

    def close(self) -> None:
        """Sets the header to the number of rows and closes the file."""
        if self._file.closed:
            return
        with self._file:
            self._file.seek(0)
            self._write_header()
            if self._file.tell() != self._header_length:
                raise StoreError(f"{self.path}: {self.n_rows} rows do not fit the file's header")

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.n_rows, *self.row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)


class StoreWriter:
    """Fills a new folder with the arrays and the index of a store.

    Signals and waves go to disk as they come; what stays in memory is the index.

    Args:
        folder: A folder that does not exist yet.
        window_samples: Length of a window.
    """

    def __init__(self, folder: Path, window_samples: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.left_out: Counter[str] = Counter()
        self._indices: list[Index] = []
        self._r_peaks: list[Ragged] = []
        self._digests: list[NDArray[np.uint64]] = []
        self._files = ExitStack()
        row = (window_samples,)
        self._signals = self._files.enter_context(
            GrowingArray(folder / SIGNALS_FILE, row, np.float32)
        )
        self._waves = self._files.enter_context(GrowingArray(folder / WAVES_FILE, row, np.uint8))

    @property
    def n_windows(self) -> int:
        """Windows written so far."""
        return self._signals.n_rows

    @property
    def n_annotated(self) -> int:
        """Windows with wave annotations written so far."""
        return self._waves.n_rows

    def append(self, windows: LabelledWindows) -> None:
        """Adds windows at the end."""
        self._indices.append(windows.index.shifted_waves(self._waves.n_rows))
        self._signals.append(windows.signals)
        self._waves.append(windows.waves)
        self._r_peaks.append(windows.r_peaks)
        self._digests.append(windows.digests)
        self.left_out.update(windows.left_out)

    def write_index(self) -> None:
        """Joins the groups of identical signals and writes the index."""
        index = concatenate_indices(self._indices)
        r_peaks = Ragged.concatenate(self._r_peaks)
        if len(index):
            index = replace(index, group=merge_groups(index.group, np.concatenate(self._digests)))
        write_index(self.folder, index, r_peaks)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.close()


_LARGEST_CHUNK = 16  # records a worker handles at once: enough that sending them costs nothing
_CHUNKS_PER_WORKER = 8  # at least, so that the last chunk does not keep the others waiting


@dataclass(frozen=True)
class PreparedChunk:
    """What became of some records.

    Args:
        windows: Of all records that could be used; None if there is no such record.
        skipped: Why the others could not, by record.
    """

    windows: LabelledWindows | None
    skipped: dict[str, str]


def build_store(
    database: Database,
    records: Sequence[str],
    recipe: Recipe,
    folder: Path,
    *,
    workers: int,
    progress: bool,
) -> StoreInfo:
    """Prepares records into a new store.

    Args:
        database: Where the records come from.
        records: Their names.
        recipe: The settings.
        folder: The folder to write; must not exist.
        workers: Number of processes.
        progress: Show a progress bar.

    Returns:
        The info of the store, as written.

    Raises:
        DataError: If no record gives a window.
    """
    size = max(1, min(_LARGEST_CHUNK, len(records) // (_CHUNKS_PER_WORKER * workers)))
    chunks = [records[i : i + size] for i in range(0, len(records), size)]
    skipped: dict[str, str] = {}
    with (
        StoreWriter(folder, recipe.preprocessing.window_samples) as writer,
        tqdm(total=len(records), desc=database.name, unit="record", disable=not progress) as bar,
    ):
        prepared = ordered_map(partial(prepare_chunk, database, recipe), chunks, workers)
        for names, chunk in zip(chunks, prepared, strict=True):
            if chunk.windows is not None:
                writer.append(chunk.windows)
            skipped |= chunk.skipped
            bar.update(len(names))
        if not writer.n_windows:
            raise _nothing_usable(database, len(records), skipped, writer.left_out)
        writer.write_index()
    info = StoreInfo(
        recipe=recipe,
        title=database.title,
        licence=database.licence,
        citation=database.citation,
        n_windows=writer.n_windows,
        n_annotated=writer.n_annotated,
        n_records=len(records) - len(skipped),
        skipped=skipped,
        left_out=dict(writer.left_out),
    )
    info.write(folder)
    return info


def prepare_chunk(database: Database, recipe: Recipe, records: Sequence[str]) -> PreparedChunk:
    """Reads, cuts and labels records; one that cannot be used is skipped with its reason."""
    windows = []
    skipped = {}
    for record in records:
        try:
            windows.append(_prepare_record(database, recipe, record))
        except (XECGError, OSError) as error:
            skipped[record] = str(error)
    return PreparedChunk(concatenate(windows) if windows else None, skipped)


def _prepare_record(database: Database, recipe: Recipe, record: str) -> LabelledWindows:
    try:
        labelled = database.read(record)
    except (XECGError, OSError):
        raise
    except Exception as error:
        # Damaged bytes bring parsers to raise anything. It is counted and told, and if no record
        # can be read, it is the message that the user sees.
        raise RecordError(f"cannot be read ({type(error).__name__}: {error})") from error
    try:
        return labelled_windows(labelled, recipe.preprocessing, recipe.leads, recipe.stride_s)
    except Exception as error:
        error.add_note(f"while record {record} of {database.name} was cut into windows")
        raise


def _nothing_usable(
    database: Database, n_records: int, skipped: Mapping[str, str], left_out: Mapping[str, int]
) -> DataError:
    reasons = Counter(left_out)
    example = next(iter(skipped.items()), None)
    found = [f"{len(skipped)} records that could not be used"] if skipped else []
    found += [f"{count} windows left out: {reason}" for reason, count in reasons.most_common()]
    shown = "; ".join(found) or "nothing"
    return DataError(
        f"{database.name}: expected at least one usable window in the {n_records} records of "
        f"{database.root}, found {shown}"
        + (f". The first of them, {example[0]}: {example[1]}" if example else "")
    )


_log = logging.getLogger(__name__)

_LOGGED = 5  # skipped records in the log; store.json names all of them


def prepare(
    database: Database,
    out: Path | str,
    *,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
    leads: str | Sequence[str] | None = None,
    stride_s: float | None = None,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Store:
    """Prepares a database, or reuses the store that is there already.

    The store appears at `out` only when it is whole. Of several processes that prepare the same
    store, one works, the others wait and reuse. A record that cannot be used is skipped, logged
    and counted in the store's info. The result does not depend on the number of workers.

    Args:
        database: Where the records come from.
        out: Folder of the store.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: `"preferred"` (one per record), `"all"`, or names; None takes what suits the
            database.
        stride_s: From one window's start to the next; None sets them side by side.
        workers: Processes; None takes one per core, 1 works in this process.
        limit: Only the first records, to try things out.
        overwrite: Replace a store that is there.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is a store made with other settings, or something else, at `out`.
        DataError: If no record gives a window.
        ConfigError: If a setting is out of its range.
    """
    out = Path(out).resolve()
    workers = _available_cores() if workers is None else workers
    _check(database, out, workers)
    recipe = Recipe.of(database, preprocessing, leads, stride_s, limit)
    if not overwrite and (store := _reusable(out, recipe)):
        return store
    records = database.records()[:limit]
    with only_one(out) as waited:
        if waited and (store := _made_meanwhile(out, recipe, overwrite)):
            return store
        with whole_or_nothing(out) as folder:
            info = build_store(
                database, records, recipe, folder, workers=workers, progress=progress
            )
    _log_skipped(info.skipped, len(records))
    return Store.open(out)


def _check(database: Database, out: Path, workers: int) -> None:
    if workers < 1:
        raise ConfigError(f"workers: expected at least 1, found {workers}")
    if out.is_relative_to(database.root.resolve()):
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
    """The store at `out`; None if there is none. One with other settings is an error."""
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


def _log_skipped(skipped: Mapping[str, str], n_records: int) -> None:
    for record, reason in list(skipped.items())[:_LOGGED]:
        _log.warning("skipped %s: %s", record, reason)
    if skipped:
        more = f", {_LOGGED} of them above" if len(skipped) > _LOGGED else ""
        _log.warning(
            "%d of %d records skipped%s; the store's %s names them all",
            len(skipped),
            n_records,
            more,
            INFO_FILE,
        )


def _available_cores() -> int:
    """Cores that this process may use, which on a shared machine are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

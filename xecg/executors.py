"""Work on many records: pieces on an executor, each of which writes one part.

A part that is there is not made again, so that a command that was killed continues from its parts
when it is given again. The executor is this process, processes of this machine, or a dask cluster;
nothing else differs.
"""

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tqdm import tqdm

from xecg.errors import ExecutorError, WorkerDiedError, check_ranges

Work = Callable[[Sequence[str], Path], None]
_AHEAD = 256  # pieces that a cluster knows of at a time, so that a worker that joins late has some
_LOOK_S = 0.01  # between two looks at what runs


@dataclass(frozen=True)
class Part:
    """What became of a piece, such as names of records: a file, or the error that prevented it."""

    items: tuple[str, ...]
    path: Path
    error: BaseException | None  # a WorkerDiedError if the one item kills who works on it


@contextmanager
def executor(
    jobs: int | None = None, cluster: str | None = None, *, threads: bool = False
) -> Iterator[Any]:
    """Yields what pieces of work are submitted to: this process (1 job), processes, or a cluster.

    ``jobs`` null takes every core that this process may use; ``cluster`` is the address of a dask
    scheduler (``tcp://host:8786``) or its scheduler file; ``threads`` are in place of processes.
    Raises ConfigError if ``jobs`` is below 1, ExecutorError if no cluster answers.
    """
    jobs = available_cores() if jobs is None else jobs
    check_ranges(jobs=(jobs, 1))
    if cluster is not None:
        with _dask(cluster) as pool:
            yield pool
        return
    local = ThreadPoolExecutor if threads else _ThisProcess if jobs == 1 else _Processes
    pool = local(jobs)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def run_parts(
    work: Work,
    pieces: Sequence[Sequence[str]],
    folder: Path,
    pool: Any,
    *,
    title: str,
    unit: str = "record",
) -> Iterator[Part]:
    """Yields the parts of all pieces, in the order of the pieces, in ``folder``.

    ``work(items, path)`` writes the file ``path`` whole; it can be pickled. The error of a piece is
    in its part, and the others are worked on. A piece that kills its worker is cut up until the
    item that does it is known. ``title`` and ``unit`` (of an item) are for the progress bar.
    Raises ExecutorError if the cluster is lost, or processes cannot be started.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(work, folder, pool)
    todo = deque(enumerate(map(tuple, pieces)))
    running: dict[int, Any] = {}
    found: dict[int, list[Part]] = {}
    due = 0
    with tqdm(total=sum(map(len, pieces)), desc=title, unit=unit, disable=None) as bar:
        try:
            while due < len(pieces):
                while todo and len(running) < getattr(pool, "ahead", _AHEAD):
                    number, items = todo.popleft()
                    running[number] = run.start(items)
                for number in [number for number, task in running.items() if task.done()]:
                    found[number] = run.parts(tuple(pieces[number]), running.pop(number))
                    bar.update(len(pieces[number]))
                if due not in found:
                    time.sleep(_LOOK_S)
                while due in found:
                    yield from found.pop(due)
                    due += 1
        finally:
            for task in running.values():
                task.cancel()


@dataclass(frozen=True)
class _Run:
    work: Work
    folder: Path
    pool: Any

    def start(self, items: tuple[str, ...]) -> Any:
        return self.pool.submit(_make, self.work, items, self.path(items))

    def path(self, items: tuple[str, ...]) -> Path:
        name = sha256("\0".join(items).encode(errors="surrogateescape")).hexdigest()[:24]
        return self.folder / f"{name}.part"

    def parts(self, items: tuple[str, ...], task: Any, alone: bool = False) -> list[Part]:
        """The part of a piece, once it is there; those of its halves if it killed its worker."""
        while not task.done():
            time.sleep(_LOOK_S)
        if task.cancelled():
            raise ExecutorError(
                "the cluster is lost; what is finished is kept: start it and give the command again"
            )
        error, path = task.exception(), self.path(items)
        if not isinstance(error, BrokenProcessPool) and type(error).__name__ != "KilledWorker":
            return [Part(items, path, error)]
        if alone and len(items) == 1:
            died = f"{items[0]}: the process that worked on it died ({error})"
            return [Part(items, path, WorkerDiedError(died))]
        if not alone and isinstance(error, BrokenProcessPool):
            try:
                self.pool.submit(available_cores).result()
            except BrokenProcessPool as broken:
                main = "in a script, call xecg below `if __name__ == '__main__':`, or set jobs to 1"
                raise ExecutorError(
                    f"processes of this machine cannot be started; {main}"
                ) from broken
        # First whole but alone, so that no other piece's death is taken for its.
        cut = len(items) // 2 if alone else len(items)
        halves = filter(None, (items[:cut], items[cut:]))
        return [part for some in halves for part in self.parts(some, self.start(some), True)]


def _make(work: Work, items: tuple[str, ...], path: Path) -> None:
    if not path.exists():
        work(items, path)


class _ThisProcess(Executor):
    def __init__(self, jobs: int) -> None:
        self.ahead = jobs

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class _Processes(Executor):
    """A pool that begins anew after one of its processes died."""

    def __init__(self, jobs: int) -> None:
        self.ahead = 2 * jobs
        context = get_context("spawn")  # threads of libraries, seen or not, forbid fork
        self.new = partial(ProcessPoolExecutor, jobs, context, _end_with_parent)
        self.pool = self.new()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            return self.pool.submit(fn, *args, **kwargs)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.pool = self.new()
            return self.pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait, cancel_futures=cancel_futures)


def _end_with_parent() -> None:
    """Lets a process of a pool, which would wait for ever, end with the one that started it."""
    if parent := parent_process():
        end_after(parent.join)


def end_after(wait: Callable[[], object]) -> None:
    """Lets this process end at once when ``wait()`` returns."""

    def end() -> None:
        wait()
        os._exit(1)

    threading.Thread(target=end, daemon=True).start()


@contextmanager
def _dask(cluster: str) -> Iterator[Any]:
    """Yields what asks a cluster how tasks are, not for their results, which are on disk.

    Dask's own executor fetches results, and waits for ever for one whose worker died in between.
    """
    try:
        from dask import distributed
    except ImportError as error:
        raise ExecutorError(
            "--cluster needs dask.distributed; install it: pip install 'xecg-lightning[cluster]'"
        ) from error
    where = {"address": cluster} if "://" in cluster else {"scheduler_file": cluster}
    try:
        client: Any = distributed.Client(**where, timeout="20s")  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise ExecutorError(f"--cluster {cluster}: no scheduler answers ({error})") from error

    def give_up_soon(dask_scheduler: Any) -> None:
        dask_scheduler.allowed_failures = 1  # workers that one piece may kill, beside the first

    with client:
        client.run_on_scheduler(give_up_soon)
        yield SimpleNamespace(submit=partial(client.submit, pure=False))


def available_cores() -> int:
    """Cores that this process may use, which on a shared machine are not all there are."""
    allowed = hasattr(os, "sched_getaffinity")
    return len(os.sched_getaffinity(0)) if allowed else os.cpu_count() or 1

"""Work on many records: pieces on an executor, each of which writes one part.

A part that is there is not made again, so that a command that was killed continues from its parts
when it is given again. The executor is this process, processes of this machine, or a dask cluster;
nothing else differs.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing import get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

from tqdm import tqdm

from xecg.errors import ConfigError, ExecutorError, WorkerDiedError

Work = Callable[[Sequence[str], Path], None]
_AHEAD = 256  # pieces that a cluster knows of at a time, so that a worker that joins late has some


@dataclass(frozen=True)
class Part:
    """What became of a piece, such as names of records: a file, or the error that prevented it.

    The error is a ``WorkerDiedError`` if ``items`` is the one item that kills who works on it.
    """

    items: tuple[str, ...]
    path: Path
    error: BaseException | None = None


@contextmanager
def executor(
    jobs: int | None = None, cluster: str | None = None, *, threads: bool = False
) -> Iterator[Executor]:
    """Yields what pieces of work are run on: this process (1 job), processes, or a dask cluster.

    ``jobs`` null takes every core that this process may use; ``cluster`` is the address of a
    scheduler (``tcp://host:8786``) or its scheduler file; ``threads`` are in place of processes.
    Raises ConfigError if ``jobs`` is below 1, ExecutorError if no cluster answers.
    """
    jobs = available_cores() if jobs is None else jobs
    if jobs < 1:
        raise ConfigError(f"jobs: expected at least 1, found {jobs}")
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
    pool: Executor,
    *,
    title: str,
    unit: str = "record",
    ending: str = ".part",
) -> Iterator[Part]:
    """Yields the parts of all pieces, in the order of the pieces, in ``folder``.

    ``work(items, path)`` writes the file ``path`` whole; it can be pickled. The error of a piece is
    in its part, and the other pieces are worked on all the same. A piece that kills its worker is
    cut up until the item that does it is known. ``title`` and ``unit`` (of an item) are for the
    progress bar. Raises ExecutorError if no work can be done at all: the cluster is lost, or
    processes cannot be started.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(work, folder, pool, ending)
    todo = deque(enumerate(map(tuple, pieces)))
    ahead = getattr(pool, "ahead", _AHEAD)
    running: dict[Future[None], int] = {}
    found: dict[int, list[Part]] = {}
    due = 0
    with tqdm(total=sum(map(len, pieces)), desc=title, unit=unit, disable=None) as bar:
        try:
            while due < len(pieces):
                while todo and len(running) < ahead:
                    number, items = todo.popleft()
                    running[run.start(items)] = number
                for future in _finished(running):
                    number = running.pop(future)
                    found[number] = list(run.parts_of(tuple(pieces[number]), future))
                    bar.update(len(pieces[number]))
                while due in found:
                    yield from found.pop(due)
                    due += 1
        finally:
            for future in running:
                future.cancel()


@dataclass(frozen=True)
class _Run:
    work: Work
    folder: Path
    pool: Executor
    ending: str

    def start(self, items: tuple[str, ...]) -> Future[None]:
        return self.pool.submit(_make, self.work, items, self.path(items))

    def path(self, items: tuple[str, ...]) -> Path:
        return self.folder / (
            sha256("\0".join(items).encode(errors="surrogateescape")).hexdigest()[:24] + self.ending
        )

    def parts_of(self, items: tuple[str, ...], future: Future[None]) -> Iterator[Part]:
        """The part of a finished piece; those of its halves if it killed its worker."""
        error = _error(future)
        if not _killed(error):
            yield Part(items, self.path(items), error)
            return
        if isinstance(error, BrokenProcessPool):
            probe = self.pool.submit(available_cores)
            if _error(probe) is not None:
                raise ExecutorError(
                    "processes of this machine cannot be started; in a script, call xecg below "
                    "`if __name__ == '__main__':`, or set jobs to 1"
                )
        yield from self._cut(items)

    def _cut(self, items: tuple[str, ...]) -> Iterator[Part]:
        error = _error(self.start(items))  # alone, so that no other piece's death is taken for its
        if not _killed(error):
            yield Part(items, self.path(items), error)
        elif len(items) == 1:
            died = WorkerDiedError(f"{items[0]}: the process that worked on it died ({error})")
            yield Part(items, self.path(items), died)
        else:
            half = len(items) // 2
            yield from self._cut(items[:half])
            yield from self._cut(items[half:])


def _finished(running: dict[Future[None], int]) -> list[Future[None]]:
    done, others = wait(running, return_when=FIRST_COMPLETED)
    if any(isinstance(_error(future), BrokenProcessPool) for future in done):
        done |= wait(others).done  # they die with the pool; which one broke it is looked for
    return sorted(done, key=running.__getitem__)


def _make(work: Work, items: tuple[str, ...], path: Path) -> None:
    if not path.exists():
        work(items, path)


def _error(future: Future[Any]) -> BaseException | None:
    """Waits for the work; returns what it raised."""
    wait([future])
    if future.cancelled():
        raise ExecutorError(
            "the cluster is lost; what is finished is kept: start it and give the command again"
        )
    return future.exception()


def _killed(error: BaseException | None) -> bool:
    return isinstance(error, BrokenProcessPool) or type(error).__name__ == "KilledWorker"


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
        self.jobs, self.ahead = jobs, 2 * jobs
        self.pool = self._new()

    def _new(self) -> ProcessPoolExecutor:
        context = get_context("spawn")  # torch's threads forbid fork
        return ProcessPoolExecutor(self.jobs, context, _end_with_parent)

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        try:
            return self.pool.submit(fn, *args, **kwargs)
        except BrokenProcessPool:
            self.pool.shutdown()
            self.pool = self._new()
            return self.pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self.pool.shutdown(wait, cancel_futures=cancel_futures)


def _end_with_parent() -> None:
    """Lets a process of a pool, which would wait for ever, end with the one that started it."""

    def end() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    Thread(target=end, daemon=True).start()


class _Cluster(Executor):
    """Work on a cluster that leaves its results on disk: no result is fetched from a worker.

    Dask's own executor fetches them, and waits for ever for one whose worker died in between.
    """

    def __init__(self, client: Any) -> None:
        self.client = client

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._start(future, fn, args, kwargs)
        return future

    def _start(self, future: Future[Any], fn: Callable[..., Any], args: Any, kwargs: Any) -> None:
        task = self.client.submit(fn, *args, **kwargs, pure=False)

        def finish(task: Any) -> None:
            if future.cancelled():
                return
            if task.status == "finished":
                future.set_result(None)
            elif task.status == "error":
                future.set_exception(task.exception())
            elif task.status == "lost":
                self._start(future, fn, args, kwargs)
            else:
                future.cancel()
                future.set_running_or_notify_cancel()  # wakes who waits
            task.release()

        task.add_done_callback(finish)


@contextmanager
def _dask(cluster: str) -> Iterator[Executor]:
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
    with client:
        client.run_on_scheduler(_give_up_soon)
        yield _Cluster(client)


def _give_up_soon(dask_scheduler: Any) -> None:
    dask_scheduler.allowed_failures = 1  # workers that one piece may kill, beside the first


def available_cores() -> int:
    """Cores that this process may use, which on a shared machine are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""A function over many items in worker processes: in order, and with flat memory."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from xecg.errors import DataError

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

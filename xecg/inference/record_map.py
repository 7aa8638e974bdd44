"""A function over many records in threads: in order, with flat memory, none stopping the others."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TypeVar

from xecg.errors import XECGError
from xecg.inference.problems import Problems
from xecg.inference.progress import ProgressBar
from xecg.threads import one_thread_per_operation

Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Takes the number of windows that were done since the last call."""

_AHEAD = 2  # records per thread that wait for their turn


def map_records(
    function: Callable[[str, Path, Progress], Result],
    records: Mapping[str, Path],
    problems: Problems,
    *,
    title: str,
) -> Iterator[Result]:
    """Results of ``function(name, path, progress)`` for each record, in the order of ``records``.

    Args:
        function: Works on one record.
        records: Path of each record by name.
        problems: Is told of records for which ``function`` raises an ``XECGError``.
        title: What is being done, for the progress bar.
    """
    with (
        ProgressBar(title, len(records)) as bar,
        one_thread_per_operation() as n_threads,
        ThreadPoolExecutor(n_threads) as pool,
    ):
        todo = iter(records.items())
        running: deque[tuple[str, Future[Result]]] = deque()
        try:
            while True:
                for name, path in islice(todo, _AHEAD * n_threads - len(running)):
                    running.append((name, pool.submit(function, name, path, bar.windows)))
                if not running:
                    return
                name, future = running.popleft()
                try:
                    yield future.result()
                except XECGError as error:
                    problems.fail(name, str(error))
                bar.record()
        finally:
            pool.shutdown(cancel_futures=True)

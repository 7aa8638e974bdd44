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

Outcomes = Mapping[str, Result | XECGError]
"""By record its result, or why there is none."""

_AHEAD = 2  # records, or groups of them, per thread that wait for their turn


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

    def alone(group: Mapping[str, Path], progress: Progress) -> Outcomes[Result]:
        ((name, path),) = group.items()
        try:
            return {name: function(name, path, progress)}
        except XECGError as error:
            return {name: error}

    return map_groups(alone, records, problems, size=1, title=title)


def map_groups(
    function: Callable[[Mapping[str, Path], Progress], Outcomes[Result]],
    records: Mapping[str, Path],
    problems: Problems,
    *,
    size: int,
    title: str,
) -> Iterator[Result]:
    """Results for each record, in the order of ``records``, worked on some at a time.

    Args:
        function: ``function(group, progress)`` gives a result, or an error, for each record.
        records: Path of each record by name.
        problems: Is told of the errors.
        size: Most records in a group; fewer if there is not a group for each thread.
        title: What is being done, for the progress bar.
    """
    with (
        ProgressBar(title, len(records)) as bar,
        one_thread_per_operation() as n_threads,
        ThreadPoolExecutor(n_threads) as pool,
    ):
        todo = _groups(records, max(1, min(size, len(records) // (_AHEAD * n_threads))))
        running: deque[Future[Outcomes[Result]]] = deque()
        try:
            while True:
                for group in islice(todo, _AHEAD * n_threads - len(running)):
                    running.append(pool.submit(function, group, bar.windows))
                if not running:
                    return
                for name, outcome in running.popleft().result().items():
                    if isinstance(outcome, XECGError):
                        problems.fail(name, str(outcome))
                    else:
                        yield outcome
                    bar.record()
        finally:
            pool.shutdown(cancel_futures=True)


def _groups(records: Mapping[str, Path], size: int) -> Iterator[dict[str, Path]]:
    items = iter(records.items())
    while group := dict(islice(items, size)):
        yield group

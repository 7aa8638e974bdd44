"""Independent tasks in threads, under one progress bar."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Event, Lock
from typing import TypeVar

from tqdm import tqdm

from xecg.threads import one_thread_per_operation

Key = TypeVar("Key")
Result = TypeVar("Result")
Done = Callable[[int], None]
"""Takes the number of windows that were done since the last call."""

_SHOW_AFTER_S = 2.0


def run_tasks(
    tasks: Mapping[Key, Callable[[Done], Result]], *, title: str, total: int, unit: str
) -> dict[Key, Result]:
    """Results of all tasks. If one fails, or the user interrupts, the others stop soon.

    Args:
        tasks: By any key; each tells ``done`` how far it is.
        title: What is being done, for the progress bar.
        total: What all tasks together will tell ``done``.
        unit: Of which there are ``total``.
    """
    lock, stop = Lock(), Event()
    with ExitStack() as stack:
        bar = tqdm(total=total, desc=title, unit=unit, mininterval=0.5, delay=_SHOW_AFTER_S)
        stack.enter_context(bar)
        n_threads = stack.enter_context(one_thread_per_operation())
        pool = stack.enter_context(ThreadPoolExecutor(n_threads))
        stack.callback(pool.shutdown, cancel_futures=True)
        stack.callback(stop.set)

        def done(n: int) -> None:
            if stop.is_set():
                raise InterruptedError(title)
            with lock:
                bar.update(n)

        futures = {key: pool.submit(task, done) for key, task in tasks.items()}
        return {key: future.result() for key, future in futures.items()}

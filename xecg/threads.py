"""Threads for work on many windows, each of which runs torch's operations by itself."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def one_thread_per_operation() -> Iterator[int]:
    """Yields how many threads torch would use in an operation, and meanwhile lets it use one.

    The networks are so small that threads within an operation mostly wait for each other.
    """
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # in threads started from now on as well
    try:
        yield n_threads
    finally:
        torch.set_num_threads(n_threads)

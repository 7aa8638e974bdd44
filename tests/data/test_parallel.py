import os
import time

import pytest

from xecg.data.prepare import ordered_map
from xecg.errors import DataError


def square_slowly(n):
    time.sleep(0.02 if n % 3 == 0 else 0)
    return n * n


def process_of(_):
    time.sleep(0.01)
    return os.getpid()


def fail_at_five(n):
    if n == 5:
        raise ValueError("five")
    return n


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(workers):
    assert list(ordered_map(square_slowly, range(20), workers)) == [n * n for n in range(20)]


def test_works_in_other_processes():
    processes = set(ordered_map(process_of, range(20), 2))
    assert os.getpid() not in processes
    assert set(ordered_map(process_of, range(3), 1)) == {os.getpid()}


def test_takes_items_only_a_few_ahead():
    taken = []

    def items():
        for n in range(100):
            taken.append(n)
            yield n

    for done, _ in enumerate(ordered_map(square_slowly, items(), 2), start=1):
        assert len(taken) - done <= 2 * 3


@pytest.mark.parametrize("workers", [1, 2])
def test_errors_reach_the_caller(workers):
    results = ordered_map(fail_at_five, range(10), workers)
    with pytest.raises(ValueError, match="five"):
        list(results)


def test_a_dead_worker_is_told():
    with pytest.raises(DataError, match="a worker process died"):
        list(ordered_map(os._exit, [1, 1], 2))


def test_no_items():
    assert list(ordered_map(square_slowly, [], 2)) == []

import threading
import time

import pytest
import torch

from xecg.errors import DataError
from xecg.explain.faithfulness.tasks import Done, run_tasks


def test_results_stand_under_the_keys_of_their_tasks() -> None:
    tasks = {name: lambda done, name=name: name.upper() for name in "abc"}
    assert run_tasks(tasks, title="", total=3, unit="") == {"a": "A", "b": "B", "c": "C"}


def test_tasks_run_with_one_thread_each_and_leave_the_number_as_it_was() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        tasks = {"task": lambda done: torch.get_num_threads()}
        assert run_tasks(tasks, title="", total=1, unit="") == {"task": 1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_an_error_reaches_the_caller_and_stops_the_others() -> None:
    before = torch.get_num_threads()
    started, stopped = threading.Event(), threading.Event()

    def fail(done: Done) -> None:
        started.wait()
        raise DataError("no")

    def endless(done: Done) -> None:
        started.set()
        try:
            while True:
                done(1)
                time.sleep(0.01)
        except InterruptedError:
            stopped.set()
            raise

    torch.set_num_threads(2)
    try:
        with pytest.raises(DataError, match="no"):
            run_tasks({"fails": fail, "endless": endless}, title="", total=2, unit="")
        assert stopped.is_set()
    finally:
        torch.set_num_threads(before)

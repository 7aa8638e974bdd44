import threading
from pathlib import Path

import pytest
import torch

from xecg.errors import RecordError
from xecg.inference.records import Problems, map_groups, map_records

RECORDS = {f"r{number}": Path(f"/{number}") for number in range(40)}


@pytest.fixture
def _two_threads():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(threads)


def test_results_come_in_order_and_a_failure_stops_nobody(capsys):
    def work(name, path, progress):
        progress(3)
        if name in ("r0", "r7", "r39"):
            raise RecordError(f"no {name}")
        return name, path

    problems = Problems({})
    results = list(map_records(work, RECORDS, problems, title="work"))
    assert results == [item for item in RECORDS.items() if item[0] not in ("r0", "r7", "r39")]
    assert problems.failures == {"r0": "no r0", "r7": "no r7", "r39": "no r39"}
    assert "xecg: r7: no r7" in capsys.readouterr().err


@pytest.mark.usefixtures("_two_threads")
def test_only_a_few_records_are_held_at_a_time():
    started, lock = [], threading.Lock()

    def work(name, path, progress):
        with lock:
            started.append(name)
        return name

    for number, _ in enumerate(map_records(work, RECORDS, Problems({}), title="work")):
        assert len(started) <= number + 5


@pytest.mark.usefixtures("_two_threads")
def test_torch_uses_one_thread_per_operation_meanwhile():
    def work(name, path, progress):
        return threading.get_ident(), torch.get_num_threads()

    results = list(map_records(work, RECORDS, Problems({}), title="work"))
    assert {n_threads for _, n_threads in results} == {1}
    assert threading.get_ident() not in {thread for thread, _ in results}
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_threads")
def test_a_mistake_in_the_program_is_not_taken_for_a_bad_record():
    def work(name, path, progress):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(map_records(work, RECORDS, Problems({}), title="work"))
    assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("_two_threads")
def test_groups_give_the_results_of_their_records_in_order():
    sizes = []

    def work(group, progress):
        sizes.append(len(group))
        return {name: RecordError(f"no {name}") if name == "r7" else name for name in group}

    problems = Problems({})
    results = list(map_groups(work, RECORDS, problems, size=8, title="work"))
    assert results == [name for name in RECORDS if name != "r7"]
    assert problems.failures == {"r7": "no r7"}
    assert sizes == [8] * 5


@pytest.mark.usefixtures("_two_threads")
def test_a_few_records_keep_all_threads_busy():
    def work(group, progress):
        return dict.fromkeys(group, len(group))

    few = dict(list(RECORDS.items())[:9])
    assert list(map_groups(work, few, Problems({}), size=32, title="work")) == [2] * 8 + [1]


def test_no_records_are_no_trouble():
    assert list(map_records(lambda *_: 1, {}, Problems({}), title="work")) == []

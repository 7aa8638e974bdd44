"""Claims: one owner at a time, whatever happens to them."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.study.claims import Claim, Claims

NAMES = [f"cell{number}" for number in range(30)]
RACE = """
import sys, time
from pathlib import Path
from xecg.study.claims import Claims
folder, go, names = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
claims = Claims(folder)
print("ready", flush=True)
while not go.exists(): pass
claimed = [name for name in names if claims.take(name)]
print(*claimed, flush=True)
time.sleep(60)
"""


@pytest.fixture
def claims(tmp_path: Path) -> Claims:
    return Claims(tmp_path, heartbeat_s=60.0)


def age(folder: Path, name: str, seconds: float = 1000.0) -> None:
    """Let the heartbeats of a cell's owners lie back, as of another machine that is off."""
    for path in folder.glob(f"{name}.*"):
        content = json.loads(path.read_text()) | {"machine": "another"}
        path.write_text(json.dumps(content))
        os.utime(path, (time.time() - seconds,) * 2)


def test_a_cell_has_one_owner_until_it_is_given_back(claims: Claims) -> None:
    claim = claims.take("a")
    assert claim is not None
    assert claims.take("a") is None
    assert claims.take("b") is not None
    claim.release()
    assert claims.owner("a") is None
    assert claims.take("a") is not None


def test_the_owner_is_known(claims: Claims) -> None:
    before = time.time()
    claims.take("a")
    owner = claims.owner("a")
    assert owner is not None
    assert (owner.pid, owner.alive) == (os.getpid(), True)
    assert before <= owner.since <= time.time()


@pytest.mark.parametrize("stale", [False, True])
def test_of_two_processes_that_race_each_cell_goes_to_one(tmp_path: Path, stale: bool) -> None:
    folder, go = tmp_path / "claims", tmp_path / "go"
    folder.mkdir()
    if stale:
        for name in NAMES:
            Claims(folder, heartbeat_s=60.0).take(name)
            age(folder, name)
    command = [sys.executable, "-c", RACE, str(folder), str(go), *NAMES]
    racers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    try:
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        go.touch()
        claimed = [racer.stdout.readline().split() for racer in racers if racer.stdout]
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()
    assert sorted(claimed[0] + claimed[1]) == sorted(NAMES)


@pytest.mark.parametrize("stale", [False, True])
def test_of_many_threads_that_race_one_gets_the_cell(claims: Claims, stale: bool) -> None:
    for name in NAMES:
        if stale:
            claims.take(name)
            age(claims.folder, name)
        barrier, got = threading.Barrier(8), []

        def race(name=name, barrier=barrier, got=got) -> None:
            barrier.wait()
            got.append(claims.take(name))

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(claim is not None for claim in got) == 1


def test_a_claim_without_heartbeat_is_taken_over_and_its_owner_notices(claims: Claims) -> None:
    first = claims.take("a")
    assert first is not None
    age(claims.folder, "a", seconds=claims.stale_s - 20)
    assert claims.take("a") is None
    age(claims.folder, "a", seconds=claims.stale_s + 1)
    second = claims.take("a")
    assert second is not None
    assert first.is_lost
    assert not second.is_lost
    first.release()
    assert claims.take("a") is None  # it is the second owner's still
    second.release()
    assert list(claims.folder.iterdir()) == []
    assert claims.take("a") is not None
    assert first.is_lost
    assert second.is_lost


def test_a_process_of_this_machine_that_has_ended_is_known_at_once(claims: Claims) -> None:
    code = (
        "import sys; from pathlib import Path; from xecg.study.claims import Claims\n"
        "assert Claims(Path(sys.argv[1])).take('a')"
    )
    subprocess.run([sys.executable, "-c", code, str(claims.folder)], check=True)
    owner = claims.owner("a")
    assert owner is not None
    assert not owner.alive
    assert claims.take("a") is not None


def test_an_owner_that_lives_keeps_its_claim_fresh(tmp_path: Path) -> None:
    claims = Claims(tmp_path, stale_s=0.5, heartbeat_s=0.02)
    claim = claims.take("a")
    assert claim is not None
    age(tmp_path, "a")
    deadline = time.monotonic() + 10
    while (owner := claims.owner("a")) and not owner.alive:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert claims.take("a") is None
    claim.release()


def test_a_claim_that_is_being_written_counts(claims: Claims) -> None:
    (claims.folder / "a.0").touch()
    assert claims.take("a") is None
    owner = claims.owner("a")
    assert owner is not None
    assert owner.alive


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["take", "release", "die"]))))
def test_nobody_ever_shares_a_cell(tmp_path_factory: pytest.TempPathFactory, steps) -> None:
    claims = Claims(tmp_path_factory.mktemp("claims"), heartbeat_s=60.0)
    held: dict[int, Claim] = {}
    for process, step in steps:
        if step == "take" and process not in held:
            claim = claims.take("a")
            assert (claim is None) == bool(held)
            if claim is not None:
                held[process] = claim
        elif step == "release" and process in held:
            held.pop(process).release()
        elif step == "die" and process in held:
            age(claims.folder, "a")
            del held[process]
    assert all(not claim.is_lost for claim in held.values())

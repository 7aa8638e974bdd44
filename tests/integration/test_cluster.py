"""Real dask, a scheduler and workers of this machine: same results, whoever dies on the way."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from cluster_work import sign
from distributed import Client

from xecg.cli import main
from xecg.data.prepare import prepare
from xecg.errors import ExecutorError
from xecg.executors import executor, run_parts
from xecg.signal.synthetic import synthesize
from xecg.signal.wfdb import write_recording
from xecg.study.run import _GOING, _fit

TESTS = Path(__file__).parents[1]
sys.path.append(str(TESTS / "data"))
from fake_database import describe, many  # noqa: E402

DASK = [str(Path(sys.executable).with_name("dask"))]


class Cluster:
    """A scheduler and workers, each a process with what it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file, self.processes = folder, folder / "scheduler.json", []
        folder.mkdir()
        self.scheduler = self._start("scheduler", "--port", "0")

    def add_worker(self) -> None:
        self._start("worker", "--nworkers", "1", "--nthreads", "1")

    def client(self) -> Client:
        return Client(scheduler_file=str(self.file), timeout="60s")

    def wait_for(self, workers: int) -> list[int]:
        """Process numbers of the workers, once there are so many."""
        with self.client() as client:
            client.wait_for_workers(workers, timeout=60)
            return list(client.run(os.getpid).values())

    def stop(self) -> None:
        for process in self.processes:
            end(process)

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        places = [str(TESTS.parent), str(TESTS / "data"), str(TESTS / "integration")]
        command = [*DASK, *arguments, "--scheduler-file", str(self.file), "--no-dashboard"]
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1"],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
            stderr=(self.folder / "log").open("ab"),
            start_new_session=True,
        )
        self.processes.append(process)
        return process


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills a process and those that it has started."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    cluster = Cluster(tmp_path_factory.mktemp("dask") / "cluster")
    for _ in range(2):
        cluster.add_worker()
    yield cluster
    cluster.stop()


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def when_there_are_parts(folder: Path, act: Callable[[], None]) -> threading.Thread:
    """Acts once a part is finished."""

    def wait() -> None:
        while not any(folder.glob("*.parts-*/*.part")):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_table_and_maps_are_the_same_as_on_one_process(cluster: Cluster, tmp_path: Path) -> None:
    records = tmp_path / "records"
    for number in range(6):
        ecg = synthesize("AF" if number % 2 else "N", duration_s=14.0, seed=number)
        write_recording(replace(ecg.recording, name=f"r{number}"), records)
    for where, flags in {"one": ["--jobs=1"], "dask": [f"--cluster={cluster.file}"]}.items():
        out = tmp_path / where
        assert main(["classify", str(records), "--out", str(out / "p.csv"), *flags]) == 0
        asked = ["explain", str(records), "--out", str(out / "maps"), "--draw=1", *flags]
        assert main(asked) == 0
    one, dask = contents(tmp_path / "one"), contents(tmp_path / "dask")
    assert one.keys() == dask.keys()
    assert [name for name in one if one[name] != dask[name]] == []
    assert len(one) == 1 + 2 + 2 * 6


def test_a_store_is_the_same_though_a_worker_is_killed(cluster: Cluster, tmp_path: Path) -> None:
    database = describe(tmp_path / "fake", **many(24, delay_s=0.1))
    victim = cluster.wait_for(2)[0]
    killing = when_there_are_parts(tmp_path, lambda: os.kill(victim, signal.SIGKILL))
    dask = prepare(database, tmp_path / "dask", cluster=str(cluster.file))
    killing.join()
    assert victim not in cluster.wait_for(2)
    assert contents(dask.path) == contents(prepare(database, tmp_path / "one").path)


def test_a_record_that_kills_its_worker_is_named_and_the_rest_is_done(
    cluster: Cluster, tmp_path: Path
) -> None:
    database = describe(tmp_path / "fake", **many(6) | {"r003": "kill"})
    info = prepare(database, tmp_path / "store", cluster=str(cluster.file)).info
    assert list(info.skipped) == ["r003"]
    assert "died" in info.skipped["r003"]
    assert info.n_records == 5


def test_a_command_continues_on_another_scheduler_after_the_first_was_killed(
    cluster: Cluster, tmp_path: Path
) -> None:
    database = describe(tmp_path / "fake", **many(24, delay_s=0.2))
    first = Cluster(tmp_path / "cluster")
    try:
        first.add_worker()
        first.wait_for(1)
        killing = when_there_are_parts(tmp_path, lambda: end(first.scheduler))
        with pytest.raises(ExecutorError, match="the cluster is lost"):
            prepare(database, tmp_path / "store", cluster=str(first.file))
        killing.join()
    finally:
        first.stop()
    assert not (tmp_path / "store").exists()
    parts = {path.name for path in tmp_path.glob("store.parts-*/*.part")}
    finished = [r for r in database.records() if f"{digest(r)}.part" in parts]
    assert 0 < len(finished) == len(parts) < 24
    one = contents(prepare(database, tmp_path / "one").path)
    for record in finished:  # reading them again would fail
        path = database.root / f"{record}.json"
        path.write_text("corrupt".ljust(path.stat().st_size))
    assert contents(prepare(database, tmp_path / "store", cluster=str(cluster.file)).path) == one


def digest(record: str) -> str:
    return sha256(record.encode()).hexdigest()[:24]


def test_a_worker_that_is_ended_leaves_no_fit_behind(tmp_path: Path) -> None:
    cluster, work = Cluster(tmp_path / "cluster"), tmp_path / "work" / "cell"
    (tmp_path / "logs").mkdir()
    (tmp_path / _GOING).touch()
    (tmp_path / "behaviour.json").write_text('{"cell": "long"}')
    try:
        cluster.add_worker()
        cluster.wait_for(1)
        with cluster.client() as client:
            fit = [sys.executable, str(TESTS / "study" / "fake_fit.py")]
            running = client.submit(_fit, work, tmp_path, fit, None)
            while not (tmp_path / "begun.txt").exists():
                time.sleep(0.01)
            started = psutil.Process(cluster.processes[1].pid).children(recursive=True)
            cluster.processes[1].terminate()
            assert psutil.wait_procs(started, timeout=60)[1] == []
            del running
    finally:
        cluster.stop()


def test_a_late_worker_gets_work(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.add_worker()
        cluster.wait_for(1)
        pieces = [(f"{number}",) for number in range(60)]
        with executor(cluster=str(cluster.file)) as pool:
            parts = run_parts(sign, pieces, tmp_path / "parts", pool, title="sign")
            made = [next(parts)]
            cluster.add_worker()
            made += parts
        assert [part.items for part in made] == pieces
        assert len({part.path.read_text().split()[-1] for part in made}) == 2
    finally:
        cluster.stop()

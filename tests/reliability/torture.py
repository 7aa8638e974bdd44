"""Kills xecg at random moments, gives the command again, and compares the results to the bit.

    python tests/reliability/torture.py [--kills 100] [--seed 0] [--only JOB ...]
        [--minutes M]

Each kill is a SIGKILL at a moment drawn evenly from the time that the command takes undisturbed: in
half of the cases to the command alone, else to all processes that it started too; on a cluster, to
one drawn from the command, the scheduler and the workers. `prepare --overwrite` must also leave a
whole store at any moment. 100 kills take half an hour to an hour on two cores.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from xecg.data.databases.synthetic import SyntheticSettings, embedded_store, synthetic_records
from xecg.data.store import Store

CONFIGS = Path(__file__).parents[2] / "configs"
XECG = [sys.executable, "-m", "xecg.cli"]
SMALL = [
    *("--model.channels", "4", "--data.windows_per_epoch", "128", "--model.pretrained", "null"),
    *("--freezing.allow_random", "true", "--trainer.callbacks", "null"),
]
CLASSIFY, EXPLAIN = ["classify", "records"], ["explain", "records", "--draw", "1"]
PREPARE = ["data", "prepare", "synthetic", "--root", "records"]
FIT = ["fit", "--config", str(CONFIGS / "finetune_frozen0.yaml"), *SMALL, "--trainer.max_epochs=4"]


@dataclass(frozen=True)
class Job:
    """A command that is killed.

    Args:
        weight: Share of the kills.
        command: Arguments of xecg in a folder that holds ``records`` and ``study.yaml``.
        result: Files that must be the same, as patterns.
        cluster: Whether it runs on dask.
        again: What else is given the second time, if anything; may clear up.
        holds: Whether what must hold at any moment does.
    """

    weight: int
    command: list[str]
    result: tuple[str, ...]
    cluster: bool = False
    again: Callable[[Path], list[str]] = lambda _: []
    holds: Callable[[Path], bool] = lambda _: True
    before: tuple[list[str], ...] = ()


def resumed(folder: Path) -> list[str]:
    """A fit continues from its last checkpoint; without one it begins anew."""
    last = folder / "out" / "checkpoints" / "last.ckpt"
    if last.exists():
        return ["--ckpt_path", str(last)]
    shutil.rmtree(folder / "out", ignore_errors=True)
    return []


def is_whole(folder: Path) -> bool:
    return len(Store.open(folder / "out")) > 0


TABLE = ("out/p.csv",)
MAPS = ("out/*.npz", "out/*.csv", "out/*.html", "out/*.png")
STORE = ("out/store.json", "out/data*/*")
JOBS = {
    "prepare": Job(18, [*PREPARE, "--out", "out", "--jobs", "2"], STORE),
    "prepare --overwrite": Job(
        12,
        [*PREPARE, "--out", "out", "--overwrite", "--jobs", "2"],
        STORE[1:],
        holds=is_whole,
        before=([*PREPARE, "--out", "out", "--preprocessing.high_hz", "30"],),
    ),
    "classify": Job(16, [*CLASSIFY, "--out", "out/p.csv", "--jobs", "2"], TABLE),
    "explain": Job(14, [*EXPLAIN, "--out", "out", "--jobs", "2"], MAPS),
    "fit": Job(
        20,
        [*FIT, "--run_folder", "out"],
        ("out/weights.safetensors", "out/*.csv", "out/windows/*"),
        again=resumed,
    ),
    "study": Job(
        6,
        ["study", "--config", "study.yaml", "--jobs", "1"],
        ("out/cells/*/weights.safetensors", "out/cells/*/*.csv"),
    ),
    "prepare on dask": Job(6, [*PREPARE, "--out", "out"], STORE, cluster=True),
    "classify on dask": Job(4, [*CLASSIFY, "--out", "out/p.csv"], TABLE, cluster=True),
    "explain on dask": Job(4, [*EXPLAIN, "--out", "out"], MAPS, cluster=True),
}


class Process:
    """A process with all that it starts."""

    def __init__(self, arguments: list[str], folder: Path) -> None:
        with (folder / "log").open("ab") as log:
            where: dict[str, Any] = {"cwd": folder, "stdout": log, "stderr": log}
            where["env"] = os.environ | {"WANDB_MODE": "disabled"}
            self.process = subprocess.Popen(arguments, **where, start_new_session=True)

    def kill(self, alone: bool = False) -> None:
        if self.process.poll() is None:
            (os.kill if alone else os.killpg)(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def succeeds(self, seconds: float) -> bool:
        try:
            return self.process.wait(seconds) == 0
        except subprocess.TimeoutExpired:
            self.kill()
            return False


class Cluster:
    """A scheduler and two workers."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.file = folder, folder / "scheduler.json"
        self.processes = [self._start(kind) for kind in ("scheduler", "worker", "worker")]

    def _start(self, kind: str) -> Process:
        dask = [sys.executable, "-m", "dask", kind, "--scheduler-file", str(self.file)]
        options = ["--port", "0"] if kind == "scheduler" else ["--nworkers", "1", "--nthreads", "1"]
        return Process([*dask, *options, "--host", "127.0.0.1", "--no-dashboard"], self.folder)

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
        self.file.unlink(missing_ok=True)


@contextmanager
def cluster_of(job: Job, folder: Path) -> Iterator[Cluster | None]:
    cluster = Cluster(folder) if job.cluster else None
    try:
        yield cluster
    finally:
        if cluster is not None:
            cluster.stop()


def digests(job: Job, folder: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted(path for pattern in job.result for path in folder.glob(pattern)):
        name = str(path.relative_to(folder)).replace("data-2", "data")  # a store has one of them
        found[name] = found.get(name, "") + sha256(path.read_bytes()).hexdigest()
    return found


def place(folder: Path, records: Path) -> Path:
    """A folder to run from."""
    folder.mkdir()
    (folder / "records").symlink_to(records)
    study: dict[str, Any] = {"folder": "out", "seeds": [0], "frozen_layers": [0, 8]}
    study |= {"scratch": False, "pretraining": {}}
    study["pretraining"] = {"morphology": "pwave_morphology", "rhythm": "rr_rhythm"}
    arguments = {"trainer.max_epochs": 2, "data.windows_per_epoch": 64, "trainer.callbacks": None}
    configs = [str(CONFIGS / "finetune_frozen0.yaml")]
    study["finetuning"] = {"configs": configs, "arguments": arguments}
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    return folder


def start(job: Job, folder: Path, cluster: Cluster | None, more: list[str]) -> Process:
    flags = [] if cluster is None else ["--cluster", str(cluster.file)]
    return Process([*XECG, *job.command, *flags, *more], folder)


def undisturbed(job: Job, folder: Path) -> tuple[dict[str, str], float]:
    """What the command makes, and how long it takes."""
    for command in job.before:
        assert Process([*XECG, *command], folder).succeeds(600)
    with cluster_of(job, folder) as cluster:
        began = time.monotonic()
        done = start(job, folder, cluster, []).succeeds(1200)
        took = time.monotonic() - began
    if not done:
        sys.exit(f"{job.command} fails undisturbed:\n{(folder / 'log').read_text()[-2000:]}")
    found = digests(job, folder)
    assert found
    return found, took


def killed_once(job: Job, folder: Path, moment: float, draw: float) -> tuple[str, dict[str, str]]:
    """Kills at a moment and gives the command again; what went wrong, and what was made."""
    for command in job.before:
        assert Process([*XECG, *command], folder).succeeds(600)
    with cluster_of(job, folder) as cluster:
        process = start(job, folder, cluster, [])
        time.sleep(moment)
        victims = [process, *(cluster.processes if cluster else [])]
        victims[int(draw * len(victims))].kill(alone=cluster is None and draw < 0.5)
        if cluster is not None and process.process.poll() is None:
            process.succeeds(60)  # it may end all the same, or lose its cluster
        process.kill()
    if not job.holds(folder):
        return "what must hold at any moment did not", {}
    with cluster_of(job, folder) as cluster:
        finished = digests(job, folder)
        if start(job, folder, cluster, job.again(folder)).succeeds(1200):
            return "", digests(job, folder)
    return "", finished  # a command that was done before the kill may refuse to do it again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[*JOBS], choices=[*JOBS])
    parser.add_argument("--minutes", type=float, default=np.inf, help="begin no kill after these")
    given = parser.parse_args()
    rng, stop = np.random.default_rng(given.seed), time.monotonic() + 60 * given.minutes
    total = sum(JOBS[name].weight for name in given.only)
    counts = {name: max(1, round(given.kills * JOBS[name].weight / total)) for name in given.only}
    # The first of each, then all in turn, so that a run that is stopped has seen every command.
    todo = sorted((number / n, name) for name, n in counts.items() for number in range(n))
    wanted: dict[str, tuple[dict[str, str], float]] = {}
    kills, equal = dict.fromkeys(counts, 0), dict.fromkeys(counts, 0)
    embedded_store()
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        records = synthetic_records(root / "records", SyntheticSettings(persons=40))
        for number, (_, name) in enumerate(tqdm(todo, disable=None)):
            if time.monotonic() > stop:
                break
            job = JOBS[name]
            if name not in wanted:
                wanted[name] = undisturbed(job, place(root / f"{number}-whole", records))
            made, took = wanted[name]
            folder = place(root / str(number), records)
            moment, draw = rng.uniform(0, took), rng.uniform()
            wrong, found = killed_once(job, folder, moment, draw)
            kills[name] += 1
            same = not wrong and found == made
            equal[name] += same
            differ = [key for key in made if found.get(key) != made[key]]
            what = "the same to the bit" if same else wrong or differ
            print(f"{name}, killed after {moment:.2f} of {took:.2f} s: {what}", flush=True)
            if not same:
                print((folder / "log").read_text()[-1000:])
            shutil.rmtree(folder)
    for name in kills:
        print(f"{name}: {equal[name]} of {kills[name]} the same to the bit")
    done, good = sum(kills.values()), sum(equal.values())
    print(f"{good} of {done} kills ended the same to the bit; {given.kills} were asked for")
    sys.exit(good < done)


if __name__ == "__main__":
    main()

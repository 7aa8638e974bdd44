"""``xecg study``: makes the cells of a study, each by an ``xecg fit`` of its own."""

import fcntl
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import pandas as pd
from filelock import FileLock, Timeout

from xecg.errors import ConfigError, StudyError
from xecg.executors import available_cores, executor, run_parts
from xecg.files import write_whole
from xecg.study.plan import Cell, Fit, Study, cells_of, choose, flags_of, read_study

_STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_FIT = (sys.executable, "-m", "xecg.cli", "fit")
_LOCK, _PARTS = ".lock", "parts"
_log = logging.getLogger(__name__)


def run_study(
    config: Path,
    *,
    folder: Path | None = None,
    jobs: int | None = 1,
    cluster: str | None = None,
    status: bool = False,
    retry: bool = False,
    frozen_layers: list[str] | None = None,
    seed: list[int] | None = None,
) -> int:
    """Pre-trains the branches, fine-tunes, tests and explains every frozen depth and seed.

    Every cell is a run of ``xecg fit`` in FOLDER/cells, with its table of test windows. A study
    that was killed continues when the same command is given again: finished cells stay, others
    continue from their last epoch. A cell that fails is reported with its log in FOLDER/logs, and
    the others are made all the same. Tables and figures: ``xecg study report FOLDER``.

    Args:
        config: Config of the study, as configs/study.yaml.
        folder: Folder of the study, in place of the config's.
        jobs: Number of cells side by side on this machine; null takes one for each core.
        cluster: Address of a dask scheduler, or its scheduler file; FOLDER must be a folder that
            all its workers see.
        status: Only say which cells are done, running, failed and open.
        retry: Make cells again that failed, from their last epoch.
        frozen_layers: Make only cells of these depths (numbers, or ``scratch``).
        seed: Make only cells of these seeds.

    Returns:
        Exit status: 1 if a cell failed or was stopped, else 0.

    Raises:
        ConfigError: The config is wrong, or finished cells were made with another one.
        StudyError: The folder holds something else, or another command works on the study.
    """
    study = read_study(config)
    study = replace(study, folder=(folder or study.folder).resolve())
    cells = choose(cells_of(study), frozen_layers, seed)
    if status:
        print(_status(study, cells))
        return 0
    with _locked(study.folder), _stoppable():
        _begin(study, config)
        for cell in cells if retry else ():
            (study.folder / "failed" / f"{cell.name}.txt").unlink(missing_ok=True)
        with executor(jobs, cluster) as pool:
            threads = None if cluster else max(1, available_cores() // (jobs or available_cores()))
            for stage in ([c for c in cells if c.branch], [c for c in cells if not c.branch]):
                _make(stage, study, pool, threads)
    print(_status(study, cells))
    return int(any(_state(study.folder, cell.name) != "done" for cell in cells))


def make_cell(
    folder: Path,
    where: Path,
    flags: Mapping[str, Sequence[str]],
    threads: int | None,
    items: Sequence[str],
    path: Path,
) -> None:
    """Makes one cell, or continues it from its last epoch.

    Args:
        folder: Folder of the study.
        where: Working directory, which paths in the flags are relative to.
        flags: Flags of ``xecg fit`` by name of the cell.
        threads: Number of threads that the cell may use; null leaves it to the environment.
        items: Name of the cell.
        path: File to write when the cell is finished.

    Raises:
        StudyError: ``xecg fit`` failed; the message ends with what it said last.
    """
    (name,) = items
    done, work = folder / "cells" / name, folder / "work" / name
    with (folder / "logs" / f"{name}.txt").open("a+b") as log:
        # The fit inherits the lock: one that outlives its killed study is waited for.
        fcntl.flock(log, fcntl.LOCK_EX)
        running = path.with_name(f"{name}.running")
        running.touch()
        try:
            if not done.exists():
                _fit(name, work, where, flags[name], threads, log)
                work.rename(done)
                if (done / "wandb").exists():  # `wandb sync` looks for files where they were
                    work.symlink_to(Path("..", "cells", name))
        finally:
            running.unlink(missing_ok=True)
    write_whole(path, name)


def _fit(
    name: str, work: Path, where: Path, flags: Sequence[str], threads: int | None, log: IO[bytes]
) -> None:
    """Runs ``xecg fit`` to its end."""
    if work.is_symlink():  # of a finished cell that was removed
        work.unlink()
    if (work / "weights.safetensors").exists():  # the last file that a fit writes
        return
    last = work / "checkpoints" / "last.ckpt"
    resumed = zipfile.is_zipfile(last)  # as torch writes it, to the end
    if not resumed:
        shutil.rmtree(work, ignore_errors=True)
    place = f"--ckpt_path={last}" if resumed else f"--run_folder={work}"
    environment = ({} if threads is None else {"OMP_NUM_THREADS": str(threads)}) | os.environ
    start = log.seek(0, os.SEEK_END)
    done = subprocess.run(
        [*_FIT, *flags, place],
        cwd=where,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        check=False,
    )
    if done.returncode == 0:
        return
    log.seek(start)
    said = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    reason = ([line for line in said if line.startswith("xecg: ")] or said or ["no word"])[-1]
    if done.returncode not in _STOPPED:
        write_whole(work.parents[1] / "failed" / f"{name}.txt", reason)
    raise StudyError(f"{name}: xecg fit ended with {done.returncode}: {reason} ({log.name})")


def _make(stage: Sequence[Cell], study: Study, pool: Executor, threads: int | None) -> None:
    """Makes the cells of a stage that are open and have what they need."""
    folder = study.folder
    shutil.rmtree(folder / _PARTS, ignore_errors=True)
    todo = [
        cell
        for cell in stage
        if _state(folder, cell.name) == "open"
        and all(_state(folder, needed) == "done" for needed in cell.needs)
    ]
    flags = {cell.name: flags_of(cell, study, folder / "cells") for cell in todo}
    work = partial(make_cell, folder, Path.cwd(), flags, threads)
    pieces = [[cell.name] for cell in todo]
    for part in run_parts(work, pieces, folder / _PARTS, pool, title="study", unit="cell"):
        _log.info("%s", part.error or f"{part.items[0]} is done")
    shutil.rmtree(folder / _PARTS)


def _begin(study: Study, config: Path) -> None:
    """Makes the study's folder, or checks that its cells go together with this config."""
    folder, kept = study.folder, study.folder / "begun.json"
    settings = _settings(study)
    if kept.exists():
        before = json.loads(kept.read_text())
        changed = [key for key in {**before, **settings} if before.get(key) != settings.get(key)]
        if changed:
            raise ConfigError(
                f"{folder}: the study began with another {changed[0]} than {config} has; its cells "
                "would not go together. Name another folder"
            )
    elif any(path.name != _LOCK for path in folder.iterdir()):
        raise StudyError(f"{folder}: holds something that is no study; name another folder")
    for name in ("cells", "work", "failed", "logs"):
        (folder / name).mkdir(exist_ok=True)
    write_whole(folder / "study.yaml", config.read_bytes())  # for the report
    write_whole(kept, json.dumps(settings, indent=1))


def _settings(study: Study) -> dict[str, Any]:
    """What finished cells depend on: all but the seeds and depths, which may be added to."""

    def described(key: str, how: Fit | str) -> Any:
        try:
            return (
                how
                if isinstance(how, str)
                else [
                    {path.name: path.read_text() for path in how.configs},
                    how.arguments,
                ]
            )
        except OSError as error:
            raise ConfigError(f"{key}.configs: {error}") from error

    once = study.pretraining_seeds == "first"
    return {
        **{
            f"pretraining.{name}": described(f"pretraining.{name}", how)
            for name, how in study.pretraining.items()
        },
        "finetuning": described("finetuning", study.finetuning),
        "pretraining_seeds": study.seeds[0] if once else "each",
        "explain": asdict(study.explain),
    }


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a study, which its process loses when it dies."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / _LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        raise StudyError(
            f"{folder}: another command works on this study; --status says how far it is"
        ) from error
    except OSError as error:
        raise StudyError(f"folder {folder}: cannot be used ({error})") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _stoppable() -> Iterator[None]:
    """Lets SIGTERM stop the cells of this process as ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _state(folder: Path, name: str) -> str:
    if (folder / "cells" / name).exists():
        return "done"
    if (folder / "failed" / f"{name}.txt").exists():
        return "failed"
    return "running" if (folder / _PARTS / f"{name}.running").exists() else "open"


def _status(study: Study, cells: Sequence[Cell]) -> str:
    """A line per cell, and how many there are of each state."""
    folder = study.folder
    states = {cell.name: _state(folder, cell.name) for cell in cells}
    if not _is_locked(folder):  # marks that a killed command left
        states = {name: state.replace("running", "open") for name, state in states.items()}
    lines = [f"{state:<8} {name} {_note(folder, name, state)}" for name, state in states.items()]
    counts = Counter(states.values())
    total = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "failed", "open"))
    return "\n".join([*lines, f"{len(cells)} cells: {total}. xecg study report {folder}"])


def _is_locked(folder: Path) -> bool:
    if not (folder / _LOCK).exists():
        return False
    try:
        with FileLock(folder / _LOCK, timeout=0):
            return False
    except Timeout:
        return True


def _note(folder: Path, name: str, state: str) -> str:
    """The fused accuracy of a finished cell, or why a cell failed."""
    if state == "failed":
        reason = (folder / "failed" / f"{name}.txt").read_text()
        return f"{reason} (logs/{name}.txt; --retry makes it again)"
    if state != "done":
        return ""
    table = pd.read_csv(folder / "cells" / name / "test_metrics.csv")
    chosen = table[(table["part"] == "fused") & (table["metric"] == "accuracy")]
    found = zip(chosen["test_set"], chosen["value"], strict=True)
    return ", ".join(f"{test_set} {value:.3f}" for test_set, value in found)

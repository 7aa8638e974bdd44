"""``xecg study``: makes the cells of a study, each by an ``xecg fit`` of its own."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from xecg.errors import ConfigError, StudyError
from xecg.executors import available_cores, end_after, executor, run_parts
from xecg.files import check_sums, write_sums, write_whole
from xecg.study.plan import Cell, Study, cells_of, read_study

_FIT = (sys.executable, "-m", "xecg.study.run")
_STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_PATIENCE_S = 5.0  # with a fit that is to end; its last checkpoint is whole at any moment
_GOING = ".going"  # file of a study whose fits, wherever they run, are to go on
_log = logging.getLogger(__name__)


def run_study(
    config: Path,
    *,
    folder: Path | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    status: bool = False,
) -> int:
    """Pre-trains the branches, fine-tunes, tests and explains every frozen depth and seed.

    Every cell is a run of ``xecg fit`` in FOLDER/cells, with its table of test windows. A study
    that was killed continues when the same command is given again: finished cells stay, others
    continue from their last epoch. A cell that fails is reported with its log in FOLDER/logs, the
    others are made all the same, and the next command tries it again. Tables and figures:
    ``xecg study report FOLDER``.

    Args:
        config: Config of the study, as configs/study.yaml.
        folder: Folder of the study, in place of the config's.
        jobs: Number of cells side by side on this machine, which share its cores; null takes one
            for each core. With a GPU, as many as its memory holds.
        cluster: Address of a dask scheduler, or its scheduler file; FOLDER must be a folder that
            all its workers see.
        status: Only say which cells are done, running, failed and open.

    Returns:
        Exit status: 1 if a cell failed or was stopped, else 0.

    Raises:
        ConfigError: The config is wrong, or finished cells were made with another one.
        StudyError: The folder holds something else, or another command works on the study.
    """
    study = read_study(config)
    study = replace(study, folder=(folder or study.folder).resolve())
    cells = cells_of(study)
    if not status:
        with _alone(study.folder):
            _begin(study, config)
            for told in (study.folder / "failed").iterdir():
                told.unlink()  # to be tried again
            _make(cells, study.folder, jobs, cluster)
    states = {cell.name: _state(study.folder, cell.name) for cell in cells}
    _print_status(study.folder, states)
    return int(not status and {*states.values()} != {"done"})


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Holds the lock of a study, which its process loses when it dies; SIGTERM acts as ctrl-C."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(folder / ".lock", timeout=0))
        except OSError as error:
            why = f"cannot be used ({error})"
            if isinstance(error, Timeout):
                why = "another command works on this study; --status says how far it is"
            raise StudyError(f"folder {folder}: {why}") from error
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        held.callback(signal.signal, signal.SIGTERM, before)
        yield


def _begin(study: Study, config: Path) -> None:
    """Makes the study's folder, or checks that its cells go together with this config.

    Finished cells depend on all but the seeds and depths, which may be added to.
    """
    folder, kept = study.folder, study.folder / "begun.json"
    settings: dict[str, Any] = {f"pretraining.{key}": how for key, how in study.pretraining.items()}
    for key, fit in study.fits.items():
        try:
            texts = {path.name: path.read_text() for path in fit.configs}
        except OSError as error:
            raise ConfigError(f"{key}.configs: {error}") from error
        settings[key] = [texts, fit.arguments]
    settings["first seed"] = study.seeds[0]  # which pre-trained
    try:
        before = dict(json.loads(kept.read_bytes())) if kept.is_file() else settings
    except (OSError, ValueError, TypeError) as error:
        wanted = "the settings that the study began with"
        raise StudyError(f"{kept}: expected {wanted}; name another folder ({error})") from error
    for key in before | settings:
        if before.get(key) != settings.get(key):
            why = f"the study began with another {key} than {config} has"
            raise ConfigError(f"{folder}: {why}, its cells do not go together; name another folder")
    if not kept.is_file() and any(path.name[0] != "." for path in folder.iterdir()):
        raise StudyError(f"{folder}: holds something that is no study; name another folder")
    write_whole(kept, json.dumps(settings, indent=1))
    for name in ("cells", "work", "failed", "logs"):
        (folder / name).mkdir(exist_ok=True)
    write_whole(folder / "study.yaml", config.read_bytes())  # for the report
    write_sums(folder)


def _make(cells: Sequence[Cell], folder: Path, jobs: int | None, cluster: str | None) -> None:
    """Makes the cells that are open and have what they need, pre-training first."""
    parts, cores = folder / "parts", available_cores()
    with executor(jobs, cluster, threads=True) as pool, ExitStack() as stopping:
        (folder / _GOING).touch()
        stopping.callback((folder / _GOING).unlink, missing_ok=True)
        needed = {name for cell in cells for name in cell.needs}
        for is_first in (True, False):
            todo = {
                cell.name: [*_FIT, *cell.flags]
                for cell in cells
                if (cell.name in needed) == is_first
                and _state(folder, cell.name) in ("open", "running")
                and all(_state(folder, name) == "done" for name in cell.needs)
            }
            threads = None if cluster else max(1, cores // max(1, min(jobs or cores, len(todo))))
            work = partial(_make_cell, folder, Path.cwd(), todo, threads)
            shutil.rmtree(parts, ignore_errors=True)
            pieces = [[name] for name in todo]
            for part in run_parts(work, pieces, parts, pool, title="study", unit="cell"):
                _log.info("%s", part.error or f"{part.items[0]} is done")
            shutil.rmtree(parts)


def _make_cell(
    folder: Path,
    where: Path,
    commands: Mapping[str, Sequence[str]],
    threads: int | None,
    items: Sequence[str],
    path: Path,
) -> None:
    """Makes the cell that is named in ``items``, and then the file ``path``."""
    (name,) = items
    done, work = folder / "cells" / name, folder / "work" / name
    with FileLock(f"{work}.lock"):  # a worker that was taken for dead may still work on it
        if not done.exists():
            if work.is_symlink():  # of a finished cell that was removed
                work.unlink()
            if not (work / "weights.safetensors").exists():  # the last file that a fit writes
                _fit(work, where, commands[name], threads)
            work.rename(done)
            if (done / "wandb").exists():  # `wandb sync` looks for files where they were
                work.symlink_to(Path("..", "cells", name))
    write_whole(path, name)


def _fit(work: Path, where: Path, command: Sequence[str], threads: int | None) -> None:
    """Runs ``xecg fit`` in the folder ``where``, or continues it from its last epoch.

    It ends with this process, however that ends, as its standard input does.
    """
    folder, last = work.parents[1], work / "checkpoints" / "last.ckpt"
    place = f"--ckpt_path={last}"
    if not zipfile.is_zipfile(last):  # as torch writes it, to the end
        shutil.rmtree(work, ignore_errors=True)
        place = f"--run_folder={work}"
    environment = ({} if threads is None else {"OMP_NUM_THREADS": str(threads)}) | os.environ
    with (folder / "logs" / f"{work.name}.txt").open("a+b") as log:
        start = log.seek(0, os.SEEK_END)
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": log, "stderr": log}
        with subprocess.Popen([*command, place], cwd=where, env=environment, **streams) as fit:
            while fit.poll() is None:
                time.sleep(0.1)
                if not (folder / _GOING).exists():
                    fit.terminate()
                    with suppress(subprocess.TimeoutExpired):  # as it tests, it does not listen
                        fit.wait(_PATIENCE_S)
                    fit.kill()
        log.seek(start)
        said = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
    if fit.returncode == 0:
        return
    reason = ([line for line in said if line.startswith("xecg: ")] or said or ["no word"])[-1]
    if fit.returncode not in _STOPPED and (folder / _GOING).exists():
        write_whole(folder / "failed" / f"{work.name}.txt", reason)
    raise StudyError(f"{work.name}: xecg fit ended with {fit.returncode}: {reason} ({log.name})")


def _state(folder: Path, name: str) -> str:
    if (folder / "cells" / name).exists():
        return "done"
    if (folder / "failed" / f"{name}.txt").exists():
        return "failed"
    if (lock := folder / "work" / f"{name}.lock").exists():
        try:
            FileLock(lock).acquire(timeout=0).lock.release()
        except Timeout:
            return "running"
    return "open"


def _print_status(folder: Path, states: Mapping[str, str]) -> None:
    """Prints a line per cell, and how many there are of each state."""
    for name, state in states.items():
        note = ""
        if state == "failed":
            reason = (folder / "failed" / f"{name}.txt").read_text(errors="replace")
            note = f"{reason} (logs/{name}.txt)"
        if state == "done":
            check_sums(folder / "cells" / name)
            table = pd.read_csv(folder / "cells" / name / "test_metrics.csv")
            fused = table[(table["part"] == "fused") & (table["metric"] == "accuracy")]
            note = ", ".join(f"{row.test_set} {row.value:.3f}" for row in fused.itertuples())
        print(f"{state:<8} {name} {note}")
    counts = Counter(states.values())
    total = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "failed", "open"))
    print(f"{len(states)} cells: {total}. xecg study report {folder}")


if __name__ == "__main__":  # a fit, which does not outlive who started it
    from xecg.cli import main

    end_after(partial(os.read, sys.stdin.fileno(), 1))
    sys.exit(main(["fit", *sys.argv[1:]]))

"""``xecg study``: what a study asks for, and its cells, each made by an ``xecg fit`` of its own."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from argparse import ArgumentError
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path
from runpy import run_module
from typing import Any, NamedTuple

import pandas as pd
from filelock import FileLock, Timeout
from jsonargparse import ArgumentParser

from xecg.errors import ConfigError, StudyError
from xecg.executors import available_cores, end_after, executor, run_parts
from xecg.files import REPORT, check_sums, write_sums, write_whole

_FIT = (sys.executable, "-m", "xecg.study.run")
_STOPPED = (-signal.SIGINT, -signal.SIGTERM, 128 + signal.SIGINT, 128 + signal.SIGTERM)
_PATIENCE_S = 5.0  # with a fit that is to end; its last checkpoint is whole at any moment
_GOING = ".going"  # file of a study whose fits, wherever they run, are to go on
_log = logging.getLogger(__name__)
_SET_BY_STUDY = ("config", "seed_everything", "freezing.frozen_layers", "run_folder", "ckpt_path")


@dataclass(frozen=True)
class Fit:
    """One kind of ``xecg fit``."""

    configs: list[Path]  # its --config files, in order
    arguments: dict[str, Any] = field(default_factory=dict)  # its other flags


@dataclass(frozen=True)
class Reference:
    """What others found, which the report sets beside the study."""

    test_set: str = ""  # that metrics and enrichments are of
    title: str = ""  # name of the network that they are of
    note: str = ""  # sentences about where they come from
    accuracy: dict[str, float] = field(default_factory=dict)  # by part: a branch, or "fused"
    f1: dict[str, float] = field(default_factory=dict)  # F1 of AF by part
    enrichment: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Mean enrichment by branch, class and wave."""
    accuracy_range: tuple[float, float] | None = None  # published, over the frozen depths
    accuracy_note: str = ""  # sentence about where the range comes from
    rho: float = 0.9  # Spearman's rho from which on a trend counts as monotone


@dataclass(frozen=True)
class Study:
    """A ladder of frozen depths; ConfigError if a number is out of range or nothing is trained."""

    folder: Path
    seeds: list[int]  # of fine-tuning; the first one pre-trains
    frozen_layers: list[int]  # numbers of blocks that stay frozen, counted from the input
    pretraining: dict[str, Fit | str]  # by branch; or its weights: a file, a released name
    finetuning: Fit  # of every depth
    scratch: bool = True  # whether to train from random weights too
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        for key, numbers in {"seeds": self.seeds, "frozen_layers": self.frozen_layers}.items():
            if len({*numbers}) < len(numbers) or min(numbers, default=0) < 0:
                raise ConfigError(f"{key}: expected different numbers from 0 on, found {numbers}")
        if not self.seeds or not (self.frozen_layers or self.scratch):
            raise ConfigError("seeds, frozen_layers: expected one or more, found nothing to train")
        for key, fit in self.fits.items():
            if taken := [name for name in fit.arguments if name in _SET_BY_STUDY]:
                raise ConfigError(f"{key}.arguments: {taken[0]} is set by the study; leave it out")

    @property
    def fits(self) -> dict[str, Fit]:
        """Every kind of fit by its key in the config."""
        kinds = {f"pretraining.{branch}": how for branch, how in self.pretraining.items()}
        kinds["finetuning"] = self.finetuning
        return {key: fit for key, fit in kinds.items() if isinstance(fit, Fit)}


class Cell(NamedTuple):
    """One training of a study, and the names of the pre-trainings that it starts from."""

    name: str
    flags: tuple[str, ...]  # of its `xecg fit`, but for the folder
    needs: tuple[str, ...] = ()


def read_study(path: Path) -> Study:
    """Reads the config of a study; paths in it are relative to the working directory.

    Raises ConfigError if it cannot be read, or a key is missing, unknown or out of range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Study)
    try:
        settings = parser.instantiate(parser.parse_path(path))
        return Study(**{name: settings[name] for name in Study.__dataclass_fields__})
    except (ArgumentError, TypeError, ValueError, OSError, ConfigError) as error:
        raise ConfigError(f"{path}: no config of a study. {error}") from error


def cells_of(study: Study) -> list[Cell]:
    """Returns the cells in the order in which they are made, pre-training first.

    All windows of the test sets are explained, unless the fine-tuning's arguments say otherwise.
    """
    weights, first = dict[str, Any](study.pretraining), study.seeds[0]
    cells = []
    for branch, how in study.pretraining.items() if study.frozen_layers else ():
        if isinstance(how, Fit):
            name = f"pretrain-{branch}-seed{first}"
            cells.append(Cell(name, _flags(how, first)))
            weights[branch] = str(study.folder / "cells" / name / "weights.safetensors")
    needs = tuple(cell.name for cell in cells)
    explained = {"test_windows.explain": None} | study.finetuning.arguments
    finetuning = replace(study.finetuning, arguments=explained)
    starts: list[Any] = [(f"frozen{depth}", weights, depth, needs) for depth in study.frozen_layers]
    if study.scratch:
        starts.append(("scratch", None, 0, ()))
    for seed, (name, pretrained, depth, needed) in product(study.seeds, starts):
        start = {"model.pretrained": pretrained, "freezing.frozen_layers": depth}
        cells.append(Cell(f"{name}-seed{seed}", _flags(finetuning, seed, **start), needed))
    return cells


def _flags(fit: Fit, seed: int, **setting: Any) -> tuple[str, ...]:
    setting |= {"seed_everything": seed, "trainer.enable_progress_bar": False}
    flags = [f"--config={path}" for path in fit.configs]
    for key, value in (fit.arguments | setting).items():
        flags.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    return tuple(flags)


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
    for name, state in states.items():
        note = ""
        if state == "failed":
            reason = (folder / "failed" / f"{name}.txt").read_text(errors="replace")
            note = f"{reason} (logs/{name}.txt)"
        if state == "done":
            check_sums(folder / "cells" / name)
            table = pd.read_csv(folder / "cells" / name / REPORT)
            fused = table[(table["part"] == "fused") & (table["metric"] == "accuracy")]
            note = ", ".join(f"{row.test_set} {row.value:.3f}" for row in fused.itertuples())
        print(f"{state:<8} {name} {note}")
    counts = Counter(states.values())
    total = ", ".join(f"{counts[state]} {state}" for state in ("done", "running", "failed", "open"))
    print(f"{len(states)} cells: {total}. xecg study report {folder}")


if __name__ == "__main__":  # a fit, which does not outlive who started it
    end_after(partial(os.read, sys.stdin.fileno(), 1))
    sys.argv.insert(1, "fit")
    run_module("xecg.cli", run_name="__main__")

"""The tries at one cell: each a run folder, the next going on where the last one was killed."""

from __future__ import annotations

import csv
import json
import shutil
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import yaml

from xecg.files import write_table, write_whole

TESTED = "test_metrics.csv"  # the last thing that a fit writes
_METRICS, _CONFIG, _TIMES = "metrics.csv", "config.yaml", "times.json"


@dataclass(frozen=True)
class Attempt:
    """A run folder within a cell's working folder.

    Args:
        folder: ``<working folder>/run-<number>``.
    """

    folder: Path

    @property
    def number(self) -> int:
        """Counted from 1."""
        return int(self.folder.name.rpartition("-")[2])

    @property
    def last_checkpoint(self) -> Path:
        """Where its last epoch lies, if it got to the end of one."""
        return self.folder / "checkpoints" / "last.ckpt"

    @property
    def is_tested(self) -> bool:
        """Whether its fit got to the end."""
        return (self.folder / TESTED).exists()


def attempts(work: Path) -> list[Attempt]:
    """All tries, the first one first."""
    return sorted((Attempt(path) for path in work.glob("run-*")), key=lambda found: found.number)


def checkpoint_to_go_on_from(work: Path) -> Path | None:
    """The last epoch of the latest try that got to the end of one; None to begin anew."""
    for attempt in reversed(attempts(work)):
        if zipfile.is_zipfile(attempt.last_checkpoint):  # as torch writes it, to the end
            return attempt.last_checkpoint
    return None


def next_attempt(work: Path) -> Attempt:
    """The folder, not yet there, of the next try."""
    made = attempts(work)
    return Attempt(work / f"run-{made[-1].number + 1 if made else 1}")


def merge(work: Path) -> Path:
    """Make the last try a run folder that looks as if it had never been killed.

    Its table of epochs gets those of the tries before it, its config no longer names places of the
    working folder, and only the best checkpoint is kept.

    Returns:
        The run folder.
    """
    made = attempts(work)
    folder = made[-1].folder
    _merge_metrics([attempt.folder / _METRICS for attempt in made])
    config = yaml.safe_load((folder / _CONFIG).read_text())
    config |= {"run_folder": None, "ckpt_path": None}
    write_whole(folder / _CONFIG, yaml.safe_dump(config, sort_keys=False))
    made[-1].last_checkpoint.unlink(missing_ok=True)
    for earlier in made[:-1]:
        _keep_offline_runs(earlier.folder / "wandb", folder / "wandb")
    return folder


def note_time(work: Path, started: float) -> None:
    """Write down when the work on a cell began, anew after it was killed."""
    noted = _times(work)
    write_whole(work / _TIMES, json.dumps([*noted, started]))


def seconds_worked(work: Path, now: float) -> float:
    """Time spent on a cell: of tries that were killed, up to their last checkpoint."""
    times = _times(work)
    ends = [attempt.last_checkpoint for attempt in attempts(work)]
    saved = [path.stat().st_mtime for path in ends if path.exists()]
    killed = sum(
        max((end - start for end in saved if start <= end <= following), default=0.0)
        for start, following in pairwise(times)
    )
    return killed + (now - times[-1] if times else 0.0)


def first_start(work: Path) -> float:
    """When the work on a cell began, in seconds since the epoch."""
    return (_times(work) or [time.time()])[0]


def _times(work: Path) -> list[float]:
    try:
        return [float(value) for value in json.loads((work / _TIMES).read_text())]
    except (OSError, ValueError):
        return []


def _merge_metrics(paths: list[Path]) -> None:
    """Put the epochs of earlier tries before those of the last one, each epoch once."""
    tables = [list(_rows(path)) for path in paths]
    kept: list[dict[str, str]] = []
    for table in tables:
        starts = [int(row["epoch"]) for row in table if row.get("epoch")]
        if starts:
            kept = [row for row in kept if row.get("epoch") and int(row["epoch"]) < min(starts)]
        kept += table
    if len(paths) < 2 or not kept:
        return
    columns = list(dict.fromkeys(column for row in kept for column in row))
    write_table(paths[-1], {name: [row.get(name, "") for row in kept] for name in columns})


def _rows(path: Path) -> Iterator[dict[str, str]]:
    if path.exists():
        with path.open(newline="") as file:
            yield from csv.DictReader(file)


def _keep_offline_runs(earlier: Path, kept: Path) -> None:
    """Take along what W&B wrote, so that it can be uploaded."""
    for run in earlier.glob("offline-run-*"):
        kept.mkdir(exist_ok=True)
        if not (kept / run.name).exists():
            shutil.move(run, kept / run.name)

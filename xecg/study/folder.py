"""The folder of a study: where its cells are, and in which state."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import yaml

from xecg.errors import StudyError
from xecg.files import write_whole
from xecg.study.attempts import TESTED
from xecg.study.plan import Cell

SETTINGS, CELL, REASON, LOG = "study.yaml", "cell.yaml", "reason.txt", "log.txt"
State = Literal["done", "failed", "running", "open"]


class StudyFolder:
    """Paths of a study, and the moves of its cells between them.

    ``cells/<name>`` is a finished cell, moved there whole; ``work/<name>`` what is being made of
    one, ``failed/<name>`` what was left of one that failed, ``claims/`` who works on which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.settings = path / SETTINGS
        self.configs = path / "configs"
        self.claims = path / "claims"

    def cell(self, name: str) -> Path:
        """Where a finished cell lies."""
        return self.path / "cells" / name

    def work(self, name: str) -> Path:
        """Where a cell is made."""
        return self.path / "work" / name

    def failed(self, name: str) -> Path:
        """What is left of a cell that failed."""
        return self.path / "failed" / name

    def make(self) -> None:
        """Make the folders.

        Raises:
            StudyError: They cannot be made.
        """
        try:
            for name in ("cells", "work", "failed", "claims", "configs"):
                (self.path / name).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"folder {self.path}: cannot be made ({error})") from error

    def is_done(self, name: str) -> bool:
        """Whether a cell is finished."""
        return self.cell(name).is_dir()

    def has_failed(self, name: str) -> bool:
        """Whether a cell failed and waits for another try."""
        return self.failed(name).is_dir()

    def reason(self, name: str) -> str:
        """Why a cell failed, in a line."""
        try:
            return (self.failed(name) / REASON).read_text().strip()
        except OSError:
            return "unknown"

    def finish(self, cell: Cell, run: Path, seconds: float, started: datetime) -> None:
        """Move a run that is complete to the finished cells, with what is known of it.

        Raises:
            StudyError: The cell is there already; it stays as it is.
        """
        about = {
            "kind": cell.kind,
            "branch": cell.branch,
            "frozen_layers": cell.frozen_layers,
            "seed": cell.seed,
            "seconds": round(seconds, 1),
            "started": started.isoformat(timespec="seconds"),
            "host": socket.gethostname(),
        }
        write_whole(run / CELL, yaml.safe_dump(about, sort_keys=False))
        log = self.work(cell.name) / LOG
        if log.exists():
            log.replace(run / LOG)
        done, work = self.cell(cell.name), self.work(cell.name)
        try:
            run.rename(done)  # refused where the cell is: it holds something
        except OSError as error:
            raise StudyError(f"{done}: cannot be written ({error})") from error
        shutil.rmtree(work, ignore_errors=True)
        if any(done.glob("wandb/offline-run-*")):  # `wandb sync` looks for the weights where
            work.mkdir()  # they were when they were logged
            run.symlink_to(Path("..", "..", "cells", cell.name))

    def fail(self, name: str, reason: str) -> None:
        """Put away what is left of a cell, with the reason."""
        write_whole(self.work(name) / REASON, reason + "\n")
        shutil.rmtree(self.failed(name), ignore_errors=True)
        self.work(name).rename(self.failed(name))

    def reopen(self, name: str) -> None:
        """Make a cell that failed an open one: trained anew, unless it had got through its test."""
        failed = self.failed(name)
        if any(failed.glob(f"run-*/{TESTED}")) and not self.work(name).exists():
            failed.rename(self.work(name))
        else:
            shutil.rmtree(failed, ignore_errors=True)

    def about(self, name: str) -> Mapping[str, Any]:
        """What is known of a finished cell: kind, branch, frozen_layers, seed, seconds, host.

        Raises:
            StudyError: Its file is missing or damaged.
        """
        path = self.cell(name) / CELL
        try:
            found = yaml.safe_load(path.read_text())
        except (OSError, yaml.YAMLError) as error:
            raise StudyError(f"{path}: cannot be read ({error}); remove the cell") from error
        if not isinstance(found, dict) or "seconds" not in found:
            raise StudyError(f"{path}: expected what is known of the cell; remove the cell")
        return found

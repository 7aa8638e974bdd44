"""Makes the cells of a study, several side by side, beside other processes that do the same."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from xecg.errors import StudyError, XECGError
from xecg.files import write_whole
from xecg.study.agent_run import agent_cells
from xecg.study.attempts import (
    checkpoint_to_go_on_from,
    first_start,
    merge,
    note_time,
    seconds_worked,
)
from xecg.study.cell_process import CellProcess, worker_command
from xecg.study.claims import Claim, Claims
from xecg.study.environment import cell_environment
from xecg.study.fit_arguments import fit_arguments
from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell, StudySettings
from xecg.study.results import accuracy_of
from xecg.study.times import duration
from xecg.study.worker import TASK


@dataclass(frozen=True)
class _Running:
    cell: Cell
    claim: Claim
    process: CellProcess


class Runner:
    """Makes cells; whatever stops it, the next one goes on from there.

    Args:
        folder: Of the study.
        settings: Of the study.
        jobs: How many cells are made side by side.
        wait: Whether to wait for cells that other processes work on, and take them over if those
            die; else they are left to them.
        claims: Who works on what.
        command: Makes a cell, given its working folder.
        poll_s: Seconds between looks at processes and folder.
    """

    def __init__(
        self,
        folder: StudyFolder,
        settings: StudySettings,
        *,
        jobs: int = 1,
        wait: bool = True,
        claims: Claims | None = None,
        command: Callable[[Path], list[str]] = worker_command,
        poll_s: float = 1.0,
    ) -> None:
        self.folder, self.settings, self.jobs, self.wait = folder, settings, jobs, wait
        self.claims = claims or Claims(folder.claims)
        self.command, self.poll_s = command, poll_s
        self.stopped: set[str] = set()
        self._running: list[_Running] = []
        self._waits = False

    def run(self, cells: Sequence[Cell]) -> None:
        """Make the cells that are open, and see to it that none is left running.

        Cells that fail are put away, cells that need them are left open; the others go on.
        """
        with tqdm(total=len(cells), desc=self.folder.path.name, unit="cell") as bar:
            try:
                while True:
                    self._reap()
                    self._start(cells)
                    self._show(bar, cells)
                    if not self._running and not self._to_wait_for(cells):
                        break
                    self._tell_that_it_waits()
                    time.sleep(self.poll_s)
            finally:
                for running in self._running:
                    running.process.stop()
                    running.claim.release()

    def is_blocked(self, cell: Cell) -> bool:
        """Whether a cell needs one that failed or was stopped."""
        missing = [name for name in cell.needs if not self.folder.is_done(name)]
        return any(self.folder.has_failed(name) or name in self.stopped for name in missing)

    def _show(self, bar: tqdm[None], cells: Sequence[Cell]) -> None:
        """Move the bar; into a file it is written only where it moves."""
        done = sum(self.folder.is_done(cell.name) for cell in cells)
        if done != bar.n or sys.stderr.isatty():
            bar.n = done
            bar.refresh()

    def _to_wait_for(self, cells: Sequence[Cell]) -> bool:
        """Whether there are open cells, which can only be with other processes."""
        left = [cell for cell in cells if self._is_open(cell) and not self.is_blocked(cell)]
        if self.wait:
            return bool(left)
        needed = {name for cell in left for name in cell.needs}
        return any(cell.name in needed for cell in left)  # what waits for them cannot go ahead

    def _tell_that_it_waits(self) -> None:
        """Say once that what is left is with other processes."""
        if not self._running and not self._waits:
            _tell("waiting for cells that other processes work on")
        self._waits = not self._running

    def _is_open(self, cell: Cell) -> bool:
        name = cell.name
        over = self.folder.is_done(name) or self.folder.has_failed(name)
        return not over and name not in self.stopped

    def _start(self, cells: Sequence[Cell]) -> None:
        """Start open cells, as many as there is room for."""
        for cell in cells:
            if len(self._running) >= self.jobs:
                return
            if self._is_open(cell) and all(map(self.folder.is_done, cell.needs)):
                claim = self.claims.take(cell.name)
                if claim is None:
                    continue
                if not self._is_open(cell):  # done between the look and the claim
                    claim.release()
                    continue
                self._begin(cell, claim, cells)

    def _begin(self, cell: Cell, claim: Claim, cells: Sequence[Cell]) -> None:
        work = self.folder.work(cell.name)
        goes_on = checkpoint_to_go_on_from(work) is not None
        work.mkdir(parents=True, exist_ok=True)
        note_time(work, time.time())
        task = {
            "fit": fit_arguments(cell, self.settings, self.folder),
            "explain": asdict(self.settings.explain) if cell.kind == "finetune" else None,
        }
        write_whole(work / TASK, json.dumps(task))
        environment = cell_environment(
            cell, self.folder, os.environ, jobs=self.jobs, of_agent=cell in agent_cells(cells)
        )
        process = CellProcess(work, self.command(work), environment)
        self._running.append(_Running(cell, claim, process))
        _tell(f"{cell.name} {'goes on' if goes_on else 'started'}")

    def _reap(self) -> None:
        """Take in the cells whose process has ended or whose claim is lost."""
        for running in list(self._running):
            if running.claim.is_lost:
                running.process.stop()
                _tell(f"{running.cell.name} was taken over by another process")
            elif running.process.status is None:
                continue
            elif running.process.was_terminated:  # by somebody, or as the machine shuts down
                running.process.close()
                self.stopped.add(running.cell.name)
                _tell(f"{running.cell.name} was stopped from outside; it goes on next time")
            else:
                running.process.close()
                self._take_in(running)
            running.claim.release()
            self._running.remove(running)

    def _take_in(self, running: _Running) -> None:
        """Move what a process made to its place."""
        name, work = running.cell.name, self.folder.work(running.cell.name)
        seconds = seconds_worked(work, time.time())
        try:
            if running.process.status != 0:
                raise StudyError(running.process.reason())
            started = datetime.fromtimestamp(first_start(work)).astimezone()
            self.folder.finish(running.cell, merge(work), seconds, started)
        except (OSError, XECGError) as error:
            if self.folder.is_done(name):
                _tell(f"{name} is done already, by another process")
                return
            self.folder.fail(name, str(error))
            _tell(f"{name} failed: {error} (log in {self.folder.failed(name)})")
            return
        _tell(f"{name} done in {duration(seconds)}{accuracy_of(self.folder.cell(name))}")


def _tell(line: str) -> None:
    tqdm.write(f"{datetime.now():%H:%M:%S} {line}")

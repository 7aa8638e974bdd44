"""A study that tests look into."""

import sys
from dataclasses import dataclass
from pathlib import Path

from xecg.study.claims import Claims
from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell, StudySettings, plan
from xecg.study.runner import Runner

FAKE_WORKER = Path(__file__).parent / "fake_worker.py"


def fake_command(work: Path) -> list[str]:
    """The command of the fake worker."""
    return [sys.executable, str(FAKE_WORKER), str(work)]


@dataclass
class Study:
    """A study with its settings."""

    folder: StudyFolder
    settings: StudySettings

    @property
    def cells(self) -> list[Cell]:
        """Its plan."""
        return plan(self.settings)

    def runner(self, jobs: int = 1, wait: bool = True) -> Runner:
        """Makes cells by the fake worker."""
        claims = Claims(self.folder.claims, heartbeat_s=0.05)
        return Runner(
            self.folder,
            self.settings,
            jobs=jobs,
            wait=wait,
            claims=claims,
            command=fake_command,
            poll_s=0.02,
        )

    def run(self, jobs: int = 1) -> None:
        """Make all cells."""
        self.runner(jobs).run(self.cells)

    def done(self) -> list[str]:
        """Names of the finished cells."""
        return sorted(path.name for path in (self.folder.path / "cells").iterdir())

    def begun(self) -> list[str]:
        """Names of cells in the order in which work on them began, again for each try."""
        return [line.split()[0] for line in self._lines("begun.txt")]

    def pids(self) -> list[int]:
        """Processes of the tries."""
        return [int(line.split()[1]) for line in self._lines("begun.txt")]

    def finished(self) -> list[str]:
        """Names of cells in the order in which a process got to their end."""
        return self._lines("finished.txt")

    def _lines(self, name: str) -> list[str]:
        path = self.folder.path / name
        return path.read_text().splitlines() if path.exists() else []

"""The process that makes a cell: started, watched, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from xecg.study.folder import LOG

GRACE_S = 15.0  # between asking a process to end and killing it


def worker_command(work: Path) -> list[str]:
    """The command that makes a cell in its working folder."""
    return [sys.executable, "-m", "xecg.study.worker", str(work)]


class CellProcess:
    """A process that makes a cell; what it prints goes into ``log.txt`` of the working folder.

    It has a process group of its own, so that it ends with all that it started. Its standard input
    stays open as long as this process lives, which is how it notices that nobody waits for it.

    Args:
        work: The cell's working folder.
        command: What is started.
        environment: Its environment.
    """

    def __init__(self, work: Path, command: list[str], environment: Mapping[str, str]) -> None:
        self.work = work
        with (work / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(environment),
                start_new_session=True,
            )

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.poll()

    @property
    def was_terminated(self) -> bool:
        """Whether it was asked to end, by whom ever."""
        return self.status in (-signal.SIGTERM, 128 + signal.SIGTERM)

    def stop(self) -> None:
        """Ask it to end, and kill it if it does not."""
        for signal_number in (signal.SIGTERM, signal.SIGKILL):
            self._send(signal_number)
            deadline = time.monotonic() + GRACE_S
            while self.status is None and time.monotonic() < deadline:
                time.sleep(0.05)
        self.close()

    def close(self) -> None:
        """Free what a process that has ended still holds; end what it left behind, if it failed."""
        if self.status != 0:
            self._send(signal.SIGKILL)
        if self._process.stdin is not None:
            self._process.stdin.close()

    def reason(self) -> str:
        """Why it failed: the last line that it printed."""
        status = self.status or 0
        killed = f"killed by {signal.Signals(-status).name}; " if status < 0 else ""
        return f"{killed}{_last_line(self.work / LOG)}"

    def _send(self, signal_number: signal.Signals) -> None:
        try:
            os.killpg(self._process.pid, signal_number)
        except (ProcessLookupError, PermissionError):  # all of the group have ended
            return


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 10_000))
        lines = file.read().decode(errors="replace").replace("\r", "\n").splitlines()
    printed = [line.strip() for line in lines if line.strip()]
    told = [line for line in printed if line.startswith("xecg: ")]
    return (told or printed or ["it printed nothing"])[-1]

"""What makes a cell, in a process of its own: trains, tests and explains.

Started by :mod:`xecg.study.cell_process` as ``python -m xecg.study.worker <working folder>``.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

from xecg.errors import XECGError
from xecg.study.attempts import attempts, checkpoint_to_go_on_from, next_attempt
from xecg.study.plan import Explanations

TASK = "task.json"


def main(work: Path) -> int:
    """Make the cell whose task lies in a working folder; returns the exit status."""
    end_with_parent()
    task = json.loads((work / TASK).read_text())
    made = attempts(work)
    if not (made and made[-1].is_tested) and (status := _fit(work, task["fit"])):
        return status
    if task["explain"] is not None:
        from xecg.study.window_tables import write_window_tables  # torch takes seconds to import

        try:
            write_window_tables(attempts(work)[-1].folder, Explanations(**task["explain"]))
        except XECGError as error:
            print(f"xecg: {error}", file=sys.stderr)
            return 1
    return 0


def end_with_parent() -> None:
    """End this process and those that it started as soon as the parent ends.

    The parent holds the other end of the standard input, which closes even if it is killed.
    """

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _fit(work: Path, flags: list[str]) -> int:
    """Train and test, from the last checkpoint on if there is one; returns the exit status."""
    checkpoint = checkpoint_to_go_on_from(work)
    resumed = [] if checkpoint is None else [f"--ckpt_path={checkpoint}"]
    folder = next_attempt(work).folder
    command = [sys.executable, "-m", "xecg.cli", "fit", *flags, f"--run_folder={folder}", *resumed]
    handler = signal.signal(signal.SIGTERM, _left_to_the_fit)
    status = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
    signal.signal(signal.SIGTERM, handler)
    if status < 0:
        print(f"xecg: fit was killed by {signal.Signals(-status).name}", file=sys.stderr)
        return 128 - status  # as a shell says it
    return status


def _left_to_the_fit(*_: object) -> None:
    """The signal went to all of the process group; the fit ends in good order."""


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))

"""`xecg study`: every frozen depth with several seeds, tested and explained, in one folder.

Torch is imported by the processes that train, so that help and status come at once.
"""

from __future__ import annotations

import argparse
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xecg.errors import ConfigError, StudyError
from xecg.study.agent_run import agent_cells, report_finished
from xecg.study.beginning import begin
from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell, StudySettings, choose, plan, read_settings
from xecg.study.runner import Runner
from xecg.study.status import look_at, status_text


def add_study_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Adds `study` to a command line; `parsed.run` then does it."""
    parser = subparsers.add_parser(
        "study",
        help="fine-tune, test and explain every frozen depth with several seeds",
        description="Pre-trains both branches, fine-tunes every frozen depth and from scratch "
        "with several seeds, tests each on every test set and explains each. Every cell is a run "
        "of its own in FOLDER/cells, written whole. Killed at any time and started again it goes "
        "on where it was; started on several machines that share the folder, no cell is done "
        "twice. The exit status is 1 if a cell failed or was stopped. Tables and figures of what "
        "is done: xecg study report FOLDER.",
    )
    add = parser.add_argument
    add("--config", type=Path, required=True, help="config of the study, as configs/study.yaml")
    add("--folder", type=Path, help="folder of the study, in place of the config's")
    add("--jobs", type=int, default=1, metavar="N", help="cells side by side (%(default)s)")
    add(
        "--frozen_layers",
        "--frozen-layers",
        metavar="N",
        help="only cells of this depth (a number, or scratch) and what they need; others' cells "
        "are left to them",
    )
    add("--seed", type=int, help="only cells of this seed and what they need")
    add("--retry", action="store_true", help="try cells again that failed")
    add("--status", action="store_true", help="show what is done, running, failed and open")
    parser.set_defaults(run=run_study)
    return parser


def run_study(arguments: argparse.Namespace) -> int:
    """Runs a parsed `xecg study ...`; the exit status is 1 if a cell failed or was
    stopped, else 0.

    Raises:
        XECGError: If it cannot be done; the message says why.
    """
    given = read_settings(arguments.config)
    if arguments.folder is not None:
        given = replace(given, folder=arguments.folder)
    if arguments.status:
        print(_status(StudyFolder(given.folder)))
        return 0
    if arguments.jobs < 1:
        raise ConfigError(f"--jobs: expected 1 or more, found {arguments.jobs}")
    folder, settings = begin(given)
    cells = choose(plan(settings), arguments.frozen_layers, arguments.seed)
    if arguments.retry:
        for cell in cells:
            folder.reopen(cell.name)
    some = (arguments.frozen_layers, arguments.seed) != (None, None)
    finished = [cell for cell in agent_cells(cells) if folder.is_done(cell.name)]
    handler = signal.signal(signal.SIGTERM, _interrupt)
    try:
        runner = Runner(folder, settings, jobs=arguments.jobs, wait=not some)
        runner.run(cells)
    finally:
        signal.signal(signal.SIGTERM, handler)
    for cell in finished:
        report_finished(cell, folder)
    return max(_told(folder, settings, cells), int(bool(runner.stopped)))


def _status(folder: StudyFolder) -> str:
    if not folder.settings.exists():
        raise StudyError(f"folder {folder.path}: there is no study yet; start it without --status")
    return status_text(folder, look_at(folder, plan(read_settings(folder.settings))))


def _told(folder: StudyFolder, settings: StudySettings, cells: Sequence[Cell]) -> int:
    """Say how it ended; returns the exit status."""
    failed = [cell.name for cell in cells if folder.has_failed(cell.name)]
    done = sum(folder.is_done(cell.name) for cell in plan(settings))
    print(f"{done} of {len(plan(settings))} cells are done; xecg study report {folder.path}")
    if failed:
        print(f"failed: {', '.join(failed)}; logs in {folder.path / 'failed'}, --retry tries again")
    return int(bool(failed))


def _interrupt(*_: object) -> None:
    """Ask like ctrl-C, so that cells are stopped and given back."""
    raise KeyboardInterrupt

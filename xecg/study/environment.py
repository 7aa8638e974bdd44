"""The environment of a cell's process: its share of the cores, its place in W&B."""

from __future__ import annotations

import os
from collections.abc import Mapping

from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell

_THREADS = "OMP_NUM_THREADS"
_OF_THE_AGENT = ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_SWEEP_PARAM_PATH")


def cell_environment(
    cell: Cell, folder: StudyFolder, given: Mapping[str, str], *, jobs: int, of_agent: bool
) -> dict[str, str]:
    """The environment that a cell's process gets.

    Its W&B run is named after the cell, in a group named after the study's folder. Under a W&B
    agent one cell is the agent's own run; another, as the pre-training that it needs, is a run
    beside it, online like the agent.

    Args:
        cell: The cell.
        folder: Of the study.
        given: This process's environment.
        jobs: How many cells are made side by side; each gets its share of the cores, unless the
            number of threads is set.
        of_agent: Whether the agent's run, if there is an agent, is this cell's.
    """
    environment = dict(given) | {
        "WANDB_RUN_GROUP": folder.path.resolve().name,
        "WANDB_NAME": cell.name,
        "WANDB_JOB_TYPE": cell.kind,
        "TQDM_MININTERVAL": "10",  # seconds between lines of a progress bar in the log
    }
    if jobs > 1:
        environment.setdefault(_THREADS, str(max(1, _cores() // jobs)))
    if "WANDB_SWEEP_ID" in given and not of_agent:
        for name in _OF_THE_AGENT:
            environment.pop(name, None)
        environment.setdefault("WANDB_MODE", "online")
    return environment


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

"""The W&B run of an agent: whose it is, and what it is told of a cell that is finished already."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell


def agent_cells(cells: Sequence[Cell], environment: Mapping[str, str] = os.environ) -> list[Cell]:
    """The cell whose W&B run is the one that an agent waits for.

    Args:
        cells: What this process is to make.
        environment: Says whether an agent started it.

    Returns:
        The one fine-tuned cell; none without an agent, or where there are several.
    """
    finetuned = [cell for cell in cells if cell.kind == "finetune"]
    return finetuned if "WANDB_SWEEP_ID" in environment and len(finetuned) == 1 else []


def report_finished(cell: Cell, folder: StudyFolder) -> None:
    """Give the agent's run the last value of everything that the finished cell logged.

    Args:
        cell: A finished cell.
        folder: Of its study.
    """
    import wandb

    group = folder.path.resolve().name
    with wandb.init(group=group, name=cell.name) as run:
        run.summary.update(last_values(folder.cell(cell.name) / "metrics.csv"))


def last_values(metrics: Path) -> dict[str, float]:
    """The last value of each column of a run's table of epochs."""
    values: dict[str, float] = {}
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            values |= {name: float(value) for name, value in row.items() if value}
    return values

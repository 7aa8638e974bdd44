"""The command line of ``xecg fit`` that makes a cell."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell, Fit, StudySettings, pretraining_cell

WEIGHTS = "weights.safetensors"


def fit_arguments(cell: Cell, settings: StudySettings, folder: StudyFolder) -> list[str]:
    """Flags of ``xecg fit`` but for the folder of the run.

    Args:
        cell: What is trained.
        settings: The study's.
        folder: Where finished pre-training lies.
    """
    if cell.branch is not None:
        fit = settings.pretraining[cell.branch]
        assert isinstance(fit, Fit)  # or there is no such cell
        flags: dict[str, Any] = {}
    else:
        fit = settings.finetuning
        flags = {
            "freezing.frozen_layers": cell.frozen_layers or 0,
            **{
                f"model.{branch}_weights": source
                for branch, source in _weights(cell, settings, folder).items()
            },
        }
    configs = [f"--config={path}" for path in fit.configs]
    flags |= {"seed_everything": cell.seed, "trainer.enable_progress_bar": False}
    return [*configs, *as_flags({**fit.arguments, **flags})]


def as_flags(arguments: Mapping[str, Any]) -> list[str]:
    """Flags by name and value as the command line takes them."""
    return [f"--{name}={_written(value)}" for name, value in arguments.items()]


def _weights(cell: Cell, settings: StudySettings, folder: StudyFolder) -> dict[str, str | None]:
    """Where each branch starts from; None for random weights."""
    if cell.frozen_layers is None:
        return dict.fromkeys(settings.pretraining)
    found: dict[str, str | None] = {}
    for branch, how in settings.pretraining.items():
        name = pretraining_cell(settings, branch, cell.seed)
        found[branch] = str(folder.cell(name) / WEIGHTS) if name else str(how)
    return found


def _written(value: Any) -> str:
    return str(value) if isinstance(value, str | Path) else json.dumps(value)

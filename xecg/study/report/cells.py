"""The finished cells of a study: what was trained, how deep it was frozen, with which seed."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from xecg.errors import DataError
from xecg.study.folder import StudyFolder
from xecg.study.plan import plan, read_settings

CELLS, CELL_FILE, WINDOWS = "cells", "cell.yaml", "windows"
PRETRAIN, FINETUNE = "pretrain", "finetune"
SCRATCH = -1
"""The depth of training from scratch, which is no rung of the ladder."""


@dataclass(frozen=True)
class Cell:
    """One training of a study that is finished.

    Args:
        folder: Of the run.
        kind: ``"pretrain"`` or ``"finetune"``.
        branch: The pre-trained branch; None where both were fine-tuned.
        depth: Frozen blocks, or ``SCRATCH``.
        seed: Of the training.
    """

    folder: Path
    kind: str
    branch: str | None
    depth: int
    seed: int

    @property
    def name(self) -> str:
        """The name of its folder."""
        return self.folder.name

    def test_sets(self) -> list[str]:
        """Names of the test sets of which its windows were written."""
        return sorted(path.stem for path in (self.folder / WINDOWS).glob("*.csv"))


def read_cells(study: Path) -> list[Cell]:
    """The finished cells of a study, by kind, depth and seed.

    Raises:
        DataError: The folder is no study, holds no cell, or a ``cell.yaml`` is not as expected.
    """
    if not (study / CELLS).is_dir():
        raise DataError(
            f"{study}: expected the folder of a study, which holds a folder {CELLS}; found none. "
            "Name the folder that xecg study run wrote"
        )
    cells = [_read_cell(path) for path in sorted((study / CELLS).glob(f"*/{CELL_FILE}"))]
    if not cells:
        raise DataError(f"{study}: no cell is finished yet; there is nothing to report")
    _check_unique(cells)
    return sorted(cells, key=lambda cell: (cell.kind, cell.branch or "", cell.depth, cell.seed))


def depth_title(depth: int) -> str:
    """A depth as tables show it."""
    return "scratch" if depth == SCRATCH else str(depth)


def missing_cells(study: Path) -> list[str]:
    """What a study's settings ask for and is not finished.

    Returns:
        A phrase for each cell: its name, and why it failed if it did.

    Raises:
        ConfigError: The settings of the study cannot be read.
    """
    folder = StudyFolder(study)
    return [
        f"{cell.name} (failed: {folder.reason(cell.name)})"
        if folder.has_failed(cell.name)
        else cell.name
        for cell in plan(read_settings(folder.settings))
        if not folder.is_done(cell.name)
    ]


def _read_cell(path: Path) -> Cell:
    try:
        facts = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if not isinstance(facts, dict):
        raise DataError(f"{path}: expected keys such as kind and seed, found {facts!r}")
    kind = _fact(path, facts, "kind", str)
    if kind not in (PRETRAIN, FINETUNE):
        raise DataError(f"{path}: expected kind {PRETRAIN} or {FINETUNE}, found {kind!r}")
    depth = SCRATCH
    if kind == FINETUNE and _fact(path, facts, "frozen_layers", int | None) is not None:
        depth = facts["frozen_layers"]
    branch = facts.get("branch")
    return Cell(path.parent, kind, branch, depth, _fact(path, facts, "seed", int))


def _fact(path: Path, facts: dict[str, Any], key: str, kind: Any) -> Any:
    if key not in facts or not isinstance(facts[key], kind):
        raise DataError(f"{path}: expected {key} as {kind}, found {facts.get(key, 'nothing')!r}")
    return facts[key]


def _check_unique(cells: Iterable[Cell]) -> None:
    seen: dict[tuple[Any, ...], Cell] = {}
    for cell in cells:
        key = (cell.kind, cell.branch, cell.depth, cell.seed)
        if key in seen:
            raise DataError(
                f"{cell.folder}: expected one cell for each depth and seed; {seen[key].name} has "
                f"the same. Move one of them out of the folder"
            )
        seen[key] = cell

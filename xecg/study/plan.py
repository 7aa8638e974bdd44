"""The cells of a study: what is trained, and what has to be there first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from xecg.errors import ConfigError
from xecg.study.settings import BRANCHES, Fit, StudySettings

SCRATCH = "scratch"


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Args:
        name: Of its folder.
        kind: ``pretrain`` one branch or ``finetune`` both.
        seed: Of everything random.
        branch: The branch that is pre-trained; None in fine-tuning.
        frozen_layers: Blocks that stay frozen; None in pre-training and from scratch.
        needs: Names of the cells that must be finished before.
    """

    name: str
    kind: Literal["pretrain", "finetune"]
    seed: int
    branch: str | None = None
    frozen_layers: int | None = None
    needs: tuple[str, ...] = field(default=())

    @property
    def depth(self) -> str:
        """Frozen depth as a user writes it: a number, or ``scratch``; empty in pre-training."""
        if self.kind == "pretrain":
            return ""
        return SCRATCH if self.frozen_layers is None else str(self.frozen_layers)


def plan(settings: StudySettings) -> list[Cell]:
    """All cells in the order in which they are done: what others need first, then by seed."""
    return [*_pretraining(settings), *_finetuning(settings)]


def choose(
    cells: Sequence[Cell], frozen_layers: str | None = None, seed: int | None = None
) -> list[Cell]:
    """The cells of one depth, of one seed or of both, with the pre-training that they need.

    Args:
        cells: The plan.
        frozen_layers: A depth as in :attr:`Cell.depth`; None for every one.
        seed: A seed of fine-tuning; None for every one.

    Raises:
        ConfigError: The plan has no such cell.
    """
    if frozen_layers is None and seed is None:
        return list(cells)
    finetuned = [cell for cell in cells if cell.kind == "finetune"]
    chosen = [
        cell
        for cell in finetuned
        if frozen_layers in (None, cell.depth) and seed in (None, cell.seed)
    ]
    if not chosen:
        asked = {"frozen_layers": frozen_layers, "seed": seed}
        raise ConfigError(
            f"the study has no cell with "
            f"{', '.join(f'{key} {value}' for key, value in asked.items() if value is not None)}; "
            f"its config has frozen_layers {_listed([cell.depth for cell in finetuned])} and "
            f"seeds {_listed([str(cell.seed) for cell in finetuned])}"
        )
    needed = {name for cell in chosen for name in cell.needs}
    return [cell for cell in cells if cell.name in needed or cell in chosen]


def pretraining_cell(settings: StudySettings, branch: str, seed: int) -> str | None:
    """Name of the cell that pre-trains a branch for a seed; None where weights are given."""
    if not isinstance(settings.pretraining[branch], Fit):
        return None
    seed = settings.seeds[0] if settings.pretraining_seeds == "first" else seed
    return f"pretrain-{branch}-seed{seed}"


def _pretraining(settings: StudySettings) -> Iterator[Cell]:
    if not settings.frozen_layers:
        return
    seeds = settings.seeds if settings.pretraining_seeds == "each" else settings.seeds[:1]
    for seed in seeds:
        for branch in BRANCHES:
            if name := pretraining_cell(settings, branch, seed):
                yield Cell(name, "pretrain", seed, branch=branch)


def _finetuning(settings: StudySettings) -> Iterator[Cell]:
    for seed in settings.seeds:
        names = (pretraining_cell(settings, branch, seed) for branch in BRANCHES)
        needs = tuple(name for name in names if name)
        for depth in settings.frozen_layers:
            name = f"frozen{depth}-seed{seed}"
            yield Cell(name, "finetune", seed, frozen_layers=depth, needs=needs)
        if settings.scratch:
            yield Cell(f"{SCRATCH}-seed{seed}", "finetune", seed)


def _listed(words: Sequence[str]) -> str:
    return ", ".join(dict.fromkeys(words))

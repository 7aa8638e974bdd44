"""What a study is: its settings, and the cells that they ask for."""

import json
from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from xecg.errors import ConfigError

SCRATCH = "scratch"
_SET_BY_STUDY = ("config", "seed_everything", "freezing.frozen_layers", "run_folder", "ckpt_path")


@dataclass(frozen=True)
class Fit:
    """One kind of ``xecg fit``.

    Args:
        configs: Its ``--config`` files, in order.
        arguments: Its other flags, such as ``trainer.max_epochs: 3``.
    """

    configs: list[Path]
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explain:
    """How the windows of the test sets are explained; see the callback ``WindowTables``.

    Args:
        rules: Name of the attribution method: a rule set of deep Taylor decomposition, or another.
        sets: Names of the test sets to explain; null explains every one.
        max_windows: Number of windows of a test set to explain, drawn at random; null explains all.
    """

    rules: str = "innvestigate"
    sets: list[str] | None = None
    max_windows: int | None = None


@dataclass(frozen=True)
class Reference:
    """What others found, which tables and figures of the report set beside the study.

    Args:
        test_set: Name of the test set that metrics and enrichments are of.
        title: Name of the network that they are of.
        note: Sentences about where they come from.
        accuracy: Accuracy by part: a branch, or ``fused``.
        f1: F1 of AF by part.
        enrichment: Mean enrichment by branch, class and wave.
        accuracy_range: Lowest and highest published accuracy over the frozen depths.
        accuracy_note: Sentence about where the range comes from.
        rho: Spearman's rho from which on a trend counts as monotone.
    """

    test_set: str = ""
    title: str = ""
    note: str = ""
    accuracy: dict[str, float] = field(default_factory=dict)
    f1: dict[str, float] = field(default_factory=dict)
    enrichment: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    accuracy_range: tuple[float, float] | None = None
    accuracy_note: str = ""
    rho: float = 0.9


@dataclass(frozen=True)
class Study:
    """A ladder of frozen depths.

    Args:
        folder: Folder of the study.
        seeds: Seeds of fine-tuning.
        frozen_layers: Numbers of blocks that stay frozen, counted from the input.
        pretraining: For each branch how it is pre-trained, or its weights: a file, a released name.
        finetuning: How every depth is fine-tuned.
        scratch: Whether to train from random weights too.
        pretraining_seeds: ``first`` pre-trains once, with the first seed; ``each`` for every seed.
        explain: How the test windows are explained.
        reference: What others found.

    Raises:
        ConfigError: A number is out of range, or there is nothing to train.
    """

    folder: Path
    seeds: list[int]
    frozen_layers: list[int]
    pretraining: dict[str, Fit | str]
    finetuning: Fit
    scratch: bool = True
    pretraining_seeds: Literal["first", "each"] = "first"
    explain: Explain = field(default_factory=Explain)
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        for key in ("seeds", "frozen_layers"):
            numbers = getattr(self, key)
            if len(set(numbers)) < len(numbers) or min(numbers, default=0) < 0:
                raise ConfigError(f"{key}: expected different numbers from 0 on, found {numbers}")
        if not self.seeds or not (self.frozen_layers or self.scratch):
            raise ConfigError(
                "seeds, frozen_layers: expected one or more; there is nothing to train"
            )
        for key, fit in self.fits().items():
            if taken := [name for name in fit.arguments if name in _SET_BY_STUDY]:
                raise ConfigError(f"{key}.arguments: {taken[0]} is set by the study; leave it out")

    def fits(self) -> dict[str, Fit]:
        """Returns every kind of fit by its key in the config."""
        kinds = {f"pretraining.{branch}": how for branch, how in self.pretraining.items()}
        kinds["finetuning"] = self.finetuning
        return {key: fit for key, fit in kinds.items() if isinstance(fit, Fit)}


@dataclass(frozen=True)
class Cell:
    """One training of a study.

    Args:
        name: Name of its folder.
        seed: Seed of the training.
        depth: Frozen depth: a number, or ``scratch``; empty in pre-training.
        branch: Branch that is pre-trained; empty in fine-tuning.
        needs: Names of the pre-trainings that it starts from.
    """

    name: str
    seed: int
    depth: str = ""
    branch: str = ""
    needs: tuple[str, ...] = ()


def read_study(path: Path) -> Study:
    """Reads the config of a study; paths in it are relative to the working directory.

    Raises:
        ConfigError: It cannot be read, or a key is missing, unknown or out of range.
    """
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Study)
    try:
        settings = parser.instantiate(parser.parse_path(path))
        return Study(**{name: settings[name] for name in Study.__dataclass_fields__})
    except (ArgumentError, TypeError, ValueError, OSError, ConfigError) as error:
        raise ConfigError(f"{path}: no config of a study. {error}") from error


def cells_of(study: Study) -> list[Cell]:
    """Returns the cells in the order in which they are made, pre-training first."""
    ladder = [str(depth) for depth in study.frozen_layers] + [SCRATCH] * study.scratch
    finetuned = [
        Cell(
            f"{SCRATCH if depth == SCRATCH else f'frozen{depth}'}-seed{seed}",
            seed,
            depth=depth,
            needs=() if depth == SCRATCH else tuple(c.name for c in _pretrainings(study, seed)),
        )
        for seed in study.seeds
        for depth in ladder
    ]
    pretrained = [cell for seed in study.seeds for cell in _pretrainings(study, seed)]
    needed = {name for cell in finetuned for name in cell.needs}
    return [c for c in dict.fromkeys(pretrained) if c.name in needed] + finetuned


def choose(cells: Sequence[Cell], depths: list[str] | None, seeds: list[int] | None) -> list[Cell]:
    """Returns the fine-tuned cells of these depths and seeds, and the pre-training they need.

    Raises:
        ConfigError: A depth or seed is not in the study.
    """
    for key, asked, there in (
        ("frozen_layers", depths, [cell.depth for cell in cells if cell.depth]),
        ("seed", seeds, [cell.seed for cell in cells if cell.depth]),
    ):
        if missing := [value for value in asked or () if value not in there]:
            listed = ", ".join(map(str, dict.fromkeys(there)))
            raise ConfigError(f"--{key} {missing[0]}: the study has {listed}")
    chosen = [
        cell
        for cell in cells
        if cell.depth
        and cell.depth in (depths or [cell.depth])
        and cell.seed in (seeds or [cell.seed])
    ]
    needed = {name for cell in chosen for name in cell.needs}
    return [cell for cell in cells if cell.name in needed or cell in chosen]


def flags_of(cell: Cell, study: Study, cells: Path) -> list[str]:
    """Returns the flags of the ``xecg fit`` that makes a cell, but for its folder.

    Args:
        cell: Cell to make.
        study: Its study.
        cells: Folder of the finished cells.
    """
    flags: dict[str, Any] = {"seed_everything": cell.seed, "trainer.enable_progress_bar": False}
    fit = study.finetuning
    if cell.branch:
        fit = study.fits()[f"pretraining.{cell.branch}"]
    else:
        made = {
            c.branch: str(cells / c.name / "weights.safetensors")
            for c in _pretrainings(study, cell.seed)
        }
        pretrained = {branch: made.get(branch, how) for branch, how in study.pretraining.items()}
        flags |= {
            "model.pretrained": None if cell.depth == SCRATCH else pretrained,
            "freezing.frozen_layers": 0 if cell.depth == SCRATCH else int(cell.depth),
            "test_windows.explain": study.explain.max_windows,
            "test_windows.attribution": study.explain.rules,
            "test_windows.sets": study.explain.sets,
        }
    arguments = [
        f"--{name}={_written(value)}" for name, value in {**fit.arguments, **flags}.items()
    ]
    return [*(f"--config={path}" for path in fit.configs), *arguments]


def _pretrainings(study: Study, seed: int) -> Iterator[Cell]:
    """Cells that pre-train the branches of the networks of a seed."""
    seed = study.seeds[0] if study.pretraining_seeds == "first" else seed
    for branch, how in study.pretraining.items():
        if isinstance(how, Fit):
            yield Cell(f"pretrain-{branch}-seed{seed}", seed, branch=branch)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)

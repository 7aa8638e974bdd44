"""What a study is: its settings, and the cells that they ask for."""

import json
from argparse import ArgumentError
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser

from xecg.errors import ConfigError

_SET_BY_STUDY = ("config", "seed_everything", "freezing.frozen_layers", "run_folder", "ckpt_path")


@dataclass(frozen=True)
class Fit:
    """One kind of ``xecg fit``."""

    configs: list[Path]  # its --config files, in order
    arguments: dict[str, Any] = field(default_factory=dict)  # its other flags


@dataclass(frozen=True)
class Explain:
    """How the windows of the test sets are explained; see the callback ``WindowTables``."""

    rules: str = "innvestigate"  # name of the attribution method
    sets: list[str] | None = None  # names of the test sets; null: all
    max_windows: int | None = None  # of a test set, drawn at random; null: all


@dataclass(frozen=True)
class Reference:
    """What others found, which the report sets beside the study."""

    test_set: str = ""  # that metrics and enrichments are of
    title: str = ""  # name of the network that they are of
    note: str = ""  # sentences about where they come from
    accuracy: dict[str, float] = field(default_factory=dict)  # by part: a branch, or "fused"
    f1: dict[str, float] = field(default_factory=dict)  # F1 of AF by part
    enrichment: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """Mean enrichment by branch, class and wave."""
    accuracy_range: tuple[float, float] | None = None  # published, over the frozen depths
    accuracy_note: str = ""  # sentence about where the range comes from
    rho: float = 0.9  # Spearman's rho from which on a trend counts as monotone


@dataclass(frozen=True)
class Study:
    """A ladder of frozen depths; ConfigError if a number is out of range or nothing is trained."""

    folder: Path
    seeds: list[int]  # of fine-tuning
    frozen_layers: list[int]  # numbers of blocks that stay frozen, counted from the input
    pretraining: dict[str, Fit | str]  # by branch; or its weights: a file, a released name
    finetuning: Fit  # of every depth
    scratch: bool = True  # whether to train from random weights too
    pretraining_seeds: Literal["first", "each"] = "first"  # seeds that pre-train
    explain: Explain = field(default_factory=Explain)
    reference: Reference = field(default_factory=Reference)

    def __post_init__(self) -> None:
        for key, numbers in {"seeds": self.seeds, "frozen_layers": self.frozen_layers}.items():
            if len({*numbers}) < len(numbers) or min(numbers, default=0) < 0:
                raise ConfigError(f"{key}: expected different numbers from 0 on, found {numbers}")
        if not self.seeds or not (self.frozen_layers or self.scratch):
            raise ConfigError("seeds, frozen_layers: expected one or more, found nothing to train")
        for key, fit in self.fits.items():
            if taken := [name for name in fit.arguments if name in _SET_BY_STUDY]:
                raise ConfigError(f"{key}.arguments: {taken[0]} is set by the study; leave it out")

    @property
    def fits(self) -> dict[str, Fit]:
        """Every kind of fit by its key in the config."""
        kinds = {f"pretraining.{branch}": how for branch, how in self.pretraining.items()}
        kinds["finetuning"] = self.finetuning
        return {key: fit for key, fit in kinds.items() if isinstance(fit, Fit)}


@dataclass(frozen=True)
class Cell:
    """One training of a study, and the names of the pre-trainings that it starts from."""

    name: str
    seed: int
    depth: str  # a number, or "scratch"; empty in pre-training
    flags: tuple[str, ...]  # of its `xecg fit`, but for the folder
    needs: tuple[str, ...] = ()


def read_study(path: Path) -> Study:
    """Reads the config of a study; paths in it are relative to the working directory.

    Raises ConfigError if it cannot be read, or a key is missing, unknown or out of range.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Study)
    try:
        settings = parser.instantiate(parser.parse_path(path))
        return Study(**{name: settings[name] for name in Study.__dataclass_fields__})
    except (ArgumentError, TypeError, ValueError, OSError, ConfigError) as error:
        raise ConfigError(f"{path}: no config of a study. {error}") from error


def cells_of(study: Study) -> list[Cell]:
    """Returns the cells in the order in which they are made, pre-training first."""
    pretrained: dict[str, Cell] = {}
    tuned = []
    for seed in study.seeds:
        weights, needs = dict(study.pretraining), []
        first = study.seeds[0] if study.pretraining_seeds == "first" else seed
        for branch, how in study.pretraining.items():
            if isinstance(how, Fit) and study.frozen_layers:
                name = f"pretrain-{branch}-seed{first}"
                pretrained[name] = Cell(name, first, "", _flags(how, first))
                weights[branch] = str(study.folder / "cells" / name / "weights.safetensors")
                needs.append(name)
        for depth in (*map(str, study.frozen_layers), *["scratch"] * study.scratch):
            rung = depth != "scratch"
            setting = {
                "model.pretrained": weights if rung else None,
                "freezing.frozen_layers": int(depth) if rung else 0,
                "test_windows.explain": study.explain.max_windows,
                "test_windows.attribution": study.explain.rules,
                "test_windows.sets": study.explain.sets,
            }
            name = f"frozen{depth}-seed{seed}" if rung else f"scratch-seed{seed}"
            flags = _flags(study.finetuning, seed, **setting)
            tuned.append(Cell(name, seed, depth, flags, (*needs,) if rung else ()))
    return [*pretrained.values(), *tuned]


def _flags(fit: Fit, seed: int, **setting: Any) -> tuple[str, ...]:
    setting |= {"seed_everything": seed, "trainer.enable_progress_bar": False}
    flags = [f"--config={path}" for path in fit.configs]
    for key, value in (fit.arguments | setting).items():
        flags.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    return tuple(flags)


def choose(cells: Sequence[Cell], depths: list[str] | None, seeds: list[int] | None) -> list[Cell]:
    """Returns the fine-tuned cells of these depths and seeds, and the pre-training they need.

    Raises ConfigError if a depth or seed is not in the study.
    """
    tuned = [cell for cell in cells if cell.depth]
    for flag, key, asked in (("frozen_layers", "depth", depths), ("seed", "seed", seeds)):
        there = dict.fromkeys(getattr(cell, key) for cell in tuned)
        if unknown := [value for value in asked or () if value not in there]:
            listed = ", ".join(map(str, there))
            raise ConfigError(f"--{flag} {unknown[0]}: the study has {listed}")
        tuned = [cell for cell in tuned if getattr(cell, key) in (asked or there)]
    needed = {name for cell in tuned for name in cell.needs}
    return [cell for cell in cells if cell.name in needed or cell in tuned]

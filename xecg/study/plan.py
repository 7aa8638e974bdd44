"""What a study is: its settings, and the cells that they ask for."""

import json
from argparse import ArgumentError
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import ArgumentParser

from xecg.errors import ConfigError

_SET_BY_STUDY = ("config", "seed_everything", "freezing.frozen_layers", "run_folder", "ckpt_path")


@dataclass(frozen=True)
class Fit:
    """One kind of ``xecg fit``."""

    configs: list[Path]  # its --config files, in order
    arguments: dict[str, Any] = field(default_factory=dict)  # its other flags


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
    seeds: list[int]  # of fine-tuning; the first one pre-trains
    frozen_layers: list[int]  # numbers of blocks that stay frozen, counted from the input
    pretraining: dict[str, Fit | str]  # by branch; or its weights: a file, a released name
    finetuning: Fit  # of every depth
    scratch: bool = True  # whether to train from random weights too
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


class Cell(NamedTuple):
    """One training of a study, and the names of the pre-trainings that it starts from."""

    name: str
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
    """Returns the cells in the order in which they are made, pre-training first.

    All windows of the test sets are explained, unless the fine-tuning's arguments say otherwise.
    """
    weights, first = dict[str, Any](study.pretraining), study.seeds[0]
    cells = []
    for branch, how in study.pretraining.items() if study.frozen_layers else ():
        if isinstance(how, Fit):
            name = f"pretrain-{branch}-seed{first}"
            cells.append(Cell(name, _flags(how, first)))
            weights[branch] = str(study.folder / "cells" / name / "weights.safetensors")
    needs = tuple(cell.name for cell in cells)
    explained = {"test_windows.explain": None} | study.finetuning.arguments
    finetuning = replace(study.finetuning, arguments=explained)
    for seed in study.seeds:
        for depth in study.frozen_layers:
            start = {"model.pretrained": weights, "freezing.frozen_layers": depth}
            flags = _flags(finetuning, seed, **start)
            cells.append(Cell(f"frozen{depth}-seed{seed}", flags, needs))
        if study.scratch:
            start = {"model.pretrained": None, "freezing.frozen_layers": 0}
            flags = _flags(finetuning, seed, **start)
            cells.append(Cell(f"scratch-seed{seed}", flags))
    return cells


def _flags(fit: Fit, seed: int, **setting: Any) -> tuple[str, ...]:
    setting |= {"seed_everything": seed, "trainer.enable_progress_bar": False}
    flags = [f"--config={path}" for path in fit.configs]
    for key, value in (fit.arguments | setting).items():
        flags.append(f"--{key}={value if isinstance(value, str) else json.dumps(value)}")
    return tuple(flags)

"""What a study is asked to do, read from a YAML file and checked key by key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from xecg.errors import ConfigError
from xecg.study.checked import Section

BRANCHES = ("morphology", "rhythm")
MAX_DEPTH = 8  # blocks of a branch
_OF_THE_STUDY = ("config", "seed_everything", "freezing.frozen_layers", "run_folder", "ckpt_path")


@dataclass(frozen=True)
class Fit:
    """One kind of ``xecg fit``.

    Args:
        configs: Its ``--config`` files, in order.
        arguments: Its other flags without the dashes, such as ``trainer.max_epochs: 3``.
    """

    configs: tuple[Path, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Explanations:
    """How the windows of the test sets are explained.

    Args:
        rules: Rule set of deep Taylor decomposition.
        sets: Names of the test sets; None for every one.
        max_windows: Windows of a test set that are explained at most, drawn at random; None for
            all. All of them are classified.
    """

    rules: Literal["innvestigate", "zbox"] = "innvestigate"
    sets: tuple[str, ...] | None = None
    max_windows: int | None = None


@dataclass(frozen=True)
class StudySettings:
    """A ladder of frozen depths.

    Args:
        folder: Folder of the study.
        seeds: Seeds of fine-tuning.
        frozen_layers: Numbers of blocks that stay frozen, counted from the input.
        scratch: Whether to train from random weights too.
        pretraining: By branch how it is pre-trained, or weights that are there: a file or a name.
        pretraining_seeds: ``first``: one pre-training, with the first seed, for all; ``each``: one
            for each seed.
        finetuning: How every depth is fine-tuned.
        explain: How the test windows are explained.
    """

    folder: Path
    seeds: tuple[int, ...]
    frozen_layers: tuple[int, ...]
    scratch: bool
    pretraining: Mapping[str, Fit | str]
    pretraining_seeds: Literal["first", "each"]
    finetuning: Fit
    explain: Explanations


def read_settings(path: Path) -> StudySettings:
    """Read the config of a study.

    Paths are relative to the working directory; in a config whose folder is ``.``, as the one that
    a study keeps of itself, to that folder.

    Raises:
        ConfigError: It cannot be read, or a key is missing, unknown or out of range.
    """
    try:
        given = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path}: cannot be read as the config of a study ({error})") from error
    top = Section(given, str(path))
    folder = top.text("folder")
    base = path.parent if folder == "." else Path()
    settings = StudySettings(
        folder=base / folder,
        seeds=_distinct(top, "seeds", 0, 2**32 - 1),
        frozen_layers=_distinct(top, "frozen_layers", 0, MAX_DEPTH),
        scratch=top.flag("scratch", True),
        pretraining_seeds=top.choice("pretraining_seeds", ("first", "each"), "first"),
        pretraining=_pretraining(top.section("pretraining"), base),
        finetuning=_fit(top.section("finetuning"), base),
        explain=_explanations(top.section("explain", required=False)),
    )
    top.end()
    if not settings.seeds:
        raise ConfigError(f"{path}: seeds: expected one or more, found none")
    if not settings.frozen_layers and not settings.scratch:
        raise ConfigError(f"{path}: frozen_layers is empty and scratch is false: nothing to train")
    return settings


def settings_as_yaml(settings: StudySettings) -> str:
    """The settings as text that :func:`read_settings` takes, relative to the study's folder."""
    written = {
        "folder": ".",
        "seeds": list(settings.seeds),
        "frozen_layers": list(settings.frozen_layers),
        "scratch": settings.scratch,
        "pretraining_seeds": settings.pretraining_seeds,
        "pretraining": {
            branch: _plain(how, settings.folder) for branch, how in settings.pretraining.items()
        },
        "finetuning": _plain(settings.finetuning, settings.folder),
        "explain": {
            "rules": settings.explain.rules,
            "sets": None if settings.explain.sets is None else list(settings.explain.sets),
            "max_windows": settings.explain.max_windows,
        },
    }
    return yaml.safe_dump(written, sort_keys=False, default_flow_style=None)


def fits_of(settings: StudySettings) -> dict[str, Fit]:
    """Every kind of fit by the key of the settings that describes it."""
    pretraining = {f"pretraining.{name}": how for name, how in settings.pretraining.items()}
    fits = {"finetuning": settings.finetuning, **pretraining}
    return {key: fit for key, fit in fits.items() if isinstance(fit, Fit)}


def _pretraining(section: Section, base: Path) -> dict[str, Fit | str]:
    found: dict[str, Fit | str] = {}
    for branch in BRANCHES:
        weights = section.text_if_text(branch)
        found[branch] = _fit(section.section(branch), base) if weights is None else weights
    section.end()
    return found


def _fit(section: Section, base: Path) -> Fit:
    configs = tuple(base / path for path in section.texts("configs") or ())
    if not configs:
        raise ConfigError(f"{section.where('configs')}: expected one config of xecg fit or more")
    missing = [str(path) for path in configs if not path.is_file()]
    if missing:
        raise ConfigError(f"{section.where('configs')}: found no file {', '.join(missing)}")
    arguments = section.mapping("arguments")
    section.end()
    if reserved := [name for name in arguments if name in _OF_THE_STUDY]:
        raise ConfigError(f"{section.where('arguments')}: {reserved[0]} is what the study sets")
    return Fit(configs, arguments)


def _explanations(section: Section) -> Explanations:
    sets = section.texts("sets")
    found = Explanations(
        rules=section.choice("rules", ("innvestigate", "zbox"), "innvestigate"),
        sets=sets,
        max_windows=section.whole_number("max_windows", 1),
    )
    section.end()
    return found


def _distinct(section: Section, key: str, low: int, high: int) -> tuple[int, ...]:
    numbers = section.whole_numbers(key, low, high)
    if len(set(numbers)) < len(numbers):
        raise ConfigError(f"{section.where(key)}: expected different numbers, found {numbers}")
    return numbers


def _plain(how: Fit | str, folder: Path) -> Any:
    if isinstance(how, str):
        return how
    configs = [str(path.relative_to(folder)) for path in how.configs]
    return {"configs": configs, "arguments": dict(how.arguments)}

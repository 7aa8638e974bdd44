"""The cells of a study: what is trained, and what has to be there first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from xecg.errors import ConfigError

Choice = TypeVar("Choice", bound=str)


class Section:
    """One mapping of a YAML file, read key by key; :meth:`end` then refuses what is left.

    Args:
        given: What the file holds here.
        name: The file, and the keys that lead here.

    Raises:
        ConfigError: It is no mapping of keys.
    """

    def __init__(self, given: Any, name: str) -> None:
        if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
            raise ConfigError(f"{name}: expected keys with values, found {given!r}")
        self.name = name
        self._left = dict(given)
        self._known: list[str] = []

    def where(self, key: str) -> str:
        """How a message names a key."""
        return f"{self.name}: {key}"

    def end(self) -> None:
        """Refuse keys that nobody asked for.

        Raises:
            ConfigError: Names them, and those that there are.
        """
        if self._left:
            raise ConfigError(
                f"{self.name}: unknown {', '.join(map(str, self._left))}; "
                f"the keys here are {', '.join(self._known)}"
            )

    def section(self, key: str, *, required: bool = True) -> Section:
        """A mapping within this one; empty where it is absent and need not be there."""
        value = self._take(key, None if required else {})
        return Section({} if value is None and not required else value, self.where(key))

    def text(self, key: str) -> str:
        """A text that must be there."""
        value = self._take(key)
        if not isinstance(value, str) or not value:
            self._refuse(key, "a text", value)
        return str(value)

    def text_if_text(self, key: str) -> str | None:
        """A text; None, and the key is still there, where it is something else."""
        return self.text(key) if isinstance(self._left.get(key), str) else None

    def texts(self, key: str) -> tuple[str, ...] | None:
        """A list of texts; None where it is absent."""
        value = self._take(key, None)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            self._refuse(key, "a list of texts", value)
        return tuple(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self._take(key, default)
        if not isinstance(value, bool):
            self._refuse(key, "true or false", value)
        return bool(value)

    def choice(self, key: str, choices: Sequence[Choice], default: Choice) -> Choice:
        """One of some words."""
        value = self._take(key, default)
        if value not in choices:
            self._refuse(key, " or ".join(choices), value)
        return choices[choices.index(value)]

    def whole_number(self, key: str, low: int) -> int | None:
        """A number from ``low`` on; None where it is absent."""
        value = self._take(key, None)
        if value is not None and not (_is_whole(value) and value >= low):
            self._refuse(key, f"a whole number from {low} on, or null", value)
        return value if value is None else int(value)

    def whole_numbers(self, key: str, low: int, high: int) -> tuple[int, ...]:
        """A list of numbers that must be there."""
        value = self._take(key)
        if not isinstance(value, list) or not all(_is_whole(n) and low <= n <= high for n in value):
            self._refuse(key, f"a list of whole numbers from {low} to {high}", value)
        return tuple(value)

    def mapping(self, key: str) -> dict[str, Any]:
        """Values by name, whatever they are; empty where it is absent."""
        value = self._take(key, None)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
            self._refuse(key, "names with values", value)
        return dict(value)

    def _take(self, key: str, *default: Any) -> Any:
        self._known.append(key)
        if key not in self._left and not default:
            raise ConfigError(f"{self.name}: the key {key} is missing")
        return self._left.pop(key, *default)

    def _refuse(self, key: str, expected: str, found: Any) -> None:
        raise ConfigError(f"{self.where(key)}: expected {expected}, found {found!r}")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
    return [*_pretraining_plan(settings), *_finetuning(settings)]


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


def _pretraining_plan(settings: StudySettings) -> Iterator[Cell]:
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

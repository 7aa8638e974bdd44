"""Flags of ``xecg fit`` and its like: what one changes most, which Lightning's help hides."""

from collections.abc import Sequence
from importlib import import_module
from itertools import pairwise

from jsonargparse import ArgumentParser

from xecg.callbacks.freezing import LayerFreezing
from xecg.cli import PARSING, configs_of
from xecg.errors import XECGError
from xecg.files import read_settings


def add_run_arguments(parser: ArgumentParser) -> None:
    """Adds the flags of a run that are neither Lightning's nor those of a class."""
    parser.add_argument(
        "--run_folder",
        type=str | None,
        default=None,
        help="Folder of this run; runs/<config>/<date>-<time> by default.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str | None,
        default=None,
        help="Checkpoint to evaluate; for fit checkpoints/last.ckpt of a run that is to continue, "
        "which it does in its own folder.",
    )


def flags_of_classes(arguments: Sequence[str]) -> list[str]:
    """Returns the flags of the classes that the arguments choose, which LightningCLI hides."""
    try:
        parser = _class_parser("fit", arguments)
    except (XECGError, ImportError, AttributeError, ValueError, TypeError):
        return []
    flags = [option for action in parser._actions for option in action.option_strings]
    return [*flags, "--model.optimizer.lr", "--model.optimizer.weight_decay"]


def short_help(verb: str, arguments: Sequence[str]) -> str:
    """Returns the help text of what a user changes most; ``--help=all`` has the rest."""
    parser = _class_parser(verb, [flag for flag in arguments if flag not in ("--help", "-h")])
    more = [
        "optimiser:",
        "  --model.optimizer.lr 3e-4, --model.optimizer CLASS: of the task's optimiser (AdamW)",
        "",
        "Lightning's Trainer and callbacks, such as --trainer.max_epochs 20, --trainer.devices 2,",
        f"--early_stopping.patience 5: xecg {verb} --help=all lists them.",
    ]
    return "\n".join([parser.format_help(), *more])


def _chosen_classes(arguments: Sequence[str]) -> dict[str, str]:
    """Class paths of task and data module that the arguments name; the AF classifier's else."""
    chosen = {"model": "xecg.tasks.AFClassifier", "data": "xecg.data.AFData"}
    for path in configs_of(arguments):
        found = read_settings(path)
        for key in chosen:
            section = found.get(key) if isinstance(found, dict) else None
            if isinstance(section, dict) and isinstance(section.get("class_path"), str):
                chosen[key] = section["class_path"]
    for flag, following in pairwise([*arguments, ""]):
        name, _, value = flag.partition("=")
        if name[2:] in chosen:
            chosen[name[2:]] = value or following
    return chosen


def _class_parser(verb: str, arguments: Sequence[str]) -> ArgumentParser:
    """Parser of what a user changes most: the run's own flags, and those of the chosen classes."""
    parser = ArgumentParser(
        prog=f"xecg {verb}", usage=f"xecg {verb} --config FILE [--flag value ...]", **PARSING
    )
    parser.add_argument("--config", action="config", help="Config; several are merged.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Random seed of the run.")
    add_run_arguments(parser)
    for key, path in _chosen_classes(arguments).items():
        module, _, name = path.rpartition(".")
        parser.add_class_arguments(getattr(import_module(module), name), key, fail_untyped=False)
    parser.add_class_arguments(LayerFreezing, "freezing")
    return parser

"""``xecg fit | validate | test | predict``: LightningCLI with a folder per run."""

import logging
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from pathlib import Path
from pkgutil import resolve_name
from traceback import walk_tb
from typing import Any

import pandas as pd
import torch
import yaml
from jsonargparse import ArgumentParser, Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from xecg.callbacks.freezing import LayerFreezing
from xecg.callbacks.loggers import place_loggers, with_folders
from xecg.callbacks.predictions import WindowTables
from xecg.cli import PARSING, configs_of, ours, parse
from xecg.data.datamodules import WindowDataModule
from xecg.errors import ConfigError, XECGError
from xecg.files import REPORT, csv_text, read_settings, write_sums, write_whole
from xecg.metrics.bootstrap import Interval, with_intervals
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.run_folder import (
    WholeCheckpoints,
    claimed,
    keep_metrics,
    rank,
    read_checkpoint,
    remove,
    restoring,
    run_folder,
)
from xecg.tasks.af import AFClassifier
from xecg.tasks.base import MONITOR, Task

Reports = Mapping[str, Mapping[str, Mapping[str, Interval]]]  # test set -> part -> metric
_TABLE = {"save_dir": ".", "name": "", "version": "", "flush_logs_every_n_steps": 1}
_LOGGERS: list[dict[str, Any]] = [
    {"class_path": "CSVLogger", "init_args": _TABLE},  # at once, so that a kill loses nothing
    {"class_path": "WandbLogger", "init_args": {"project": "xecg", "offline": True}},
]
_NO_VERSION = {"enable_version_counter": False}
_CALLBACKS: dict[str, tuple[type[Callback], dict[str, Any]]] = {  # of every run, and defaults
    "freezing": (LayerFreezing, {}),
    "test_windows": (WindowTables, {}),
    "early_stopping": (EarlyStopping, {"monitor": MONITOR, "patience": 10, "strict": False}),
    "checkpoint": (ModelCheckpoint, {"monitor": MONITOR, "filename": "best"} | _NO_VERSION),
    "last_checkpoint": (
        ModelCheckpoint,  # of every epoch, validated or not
        {"filename": "last", "every_n_epochs": 1, "save_on_train_epoch_end": True} | _NO_VERSION,
    ),
}
_RUN_FLAGS = {
    "run_folder": "Folder of this run; runs/<config>/<date>-<time> by default.",
    "ckpt_path": "Checkpoint to evaluate; for fit checkpoints/last.ckpt of a run that is to "
    "continue, which it does in its own folder.",
}
_EXPECTED_WARNINGS = (
    ".*does not have many workers",  # none is fastest for memory-mapped stores
    "Using `DistributedSampler` with",  # the report takes each window once
    ".*treespec, LeafSpec",  # Lightning's, about PyTorch
    "Checkpoint directory .* exists and is not empty",  # of a run that is resumed
    "The dirpath has changed",  # of a test in a folder of its own
    ".*(skip_none|instantiate_classes)",  # Lightning's use of jsonargparse
    "The number of training batches",  # a short epoch is nothing to warn of
)
# Libraries that say what a setting must be.
_REFUSING = ("jsonargparse.", "lightning.", "torch.optim.", "torch.utils.data.")
_NOT_ZERO = {  # settings that leave a verb nothing to do
    "fit": (
        *(f"trainer.limit_{part}_batches" for part in ("train", "test")),
        *("trainer.max_epochs", "trainer.max_steps", "trainer.accumulate_grad_batches"),
        *("trainer.check_val_every_n_epoch", "trainer.val_check_interval"),
        *("trainer.enable_checkpointing", "checkpoint.save_top_k", "last_checkpoint.save_top_k"),
    ),
    "validate": ("trainer.limit_val_batches",),
    "test": ("trainer.limit_test_batches",),
    "predict": ("trainer.limit_predict_batches",),
    "calibrate": ("trainer.limit_val_batches", "trainer.limit_test_batches"),
}
_STOPPED = 128 + signal.SIGTERM


class RunCLI(LightningCLI):
    """Parses the flags of a run; makes its task, its data module and its Trainer.

    Raises ConfigError if settings contradict each other, SystemExit if a flag is wrong.
    """

    model: Task
    datamodule: WindowDataModule

    def __init__(self, verb: str, arguments: Sequence[str], held: ExitStack) -> None:
        self.verb, self.held = verb, held
        super().__init__(
            Task,
            WindowDataModule,
            save_config_callback=None,
            trainer_defaults={
                "logger": _LOGGERS,
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "log_every_n_steps": 10,
            },
            seed_everything_default=0,
            parser_kwargs={"prog": f"xecg {verb}"} | PARSING,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
            args=with_folders(arguments),
            run=False,
        )
        self.trainer.strategy.checkpoint_io = WholeCheckpoints()

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run's folder, and callbacks of every run, each a key that one flag changes."""
        _add_run_flags(parser)
        for key, (callback, defaults) in _CALLBACKS.items():
            parser.add_lightning_class_args(callback, key)
            parser.set_defaults({f"{key}.{name}": value for name, value in defaults.items()})
        actions: Any = parser._actions
        for action in actions:
            if action.dest.startswith("trainer.limit_"):  # a parser takes the first type that fits
                action._typehint = int | float | None  # 1 is one batch, 1.0 are all
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the flags; a wrong one ends the program."""
        self.config = parse(parser, args, partial(_flags_of_classes, args))
        if self.config is None:
            raise SystemExit(2)

    def before_instantiate_classes(self) -> None:
        """Gives everything that is written its place in the run's folder."""
        config = self.config
        _check(config, self.verb)
        self.run_folder, self.resumed = run_folder(config, self.verb)
        self.given = deepcopy(config)
        self.given.run_folder = self.given.ckpt_path = None  # of this run, not of the next by this
        config.trainer.default_root_dir = str(self.run_folder)
        for key in ("checkpoint", "last_checkpoint"):
            config[key].dirpath = str(self.run_folder / "checkpoints")
        place_loggers(config, self.verb, self.run_folder)
        if rank() == 0:
            self.held.enter_context(self._claimed())  # before a logger writes into it
            self.held.callback(_finish_wandb)

    @contextmanager
    def _claimed(self) -> Iterator[None]:
        """Makes the run's folder; takes it away again if the run is refused before it trains."""
        with claimed(self.run_folder, self.resumed):
            try:
                yield
            except BaseException as error:
                trainer = getattr(self, "trainer", None)  # refused before there is one
                if not self.resumed and not (trainer and trainer.global_step):
                    remove(self.run_folder)
                if isinstance(error, OSError) and error.errno and not error.filename:
                    error.filename = str(self.run_folder)  # loggers do not say where they write
                raise

    @rank_zero_only
    def begin(self) -> None:
        """Writes the run's config, as it was given with all defaults."""
        if self.resumed:
            keep_metrics(self.trainer, Path(self.config.ckpt_path))
        if self.config.trainer.fast_dev_run:
            return
        text = self.parser.dump(self.given, skip_none=False)
        write_whole(self.run_folder / "config.yaml", text)
        for logger in self.trainer.loggers:
            if not isinstance(logger, CSVLogger):  # whose folder has config.yaml
                logger.log_hyperparams(yaml.safe_load(text))

    def fit(self) -> None:
        """Trains, tests the best checkpoint and writes its weights."""
        self._run("fit", self.config.ckpt_path)
        if self.config.trainer.fast_dev_run:  # writes no checkpoint
            self.test(None)
            return
        callbacks = self.trainer.checkpoint_callbacks
        best, last = (one for one in callbacks if isinstance(one, ModelCheckpoint))
        if not (checkpoint := best.best_model_path or last.best_model_path):
            found = f"found none after {self.trainer.global_step} steps"
            cure = "raise trainer.max_time, or see last_checkpoint"
            raise ConfigError(f"xecg fit: expected a checkpoint to test, {found}; {cure}")
        if not best.best_model_path:
            rank_zero_info("No epoch was validated: the last weights are tested and written.")
        self.test(checkpoint)
        self._write_weights(checkpoint)

    def calibrate(self) -> None:
        """Calibrates a checkpoint on the validation split; tests it and writes its weights."""
        if not isinstance(self.model, AFClassifier):
            raise ConfigError(f"xecg calibrate needs an AFClassifier; found {self.config.model}")
        checkpoint = str(self.config.ckpt_path)
        self._run("validate", checkpoint, verbose=False)
        self.model.calibrate(self.datamodule.val_dataloader())
        self.test(None)
        self._write_weights(checkpoint)

    def validate(self) -> None:
        """Evaluates a checkpoint on the validation split, or predicts for the test sets."""
        self._run(self.verb, self.config.ckpt_path)

    predict = validate

    def test(self, *checkpoint: str | None) -> None:
        """Tests a checkpoint; writes and prints the table, which says more than Lightning's."""
        self._run("test", *(checkpoint or [self.config.ckpt_path]), verbose=False)
        if self.trainer.is_global_zero:
            report = write_report(self.model.test_reports, self.run_folder / REPORT)
            write_sums(self.run_folder)
            print(f"\n{report}\n\nEverything is in {self.run_folder}")

    def _run(self, verb: str, checkpoint: str | None, **options: Any) -> None:
        with restoring(self.trainer, checkpoint):
            run = getattr(self.trainer, verb)
            run(self.model, self.datamodule, ckpt_path=checkpoint, **options)

    @rank_zero_only
    def _write_weights(self, checkpoint: str) -> None:
        provenance = {
            "task": type(self.model).__name__,
            "stores": [source.label for source in self.datamodule.sources],
            "seed": self.config.seed_everything,
            "epoch": read_checkpoint(checkpoint)["epoch"],  # from 0, as in metrics.csv
            "xecg": version("xecg-lightning"),
            **self.datamodule.provenance(),
        }
        if points := getattr(self.model, "operating_points", None):
            provenance |= {"prevalence": self.model.prevalence, "operating_points": points}
        before = [info.learnt for info in self.model.pretrained.values()]
        learnt = [self.datamodule.learnt(), *(keys for keys in before if keys is not None)]
        made = self.datamodule.preprocessing.to_dict()
        branches = describe_branches(self.model.branches)
        info = WeightsInfo(branches, made, provenance, torch.cat(learnt))
        path = self.run_folder / "weights.safetensors"
        if self.resumed:
            path.unlink(missing_ok=True)  # of fewer epochs
        save_weights(self.model.network, path, info)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                _log_model(logger, path, info)


def run(verb: str, arguments: Sequence[str]) -> int:
    """Runs a verb of Lightning; returns the exit status: 0, or 143 where SIGTERM stopped it."""
    if "--help" in arguments or "-h" in arguments:
        print(_short_help(verb, arguments))
        return 0
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    logging.raiseExceptions = False  # on a full disk W&B's log would say so thousands of times
    try:
        with ExitStack() as held:
            flags = ["--help" if flag == "--help=all" else flag for flag in arguments]
            cli = RunCLI(verb, flags, held)
            cli.begin()
            getattr(cli, verb)()
    except SIGTERMException:
        return _STOPPED  # Lightning's own status would say that all went well
    except (MisconfigurationException, ImportError, TypeError, ValueError) as error:
        if ours(error) or not (library := _refused_by(error)):
            raise
        lines = [line.strip() for line in str(error).splitlines()]
        reason = " ".join([line for line in lines if line.startswith("- ")] or lines)[:600]
        raise ConfigError(f"xecg {verb}: {library} refuses a setting ({reason})") from error
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning takes for a failure
            raise error.__context__ from None
        raise
    return 0


def _finish_wandb() -> None:
    """Closes the W&B run, so that the next has one of its own."""
    if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
        sys.modules["wandb"].finish()


def _refused_by(error: BaseException) -> str:
    """Returns the module of a library that raised an error over its settings, else nothing."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    name: str = frame.f_globals.get("__name__", "")
    return name if name.startswith(_REFUSING) else ""


def write_report(reports: Reports, path: Path) -> str:
    """Writes a row per test set, part and metric; returns what a person reads of it."""
    rows = [
        {"test_set": test_set, "part": part, "metric": metric} | vars(interval)
        for test_set, parts in reports.items()
        for part, metrics in parts.items()
        for metric, interval in metrics.items()
    ]
    table, texts = pd.DataFrame(rows), []
    write_whole(path, csv_text(table))
    for name, of in table.groupby("test_set", sort=False):
        title = f"Test set {name}: {of['n'].iloc[0]} windows of {of['n_groups'].iloc[0]} persons"
        for _, af in of[of["metric"] == "sensitivity"].iloc[:1].iterrows():
            title += f", {af['n']} of {af['n_groups']} with AF"
        text = with_intervals(of, "metric", "part").to_string(index_names=False)
        texts.append(f"{title} (records, where these are unknown); 95 % intervals\n{text}")
    return "\n\n".join(texts)


def _check(config: Namespace, verb: str) -> None:
    """Refuses settings that leave nothing to test."""
    if config.ckpt_path is not None:
        read_checkpoint(config.ckpt_path)
    elif verb != "fit":
        raise ConfigError(f"xecg {verb} needs --ckpt_path, such as RUN/checkpoints/best.ckpt")
    for key in _NOT_ZERO[verb]:
        if (found := config[key]) == 0:  # as False is
            without = f"leaves xecg {verb} without what it trains, tests or writes"
            raise ConfigError(f"{key} {found}: {without}; leave the flag out")


def _log_model(logger: WandbLogger, weights: Path, info: WeightsInfo) -> None:
    """Logs a weights file as an artifact of type ``model``; ``wandb sync`` uploads it later."""
    from wandb import Artifact, Error

    run = logger.experiment
    metadata = {name: value for name, value in vars(info).items() if name != "learnt"}
    artifact = Artifact(f"model-{run.id}", type="model", metadata=metadata)
    # Not copied to W&B's cache: the run's folder keeps it.
    artifact.add_file(str(weights.resolve()), policy="immutable", skip_cache=True)
    try:
        run.log_artifact(artifact, aliases=["best"])
    except Error as error:  # of an online run: its server refuses it or is gone
        why = " ".join(str(error).split())
        kept = f"{weights}: kept here, not by Weights & Biases, which says: {why}"
        warnings.warn(kept, stacklevel=2)  # on the first process alone


def _add_run_flags(parser: ArgumentParser) -> None:
    for name, meaning in _RUN_FLAGS.items():
        parser.add_argument(f"--{name}", type=str | None, default=None, help=meaning)


def _class_parser(verb: str, arguments: Sequence[str]) -> ArgumentParser:
    """Parser of what a user changes most: the run's own flags, and those of the chosen classes."""
    usage = f"xecg {verb} --config FILE [--flag value ...]"
    parser = ArgumentParser(prog=f"xecg {verb}", usage=usage, **PARSING)
    parser.add_argument("--config", action="config", help="Config; several are merged.")
    parser.add_argument("--seed_everything", type=int, default=0, help="Random seed of the run.")
    _add_run_flags(parser)
    chosen = {"model": "xecg.tasks.AFClassifier", "data": "xecg.data.AFData"}
    for settings in map(read_settings, configs_of(arguments)):
        with suppress(TypeError, KeyError):  # without classes
            chosen |= {key: settings[key]["class_path"] for key in chosen if key in settings}
    for key, path in chosen.items():
        parser.add_class_arguments(resolve_name(path), key, fail_untyped=False)
    parser.add_class_arguments(LayerFreezing, "freezing")
    return parser


def _short_help(verb: str, arguments: Sequence[str]) -> str:
    """Returns the help text of what a user changes most; ``--help=all`` has the rest."""
    parser = _class_parser(verb, [flag for flag in arguments if flag not in ("--help", "-h")])
    return f"""{parser.format_help()}
optimiser:
  --model.optimizer.lr 3e-4, --model.optimizer CLASS: of the task's optimiser (AdamW)

Lightning's Trainer and callbacks, such as --trainer.max_epochs 20, --trainer.devices 2,
--early_stopping.patience 5: xecg {verb} --help=all lists them."""


def _flags_of_classes(arguments: Sequence[str]) -> list[str]:
    """Returns the flags of the classes that the configs choose, which LightningCLI hides."""
    try:
        parser = _class_parser("fit", arguments)
    except (XECGError, ImportError, AttributeError, ValueError, TypeError):
        return []
    flags = [option for action in parser._actions for option in action.option_strings]
    return [*flags, "--model.optimizer.lr", "--model.optimizer.weight_decay"]

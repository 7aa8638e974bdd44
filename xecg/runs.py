"""``xecg fit | validate | test | predict``: LightningCLI with a folder per run."""

import os
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from xecg.callbacks.freezing import LayerFreezing
from xecg.callbacks.predictions import WindowTables
from xecg.checkpoints import WholeCheckpoints, read_checkpoint, restoring
from xecg.cli import PARSING, parse
from xecg.data.datamodules import WindowDataModule
from xecg.errors import ConfigError
from xecg.files import csv_text, write_sums, write_whole
from xecg.metrics.bootstrap import Interval
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.run_flags import add_run_arguments, flags_of_classes, short_help
from xecg.run_folder import claimed, keep_metrics, rank, remove, resumed_folder, run_folder
from xecg.tasks.af import AFClassifier
from xecg.tasks.base import Task

REPORT = "test_metrics.csv"
Reports = Mapping[str, Mapping[str, Mapping[str, Interval]]]  # test set -> part -> metric
_MONITOR = "validation/loss"
_TABLE = {"save_dir": ".", "name": "", "version": "", "flush_logs_every_n_steps": 1}
_LOGGERS: list[dict[str, Any]] = [
    {"class_path": "CSVLogger", "init_args": _TABLE},  # at once, so that a kill loses nothing
    {"class_path": "WandbLogger", "init_args": {"project": "xecg", "offline": True}},
]
_EXPECTED_WARNINGS = (
    "Experiment logs directory",  # the run's folder is made before the logger looks at it
    ".*does not have many workers",  # none is fastest for memory-mapped stores
    "Using `DistributedSampler` with",  # the report takes each window once
    ".*treespec, LeafSpec",  # Lightning's, about PyTorch
    "Checkpoint directory .* exists and is not empty",  # of a run that is resumed
    "The dirpath has changed",  # of a test in a folder of its own
    ".*(skip_none|instantiate_classes)",  # Lightning's use of jsonargparse
    "The number of training batches",  # a short epoch is nothing to warn of
)
_STOPPED = 128 + signal.SIGTERM


class _Trainer(Trainer):
    """Trainer whose limit of 1 is one batch: a parser takes the first type that fits."""

    def __init__(
        self,
        *,
        limit_train_batches: int | float | None = None,
        limit_val_batches: int | float | None = None,
        limit_test_batches: int | float | None = None,
        limit_predict_batches: int | float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            limit_train_batches=limit_train_batches,
            limit_val_batches=limit_val_batches,
            limit_test_batches=limit_test_batches,
            limit_predict_batches=limit_predict_batches,
            **kwargs,
        )
        self.strategy.checkpoint_io = WholeCheckpoints()


class _SaveConfig(SaveConfigCallback):
    """Writes the config as the user gave it, defaults included, into the folder of the run."""

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, folder: Path, given: Namespace
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder, self.given = folder, given

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes ``config.yaml`` and hands the settings to the loggers."""
        del pl_module, stage
        text = self.parser.dump(self.given, skip_none=False)
        write_whole(self.folder / "config.yaml", text)
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(self.given.as_dict())


class RunCLI(LightningCLI):
    """Parses the flags of a run; makes its task, its data module and its Trainer.

    Raises ConfigError if settings contradict each other, SystemExit if a flag is wrong.
    """

    model: Task
    datamodule: WindowDataModule

    def __init__(self, verb: str, arguments: Sequence[str]) -> None:
        self.verb = verb
        super().__init__(
            Task,
            WindowDataModule,
            save_config_callback=_SaveConfig,
            trainer_class=_Trainer,
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
            args=list(arguments),
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the run's folder, and callbacks of every run, each a key that one flag changes."""
        add_run_arguments(parser)
        parser.add_lightning_class_args(LayerFreezing, "freezing")
        parser.add_lightning_class_args(WindowTables, "test_windows")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.add_lightning_class_args(ModelCheckpoint, "last_checkpoint")
        best = {"monitor": _MONITOR, "filename": "best", "enable_version_counter": False}
        last = {"filename": "last", "every_n_epochs": 1, "enable_version_counter": False}
        stopping = {"monitor": _MONITOR, "patience": 10, "strict": False}
        keys = {"checkpoint": best, "last_checkpoint": last, "early_stopping": stopping}
        parser.set_defaults({f"{k}.{n}": v for k, d in keys.items() for n, v in d.items()})
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses the flags; a wrong one ends the program."""
        self.config = parse(parser, args, flags_of_classes(args))
        if self.config is None:
            raise SystemExit(2)

    def before_instantiate_classes(self) -> None:
        """Gives everything that is written its place in the run's folder."""
        config = self.config
        _check(config, self.verb)
        folder = resumed_folder(config) if self.verb == "fit" else None
        self.resumed = folder is not None
        self.run_folder = folder or run_folder(config, self.verb)
        given = deepcopy(config)
        given.run_folder = given.ckpt_path = None  # of this run, not of the next by this config
        self.save_config_kwargs |= {"folder": self.run_folder, "given": given}
        config.trainer.default_root_dir = str(self.run_folder)
        for key in ("checkpoint", "last_checkpoint"):
            config[key].dirpath = str(self.run_folder / "checkpoints")
        _place_loggers(config.trainer, self.run_folder)

    @contextmanager
    def folder(self) -> Iterator[None]:
        """Makes the run's folder; takes it away again if the run is refused before it trains."""
        if rank() != 0:
            yield
            return
        with claimed(self.run_folder, self.resumed):
            try:
                if self.resumed:
                    keep_metrics(self.trainer, self.run_folder, Path(self.config.ckpt_path))
                yield
            except BaseException:
                if not self.resumed and not self.trainer.global_step:
                    remove(self.run_folder)
                raise

    def fit(self) -> None:
        """Trains, tests the best checkpoint and writes its weights."""
        self._run("fit", self.config.ckpt_path)
        if self.config.trainer.fast_dev_run:  # writes no checkpoint
            self.test(None)
            return
        best = self._best_checkpoint()
        self.test(best)
        self._write_weights(best)

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
        """Evaluates a checkpoint on the validation split."""
        self._run("validate", self.config.ckpt_path)

    def predict(self) -> None:
        """Writes the predictions of a checkpoint for the test sets."""
        self._run("predict", self.config.ckpt_path)

    def test(self, *checkpoint: str | None) -> None:
        """Tests a checkpoint; writes and prints the table, which says more than Lightning's."""
        self._run("test", *(checkpoint or [self.config.ckpt_path]), verbose=False)
        if self.trainer.is_global_zero:
            write_report(self.model.test_reports, self.run_folder / REPORT)
            write_sums(self.run_folder)
            report = format_report(self.model.test_reports)
            print(f"\n{report}\n\nEverything is in {self.run_folder}")

    def _run(self, verb: str, checkpoint: str | None, **options: Any) -> None:
        with restoring(self.trainer, checkpoint):
            run = getattr(self.trainer, verb)
            run(self.model, self.datamodule, ckpt_path=checkpoint, **options)

    def _best_checkpoint(self) -> str:
        callbacks = self.trainer.checkpoint_callbacks
        best, last = (one for one in callbacks if isinstance(one, ModelCheckpoint))
        if not best.best_model_path:
            rank_zero_info("No epoch was validated: the last weights are tested and written.")
        return best.best_model_path or last.best_model_path

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
        info = WeightsInfo(
            describe_branches(self.model.branches),
            self.datamodule.preprocessing.to_dict(),
            provenance,
            torch.cat(learnt),
        )
        path = self.run_folder / "weights.safetensors"
        if self.resumed:
            path.unlink(missing_ok=True)  # of fewer epochs
        save_weights(self.model.network, path, info)
        for logger in self.trainer.loggers:
            if isinstance(logger, WandbLogger):
                _log_model(logger, path, info)


def run(verb: str, arguments: Sequence[str]) -> int:
    """Runs a verb of Lightning; returns the exit status: 0, or 143 where SIGTERM stopped the run.

    It closes its W&B run, so that the next has one of its own.
    """
    if "--help" in arguments or "-h" in arguments:
        print(short_help(verb, arguments))
        return 0
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    try:
        cli = RunCLI(verb, ["--help" if flag == "--help=all" else flag for flag in arguments])
        with cli.folder():
            getattr(cli, verb)()
    except SIGTERMException:
        return _STOPPED  # Lightning's own status would say that all went well
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):  # which Lightning takes for a failure
            raise error.__context__ from None
        raise
    finally:
        if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
            sys.modules["wandb"].finish()
    return 0


def write_report(reports: Reports, path: Path) -> None:
    """Writes a row per test set, part and metric, with interval and counts."""
    rows = [
        {"test_set": test_set, "part": part, "metric": metric} | vars(interval)
        for test_set, parts in reports.items()
        for part, metrics in parts.items()
        for metric, interval in metrics.items()
    ]
    write_whole(path, csv_text(pd.DataFrame(rows)))


def format_report(reports: Reports) -> str:
    """Returns the table that a person reads: a row per metric, a column per part of the network."""
    return "\n\n".join(_format_set(name, parts) for name, parts in reports.items())


def _format_set(name: str, parts: Mapping[str, Mapping[str, Interval]]) -> str:
    table = pd.DataFrame({part: pd.Series(metrics).map(str) for part, metrics in parts.items()})
    metrics = next(iter(parts.values()))
    first, af = next(iter(metrics.values())), metrics.get("sensitivity")
    title = f"Test set {name}: {first.n} windows of {first.n_groups} persons or records"
    if af is not None:
        title += f", {af.n} of {af.n_groups} with AF"
    order = list(dict.fromkeys(metric for part in parts.values() for metric in part))
    table = table.loc[order].fillna("").rename_axis("metric").reset_index()
    return f"{title}; 95 % intervals\n{table.to_string(index=False)}"


def _check(config: Namespace, verb: str) -> None:
    """Refuses settings that leave nothing to test."""
    if config.ckpt_path is not None:
        read_checkpoint(config.ckpt_path)
    elif verb != "fit":
        raise ConfigError(f"xecg {verb} needs --ckpt_path, such as RUN/checkpoints/best.ckpt")
    for key, wrong in (
        ("trainer.enable_checkpointing", False),
        ("trainer.max_epochs", 0),
        ("checkpoint.save_top_k", 0),
        ("last_checkpoint.save_top_k", 0),
    ):
        if verb == "fit" and (found := config[key]) is not None and found == wrong:
            raise ConfigError(
                f"{key} {found}: xecg fit tests the best epoch and writes its weights, which needs "
                "an epoch and its checkpoint; leave the flag out"
            )


def _place_loggers(trainer: Namespace, folder: Path) -> None:
    """Lets loggers write into the run's folder; W&B's is left out where it is switched off."""
    given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    loggers = [logger for logger in given if isinstance(logger, Namespace)]
    for logger in loggers:
        if "save_dir" in logger.init_args:
            logger.init_args.save_dir = str(folder.resolve())  # W&B has its own idea of "."
    ours = [logger for logger in loggers if logger.class_path.endswith("WandbLogger")]
    disabled = os.environ.get("WANDB_DISABLED", "false").lower() not in ("", "0", "false")
    if ours and (disabled or os.environ.get("WANDB_MODE") == "disabled"):
        trainer.logger = [logger for logger in given if logger not in ours] or False
        return
    for logger in ours:
        if logger.init_args.name is None and "WANDB_NAME" not in os.environ:
            logger.init_args.name = "/".join(folder.resolve().parts[-2:])
        online = os.environ.get("WANDB_MODE") == "online" or "WANDB_SWEEP_ID" in os.environ
        logger.init_args.offline = logger.init_args.offline and not online
        if logger.init_args.offline:
            os.environ.setdefault("WANDB_SILENT", "true")


def _log_model(logger: WandbLogger, weights: Path, info: WeightsInfo) -> None:
    """Logs a weights file as an artifact of type ``model``; ``wandb sync`` uploads it later."""
    from wandb import Artifact

    run = logger.experiment
    metadata = {name: value for name, value in vars(info).items() if name != "learnt"}
    artifact = Artifact(f"model-{run.id}", type="model", metadata=metadata)
    # Not copied to W&B's cache: the run's folder keeps it.
    artifact.add_file(str(weights.resolve()), policy="immutable", skip_cache=True)
    run.log_artifact(artifact, aliases=["best"])

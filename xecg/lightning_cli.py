"""``xecg fit | validate | test | predict``: LightningCLI with a folder per run."""

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import SIGTERMException

from xecg.callbacks.freezing import LayerFreezing
from xecg.callbacks.predictions import PredictionWriter
from xecg.callbacks.run_checkpoint import RunCheckpoint
from xecg.data.datamodules import WindowDataModule
from xecg.files import write_whole
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.precision import default_precision
from xecg.runs import REPORT, format_report, new_run_folder, write_report
from xecg.tasks.base import Task
from xecg.wandb_model import log_model

MONITOR = "validation/loss"
_TABLE = {"save_dir": ".", "name": "", "version": "", "flush_logs_every_n_steps": 1}
LOGGERS: list[dict[str, Any]] = [
    {"class_path": "CSVLogger", "init_args": _TABLE},  # at once, so that a kill loses nothing
    {"class_path": "WandbLogger", "init_args": {"project": "xecg", "offline": True}},
]
_EXPECTED_WARNINGS = (
    "Experiment logs directory",  # the run's folder is made before the logger looks at it
    ".*does not have many workers",  # none is fastest for memory-mapped stores
    "Using `DistributedSampler` with",  # the report takes each window once
    ".*treespec, LeafSpec",  # Lightning's, about PyTorch
)
_STOPPED = 128 + signal.SIGTERM
_FOLDER_OF_RANK_ZERO = "XECG_RUN_FOLDER"


class SaveConfig(SaveConfigCallback):
    """Writes the config as the user gave it, defaults included, into the folder of the run."""

    def __init__(
        self, parser: LightningArgumentParser, config: Namespace, folder: Path, given: Namespace
    ) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.folder, self.given = folder, given

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write ``config.yaml`` and hand the settings to the loggers."""
        del pl_module, stage
        text = self.parser.dump(self.given, skip_none=False)
        write_whole(self.folder / "config.yaml", text)
        settings = self.given.as_dict()
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                logger.log_hyperparams(settings)


class XECGCLI(LightningCLI):
    """Parses, makes the run's folder, runs; after a fit tests the best checkpoint."""

    model: Task
    datamodule: WindowDataModule

    def __init__(self, args: Sequence[str] | None) -> None:
        super().__init__(
            Task,
            WindowDataModule,
            save_config_callback=SaveConfig,
            trainer_defaults={
                "logger": LOGGERS,
                "callbacks": [PredictionWriter()],
                "num_sanity_val_steps": 0,
                "enable_model_summary": False,
                "log_every_n_steps": 10,
            },
            seed_everything_default=0,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            args=None if args is None else list(args),
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks that every run has, each a key of its own so that one flag changes it."""
        parser.add_argument(
            "--run_folder",
            type=str | None,
            default=None,
            help="Folder of this run (default: runs/<config>/<date>-<time>).",
        )
        parser.add_lightning_class_args(LayerFreezing, "freezing")
        parser.add_lightning_class_args(EarlyStopping, "early_stopping")
        parser.add_lightning_class_args(RunCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "early_stopping.monitor": MONITOR,
                "early_stopping.patience": 10,
                "checkpoint.monitor": MONITOR,
                "checkpoint.filename": "best",
                "checkpoint.save_last": True,
            }
        )
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=int)

    def before_instantiate_classes(self) -> None:
        """Give everything that is written its place in the run's folder."""
        config = self.config[self.subcommand]
        self.run_folder = self._run_folder(config)
        self.save_config_kwargs |= {"folder": self.run_folder, "given": deepcopy(config)}
        config.trainer.default_root_dir = str(self.run_folder)
        config.checkpoint.dirpath = str(self.run_folder / "checkpoints")
        for logger in config.trainer.logger if isinstance(config.trainer.logger, list) else []:
            _place_logger(logger, self.run_folder)
        if config.trainer.precision is None:
            config.trainer.precision, reason = default_precision(config.trainer.accelerator)
            rank_zero_info(f"Precision {config.trainer.precision}: {reason}")

    def test(self, **kwargs: Any) -> None:
        """Test without Lightning's own table, since the report says more."""
        self.trainer.test(**kwargs | {"verbose": False})

    def after_fit(self) -> None:
        """Test the best checkpoint and write its weights."""
        trial = self.config[self.subcommand].trainer.fast_dev_run  # writes no checkpoint
        checkpoint = None if trial else "best"
        self.test(model=self.model, datamodule=self.datamodule, ckpt_path=checkpoint)
        if not trial:
            self._write_weights()
        self.after_test()

    def after_test(self) -> None:
        """Print the table and say where everything lies."""
        if self.trainer.is_global_zero:
            write_report(self.model.test_reports, self.run_folder / REPORT)
            print(
                f"\n{format_report(self.model.test_reports)}\n\nEverything is in {self.run_folder}"
            )

    @rank_zero_only
    def _write_weights(self) -> None:
        checkpoint: Any = self.trainer.checkpoint_callback
        best = torch.load(checkpoint.best_model_path, map_location="cpu", weights_only=True)
        provenance = {
            "task": type(self.model).__name__,
            "stores": [source.label for source in self.datamodule.sources],
            "seed": self.config[self.subcommand].seed_everything,
            "epoch": best["epoch"],  # from 0, as in metrics.csv
            "xecg": version("xecg-lightning"),
        }
        info = WeightsInfo(
            describe_branches(self.model.branches),
            self.datamodule.preprocessing.to_dict(),
            provenance,
        )
        path = self.run_folder / "weights.safetensors"
        save_weights(self.model.network, path, info)
        log_model(self.trainer.loggers, path, vars(info))

    def _run_folder(self, config: Namespace) -> Path:
        if getattr(rank_zero_only, "rank", 0) != 0:  # launched by rank zero, which made the folder
            return Path(os.environ[_FOLDER_OF_RANK_ZERO])
        configs = config.config or []
        name = Path(str(configs[0])).stem if configs else str(self.subcommand)
        folder = new_run_folder(name, config.run_folder)
        os.environ[_FOLDER_OF_RANK_ZERO] = str(folder)
        return folder


def run(arguments: Sequence[str] | None) -> int:
    """Run one Lightning verb and close its W&B run, so that the next has one of its own.

    Args:
        arguments: Verb and flags; null takes those of the process.

    Returns:
        The status of the process: 0, or 143 where SIGTERM stopped it.
    """
    for message in _EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", message)
    try:
        XECGCLI(arguments)
    except SIGTERMException:
        return _STOPPED  # Lightning's own status would say that all went well
    finally:
        if "wandb" in sys.modules and sys.modules["wandb"].run is not None:
            sys.modules["wandb"].finish()
    return 0


def _place_logger(logger: Namespace, folder: Path) -> None:
    if "save_dir" in logger.init_args:
        logger.init_args.save_dir = str(folder.resolve())  # W&B's process has its own idea of "."
    if logger.class_path.endswith("WandbLogger"):
        online = os.environ.get("WANDB_MODE") == "online" or "WANDB_SWEEP_ID" in os.environ
        logger.init_args.offline = logger.init_args.offline and not online
        if logger.init_args.offline:
            os.environ.setdefault("WANDB_SILENT", "true")

"""Fits of ``xecg fit`` whose epochs are timed."""

import csv
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from side_by_side import clock

from xecg.metrics.bootstrap import Interval
from xecg.runs import REPORT, RunCLI

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs" / "finetune_frozen0.yaml"
WINDOWS = 960  # an epoch


@dataclass
class Epochs(Callback):
    """Seconds of training and of validation in every epoch.

    Args:
        between: Done after each epoch, outside the measured time.
    """

    between: Callable[[Trainer, LightningModule], None] | None = None
    training: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)

    @property
    def whole(self) -> list[float]:
        return [sum(parts) for parts in zip(self.training, self.validation, strict=True)]

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self.start = clock()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self.middle = clock()
        self.training.append(self.middle - self.start)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.validation.append(clock() - self.middle)
        if self.between is not None:
            self.between(trainer, pl_module)


def timed_fit(*flags: str, n_epochs: int, between: Any = None, windows: int = WINDOWS) -> Epochs:
    """Fine-tune on the embedded synthetic ECGs by the command line's own way."""
    epochs = Epochs(between)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as held:
        arguments = ["--config", str(CONFIG), "--run_folder", f"{folder}/run"]
        arguments += ["--trainer.max_epochs", str(n_epochs), "--trainer.enable_progress_bar"]
        arguments += ["false", "--data.windows_per_epoch", str(windows), *flags]
        cli = RunCLI("fit", arguments, held)
        cli.trainer.callbacks.append(epochs)
        cli.begin()
        cli.trainer.fit(cli.model, cli.datamodule)
    return epochs


def fused_f1(run: Path) -> Interval:
    """F1 of the fused prediction in the folder of a run with one test set."""
    with (run / REPORT).open(newline="") as file:
        rows = list(csv.DictReader(file))
    (row,) = [row for row in rows if (row["part"], row["metric"]) == ("fused", "f1")]
    counts = {key: int(row[key]) for key in ("n", "n_groups")}
    return Interval(**{key: float(row[key]) for key in ("value", "low", "high")}, **counts)

"""Predictions of ``xecg predict`` as a table per test set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from xecg.errors import ConfigError
from xecg.files import write_table

INDEX_COLUMNS = ("record", "lead", "start_s")


class PredictionWriter(BasePredictionWriter):
    """Writes ``predictions_<test set>.csv``: a row per window, in the order of the test set.

    Columns are where the window is from (record, lead, start in seconds) and each number that the
    task's ``collect`` gives for a window; outputs per sample are too many for a table and are left
    out.
    """

    def __init__(self) -> None:
        super().__init__(write_interval="epoch")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that one process sees all windows.

        Raises:
            ConfigError: There are several.
        """
        super().setup(trainer, pl_module, stage)
        if stage == TrainerFn.PREDICTING and trainer.world_size > 1:
            raise ConfigError(
                "predictions are written by one process, which needs all windows; found "
                f"{trainer.world_size}. Set --trainer.devices 1"
            )

    def write_on_epoch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        predictions: Sequence[Any],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write one table per test set into the run's folder."""
        del pl_module, batch_indices
        asked = trainer.predict_dataloaders
        loaders: list[Any] = asked if isinstance(asked, list) else [asked]
        batches = predictions if len(loaders) > 1 else [predictions]
        for loader, parts in zip(loaders, batches, strict=True):
            dataset = loader.dataset
            windows = np.concatenate([part["window"].cpu().numpy() for part in parts])
            columns = {name: dataset.column(name)[windows] for name in INDEX_COLUMNS}
            for name in parts[0].keys() - {"window"}:
                columns |= _columns(name, [part[name] for part in parts])
            path = Path(trainer.default_root_dir) / f"predictions_{dataset.name}.csv"
            write_table(path, columns)


def _columns(name: str, parts: Sequence[Tensor]) -> dict[str, Any]:
    values = np.concatenate([part.float().cpu().numpy() for part in parts])
    if values.ndim == 1:
        return {name: values}
    if values.shape[1] > 8:  # per sample, not per window
        return {}
    return {f"{name}_{column}": values[:, column] for column in range(values.shape[1])}

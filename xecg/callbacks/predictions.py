"""Tables of windows: what a network says of each window of a test set, and where it looks."""

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from lightning import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from tqdm import tqdm

from xecg.callbacks.loggers import keeps_pictures, log_figure
from xecg.errors import ConfigError, check_ranges
from xecg.explain.attributions import BranchExplainer
from xecg.explain.effects import measured
from xecg.explain.figures import draw_curves
from xecg.files import csv_text, write_whole

_BATCH = 64  # windows: an explanation keeps the activations of all layers
_WIDEST = 8  # columns of a window; a task that collects more of it collects them by sample


class WindowTables(Callback):
    """Writes a row per window, in the order of the test set, into the run's folder.

    ``windows/<test set>.csv`` after a test, ``predictions_<test set>.csv`` after ``xecg predict``:
    ``record``, ``group`` (person or record), ``lead``, ``start_s``, then what the task collects.
    Of an AF classifier that is ``p_af_<branch>``, ``p_af`` and ``af`` (1 or 0), and after a test
    ``<branch>_<statistic>``, the columns of :func:`xecg.explain.wave_relevance` and
    :func:`xecg.explain.wave_effects`; loggers get its ROC and calibration curves as a picture.
    Raises ConfigError if ``explain`` is negative.

    Args:
        explain: Number of windows of each test set to explain, drawn at random, the same ones for
            every network; null explains all.
        attribution: Name in :data:`xecg.explain.ATTRIBUTIONS`, or a class path.
        sets: Names of the test sets to explain; null explains every one.
    """

    def __init__(
        self,
        explain: int | None = 0,
        attribution: str = "innvestigate",
        sets: list[str] | None = None,
    ) -> None:
        super().__init__()
        check_ranges("test_windows.", explain=(explain or 0, 0))
        self.explain, self.attribution, self.sets = explain, attribution, sets

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises ConfigError or NetworkError before the run on what could not be written after."""
        if stage == "predict" and trainer.world_size > 1:
            raise ConfigError(f"--trainer.devices: predict takes 1, found {trainer.world_size}")
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        test_sets = getattr(data, "test_sets", [])
        there = [dataset.name for dataset in test_sets]
        if missing := [name for name in self.sets or () if name not in there]:
            raise ConfigError(f"test_windows.sets: found no {missing}; there are {there}")
        for dataset in test_sets if stage == "fit" else ():  # which ends with a test
            n = ceil(len(dataset) / data.batch_size / trainer.world_size)
            limit = trainer.limit_test_batches
            if isinstance(limit, float) and 0 < limit * n < 1:
                found = f"a batch of {dataset.name}, found {limit} of its {n}"
                cure = "raise it, or leave it out"
                raise ConfigError(f"trainer.limit_test_batches: expected {found}; {cure}")
        if self.explain != 0:
            BranchExplainer(pl_module.network, self.attribution)  # type: ignore[arg-type]

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes a table per test set."""
        task: Any = pl_module
        for dataset, positions, columns in task.tested if trainer.is_global_zero else ():
            table, name = _table(dataset, positions, columns), f"predictions_{dataset.name}.csv"
            if trainer.testing:
                name = f"windows/{dataset.name}.csv"
                if "p_af" in table and keeps_pictures(trainer):
                    curves = draw_curves(table.rename(columns={"group": "person"}))
                    log_figure(trainer, f"test/{dataset.name}/curves", curves)
                if self.explain != 0 and dataset.name in (self.sets or [dataset.name]):
                    rate = trainer.datamodule.sampling_rate  # type: ignore[attr-defined]
                    table = table.join(self._explained(task, dataset, positions, rate))
            path = Path(trainer.default_root_dir) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, csv_text(table))

    on_predict_end = on_test_end

    def _explained(
        self, task: Any, dataset: Any, positions: NDArray[np.int64], sampling_rate: float
    ) -> pd.DataFrame:
        """Returns statistics of the windows that are explained, by their row in the table."""
        rows = np.sort(np.random.default_rng(0).permutation(positions.size)[: self.explain])
        explainer = BranchExplainer(task.network, self.attribution)
        parts = []
        for start in tqdm(range(0, rows.size, _BATCH), f"explain {dataset.name}", disable=None):
            chosen = rows[start : start + _BATCH]
            signal = dataset.__getitems__(positions[chosen].tolist()).signal.to(task.device)
            peaks = [dataset.r_peaks(position) for position in positions[chosen]]
            found = measured(explainer, signal, peaks, sampling_rate)
            tables = [of.table.add_prefix(f"{branch}_") for branch, of in found.items()]
            parts.append(pd.concat(tables, axis=1).set_index(chosen))
        return pd.concat(parts)


def _table(dataset: Any, positions: NDArray[Any], columns: Mapping[str, Any]) -> pd.DataFrame:
    index = {name: dataset.column(name)[positions] for name in ("record", "group", "lead")}
    starts = [f"{start:.10g}" for start in dataset.column("start_s")[positions]]  # to the sample
    tables = [pd.DataFrame({**index, "start_s": starts})]
    names = {"target": "af", "fused": "p_af"}
    for name, values in columns.items():
        if "fused" in columns:  # of a classifier
            tables.append(pd.DataFrame({names.get(name, f"p_af_{name}"): values}))
        elif values.ndim == 1 or values.shape[1] <= _WIDEST:
            tables.append(pd.DataFrame(values).add_prefix(f"{name}_"))
    return pd.concat(tables, axis=1)

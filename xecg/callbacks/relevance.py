"""Watching where a network looks while it trains."""

from collections.abc import Mapping
from typing import Any, cast

import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from xecg.callbacks.watched_windows import (
    CORRELATION,
    TITLES,
    BranchRelevance,
    WatchedWindows,
    class_means,
    measure_branch,
    watch,
)
from xecg.errors import ConfigError
from xecg.explain.attributions import ATTRIBUTIONS, BranchExplainer
from xecg.explain.deep_taylor import Explanation
from xecg.explain.pictures import ExplainedWindow, draw_page
from xecg.explain.relevance import STATISTICS, slug

_DPI = 72.0  # 841 pixels across, to be read on a screen


class RelevanceLogger(Callback):
    """Logs, after validation, where each branch looks in a fixed set of validation windows.

    The windows are drawn once, half of them AF, with at least four R peaks. Each branch is
    explained for the class that it predicts, and means are taken by true class over the windows
    that it predicts rightly. A branch in pre-training is explained for what it detects or
    measures, see :func:`xecg.explain.attributions.branch_outputs`, and means are over all windows.

    Every logger gets ``relevance/<branch>/<non_af|af|unlabelled>/<column>``, which can be
    monitored: the mean of each column of :func:`xecg.explain.wave_relevance` (``enrichment_p``, in
    AF ``enrichment_where_p_would_be``, ...), ``domain_specificity``, ``map_correlation`` (each map
    with the one before) and the counts ``n``, ``n_right`` and ``n_windows``. With Weights & Biases
    there are also histograms of the enrichments, ``windows``, a table with a row for each, and
    ``ecgs``, a picture of some.

    Every number is there every time. A mean over no window is NaN (so is ``map_correlation`` at
    first): ``ModelCheckpoint`` takes it for the worst value, ``EarlyStopping`` stops at it unless
    ``check_finite`` is false. Neither the training nor the random state is touched. The state
    holds the last maps, so that a resumed run logs what it would have without the stop.

    Args:
        n_windows: Number of watched windows; the time that logging takes grows with it.
        attribution: Name in :data:`xecg.explain.ATTRIBUTIONS`, or a class path.
        statistics: Names in :data:`xecg.explain.STATISTICS`, or class paths; null takes all.
        every_n_epochs: Number of epochs from one logging to the next, from the first epoch on.
        n_pictures: Number of ECGs in the picture, half of them AF; 0 for no picture.
        show_every_n_epochs: Number of epochs from one table and picture to the next; there are
            also some at the end.
        seed: Random seed of the draw of windows.
        name: First part of the names, to tell two of these callbacks apart.

    Raises:
        ConfigError: If a number is out of range, or a name is unknown.
    """

    def __init__(
        self,
        n_windows: int = 64,
        attribution: str = "innvestigate",
        statistics: list[str] | None = None,
        every_n_epochs: int = 1,
        n_pictures: int = 4,
        show_every_n_epochs: int = 5,
        seed: int = 0,
        name: str = "relevance",
    ) -> None:
        super().__init__()
        _check_at_least(2, n_windows=n_windows)
        _check_at_least(1, every_n_epochs=every_n_epochs, show_every_n_epochs=show_every_n_epochs)
        _check_at_least(0, n_pictures=n_pictures, seed=seed)
        ATTRIBUTIONS[attribution]  # refuses an unknown one before there is anything to explain
        for statistic in statistics or ():
            STATISTICS[statistic]
        self.n_windows, self.n_pictures, self.seed, self.name = n_windows, n_pictures, seed, name
        self.attribution, self.statistics = attribution, statistics
        self.every_n_epochs, self.show_every_n_epochs = every_n_epochs, show_every_n_epochs
        self._windows: WatchedWindows | None = None
        self._last_maps: dict[str, Tensor] = {}
        self._last_maps_of = ""
        self._to_be_shown: dict[str, BranchRelevance] = {}

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        """The last maps, and a name for the windows that they are maps of."""
        return {"maps": self._last_maps, "maps_of": self._last_maps_of}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes up the last maps."""
        self._last_maps, self._last_maps_of = state_dict["maps"], state_dict["maps_of"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Checks that there is something to explain.

        Raises:
            ConfigError: If the network has no branches, or the sampling rate is not known.
        """
        if stage not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            return
        if not getattr(getattr(pl_module, "network", None), "branches", None):
            raise ConfigError(
                "RelevanceLogger explains tasks whose `network` has `branches`; found "
                f"{type(pl_module).__name__}. Remove it from trainer.callbacks"
            )
        if not hasattr(getattr(trainer, "datamodule", None), "sampling_rate"):
            raise ConfigError(
                "RelevanceLogger needs a data module with `sampling_rate`, such as "
                "xecg.data.AFData; give the trainer one instead of loaders"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draws the windows, so that data that does not fit is refused before an epoch is lost."""
        if trainer.val_dataloaders is not None:
            self._draw(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explains the windows and logs what is found."""
        if trainer.sanity_checking or not _due(trainer, self.every_n_epochs):
            return
        with isolate_rng():
            windows = self._windows or self._draw(trainer)
            branches = self._explain(trainer, pl_module, windows)
            means: dict[str, float] = {}
            averaged: dict[str, list[float]] = {}
            for name, branch in branches.items():
                for code in windows.classes:
                    prefix = f"{self.name}/{name}/{slug(TITLES[code])}"
                    in_class = (windows.index["af"] == code).to_numpy()
                    of_class, columns = class_means(name, branch, in_class, TITLES[code])
                    means |= {f"{prefix}/{key}": value for key, value in of_class.items()}
                    for key, values in columns.filter(like="enrichment_").items():
                        averaged[f"{prefix}/{key}_histogram"] = values.dropna().tolist()
            # The processes agree already; synchronised, they may not be suspected of differing.
            pl_module.log_dict(means, sync_dist=True)
            if _wandb_runs(trainer):
                from wandb import Histogram

                averaged = {key: values for key, values in averaged.items() if values}
                _log(trainer, {key: Histogram(values) for key, values in averaged.items()})
                self._to_be_shown = branches
                if _due(trainer, self.show_every_n_epochs):
                    self._show(trainer, windows)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Shows the windows as they are in the end, if that is not done."""
        if self._windows is not None and self._to_be_shown:
            with isolate_rng():
                self._show(trainer, self._windows)

    def _draw(self, trainer: Trainer) -> WatchedWindows:
        loaders = trainer.val_dataloaders
        (loader,) = loaders if isinstance(loaders, list) and len(loaders) == 1 else (loaders,)
        dataset = getattr(loader, "dataset", loader)
        sampling_rate = trainer.datamodule.sampling_rate  # type: ignore[attr-defined]
        self._windows = watch(dataset, self.n_windows, sampling_rate, self.seed)
        maps_of = f"{self.attribution} {self._windows.digest()}"
        if self._last_maps and self._last_maps_of != maps_of:
            rank_zero_warn(
                "the checkpoint's relevance maps are of other validation windows or another "
                f"attribution; {self.name}/*/*/{CORRELATION} starts anew"
            )
            self._last_maps = {}
        self._last_maps_of = maps_of
        return self._windows

    def _explain(
        self, trainer: Trainer, pl_module: LightningModule, windows: WatchedWindows
    ) -> dict[str, BranchRelevance]:
        """Every process explains its share and all receive all, so that they agree to the bit."""
        network = cast(Any, pl_module.network)
        n = len(windows.signals)
        share = torch.arange(-(-n // trainer.world_size)) * trainer.world_size
        rows = (share + trainer.global_rank) % n  # shares of one size; the surplus repeats
        x = windows.signals[rows].to(pl_module.device)
        weights = [*network.parameters(), *network.branches.buffers()]
        if all(bool(tensor.isfinite().all()) for tensor in weights):
            explained = BranchExplainer(network, self.attribution).explain(x)
        else:  # training has diverged, which is not this callback's to stop
            nothing = Explanation(x.new_full((len(x), 2), torch.nan), torch.full_like(x, torch.nan))
            explained = dict.fromkeys(network.branches, nothing)
        measured = {}
        for name, part in explained.items():
            whole = Explanation(*(_gathered(trainer, tensor)[:n].cpu() for tensor in part))
            measured[name] = measure_branch(
                windows,
                whole,
                self._last_maps.get(name),
                classifies=hasattr(network, "heads"),
                statistics=self.statistics,
            )
        self._last_maps = {name: branch.memory() for name, branch in measured.items()}
        return measured

    def _show(self, trainer: Trainer, windows: WatchedWindows) -> None:
        from wandb import Image, Table

        branches, self._to_be_shown = self._to_be_shown, {}
        index = windows.index.assign(**{"class": windows.index["af"].map(TITLES)})
        tables = [index.drop(columns="af")]
        for name, branch in branches.items():
            p_af = {} if branch.p_af is None else {"p_af": branch.p_af}
            tables.append(branch.table.assign(**p_af).add_prefix(f"{name}_"))
        shown: dict[str, Any] = {f"{self.name}/windows": Table(dataframe=pd.concat(tables, axis=1))}
        finite = all(bool(branch.maps.isfinite().all()) for branch in branches.values())
        rows = windows.to_draw(self.n_pictures if finite else 0)
        drawn = [_drawable(windows, branches, row) for row in rows]
        if drawn:
            figure = draw_page(drawn)
            figure.set_dpi(_DPI)
            captions = []
            for window in drawn:
                said = ", ".join(f"{name} {p_af:.2f}" for name, p_af in window.p_af.items())
                captions.append(window.record + (f", p(AF) by {said}" if said else ""))
            shown[f"{self.name}/ecgs"] = Image(figure, caption="; ".join(captions))
        _log(trainer, shown)


def _drawable(
    windows: WatchedWindows, branches: Mapping[str, BranchRelevance], row: int
) -> ExplainedWindow:
    label = windows.index.iloc[row]
    return ExplainedWindow(
        record=f"{label['record']} labelled {TITLES[label['af']]}",
        lead=str(label["lead"]),
        start_s=float(label["start_s"]),
        signal=windows.signals[row, 0].numpy(),
        unit="",  # scaled to [0, 1]
        sampling_rate=windows.sampling_rate,
        r_peaks=windows.r_peaks[row],
        relevance={name: branch.maps[row].numpy() for name, branch in branches.items()},
        p_af={name: float(b.p_af[row]) for name, b in branches.items() if b.p_af is not None},
        predicted={},
    )


def _gathered(trainer: Trainer, mine: Tensor) -> Tensor:
    """Puts together the rows that were dealt out to the processes in turn."""
    gathered = trainer.strategy.all_gather(mine)
    by_process = gathered.reshape(trainer.world_size, *mine.shape)
    return by_process.transpose(0, 1).flatten(0, 1)


def _due(trainer: Trainer, every_n_epochs: int) -> bool:
    """Whether it is an epoch's turn; outside a fit there is one epoch alone."""
    return trainer.state.fn != TrainerFn.FITTING or trainer.current_epoch % every_n_epochs == 0


def _wandb_runs(trainer: Trainer) -> list[Any]:
    """The runs to log to; none in all processes but the first."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


def _log(trainer: Trainer, media: Mapping[str, Any]) -> None:
    for run in _wandb_runs(trainer):
        run.log({**media, "trainer/global_step": trainer.global_step})


def _check_at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ConfigError(f"{name} must be at least {least}; found {number}")

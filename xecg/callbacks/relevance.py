"""Watching where a network looks while it trains."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice, product
from typing import Any

import numpy as np
import pandas as pd
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from torch import Tensor

from xecg.callbacks.loggers import keeps_pictures, log_figure
from xecg.errors import ConfigError, check_ranges
from xecg.explain.attributions import ATTRIBUTIONS, BranchExplainer
from xecg.explain.effects import Measured, agreement, measured
from xecg.explain.pictures import ExplainedWindow, draw_page
from xecg.explain.relevance import (
    CLASSES,
    FEWEST_BEATS,
    OWN_WAVE,
    SPECIFICITY,
    STATISTICS,
    domain_specificity,
    enrichment_column,
    slug,
    wave_title,
)

TITLES: Mapping[int, str] = dict(enumerate(CLASSES)) | {-1: "unlabelled"}
AGREEMENT = "agreement"
_METHODS = ("r_peaks", "column", "__getitems__")  # of validation data


@dataclass(frozen=True, eq=False)
class WatchedWindows:
    """Validation windows that are explained every time."""

    signals: Tensor  # (n, 1, time) float32, as the network reads them
    r_peaks: list[NDArray[np.int64]]  # in samples
    sampling_rate: float
    index: pd.DataFrame  # a row a window: record, lead, start_s, af (1, 0, -1)

    @property
    def classes(self) -> list[int]:
        """Keys of ``TITLES``: non-AF and AF, or unlabelled alone."""
        return [-1] if self.index["af"].max() < 0 else [0, 1]

    def to_draw(self, n: int) -> list[int]:
        """Returns rows of ``n`` windows, half of them AF where windows are labelled."""
        number_in_class = self.index.groupby("af").cumcount()
        return sorted(number_in_class.sort_values(kind="stable").index[:n])


def watch(dataset: Any, n_windows: int, sampling_rate: float, seed: int) -> WatchedWindows:
    """Draws windows with ``FEWEST_BEATS`` R peaks or more, half AF where windows are labelled.

    Raises ConfigError if the data says no R peaks and labels, or no window has enough R peaks.
    """
    if missing := ", ".join(name for name in _METHODS if not hasattr(dataset, name)):
        raise ConfigError(
            f"relevance logging needs validation data with {', '.join(_METHODS)}, such as that of "
            f"xecg.data.AFData; found {type(dataset).__name__} without {missing}"
        )
    af = np.asarray(dataset.column("af")).astype(np.int64)
    rng = np.random.default_rng(seed)
    sizes = {0: n_windows - n_windows // 2, 1: n_windows // 2} if af.max() >= 0 else {-1: n_windows}
    chosen: list[int] = []
    for code, size in sizes.items():
        positions = rng.permutation(np.flatnonzero(af == code)).tolist()
        chosen += islice((p for p in positions if len(dataset.r_peaks(p)) >= FEWEST_BEATS), size)
    if not chosen:
        needed = f"validation windows with {FEWEST_BEATS} R peaks or more"
        raise ConfigError(f"relevance logging needs {needed}; found none of {len(af)}")
    columns = "record", "lead", "start_s", "af"
    index = pd.DataFrame({name: np.asarray(dataset.column(name))[chosen] for name in columns})
    peaks = [np.asarray(dataset.r_peaks(position), np.int64) for position in chosen]
    return WatchedWindows(dataset.__getitems__(chosen).signal, peaks, sampling_rate, index)


def class_means(name: str, table: pd.DataFrame, rhythm: str) -> dict[str, float]:
    """Returns means over the rightly predicted windows of a class."""
    p, p_here, qrs = map(enrichment_column, ("P", wave_title("P", rhythm), "QRS"))
    columns = table[table["right"]].drop(columns=["right", "p_af"], errors="ignore")
    means = {
        str(key): float(mean) for key, mean in columns.rename(columns={p: p_here}).mean().items()
    }
    if "effect_p" in means:
        means[AGREEMENT] = float(agreement(columns)(np.ones((1, len(columns))))[0])
    if name in OWN_WAVE and {p_here, qrs} <= means.keys():
        means[SPECIFICITY] = float(domain_specificity(means[p_here], means[qrs], name))
    means["n"] = float(columns.notna().any(axis=1).sum())
    means["n_right"], means["n_windows"] = float(len(columns)), float(len(table))
    return means


class RelevanceLogger(Callback):
    """Logs, after validation, where each branch looks, and what it uses, in some windows.

    Validation windows are drawn once, half of them AF, with at least four R peaks. Each branch is
    explained for the class that it predicts; means are by true class over the windows that it
    predicts rightly. A branch in pre-training is explained for what it detects or measures (see
    :func:`xecg.explain.attributions.branch_outputs`), and means are over all windows.

    Every logger gets ``relevance/<branch>/<non_af|af|unlabelled>/<column>``: means of the columns
    of :func:`xecg.explain.wave_relevance` (in AF ``enrichment_where_p_would_be``) and
    :func:`xecg.explain.wave_effects`, ``domain_specificity``, ``agreement`` (of enrichments and
    effects), ``n`` (windows of the means), ``n_right`` and ``n_windows``, and a picture of some
    windows with what they are and P(AF). Weights & Biases also gets a table of the windows.

    Every number is there every time. A mean over no window is NaN: ``ModelCheckpoint`` takes it for
    the worst value, ``EarlyStopping`` stops at it unless ``check_finite`` is false. Nothing is
    logged of a network that has diverged. Training and random state are left alone; a resumed run
    logs what it would have logged without the stop. Raises ConfigError if a number is out of range,
    or a name is unknown.

    Args:
        n_windows: Number of watched windows; the time that logging takes grows with it.
        attribution: Name in :data:`xecg.explain.ATTRIBUTIONS`, or a class path.
        statistics: Names in :data:`xecg.explain.STATISTICS`, or class paths; null takes all.
        effects: Whether effects are measured, seven forward passes of the windows.
        every_n_epochs: Number of epochs from one logging to the next, from the first epoch on.
        n_pictures: Number of ECGs in the picture, half of them AF; 0 for no picture.
        show_every_n_epochs: Number of epochs from one table and picture to the next; the last of
            ``max_epochs`` has them too.
        seed: Random seed of the draw of windows.
        name: First part of the names, to tell two of these callbacks apart.
    """

    def __init__(
        self,
        n_windows: int = 40,
        attribution: str = "innvestigate",
        statistics: list[str] | None = None,
        effects: bool = True,
        every_n_epochs: int = 1,
        n_pictures: int = 4,
        show_every_n_epochs: int = 5,
        seed: int = 0,
        name: str = "relevance",
    ) -> None:
        super().__init__()
        self.n_windows, self.n_pictures, self.seed, self.name = n_windows, n_pictures, seed, name
        self.attribution, self.statistics, self.effects = attribution, statistics, effects
        self.every_n_epochs, self.show_every_n_epochs = every_n_epochs, show_every_n_epochs
        fewest = {"n_windows": 2, "every_n_epochs": 1, "show_every_n_epochs": 1}
        fewest |= {"n_pictures": 0, "seed": 0}
        check_ranges(**{key: (getattr(self, key), least) for key, least in fewest.items()})
        _ = ATTRIBUTIONS[attribution], [STATISTICS[one] for one in statistics or ()]  # are known
        self._windows: WatchedWindows | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises ConfigError if the network has no branches, or no sampling rate is known."""
        if stage not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            return
        branches = getattr(getattr(pl_module, "network", None), "branches", None)
        data = getattr(trainer, "datamodule", None)
        if not branches or not hasattr(data, "sampling_rate"):
            raise ConfigError(
                "RelevanceLogger needs a task whose `network` has `branches`, and a data module "
                "with `sampling_rate`, such as xecg.data.AFData; found "
                f"{type(pl_module).__name__} and {type(data).__name__}"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draws the windows, so that data that does not fit is refused before an epoch is lost."""
        if trainer.val_dataloaders is not None:
            self._draw(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explains the windows and logs what is found."""
        if trainer.sanity_checking or not _due(trainer, self.every_n_epochs):
            return
        network: Any = pl_module.network
        weights = [*network.parameters(), *network.branches.buffers()]
        if not all(bool(tensor.isfinite().all()) for tensor in weights):
            return
        with isolate_rng():
            windows = self._windows or self._draw(trainer)
            branches = self._measure(pl_module, windows)
            means = {}
            for (name, of), code in product(branches.items(), windows.classes):
                in_class = of.table[windows.index["af"] == code]
                for key, value in class_means(name, in_class, TITLES[code]).items():
                    means[f"{self.name}/{name}/{slug(TITLES[code])}/{key}"] = value
            pl_module.log_dict(means, sync_dist=True)
            is_last = trainer.current_epoch + 1 == trainer.max_epochs
            if keeps_pictures(trainer) and (is_last or _due(trainer, self.show_every_n_epochs)):
                self._show(trainer, windows, branches)

    def _draw(self, trainer: Trainer) -> WatchedWindows:
        loaders = trainer.val_dataloaders
        (loader,) = loaders if isinstance(loaders, list) and len(loaders) == 1 else (loaders,)
        dataset = getattr(loader, "dataset", loader)
        sampling_rate = trainer.datamodule.sampling_rate  # type: ignore[attr-defined]
        self._windows = watch(dataset, self.n_windows, sampling_rate, self.seed)
        return self._windows

    def _measure(self, pl_module: LightningModule, windows: WatchedWindows) -> dict[str, Measured]:
        """Every process measures all windows; what they log is synchronised.

        Tables get ``right`` (the true class is predicted; True without classes) and, of a
        classifier, ``p_af``.
        """
        network: Any = pl_module.network
        explainer = BranchExplainer(network, self.attribution)
        of = windows.signals.to(pl_module.device), windows.r_peaks, windows.sampling_rate
        found = measured(explainer, *of, effects=self.effects, statistics=self.statistics)
        for table, logits, _ in found.values():
            table["right"] = True
            if hasattr(network, "heads"):
                table["right"] = logits.argmax(dim=1).numpy() == windows.index["af"].to_numpy()
                table["p_af"] = logits.double().softmax(dim=1)[:, 1].numpy()
        return found

    def _show(
        self, trainer: Trainer, windows: WatchedWindows, branches: Mapping[str, Measured]
    ) -> None:
        index = windows.index.assign(**{"class": windows.index["af"].map(TITLES)})
        tables = [index.drop(columns="af")]
        for name, of in branches.items():
            tables.append(of.table.drop(columns="right").add_prefix(f"{name}_"))
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                from wandb import Table

                shown = {f"{self.name}/windows": Table(dataframe=pd.concat(tables, axis=1))}
                logger.experiment.log({**shown, "trainer/global_step": trainer.global_step})
        rows = windows.to_draw(self.n_pictures)
        if drawn := [_drawable(windows, branches, row) for row in rows]:
            figure = draw_page(drawn)
            figure.set_dpi(72)  # 841 pixels across, to be read on a screen
            log_figure(trainer, f"{self.name}/ecgs", figure, "; ".join(map(_caption, drawn)))


def _drawable(
    windows: WatchedWindows, branches: Mapping[str, Measured], row: int
) -> ExplainedWindow:
    label = windows.index.iloc[row]
    p_af = {n: of.table["p_af"][row] for n, of in branches.items() if "p_af" in of.table}
    return ExplainedWindow(
        record=f"{label['record']} labelled {TITLES[label['af']]}",
        lead=str(label["lead"]),
        start_s=float(label["start_s"]),
        signal=windows.signals[row, 0].numpy(),
        unit="",  # scaled to [0, 1]
        sampling_rate=windows.sampling_rate,
        r_peaks=windows.r_peaks[row],
        relevance={name: of.relevance[row].numpy() for name, of in branches.items()},
        p_af=p_af,
        predicted={name: TITLES[int(value > 0.5)] for name, value in p_af.items()},
    )


def _caption(window: ExplainedWindow) -> str:
    said = ", ".join(f"{name} {p_af:.2f}" for name, p_af in window.p_af.items())
    return window.record + (f", p(AF) by {said}" if said else "")


def _due(trainer: Trainer, every_n_epochs: int) -> bool:
    """Whether it is an epoch's turn; outside a fit there is one epoch alone."""
    return trainer.state.fn != TrainerFn.FITTING or trainer.current_epoch % every_n_epochs == 0

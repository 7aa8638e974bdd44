"""Watching where a network looks while it trains."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError
from xecg.explain.attributions import ATTRIBUTIONS, BranchExplainer
from xecg.explain.deep_taylor import Explanation
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
    wave_relevance,
    wave_title,
)

TITLES: Mapping[int, str] = {0: CLASSES[0], 1: CLASSES[1], -1: "unlabelled"}
CORRELATION = "map_correlation"
_DPI = 72.0  # 841 pixels across, to be read on a screen


class ValidationWindows(Protocol):
    """Interface of the validation data."""

    def r_peaks(self, position: int) -> NDArray[np.integer]:
        """R peaks of a window, in samples from its start."""

    def column(self, name: str) -> Any:
        """``record``, ``lead``, ``start_s`` or ``af`` (1, 0, or -1: not known) of every window."""

    def __getitems__(self, positions: Sequence[int]) -> Any:
        """A batch whose ``signal`` is ``(batch, 1, time)``."""


METHODS = ("r_peaks", "column", "__getitems__")


@dataclass(frozen=True, eq=False)
class WatchedWindows:
    """Validation windows with ``FEWEST_BEATS`` R peaks or more that are explained every time.

    Args:
        signals: ``(n, 1, time)`` float32, as the network reads them.
        r_peaks: R peaks of each window, in samples.
        sampling_rate: Sampling rate in Hz.
        index: A row a window: ``record``, ``lead``, ``start_s``, and ``af``: 1, 0, or -1.
    """

    signals: Tensor
    r_peaks: list[NDArray[np.int64]]
    sampling_rate: float
    index: pd.DataFrame

    @property
    def classes(self) -> list[int]:
        """Keys of ``TITLES``: both classes of labelled data, and -1 where windows have none."""
        codes = self.index["af"].unique().tolist()
        return [code for code in TITLES if code in codes or (code >= 0 and max(codes) >= 0)]

    def digest(self) -> str:
        """A short name for the windows' content."""
        return hashlib.blake2b(self.signals.numpy().tobytes(), digest_size=16).hexdigest()

    def of_all_classes(self, n: int) -> list[int]:
        """Rows of about ``n`` windows, the first of each class."""
        rows = [np.flatnonzero(self.index["af"] == code).tolist() for code in self.classes]
        shares = [(n + len(rows) - 1 - number) // len(rows) for number in range(len(rows))]
        return [
            row for of_class, share in zip(rows, shares, strict=True) for row in of_class[:share]
        ]


def watch(dataset: Any, n_windows: int, sampling_rate: float, seed: int) -> WatchedWindows:
    """Draws windows: half AF, or as many as there are; without any label, unlabelled ones.

    Args:
        dataset: The validation data, :class:`ValidationWindows`.
        n_windows: Number of windows.
        sampling_rate: Sampling rate of the windows, in Hz.
        seed: Random seed of the draw.

    Raises:
        ConfigError: If the data is of another kind, or no window has enough R peaks.
    """
    if missing := [name for name in METHODS if not hasattr(dataset, name)]:
        raise ConfigError(
            f"relevance logging needs validation data with {', '.join(METHODS)}, such as that of "
            f"xecg.data.AFData; found {type(dataset).__name__} without {', '.join(missing)}"
        )
    windows = cast(ValidationWindows, dataset)
    af = np.asarray(windows.column("af")).astype(np.int64)
    rng = np.random.default_rng(seed)
    sizes = {0: n_windows - n_windows // 2, 1: n_windows // 2}
    if af.max() < 0:
        sizes = {-1: n_windows}
    chosen: list[int] = []
    for code, size in sizes.items():
        positions: Iterable[int] = rng.permutation(np.flatnonzero(af == code)).tolist()
        able = (p for p in positions if len(windows.r_peaks(p)) >= FEWEST_BEATS)
        chosen += islice(able, size)
    if not chosen:
        raise ConfigError(
            f"relevance logging needs validation windows with {FEWEST_BEATS} R peaks or more; "
            f"found none of {len(af)}"
        )
    names = "record", "lead", "start_s"
    index = {name: np.asarray(windows.column(name))[chosen] for name in names}
    return WatchedWindows(
        signals=windows.__getitems__(chosen).signal,
        r_peaks=[windows.r_peaks(position).astype(np.int64) for position in chosen],
        sampling_rate=sampling_rate,
        index=pd.DataFrame({**index, "af": af[chosen]}),
    )


@dataclass(frozen=True, eq=False)
class BranchRelevance:
    """Output of one branch for the ``n`` watched windows, and where it looks.

    Args:
        p_af: Probability of AF, ``(n,)``; None where the branch does not classify.
        right: Whether the branch predicts the true class, or has an output if it does not
            classify, ``(n,)``.
        maps: Relevance ``(n, time)``.
        table: Columns of :func:`wave_relevance`, and the correlation of each map with that of the
            last epoch; NaN where the prediction was not right both times.
    """

    p_af: NDArray[np.float64] | None
    right: NDArray[np.bool_]
    maps: Tensor
    table: pd.DataFrame

    def memory(self) -> Tensor:
        """The maps for comparison with the next epoch's: float16 in [0, 1], zero where wrong."""
        highest = self.maps.amax(dim=1, keepdim=True).clamp_min(torch.finfo().tiny)
        return (self.maps / highest * torch.from_numpy(self.right)[:, None]).half()


def measure_branch(
    windows: WatchedWindows,
    explanation: Explanation,
    last: Tensor | None,
    *,
    classifies: bool,
    statistics: Sequence[str] | None = None,
) -> BranchRelevance:
    """Measures the relevance that a branch gave to the watched windows.

    Args:
        windows: The windows.
        explanation: Logits ``(n, classes)`` and relevance ``(n, 1, time)`` of the highest.
        last: :meth:`BranchRelevance.memory` of the last epoch; None: there was none.
        classifies: Whether the logits are those of non-AF and AF.
        statistics: As for :func:`wave_relevance`.
    """
    logits, maps = explanation.logits, explanation.relevance[:, 0]
    right = logits.isfinite().all(dim=1).numpy()
    if classifies:
        right = right & (logits.argmax(dim=1).numpy() == windows.index["af"].to_numpy())
    table = wave_relevance(
        maps.numpy(),
        windows.r_peaks,
        windows.sampling_rate,
        logits=logits.amax(dim=1).numpy(),
        statistics=statistics,
    )
    kept = torch.full_like(maps, torch.nan) if last is None else last.float()
    table[CORRELATION] = np.where(right, _pearson(maps, kept).numpy(), np.nan)
    p_af = logits.double().softmax(dim=1)[:, 1].numpy() if classifies else None
    return BranchRelevance(p_af, right, maps, table)


def class_means(
    name: str, branch: BranchRelevance, af: pd.Series, code: int
) -> tuple[dict[str, float], dict[str, NDArray[np.float64]]]:
    """Means over the rightly predicted windows of a class, and the enrichments that are averaged.

    Returns:
        The mean of each column under its name in the log; the domain specificity of the mean
        enrichments; ``n`` (windows that the means are over), ``n_right`` and ``n_windows``. The
        names are the same in every epoch; a mean without a window is NaN.
    """
    in_class = (af == code).to_numpy()
    chosen = branch.table[in_class & branch.right]
    p = enrichment_column("P")
    names = {p: enrichment_column(wave_title("P", TITLES[code]))}
    columns = {names.get(str(key), str(key)): column.dropna() for key, column in chosen.items()}
    means = {column: float(values.mean()) for column, values in columns.items()}
    if name in OWN_WAVE and p in chosen:
        qrs = chosen[enrichment_column("QRS")]
        means[SPECIFICITY] = float(domain_specificity(chosen[p].mean(), qrs.mean(), name))
    counts = {
        "n": chosen.drop(columns=CORRELATION).notna().any(axis=1).sum(),
        "n_right": (in_class & branch.right).sum(),
        "n_windows": in_class.sum(),
    }
    enrichments_of = {
        column: values.to_numpy()
        for column, values in columns.items()
        if column.startswith("enrichment_") and len(values)
    }
    return means | {count: float(n) for count, n in counts.items()}, enrichments_of


def _pearson(maps: Tensor, others: Tensor) -> Tensor:
    """Of each row with the same row; NaN where either is constant or unknown."""
    x = maps - maps.mean(dim=1, keepdim=True)
    y = others - others.mean(dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    correlation: Tensor = torch.einsum("nt,nt->n", x, y) / norms
    return correlation


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
        show_every_n_epochs: int = 10,
        seed: int = 0,
        name: str = "relevance",
    ) -> None:
        super().__init__()
        least = {"n_windows": 2, "every_n_epochs": 1, "show_every_n_epochs": 1}
        for key in (*least, "n_pictures", "seed"):
            if locals()[key] < least.get(key, 0):
                raise ConfigError(
                    f"{key} must be at least {least.get(key, 0)}; found {locals()[key]}"
                )
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
                "RelevanceLogger explains tasks whose `network` has `branches`, such as "
                f"xecg.tasks.AFClassifier; found {type(pl_module).__name__}. "
                "Remove it from trainer.callbacks"
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
            averaged: dict[str, NDArray[np.float64]] = {}
            for name, branch in branches.items():
                for code in windows.classes:
                    prefix = f"{self.name}/{name}/{slug(TITLES[code])}"
                    of_class, enrichments = class_means(name, branch, windows.index["af"], code)
                    means |= {f"{prefix}/{key}": value for key, value in of_class.items()}
                    averaged |= {f"{prefix}/{k}_histogram": v for k, v in enrichments.items()}
            # The processes agree already; synchronised, they may not be suspected of differing.
            pl_module.log_dict(means, sync_dist=True)
            if _wandb_runs(trainer):
                from wandb import Histogram

                _log(trainer, {key: Histogram(values.tolist()) for key, values in averaged.items()})
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
        if all(bool(tensor.isfinite().all()) for tensor in network.parameters()):
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
            said = {} if branch.p_af is None else {"p_af": branch.p_af}
            tables.append(pd.DataFrame(said).join(branch.table, how="right").add_prefix(f"{name}_"))
        shown: dict[str, Any] = {f"{self.name}/windows": Table(dataframe=pd.concat(tables, axis=1))}
        rows = windows.of_all_classes(self.n_pictures)
        if rows and all(bool(branch.maps.isfinite().all()) for branch in branches.values()):
            figure = draw_page([_drawable(windows, branches, row) for row in rows])
            figure.set_dpi(_DPI)
            captions = [_caption(windows, branches, row) for row in rows]
            shown[f"{self.name}/ecgs"] = Image(figure, caption="; ".join(captions))
        _log(trainer, shown)


def _drawable(
    windows: WatchedWindows, branches: Mapping[str, BranchRelevance], row: int
) -> ExplainedWindow:
    label = windows.index.iloc[row]
    p_af = {name: float(b.p_af[row]) for name, b in branches.items() if b.p_af is not None}
    return ExplainedWindow(
        record=f"{label['record']}, labelled {TITLES[label['af']]}",
        lead=str(label["lead"]),
        start_s=float(label["start_s"]),
        signal=windows.signals[row, 0].numpy(),
        unit="",  # scaled to [0, 1]
        sampling_rate=windows.sampling_rate,
        r_peaks=windows.r_peaks[row],
        relevance={name: branch.maps[row].numpy() for name, branch in branches.items()},
        p_af=p_af,
        predicted={},
    )


def _caption(windows: WatchedWindows, branches: Mapping[str, BranchRelevance], row: int) -> str:
    label = windows.index.iloc[row]
    said = [f"{n} {b.p_af[row]:.2f}" for n, b in branches.items() if b.p_af is not None]
    by = f", p(AF) by {', '.join(said)}" if said else ""
    return f"{label['record']} labelled {TITLES[label['af']]}{by}"


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

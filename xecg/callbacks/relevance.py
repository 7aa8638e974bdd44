"""Watching where a network looks while it trains."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError
from xecg.explain.deep_taylor import DeepTaylor, Explanation, RuleSet
from xecg.explain.pictures import ExplainedWindow, draw_ground, draw_traces
from xecg.explain.relevance import (
    BRANCHES,
    CLASSES,
    MIN_BEATS,
    WAVES,
    RelevanceStatistics,
    domain_specificity,
    relevance_statistics,
    wave_title,
)
from xecg.metrics.bootstrap import FloatArray
from xecg.networks.xecgarch import N_CLASSES, XECGArch

NON_AF, AF = 0, 1


class ValidationWindows(Protocol):
    """What is asked of the validation data."""

    def targets(self) -> NDArray[np.generic]:
        """Class of every window."""

    def r_peaks(self, position: int) -> NDArray[np.integer]:
        """R peaks of a window, in samples from its start."""

    def column(self, name: str) -> NDArray[np.generic]:
        """``record``, ``lead`` or ``start_s`` of every window."""

    def __getitems__(self, positions: Sequence[int]) -> Any:
        """A batch whose ``signal`` is ``(batch, 1, time)``."""


METHODS = ("targets", "r_peaks", "column", "__getitems__")


@dataclass(frozen=True, eq=False)
class Probe:
    """Windows of both classes, each with ``MIN_BEATS`` R peaks or more.

    Args:
        signals: ``(n, 1, time)`` float32, as the network reads them.
        classes: ``(n,)``: 0 non-AF, 1 AF.
        r_peaks: R peaks of each window, in samples.
        sampling_rate: In Hz.
        records: Record of each window.
        leads: Lead of each window.
        starts_s: Start of each window in its record, in seconds.
    """

    signals: Tensor
    classes: NDArray[np.int64]
    r_peaks: list[NDArray[np.int64]]
    sampling_rate: float
    records: NDArray[np.str_]
    leads: NDArray[np.str_]
    starts_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.classes)

    def digest(self) -> str:
        """A short name for the windows' content."""
        return hashlib.blake2b(self.signals.numpy().tobytes(), digest_size=16).hexdigest()

    def of_both_classes(self, n: int) -> list[int]:
        """Rows of ``n`` windows, the first of each class."""
        non_af, af = (np.flatnonzero(self.classes == code).tolist() for code in (NON_AF, AF))
        return [*non_af[: n - n // 2], *af[: n // 2]]


def take_probe(
    dataset: ValidationWindows, n_windows: int, sampling_rate: float, seed: int
) -> Probe:
    """Draw a probe: half AF, or as many as there are.

    Args:
        dataset: The validation data.
        n_windows: Size of the probe.
        sampling_rate: Of the windows, in Hz.
        seed: Of the draw.

    Raises:
        ConfigError: If the data is of another kind, or no window has enough R peaks.
    """
    if missing := [name for name in METHODS if not hasattr(dataset, name)]:
        raise ConfigError(
            f"relevance logging needs validation data with {', '.join(METHODS)}, such as that of "
            f"xecg.data.AFData; found {type(dataset).__name__} without {', '.join(missing)}"
        )
    labels = dataset.targets()
    rng = np.random.default_rng(seed)
    sizes = {NON_AF: n_windows - n_windows // 2, AF: n_windows // 2}
    chosen = [
        position
        for code, size in sizes.items()
        for position in islice(
            _with_beats(dataset, rng.permutation(np.flatnonzero(labels == code))), size
        )
    ]
    if not chosen:
        raise ConfigError(
            f"relevance logging needs validation windows with {MIN_BEATS} R peaks or more; found "
            f"none of {len(labels)}"
        )
    return Probe(
        signals=dataset.__getitems__(chosen).signal,
        classes=labels[chosen].astype(np.int64),
        r_peaks=[dataset.r_peaks(position).astype(np.int64) for position in chosen],
        sampling_rate=sampling_rate,
        records=dataset.column("record")[chosen].astype(np.str_),
        leads=dataset.column("lead")[chosen].astype(np.str_),
        starts_s=dataset.column("start_s")[chosen].astype(np.float64),
    )


def _with_beats(dataset: ValidationWindows, positions: NDArray[np.int64]) -> Iterable[int]:
    return (p for p in positions.tolist() if len(dataset.r_peaks(p)) >= MIN_BEATS)


@dataclass(frozen=True, eq=False)
class BranchRelevance:
    """What one branch says of the ``n`` windows of a probe, and where it looks.

    Args:
        p_af: Probability of AF, ``(n,)``.
        predicted: Class, ``(n,)``.
        right: Whether that is the true class, ``(n,)``.
        maps: Relevance for the predicted class, ``(n, time)``.
        statistics: Measures of the maps.
        correlation: Pearson's, of each map with that of the last epoch; NaN where the prediction
            was not right both times, ``(n,)``.
    """

    p_af: FloatArray
    predicted: NDArray[np.int64]
    right: NDArray[np.bool_]
    maps: Tensor
    statistics: RelevanceStatistics
    correlation: FloatArray

    def measured(self, classes: NDArray[np.int64], code: int) -> NDArray[np.bool_]:
        """Windows of a class that means are taken over: rightly predicted, with relevance."""
        measured: NDArray[np.bool_] = (classes == code) & self.right & self.statistics.valid
        return measured


def measure_branch(
    probe: Probe, logits: Tensor, maps: Tensor, last: Tensor | None
) -> BranchRelevance:
    """Measure the relevance that a branch gave to a probe.

    Args:
        probe: The windows.
        logits: ``(n, 2)``.
        maps: Relevance for the class of the higher logit, ``(n, time)``.
        last: What :func:`memorable` kept of the last epoch; None: there was none.
    """
    predicted = logits.argmax(dim=1).numpy()
    right = (predicted == probe.classes) & logits.isfinite().all(dim=1).numpy()
    kept = torch.full_like(maps, torch.nan) if last is None else last.float()
    return BranchRelevance(
        p_af=logits.double().softmax(dim=1)[:, 1].numpy(),
        predicted=predicted,
        right=right,
        maps=maps,
        statistics=relevance_statistics(
            maps.numpy(), probe.r_peaks, probe.sampling_rate, logits=logits.amax(dim=1).numpy()
        ),
        correlation=np.where(right, _pearson(maps, kept).numpy(), np.nan),
    )


def memorable(branch: BranchRelevance) -> Tensor:
    """The maps as the next epoch compares its own with: float16 in [0, 1], zero where wrong."""
    highest = branch.maps.amax(dim=1, keepdim=True).clamp_min(torch.finfo().tiny)
    return (branch.maps / highest * torch.from_numpy(branch.right)[:, None]).half()


def relevance_scalars(
    branches: Mapping[str, BranchRelevance], classes: NDArray[np.int64]
) -> dict[str, float]:
    """Means over the rightly predicted windows of each class, as in the published tables.

    The names are the same in every epoch; a mean without a window is NaN.

    Args:
        branches: Measures by branch.
        classes: True class of each window, ``(n,)``.

    Returns:
        By ``<branch>/<class>/<measure>``: ``enrichment_<wave>``, ``domain_specificity`` (of the
        mean enrichments), ``conservation``, ``gini``, ``map_correlation``, and the counts ``n``
        (windows that the means are over), ``n_right`` and ``n_windows``.
    """
    return {
        f"{name}/{slug(rhythm)}/{measure}": value
        for name, branch in branches.items()
        for code, rhythm in enumerate(CLASSES)
        for measure, value in _class_scalars(name, branch, classes, code).items()
    }


def enrichment_name(wave: str, rhythm: str) -> str:
    """Name of a wave's enrichment; that of P says in AF that it is where P would be."""
    return f"enrichment_{slug(wave_title(wave, rhythm))}"


def slug(title: str) -> str:
    """A title as part of a name: ``ST-T`` becomes ``st_t``."""
    return re.sub(r"\W+", "_", title.lower())


def _class_scalars(
    name: str, branch: BranchRelevance, classes: NDArray[np.int64], code: int
) -> dict[str, float]:
    chosen = branch.measured(classes, code)
    statistics = branch.statistics
    enrichment = {wave: _mean(statistics.enrichment[wave][chosen]) for wave in WAVES}
    scalars = {enrichment_name(wave, CLASSES[code]): value for wave, value in enrichment.items()}
    if name in BRANCHES:  # another branch has no wave of its own
        specificity = domain_specificity(enrichment["P"], enrichment["QRS"], name)
        scalars["domain_specificity"] = float(specificity)
    return scalars | {
        "conservation": _mean(statistics.conservation[chosen]),
        "gini": _mean(statistics.gini[chosen]),
        "map_correlation": _mean(branch.correlation[chosen]),
        "n": float(chosen.sum()),
        "n_right": float(branch.right[classes == code].sum()),
        "n_windows": float((classes == code).sum()),
    }


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _pearson(maps: Tensor, others: Tensor) -> Tensor:
    """Of each row with the same row; NaN where either is constant or unknown."""
    x = maps - maps.mean(dim=1, keepdim=True)
    y = others - others.mean(dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    correlation: Tensor = torch.einsum("nt,nt->n", x, y) / norms
    return correlation


def explain_probe(
    trainer: Trainer, network: XECGArch, deep_taylor: DeepTaylor, signals: Tensor
) -> dict[str, Explanation]:
    """Logits of each branch, and relevance for the class that it predicts.

    Every process explains its share of the windows and all receive all results, so that the
    processes agree to the bit and a probe costs the same part of an epoch on any number of them.

    Args:
        trainer: Its strategy gathers.
        network: The network.
        deep_taylor: Explains it.
        signals: The probe ``(n, 1, time)``, on the CPU.

    Returns:
        By branch, on the CPU: logits ``(n, 2)`` and relevance ``(n, 1, time)``; NaN if the
        network's weights have diverged, which is for others to stop at.
    """
    n = len(signals)
    share = torch.arange(-(-n // trainer.world_size)) * trainer.world_size
    rows = (share + trainer.global_rank) % n  # shares of one size; the surplus repeats
    explained = _explain(network, deep_taylor, signals[rows])
    return {
        name: Explanation(*(_gather(trainer, result)[:n].cpu() for result in explained[name]))
        for name in network.branches
    }


def _explain(
    network: XECGArch, deep_taylor: DeepTaylor, signals: Tensor
) -> Mapping[str, Explanation]:
    device = next(network.parameters()).device
    x = signals.to(device)
    if not all(bool(weights.isfinite().all()) for weights in network.state_dict().values()):
        unknown = Explanation(
            x.new_full((len(x), N_CLASSES), torch.nan), torch.full_like(x, torch.nan)
        )
        return dict.fromkeys(network.branches, unknown)
    explained = deep_taylor.explain(x)
    assert isinstance(explained, dict)  # the network has branches
    return explained


def _gather(trainer: Trainer, mine: Tensor) -> Tensor:
    """Put together what the processes have of rows that were dealt out in turn."""
    gathered = trainer.strategy.all_gather(mine)
    by_process = gathered.reshape(trainer.world_size, *mine.shape)
    return by_process.transpose(0, 1).flatten(0, 1)


Branches = Mapping[str, BranchRelevance]


def histograms(probe: Probe, branches: Branches) -> dict[str, Any]:
    """Enrichments of the windows that the means are over, by branch, class and wave."""
    from wandb import Histogram

    media = {}
    for name, branch in branches.items():
        for code, rhythm in enumerate(CLASSES):
            chosen = branch.measured(probe.classes, code)
            for wave in WAVES:
                values = branch.statistics.enrichment[wave][chosen]
                key = f"{name}/{slug(rhythm)}/{enrichment_name(wave, rhythm)}_histogram"
                media[key] = Histogram(values[~np.isnan(values)].tolist())
    return media


def table(probe: Probe, branches: Branches) -> Any:
    """One row per window: where it is from, and what each branch says of it and looks at.

    Enrichment of P in a window of AF is that of where P would be.
    """
    from wandb import Table

    columns: dict[str, list[Any]] = {
        "record": probe.records.tolist(),
        "lead": probe.leads.tolist(),
        "start_s": probe.starts_s.tolist(),
        "class": [CLASSES[code] for code in probe.classes],
    }
    for name, branch in branches.items():
        columns |= {f"{name}_{key}": values for key, values in _columns(branch).items()}
    rows = zip(*columns.values(), strict=True)
    return Table(columns=list(columns), data=[list(row) for row in rows])


def drawable(branches: Branches) -> bool:
    """Whether there are maps to draw: the network has not diverged."""
    return all(bool(branch.maps.isfinite().all()) for branch in branches.values())


def _columns(branch: BranchRelevance) -> dict[str, list[Any]]:
    statistics = branch.statistics
    numbers: dict[str, FloatArray] = {"p_af": branch.p_af}
    numbers |= {f"enrichment_{slug(wave)}": statistics.enrichment[wave] for wave in WAVES}
    numbers |= {
        "conservation": statistics.conservation,
        "gini": statistics.gini,
        "map_correlation": branch.correlation,
    }
    predicted = [CLASSES[code] for code in branch.predicted]
    return {"predicted": predicted} | {key: column.tolist() for key, column in numbers.items()}


_DPI = 72.0  # 841 pixels across, to be read on a screen


class RelevancePicture:
    """ECGs one below the other, coloured by the relevance that each branch gave them.

    Paper and texts, which take most of the time, are drawn once; only the traces are drawn again.

    Args:
        probe: Windows that hold the ECGs.
        rows: Those to draw.
        names: Of the branches.
    """

    def __init__(self, probe: Probe, rows: Sequence[int], names: Sequence[str]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self._probe, self._rows = probe, rows
        nothing = dict.fromkeys(names, np.zeros(probe.signals.shape[-1]))
        figure, self._axes = draw_ground([self._window(row, nothing) for row in rows])
        figure.set_dpi(_DPI)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        self._canvas, self._ground = canvas, canvas.copy_from_bbox(figure.bbox)

    def image(self, branches: Branches) -> Any:
        """The picture for W&B; its caption says what the ECGs are and what is said of them."""
        from wandb import Image

        return Image(self._pixels(branches), caption="; ".join(self._captions(branches)))

    def _pixels(self, branches: Branches) -> Any:
        """RGB ``(height, width, 3)``."""
        maps = {name: branch.maps.numpy() for name, branch in branches.items()}
        windows = [
            self._window(row, {name: of_all[row] for name, of_all in maps.items()})
            for row in self._rows
        ]
        self._canvas.restore_region(self._ground)
        for trace in draw_traces(self._axes, windows):
            self._axes.draw_artist(trace)
            trace.remove()
        return np.asarray(self._canvas.buffer_rgba())[..., :3]

    def _captions(self, branches: Branches) -> Iterator[str]:
        for row in self._rows:
            said = ", ".join(f"{name} {branch.p_af[row]:.2f}" for name, branch in branches.items())
            label = CLASSES[self._probe.classes[row]]
            yield f"{self._probe.records[row]} labelled {label}, p(AF) by {said}"

    def _window(self, row: int, relevance: Mapping[str, Any]) -> ExplainedWindow:
        probe = self._probe
        return ExplainedWindow(
            record=str(probe.records[row]),
            lead=str(probe.leads[row]),
            start_s=float(probe.starts_s[row]),
            signal=probe.signals[row, 0].numpy(),
            unit="",  # scaled to [0, 1]
            sampling_rate=probe.sampling_rate,
            r_peaks=probe.r_peaks[row],
            relevance=relevance,
            p_af={},  # stand in the caption: texts are slow to draw
            predicted={},
        )


class RelevanceLogger(Callback):
    """Log, after validation, where each branch looks in a fixed set of validation windows.

    The probe is drawn once, half of it in AF, of windows with at least four R peaks. Each branch
    is explained by deep Taylor decomposition for the class that it predicts; means are taken by
    true class over the windows that it predicts rightly. They are logged as
    ``relevance/<branch>/<non_af|af>/<measure>``, for every logger and to be monitored:
    ``enrichment_p`` (in AF ``enrichment_where_p_would_be``), ``enrichment_qrs``,
    ``enrichment_st_t`` and ``enrichment_other`` (share of relevance / share of time, 1 is chance),
    ``domain_specificity``, ``conservation``, ``gini``, ``map_correlation`` (of each map with the
    one before, if both explain the right class) and the counts ``n``, ``n_right`` and
    ``n_windows``. With Weights & Biases there are also histograms, ``windows``, a table with a row
    for each, and ``ecgs``, a picture of some.

    Every name of a number or histogram is there every time. A mean over no window is NaN (so is
    ``map_correlation`` at first): ``ModelCheckpoint`` takes it for the worst value,
    ``EarlyStopping`` stops at it unless ``check_finite`` is false.

    Neither the training nor the random state is touched. The state holds the last maps, so that
    a resumed run goes on as if it had never stopped.

    Args:
        n_windows: Size of the probe; the time that logging takes grows with it.
        rules: Rule set of deep Taylor decomposition.
        every_n_epochs: Log in the first epoch and every so many after it.
        n_pictures: ECGs in the picture, half of them in AF; 0 for no picture.
        show_every_n_epochs: Log table and picture in the first epoch, every so many after it and
            at the end.
        seed: Of the draw of the probe.
        name: First part of the names, to tell two of these callbacks apart.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        n_windows: int = 64,
        rules: RuleSet = "innvestigate",
        every_n_epochs: int = 1,
        n_pictures: int = 4,
        show_every_n_epochs: int = 1,
        seed: int = 0,
        name: str = "relevance",
    ) -> None:
        super().__init__()
        self.n_windows = _at_least(2, n_windows, "n_windows")
        self.rules = rules
        self.every_n_epochs = _at_least(1, every_n_epochs, "every_n_epochs")
        self.n_pictures = _at_least(0, n_pictures, "n_pictures")
        self.show_every_n_epochs = _at_least(1, show_every_n_epochs, "show_every_n_epochs")
        self.seed = _at_least(0, seed, "seed")
        self.name = name
        self._probe: Probe | None = None
        self._last_maps: dict[str, Tensor] = {}
        self._last_maps_of = ""
        self._to_be_shown: dict[str, BranchRelevance] = {}
        self._picture: RelevancePicture | None = None

    @property
    def state_key(self) -> str:
        """Key of the state in a checkpoint."""
        return self._generate_state_key(name=self.name)

    def state_dict(self) -> dict[str, Any]:
        """The last maps, and what they are maps of."""
        return {"maps": self._last_maps, "maps_of": self._last_maps_of}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the last maps."""
        self._last_maps, self._last_maps_of = state_dict["maps"], state_dict["maps_of"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Check that there is something to explain.

        Raises:
            ConfigError: If the task is another one, or its windows' sampling rate is not known.
        """
        if stage not in (TrainerFn.FITTING, TrainerFn.VALIDATING):
            return
        network = getattr(pl_module, "network", None)
        if not isinstance(network, XECGArch):
            raise ConfigError(
                "RelevanceLogger explains tasks with the two-branch network, such as "
                f"xecg.tasks.AFClassifier; found {type(pl_module).__name__}. "
                "Remove it from trainer.callbacks"
            )
        if not hasattr(getattr(trainer, "datamodule", None), "sampling_rate"):
            raise ConfigError(
                "RelevanceLogger needs a data module with `sampling_rate`, such as "
                "xecg.data.AFData; give the trainer one instead of loaders"
            )
        DeepTaylor(network, self.rules)  # refuses unknown rules

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Draw the probe, so that data that does not fit is refused before an epoch is lost."""
        if trainer.val_dataloaders is not None:
            self._draw_probe(trainer)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain the probe and log what is found."""
        if trainer.sanity_checking or not _due(trainer, self.every_n_epochs):
            return
        with isolate_rng():
            probe = self._probe or self._draw_probe(trainer)
            branches = self._explain(trainer, pl_module, probe)
            scalars = relevance_scalars(branches, probe.classes)
            # The processes agree already; synchronised, they may not be suspected of differing.
            pl_module.log_dict(self._named(scalars), sync_dist=True)
            if _wandb_runs(trainer):
                self._log_media(trainer, histograms(probe, branches))
                self._to_be_shown = branches
                if _due(trainer, self.show_every_n_epochs):
                    self._show(trainer, probe)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Show the windows as they are in the end, if that is not done."""
        if self._probe is not None and self._to_be_shown:
            with isolate_rng():
                self._show(trainer, self._probe)

    def _draw_probe(self, trainer: Trainer) -> Probe:
        loaders = trainer.val_dataloaders
        (loader,) = loaders if isinstance(loaders, list) and len(loaders) == 1 else (loaders,)
        dataset = cast(ValidationWindows, getattr(loader, "dataset", loader))
        sampling_rate = trainer.datamodule.sampling_rate  # type: ignore[attr-defined]
        self._probe = take_probe(dataset, self.n_windows, sampling_rate, self.seed)
        self._picture = None
        maps_of = f"{self.rules} {self._probe.digest()}"
        if self._last_maps and self._last_maps_of != maps_of:
            rank_zero_warn(
                "the checkpoint's relevance maps are of other validation windows or rules; "
                f"{self.name}/*/*/map_correlation starts anew"
            )
            self._last_maps = {}
        self._last_maps_of = maps_of
        return self._probe

    def _explain(
        self, trainer: Trainer, pl_module: LightningModule, probe: Probe
    ) -> dict[str, BranchRelevance]:
        network = cast(XECGArch, pl_module.network)
        deep_taylor = DeepTaylor(network, self.rules)
        explained = explain_probe(trainer, network, deep_taylor, probe.signals)
        branches = {
            name: measure_branch(probe, logits, maps.squeeze(1), self._last_maps.get(name))
            for name, (logits, maps) in explained.items()
        }
        self._last_maps = {name: memorable(branch) for name, branch in branches.items()}
        return branches

    def _show(self, trainer: Trainer, probe: Probe) -> None:
        shown = {"windows": table(probe, self._to_be_shown)}
        if self.n_pictures and drawable(self._to_be_shown):
            if self._picture is None:
                rows = probe.of_both_classes(self.n_pictures)
                self._picture = RelevancePicture(probe, rows, list(self._to_be_shown))
            shown["ecgs"] = self._picture.image(self._to_be_shown)
        self._log_media(trainer, shown)
        self._to_be_shown = {}

    def _log_media(self, trainer: Trainer, media: Mapping[str, Any]) -> None:
        for run in _wandb_runs(trainer):
            run.log(self._named(media) | {"trainer/global_step": trainer.global_step})

    def _named(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {f"{self.name}/{key}": value for key, value in values.items()}


def _due(trainer: Trainer, every_n_epochs: int) -> bool:
    """Whether it is an epoch's turn; outside a fit there is one epoch alone."""
    return trainer.state.fn != TrainerFn.FITTING or trainer.current_epoch % every_n_epochs == 0


def _wandb_runs(trainer: Trainer) -> list[Any]:
    """The runs to log to; none in all processes but the first."""
    loggers = trainer.loggers if trainer.is_global_zero else []
    return [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]


def _at_least(least: int, number: int, name: str) -> int:
    if number < least:
        raise ConfigError(f"{name} must be at least {least}; found {number}")
    return number

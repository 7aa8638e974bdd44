"""Watching where a network looks while it trains."""

from collections.abc import Mapping
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor

from xecg.callbacks import wandb_media
from xecg.callbacks.probe import Probe, ValidationWindows, take_probe
from xecg.callbacks.probe_relevance import explain_probe
from xecg.callbacks.relevance_measures import (
    BranchRelevance,
    measure_branch,
    memorable,
    relevance_scalars,
)
from xecg.callbacks.relevance_picture import RelevancePicture
from xecg.errors import ConfigError
from xecg.explain.deep_taylor import DeepTaylor, RuleSet
from xecg.networks.xecgarch import XECGArch


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
                self._log_media(trainer, wandb_media.histograms(probe, branches))
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
        shown = {"windows": wandb_media.table(probe, self._to_be_shown)}
        if self.n_pictures and wandb_media.drawable(self._to_be_shown):
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

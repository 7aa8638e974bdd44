"""Checkpoints of a run: the best epoch to be tested, the last one to go on from."""

import shutil
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor

_PATHS = ("best_model_path", "kth_best_model_path", "last_model_path")


class RunCheckpoint(ModelCheckpoint):
    """``ModelCheckpoint`` from whose last checkpoint a run goes on as if it had never stopped.

    The last checkpoint (``save_last``) is written after every epoch, not only after those in which
    the best one is. It holds the random state, which dropout draws from. A run that goes on in
    another folder takes the best checkpoint along, which its epochs still have to beat.
    """

    _resumed: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What ``ModelCheckpoint`` remembers, and the random state."""
        return super().state_dict() | {"random_state": _random_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state until it is known in which folder it was found."""
        self._resumed = state_dict

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up what the run that goes on knew, even if no epoch is left and only its test is."""
        super().on_fit_start(trainer, pl_module)
        if self._resumed is not None:
            self._take_along_the_best(trainer, self._resumed)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up the random state, after all that is done before the first step."""
        super().on_train_start(trainer, pl_module)
        if self._resumed is not None:
            _set_random_state(self._resumed["random_state"])
            self._resumed = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the best checkpoint if it is this epoch, and the last one in any case."""
        super().on_train_epoch_end(trainer, pl_module)
        if not self._should_skip_saving_checkpoint(trainer):  # of this epoch nothing is written yet
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Say how a fit goes on that is stopped by a signal or an error."""
        super().on_exception(trainer, pl_module, exception)
        if trainer.state.fn == TrainerFn.FITTING and Path(self.last_model_path).is_file():
            rank_zero_info(
                f"To go on after the last whole epoch: --ckpt_path {self.last_model_path}"
            )

    def _take_along_the_best(self, trainer: Trainer, state: dict[str, Any]) -> None:
        found, here = Path(str(trainer.ckpt_path)).parent, Path(str(self.dirpath))
        best = {Path(path).name: score for path, score in state["best_k_models"].items()}
        missing = [name for name in best if not (found / name).is_file()]
        if trainer.strategy.broadcast(missing):
            rank_zero_warn(
                f"{', '.join(missing)} should lie beside {trainer.ckpt_path} but does not: the "
                "best of the epochs to come will count as the best"
            )
            return
        if trainer.is_global_zero and found.resolve() != here.resolve():
            here.mkdir(parents=True, exist_ok=True)
            for name in best:
                shutil.copyfile(found / name, here / name)
        trainer.strategy.barrier()
        models = {str(here / name): score for name, score in best.items()}
        moved = {key: state[key] and str(here / Path(state[key]).name) for key in _PATHS}
        super().load_state_dict(state | moved | {"best_k_models": models, "dirpath": self.dirpath})


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state()} if torch.cuda.is_available() else state


def _set_random_state(state: dict[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"].cpu())
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())

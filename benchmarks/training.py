"""Training by `xecg fit` beside a bare PyTorch loop, and beside PyTorch's own layers.

    python benchmarks/training.py [--json FILE]

Fine-tuning of both branches on the embedded synthetic ECGs, with augmentation, loggers, callbacks
and checkpoints as in configs/finetune_frozen0.yaml, validation left out of the measured time. The
bare loop trains a copy of the same network on tensors in memory, without augmentation; its epochs
take turns with those of the fit. About 4 minutes on two idle cores.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from fitting import WINDOWS, timed_fit
from side_by_side import REPEATS, Row, alternate, clock, medians, run_alone
from torch import Tensor, nn

from xecg.networks.branch import ConvBlock

BATCH = 64


def measure() -> list[Row]:
    return [against_bare_loop(), against_plain_layers()]


def against_bare_loop() -> Row:
    bare = BareLoop()
    epochs = timed_fit(n_epochs=REPEATS + 1, between=bare.epoch)
    seconds = medians({"fit": epochs.training[1:], "bare loop": bare.seconds[1:]})
    return Row(
        what="`xecg fit`, windows a second in training, both branches",
        against="the same network in a bare loop on tensors in memory",
        value=seconds["bare loop"] / seconds["fit"],
        goal=0.95,
        better="at least",
        measured=_rates(seconds),
    )


class BareLoop:
    """Epochs of training with nothing around it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.step: Callable[[Tensor, Tensor], None] | None = None

    def epoch(self, trainer, task) -> None:
        if self.step is None:
            self.step = self._new_step(task)
            batch = trainer.datamodule.train_set.__getitems__(range(WINDOWS))
            self.batches = list(
                zip(batch.signal.split(BATCH), batch.target.split(BATCH), strict=True)
            )
        start = clock()
        for signal, target in self.batches:
            self.step(signal, target)
        self.seconds.append(clock() - start)

    def _new_step(self, task) -> Callable[[Tensor, Tensor], None]:
        network = copy.deepcopy(task.network).train()
        optimizer = torch.optim.AdamW(network.parameters())

        def step(signal: Tensor, target: Tensor) -> None:
            loss = sum(F.cross_entropy(z, target) for z in network(signal).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step


def against_plain_layers() -> Row:
    def plain() -> float:
        with plain_layers():
            return timed_fit(n_epochs=2).training[1]

    seconds = medians(
        alternate({"xecg's layers": lambda: timed_fit(n_epochs=2).training[1], "PyTorch's": plain})
    )
    return Row(
        what="the same fit, windows a second",
        against="the same blocks of `torch.nn`'s layers",
        value=seconds["PyTorch's"] / seconds["xecg's layers"],
        goal=1.2,
        better="at least",
        measured=_rates(seconds),
    )


@contextmanager
def plain_layers() -> Iterator[None]:
    """Networks that are built meanwhile are of PyTorch's own layers, each run by itself."""
    with (
        patch.multiple("xecg.networks.branch", Conv1d=nn.Conv1d, BatchNorm1d=nn.BatchNorm1d),
        patch.object(ConvBlock, "forward", nn.Sequential.forward),
    ):
        yield


def _rates(seconds: dict[str, float]) -> dict[str, str]:
    return {name: f"{WINDOWS / value:.0f} windows/s" for name, value in seconds.items()}


if __name__ == "__main__":
    run_alone(measure, __doc__)

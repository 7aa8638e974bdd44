"""Training by `xecg fit` beside a bare PyTorch loop, and beside other settings than it chooses.

    python benchmarks/training.py [--json FILE]

Fine-tuning of both branches on the embedded synthetic ECGs, with augmentation, loggers, callbacks
and checkpoints as in configs/finetune_frozen0.yaml, validation left out of the measured time. The
bare loop trains a copy of the same network in the same precision on tensors in memory, without
augmentation; its epochs take turns with those of the fit. "float32 as is" is PyTorch's own layers
in float32. About 4 minutes on two idle cores; the ECGs are prepared in ./stores.
"""

import copy
import tempfile
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
import torch.nn.functional as F
from fitting import CONFIG, WINDOWS, fused_f1, timed_fit
from side_by_side import REPEATS, Row, alternate, clock, medians, run_alone
from torch import Tensor, nn
from xecg.lightning_cli import run
from xecg.precision import default_precision

from xecg.metrics.bootstrap import Interval
from xecg.networks.branch import ConvBlock

BATCH = 64
AS_IS = ("--trainer.precision", "32-true")


def measure() -> list[Row]:
    return [against_bare_loop(), *against_float32()]


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
        bfloat16 = default_precision()[0] == "bf16-mixed"

        def step(signal: Tensor, target: Tensor) -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                loss = sum(F.cross_entropy(z, target) for z in network(signal).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        return step


def against_float32() -> list[Row]:
    def best() -> float:
        return timed_fit(n_epochs=2).training[1]

    def as_is() -> float:
        with plain_layers():
            return timed_fit(*AS_IS, n_epochs=2).training[1]

    seconds = medians(alternate({"chosen": best, "float32 as is": as_is}))
    speed = Row(
        what="the same fit with the settings it chooses",
        against="float32 as is",
        value=seconds["float32 as is"] / seconds["chosen"],
        goal=1.8,
        better="at least",
        measured=_rates(seconds),
    )
    return [speed, same_result()]


def same_result() -> Row:
    """F1 of the fused prediction on the synthetic test persons after eight epochs of either."""
    chosen = tested()
    with plain_layers():
        other = tested(*AS_IS)
    return Row(
        what="test F1 (fused) with the settings it chooses, distance to",
        against="float32 as is; the goal is half of that one's 95 % interval",
        value=abs(chosen.value - other.value),
        goal=(other.high - other.low) / 2,
        better="at most",
        measured={"chosen": str(chosen), "float32 as is": str(other)},
        repeats=1,
    )


def tested(*flags: str) -> Interval:
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["fit", "--config", str(CONFIG), "--run_folder", f"{folder}/run"]
        arguments += ["--trainer.callbacks", "[]", "--trainer.enable_progress_bar", "false"]
        run([*arguments, *flags])
        return fused_f1(Path(folder) / "run")


@contextmanager
def plain_layers():
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

"""Freezing of the first blocks of branches while the rest is fine-tuned."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from xecg.errors import ConfigError, check_ranges

FrozenLayers = int | dict[str, int]  # for all branches, or by branch
Schedule = Callable[[int, str, int], int]  # (epoch, branch, its number of blocks) -> frozen depth
_UNLIMITED = 1000  # epochs that are checked of a Trainer without an end


@dataclass(frozen=True)
class Progression:
    """Schedule of a depth that moves by some blocks every few epochs, to none or all blocks.

    Raises ConfigError if the settings contradict each other.

    Args:
        start: Frozen depth in epoch 0, for all branches or by branch (a branch that is not named
            is never frozen).
        every_n_epochs: Number of epochs between two changes.
        change: Number of blocks added to the depth at each change; negative unfreezes.
    """

    start: FrozenLayers
    every_n_epochs: int = 1
    change: int = -1

    def __post_init__(self) -> None:
        check_ranges(every_n_epochs=(self.every_n_epochs, 1))
        if self.change == 0:
            raise ConfigError("change must not be 0: for one depth throughout, set frozen_layers")

    def __call__(self, epoch: int, branch: str, n_blocks: int) -> int:
        """Returns the frozen depth of a branch in an epoch."""
        start = self.start.get(branch) if isinstance(self.start, dict) else self.start
        if start is None:
            return 0
        depth = start + self.change * (epoch // self.every_n_epochs)
        return max(depth, 0) if self.change < 0 else min(depth, n_blocks)


class LayerFreezing(Callback):
    """Freezes the first blocks of each branch, counted from the input.

    A frozen block gets no gradient and normalises by its batch statistics, which it keeps: its
    parameters and buffers stay bit-identical. The task has ``branches``, a mapping of names to
    modules with ``blocks``. Optimizers are never touched: give them all parameters; those without
    a gradient are neither moved nor decayed. On several processes, a depth that changes needs
    ``ddp_find_unused_parameters_true``, because ``DistributedDataParallel`` waits for the gradient
    of every parameter that was trainable when it was set up.

    Args:
        frozen_layers: Number of blocks to freeze throughout, for all branches or by branch (a
            branch that is not named is not frozen). Nothing is frozen without either argument.
        schedule: Instead, a depth that moves by some blocks every few epochs, or a function of
            epoch, branch and number of blocks, by class path.
        allow_random: Freeze blocks from the first epoch on in a branch that has no pre-trained
            weights too.

    Raises:
        ConfigError: If both are given, or the schedule contradicts itself.
    """

    def __init__(
        self,
        frozen_layers: FrozenLayers | None = None,
        schedule: Progression | Schedule | None = None,
        allow_random: bool = False,
    ) -> None:
        super().__init__()
        if frozen_layers is not None and schedule is not None:
            raise ConfigError(
                "frozen_layers and schedule exclude each other, one must be null; "
                f"found frozen_layers={frozen_layers}, schedule={schedule}"
            )
        depth = schedule.start if isinstance(schedule, Progression) else frozen_layers or 0
        self._by_branch = depth if isinstance(depth, dict) else {}

        def constant(epoch: int, branch: str, n_blocks: int) -> int:  # noqa: ARG001
            return depth.get(branch, 0) if isinstance(depth, dict) else depth

        self.schedule: Schedule = constant if schedule is None else schedule
        self.allow_random, self._constant = allow_random, True
        self._n_blocks: dict[str, int] = {}

    def depth_at(self, epoch: int) -> dict[str, int]:
        """Returns the number of frozen blocks by branch; ConfigError if that is impossible."""
        depths = {}
        for name, n in self._n_blocks.items():
            depths[name] = depth = self.schedule(epoch, name, n)
            if not 0 <= depth <= n:
                raise ConfigError(
                    f"frozen layers in epoch {epoch}: depth must be from 0 (none) to {n} (all "
                    f"blocks of branch {name}); found {depth}"
                )
        return depths

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Raises ConfigError on unknown branches, impossible depths and frozen random blocks."""
        if stage != "fit":
            return
        branches: Any = getattr(pl_module, "branches", None)
        if not branches:
            found = f"found {type(pl_module).__name__} without"
            raise ConfigError(f"LayerFreezing needs a task with `branches`, by name; {found}")
        self._n_blocks = {name: len(branch.blocks) for name, branch in branches.items()}
        for name in self._by_branch:
            if name not in branches:
                known = ", ".join(branches)
                raise ConfigError(f"frozen layers: branch must be one of {known}; found {name}")
        epochs = _UNLIMITED if trainer.max_epochs in (None, -1) else trainer.max_epochs
        first, *others = [self.depth_at(epoch) for epoch in range(max(epochs or 0, 1))]
        self._constant = all(depths == first for depths in others)
        pretrained = getattr(pl_module, "pretrained", None)
        random = [name for name, depth in first.items() if depth and name not in (pretrained or ())]
        if random and pretrained is not None and not self.allow_random:
            raise ConfigError(
                f"frozen layers: branch {' and '.join(random)} has no pre-trained weights, and its "
                "frozen blocks would stay random; give weights (model.pretrained), freeze none, "
                "or set freezing.allow_random"
            )
        if self._constant:  # before DistributedDataParallel lists whose gradients it waits for
            for block, frozen in self._scheduled(pl_module, epoch=0):
                block.requires_grad_(not frozen)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Raises ConfigError if the strategy would wait for gradients of frozen parameters."""
        unused = getattr(trainer.model, "find_unused_parameters", None)
        static = getattr(trainer.model, "static_graph", None)
        if not self._constant and trainer.world_size > 1 and not (unused and not static):
            raise ConfigError(
                "on several processes, a frozen depth that changes needs "
                "trainer.strategy=ddp_find_unused_parameters_true; found "
                f"find_unused_parameters={unused}, static_graph={static}"
            )

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freezes by the schedule of the epoch."""
        for block, frozen in self._scheduled(pl_module, trainer.current_epoch):
            block.requires_grad_(not frozen)
            block.train(not frozen)  # frozen: normalise by the running statistics, and leave them
            if frozen:
                for parameter in block.parameters():
                    parameter.grad = None  # a stale gradient would still move the parameter

    on_train_start = on_train_epoch_start  # a run resumed inside an epoch skips that epoch's start

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs the depth of each branch; at the end, which a resumed epoch has too."""
        for name, depth in self.depth_at(trainer.current_epoch).items():
            pl_module.log(f"frozen_layers/{name}", float(depth), sync_dist=True)

    def _scheduled(self, task: Any, epoch: int) -> Iterator[tuple[nn.Module, bool]]:
        for name, depth in self.depth_at(epoch).items():
            for number, block in enumerate(task.branches[name].blocks, start=1):
                yield block, number <= depth

"""Freezing the first blocks of branches while the rest is fine-tuned."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xecg.errors import ConfigError

FrozenLayers = int | dict[str, int]


@dataclass(frozen=True)
class Stage:
    """A frozen depth that holds from an epoch until the next stage.

    Args:
        epoch: First epoch of the stage, from 0.
        frozen_layers: Blocks frozen from the input on: one number for all branches, or a number
            per branch. A branch that is not named keeps its depth.
    """

    epoch: int
    frozen_layers: int | dict[str, int]


@dataclass(frozen=True)
class Progression:
    """A frozen depth that moves by ``change`` blocks every ``every_n_epochs`` epochs.

    Args:
        start: Frozen depth in epoch 0: one number for all branches, or a number per branch. A
            branch that is not named is never frozen.
        every_n_epochs: Epochs between two changes.
        change: Blocks added to the depth at each change; negative unfreezes.
        stop: Depth at which the change ends; by default 0 when unfreezing, all blocks when
            freezing.

    Raises:
        ConfigError: ``every_n_epochs`` is below 1, or ``change`` is 0.
    """

    start: int | dict[str, int]
    every_n_epochs: int = 1
    change: int = -1
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.every_n_epochs < 1:
            raise ConfigError(f"every_n_epochs must be at least 1; found {self.every_n_epochs}")
        if self.change == 0:
            raise ConfigError("change must not be 0: for one depth throughout, set frozen_layers")

    @property
    def constant(self) -> bool:
        """Whether the depth is the same in every epoch."""
        return False

    def depth_at(self, epoch: int, n_blocks: Mapping[str, int]) -> dict[str, int]:
        """Frozen depth of every branch in ``epoch``, for branches of ``n_blocks`` blocks."""
        moved = self.change * (epoch // self.every_n_epochs)
        nearest = max if self.change < 0 else min
        depths = dict.fromkeys(n_blocks, 0)
        for name, start in _per_branch(self.start, n_blocks).items():
            depths[name] = nearest(start + moved, self._stop(n_blocks[name]))
        return depths

    def check(self, n_blocks: Mapping[str, int]) -> None:
        """Check names and depths against the branches; raises ConfigError."""
        _check_depths("start", self.start, n_blocks)
        for name, start in _per_branch(self.start, n_blocks).items():
            stop = self._stop(n_blocks[name])
            _check_depths("stop", {name: stop}, n_blocks)
            if (stop - start) * self.change < 0:
                raise ConfigError(
                    f"stop must be reachable from start={start} of branch {name} by steps of "
                    f"{self.change}; found {stop}"
                )

    def _stop(self, n_blocks: int) -> int:
        if self.stop is not None:
            return self.stop
        return 0 if self.change < 0 else n_blocks


@dataclass(frozen=True)
class Stages:
    """Stages in the order of their epochs, the first from epoch 0 on.

    Args:
        stages: The stages.

    Raises:
        ConfigError: There is no stage, or the epochs do not rise from 0.
    """

    stages: Sequence[Stage]

    def __post_init__(self) -> None:
        epochs = [stage.epoch for stage in self.stages]
        if epochs[:1] != [0] or epochs != sorted(set(epochs)):
            raise ConfigError(f"the epochs of a schedule's stages must rise from 0; found {epochs}")

    @property
    def constant(self) -> bool:
        """Whether the depth is the same in every epoch."""
        return len(self.stages) == 1

    def depth_at(self, epoch: int, n_blocks: Mapping[str, int]) -> dict[str, int]:
        """Frozen depth of every branch in ``epoch``, for branches of ``n_blocks`` blocks."""
        depths = dict.fromkeys(n_blocks, 0)
        for stage in self.stages:
            if stage.epoch <= epoch:
                depths.update(_per_branch(stage.frozen_layers, n_blocks))
        return depths

    def check(self, n_blocks: Mapping[str, int]) -> None:
        """Check names and depths against the branches; raises ConfigError."""
        for stage in self.stages:
            where = "frozen_layers" if self.constant else f"frozen_layers of epoch {stage.epoch}"
            _check_depths(where, stage.frozen_layers, n_blocks)


class FreezingSchedule(Protocol):
    """What the callback asks of a schedule."""

    @property
    def constant(self) -> bool: ...  # noqa: D102
    def depth_at(self, epoch: int, n_blocks: Mapping[str, int]) -> dict[str, int]: ...  # noqa: D102
    def check(self, n_blocks: Mapping[str, int]) -> None: ...  # noqa: D102


def _per_branch(frozen_layers: FrozenLayers, names: Mapping[str, int]) -> dict[str, int]:
    if isinstance(frozen_layers, int):
        return dict.fromkeys(names, frozen_layers)
    return frozen_layers


def _check_depths(where: str, frozen_layers: FrozenLayers, n_blocks: Mapping[str, int]) -> None:
    for name, depth in _per_branch(frozen_layers, n_blocks).items():
        if name not in n_blocks:
            raise ConfigError(f"{where}: branch must be one of {', '.join(n_blocks)}; found {name}")
        if not 0 <= depth <= n_blocks[name]:
            raise ConfigError(
                f"{where}: depth must be from 0 (none) to {n_blocks[name]} (all blocks of branch "
                f"{name}); found {depth}"
            )


class _Branch(Protocol):
    """A branch, as far as freezing is concerned."""

    @property
    def blocks(self) -> Iterable[nn.Module]:
        """Blocks from the input on."""


class LayerFreezing(Callback):
    """Freeze the first blocks of each branch, counted from the input.

    A frozen block gets no gradient, keeps its batch statistics and normalises by them, in training
    as in evaluation: its parameters and buffers stay bit-identical. The task offers its branches
    as ``branches``, a mapping of names to modules with ``blocks``. Optimizers are never touched:
    give them all parameters; those without a gradient are neither moved nor decayed.

    One depth throughout works with every strategy. A depth that changes needs, on several
    processes, a strategy that looks for unused parameters, because
    ``DistributedDataParallel`` waits for the gradient of every parameter that was trainable when
    it was set up: ``ddp_find_unused_parameters_true``.

    Args:
        frozen_layers: Blocks frozen throughout: one number for all branches, or a number per
            branch (a branch that is not named is not frozen). Nothing is frozen without either.
        schedule: Instead, a list of stages over epochs, or a depth that moves by some blocks every
            few epochs.

    Raises:
        ConfigError: Both are given, or the schedule contradicts itself.
    """

    def __init__(
        self,
        frozen_layers: int | dict[str, int] | None = None,
        schedule: list[Stage] | Progression | None = None,
    ) -> None:
        super().__init__()
        self._n_blocks: dict[str, int] = {}
        self.schedule: FreezingSchedule
        if schedule is None:
            self.schedule = Stages([Stage(0, frozen_layers or 0)])
        elif frozen_layers is None:
            self.schedule = schedule if isinstance(schedule, Progression) else Stages(schedule)
        else:
            raise ConfigError(
                "frozen_layers and schedule exclude each other, one must be null; "
                f"found frozen_layers={frozen_layers}, schedule={schedule}"
            )

    def depth_at(self, epoch: int) -> dict[str, int]:
        """Number of frozen blocks of each branch of the task in ``epoch``."""
        return self.schedule.depth_at(epoch, self._n_blocks)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Check the schedule against the branches.

        Raises:
            ConfigError: A branch is unknown or a depth impossible.
        """
        if stage != "fit":
            return
        branches = _branches(pl_module)
        self._n_blocks = {name: len(list(branch.blocks)) for name, branch in branches.items()}
        self.schedule.check(self._n_blocks)
        if self.schedule.constant:
            # Before DistributedDataParallel lists the parameters whose gradients it waits for.
            for block, frozen in self._scheduled(pl_module, epoch=0):
                block.requires_grad_(not frozen)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Check that the strategy bears a depth that changes.

        Raises:
            ConfigError: The strategy would wait for gradients of frozen parameters.
        """
        if self.schedule.constant or trainer.world_size == 1:
            return
        wrapped = trainer.model
        if not isinstance(wrapped, DistributedDataParallel):
            found = type(trainer.strategy).__name__
        elif wrapped.static_graph:
            found = "static_graph=True"
        elif not wrapped.find_unused_parameters:
            found = "find_unused_parameters=False"
        else:
            return
        raise ConfigError(
            "on several processes, a frozen depth that changes needs "
            f"trainer.strategy=ddp_find_unused_parameters_true; found {found}"
        )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze; a run resumed inside an epoch skips the start of that epoch."""
        self._apply(trainer, pl_module)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Freeze what the schedule says for the epoch."""
        self._apply(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the depth of each branch; at the end, which a resumed epoch has too."""
        for name, depth in self.depth_at(trainer.current_epoch).items():
            pl_module.log(f"frozen_layers/{name}", float(depth), sync_dist=True)

    def _scheduled(
        self, pl_module: LightningModule, epoch: int
    ) -> Iterator[tuple[nn.Module, bool]]:
        """Every block, and whether it is frozen in ``epoch``."""
        branches = _branches(pl_module)
        for name, depth in self.depth_at(epoch).items():
            for number, block in enumerate(branches[name].blocks, start=1):
                yield block, number <= depth

    def _apply(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for block, frozen in self._scheduled(pl_module, trainer.current_epoch):
            _set_frozen(block, frozen)


def _branches(pl_module: LightningModule) -> Mapping[str, _Branch]:
    branches = getattr(pl_module, "branches", None)
    if not isinstance(branches, nn.ModuleDict | Mapping) or not branches:
        raise ConfigError(
            "LayerFreezing needs a task with `branches`, a mapping of names to branches; "
            f"found {type(pl_module).__name__} without"
        )
    return cast(Mapping[str, _Branch], branches)


def _set_frozen(block: nn.Module, frozen: bool) -> None:
    block.requires_grad_(not frozen)
    block.train(not frozen)  # frozen: normalise by the running statistics, and leave them
    if frozen:
        for parameter in block.parameters():
            parameter.grad = None  # a stale gradient would still move and decay the parameter

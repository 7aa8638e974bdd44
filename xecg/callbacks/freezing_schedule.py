"""Which blocks are frozen in which epoch: data, read by a pure function of the epoch.

Nothing here remembers a state, so a run that is resumed anywhere freezes what the uninterrupted
run would have frozen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

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

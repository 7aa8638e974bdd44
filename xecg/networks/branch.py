"""A branch: eight blocks in a row, and the two that xECGArch is made of."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from types import MappingProxyType

from torch import Tensor, nn

from xecg.errors import NetworkError
from xecg.networks.blocks import BlockSpec, ConvBlock

N_BLOCKS = 8

# At 250 Hz: 147 samples (0.59 s), a step every 16 ms.
MORPHOLOGY = (
    BlockSpec(7, stride=2, width=0.5),
    BlockSpec(7, stride=2),
    *(BlockSpec(7) for _ in range(4)),
    *(BlockSpec(5) for _ in range(2)),
)
# At 250 Hz: 3007 samples (12.0 s), a step every 32 ms.
RHYTHM = (
    BlockSpec(15, stride=2, width=0.5),
    BlockSpec(9, stride=2),
    BlockSpec(9, stride=2),
    BlockSpec(9, dilation=2),
    BlockSpec(9, dilation=4),
    BlockSpec(9, dilation=8),
    BlockSpec(9, dilation=16),
    BlockSpec(9, dilation=16),
)
BRANCHES: Mapping[str, tuple[BlockSpec, ...]] = MappingProxyType(
    {"morphology": MORPHOLOGY, "rhythm": RHYTHM}
)


class Branch(nn.Module):
    """Eight blocks, ``block1`` next to the input, each a unit of the freezing schedule.

    Maps an ECG ``(batch, 1, time)`` to features ``(batch, channels, ceil(time / stride))``.

    Args:
        specs: Shape of each of the eight blocks, from the input on.
        channels: Width of the branch; a block has ``channels * spec.width`` channels.
        dropout: Share of features that each block drops in training. None by default: before a
            batch normalisation, dropout makes the variance in evaluation another than in training
            (Li et al. 2019), which showed here as a doubled error of RMSSD.

    Raises:
        NetworkError: If there are not eight specs, or a width comes out below one channel.
    """

    def __init__(
        self, specs: Sequence[BlockSpec], channels: int = 32, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if len(specs) != N_BLOCKS:
            raise NetworkError(f"a branch has {N_BLOCKS} blocks; found {len(specs)} specs")
        widths = [1, *(int(channels * spec.width) for spec in specs)]
        if min(widths) < 1:
            raise NetworkError(f"channels={channels} leaves a block without channels: {widths}")
        self.specs = tuple(specs)
        self.width = channels
        self.channels = widths[-1]
        for number, (spec, (ins, outs)) in enumerate(
            zip(specs, pairwise(widths), strict=True), start=1
        ):
            self.add_module(f"block{number}", ConvBlock(ins, outs, spec, dropout))

    @property
    def blocks(self) -> list[ConvBlock]:
        """The blocks from the input on."""
        return [block for block in self.children() if isinstance(block, ConvBlock)]

    @property
    def stride(self) -> int:
        """Samples of the input between two time steps of the features."""
        stride = 1
        for spec in self.specs:
            stride *= spec.stride
        return stride

    @property
    def receptive_field(self) -> int:
        """Samples of the input that one time step of the features depends on."""
        field, step = 1, 1
        for spec in self.specs:
            field += (spec.kernel_size - 1) * spec.dilation * step
            step *= spec.stride
        return field

    def receptive_field_s(self, sampling_rate: float) -> float:
        """Receptive field in seconds at ``sampling_rate`` Hz."""
        return self.receptive_field / sampling_rate

    def forward(self, x: Tensor) -> Tensor:
        """Features ``(batch, channels, steps)`` of an ECG ``(batch, 1, time)``."""
        for block in self.blocks:
            x = block(x)
        return x

    def activations(self, x: Tensor) -> list[Tensor]:
        """The ECG ``(batch, 1, time)`` and what each block makes of it; features come last."""
        activations = [x]
        for block in self.blocks:
            activations.append(block(activations[-1]))
        return activations


def build_branch(name: str, channels: int = 32, dropout: float = 0.0) -> Branch:
    """A new branch by name.

    Raises:
        NetworkError: If no branch has that name.
    """
    if name not in BRANCHES:
        raise NetworkError(f"branch must be one of {', '.join(BRANCHES)}; found {name!r}")
    return Branch(BRANCHES[name], channels, dropout)

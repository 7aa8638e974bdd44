"""The layers of a network in the order in which they compute: what a relevance rule applies to."""

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm

from xecg.errors import DataError, NetworkError
from xecg.networks.branch import BatchNorm1d, Conv1d

WEIGHTED = (nn.Conv1d, nn.Linear)
AVERAGES = (nn.AvgPool1d, nn.AdaptiveAvgPool1d)
IDENTITIES = (nn.Dropout, nn.Identity)  # in eval mode
OTHERS = (nn.BatchNorm1d, nn.ReLU, nn.MaxPool1d, nn.Flatten, Conv1d, BatchNorm1d)
LAYERS = (*WEIGHTED, *OTHERS, *AVERAGES, *IDENTITIES)


class Layer(NamedTuple):
    """A layer and its path in the network."""

    path: str
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.path} ({type(self.module).__name__})"


def frozen_copy(network: nn.Module) -> nn.Module:
    """Returns a copy in eval mode and float32, without gradients and hooks.

    Batch normalisation that processes share, or that has no weights, becomes a plain one.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    no_hooks: dict[int, Any] = {}  # they belong to others and may hold a whole trainer
    for module in network.modules():
        hooks = [value for name, value in vars(module).items() if "_hooks" in name]
        no_hooks |= {id(value): type(value)() for value in hooks if isinstance(value, dict)}
    copied = copy.deepcopy(network, no_hooks)
    for parent in list(copied.modules()):
        for name, norm in list(parent.named_children()):
            # The second is what Lightning leaves behind after a fit.
            shared = type(norm).__name__ in ("SyncBatchNorm", "_BatchNormXd")
            if shared or (isinstance(norm, nn.BatchNorm1d) and not norm.affine):
                setattr(parent, name, _plain(norm))
    return copied.eval().float().requires_grad_(False)


def _plain(norm: Any) -> nn.BatchNorm1d:
    settings = norm.num_features, norm.eps, norm.momentum, True, norm.track_running_stats
    plain, state = nn.BatchNorm1d(*settings), norm.state_dict()
    plain.load_state_dict(state, strict=norm.affine)
    return plain.to(next((tensor.device for tensor in state.values()), None))


def traced(network: nn.Module, x: Tensor) -> Any:
    """Returns the output for ``x``; :func:`layers_to` says which layers led to its tensors.

    Raises NetworkError if the network computes by anything but chains of ``LAYERS``, and DataError
    if it does not take such windows.
    """
    layers = {module: Layer(path or "network", module) for path, module in network.named_modules()}
    taken: list[tuple[Layer, ...]] = []

    def take(module: nn.Module, args: tuple[Any, ...]) -> None:
        layer = layers[module]
        if type(module) not in LAYERS:
            kinds = ", ".join(dict.fromkeys(kind.__name__ for kind in LAYERS))
            raise NetworkError(
                f"deep Taylor decomposition covers chains of {kinds}; found {layer}. Replace it, "
                "or explain the part without it"
            )
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is None:
            raise NetworkError(
                f"{layer} keeps no running statistics, so that a window's relevance would depend "
                "on its batch; set track_running_stats=True and train again"
            )
        taken.append(layers_to(args[0], f"the input of {layer}"))

    def give(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
        output.traced = ((*taken.pop(), layers[module]), output._version)

    start: Any = x
    start.traced = ((), x._version)
    leaves = [module for module in layers if next(module.children(), None) is None]
    handles = [leaf.register_forward_pre_hook(take) for leaf in leaves]
    handles += [leaf.register_forward_hook(give) for leaf in leaves]
    try:
        with torch.no_grad():
            return network(x)
    except RuntimeError as error:
        found = f"{tuple(x.shape[1:])} (channels, time)"
        raise DataError(f"the network takes no windows of {found}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()


def layers_to(tensor: Any, where: str) -> tuple[Layer, ...]:
    """Returns the layers from the input to a tensor of a traced pass.

    Raises NetworkError if no layer returned the tensor, or it was changed in place since.
    """
    layers: tuple[Layer, ...]
    layers, version = getattr(tensor, "traced", ((), None))
    if version is None or version != tensor._version:  # the version counts changes
        raise NetworkError(
            f"{where} is not the output of a layer: a functional call or a residual is before it. "
            "Deep Taylor decomposition needs a chain of modules"
        )
    return layers


def chain_of(layers: tuple[Layer, ...], *, merge: bool) -> list[Layer]:
    """Returns copies of the layers that compute something, batch normalisation merged if asked.

    Raises NetworkError if the layer before a batch normalisation cannot take it.
    """
    chain = [Layer(p, copy.deepcopy(m)) for p, m in layers if not isinstance(m, IDENTITIES)]
    for _, module in chain:
        if isinstance(module, nn.ReLU):
            module.inplace = False  # what it would overwrite is needed for its gradient
    norms = [i for i, layer in enumerate(chain) if isinstance(layer.module, nn.BatchNorm1d)]
    if not merge or not norms:
        return chain
    for index in norms:
        norm: Any = chain[index].module
        before: Any = chain[index - 1].module if index else None
        if not isinstance(before, WEIGHTED) or len(before.weight) != norm.num_features:
            place = chain[index - 1] if index else "the input"
            raise NetworkError(
                f"{chain[index]} follows {place}; it can be merged only into a Conv1d or Linear "
                "right before it. Move it there, or explain with rules='innvestigate'"
            )
    # zennit merges in the order of registration, which here is the order of computation.
    merged = SequentialMergeBatchNorm().apply(nn.Sequential(*(layer.module for layer in chain)))
    assert len(merged) == len(norms)
    return [layer for i, layer in enumerate(chain) if i not in norms]

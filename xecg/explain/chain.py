"""The layers between a network's input and each of its outputs, in the order they compute.

The order is read off a forward pass, not off the order of registration: a layer may take the
network's input or what another layer gave, nothing else. Whatever no layer computed (a functional
ReLU, a residual) shows by that, and is refused.
"""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from xecg.errors import DataError, NetworkError
from xecg.networks.layers import BatchNorm1d, Conv1d

WEIGHTED = (nn.Conv1d, nn.Linear)
IDENTITIES = (nn.Dropout, nn.Identity)  # in eval mode
LAYERS = (
    *WEIGHTED,
    nn.BatchNorm1d,
    nn.ReLU,
    nn.MaxPool1d,
    nn.AvgPool1d,
    nn.AdaptiveAvgPool1d,
    nn.Flatten,
    *IDENTITIES,
    Conv1d,
    BatchNorm1d,
)
_AFTER_SYNC = "_BatchNormXd"  # what Lightning leaves after a fit with sync_batchnorm


class Layer(NamedTuple):
    """A layer and its path in the network."""

    path: str
    module: nn.Module


class Chain(NamedTuple):
    """Layers from the input to an output, without those that do nothing, and a value of it."""

    layers: list[Layer]
    output: Tensor


def copy_chains(network: nn.Module, x: Tensor) -> Chain | dict[str, Chain]:
    """Copied layers that compute what ``network`` computes in eval mode and float32.

    Args:
        network: Returns one tensor, or a mapping of names to tensors. It is left as it is.
        x: A batch ``(batch, channels, time)`` in float32 that the copy is run on.

    Returns:
        The chain to the output on ``x``, or one for each name.

    Raises:
        NetworkError: If the network computes anything but chains of ``LAYERS``; it is named.
        DataError: If the network does not take ``x``.
    """
    trace = _Trace(_copy(network))
    outputs = trace.run(x)
    if isinstance(outputs, Mapping):
        return {name: trace.chain_to(output) for name, output in outputs.items()}
    return trace.chain_to(outputs)


def _copy(network: nn.Module) -> nn.Module:
    """A copy to explain, without hooks: those belong to others, and may hold a whole trainer."""
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    no_hooks = {
        id(value): type(value)()
        for module in network.modules()
        for name, value in vars(module).items()
        if "_hooks" in name and isinstance(value, dict)
    }
    copied = copy.deepcopy(network, no_hooks)
    _separate_batch_norms(copied)
    return copied.eval().float().requires_grad_(False)


def _separate_batch_norms(network: nn.Module) -> None:
    """Replace batch normalisation that processes share; in eval mode it is the plain one."""
    plain: dict[nn.Module, nn.Module] = {}
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            if isinstance(module, nn.SyncBatchNorm) or type(module).__name__ == _AFTER_SYNC:
                setattr(parent, name, plain.setdefault(module, _plain_batch_norm(module)))


def _plain_batch_norm(norm: Any) -> BatchNorm1d:
    state = norm.state_dict()
    device = next((tensor.device for tensor in state.values()), None)
    settings = norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats
    plain = BatchNorm1d(*settings, device=device)
    plain.load_state_dict(state)
    return plain


class _Known(NamedTuple):
    tensor: Tensor
    version: int  # counts changes in place
    layers: tuple[Layer, ...]


class _Trace:
    """Watches a forward pass and keeps, for each tensor, the layers that led to it."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._paths = {module: path or "network" for path, module in network.named_modules()}
        self._known: dict[int, _Known] = {}
        self._taken: tuple[Layer, ...] = ()

    def run(self, x: Tensor) -> Any:
        """The network's output on ``x``, watched."""
        self._know(x, ())
        handles = []
        for module in self._paths:
            if next(module.children(), None) is None:
                handles.append(module.register_forward_pre_hook(self._take))
                handles.append(module.register_forward_hook(self._give))
            else:
                handles.append(module.register_forward_hook(self._check))
        try:
            with torch.no_grad():
                return self._network(x)
        except RuntimeError as error:
            raise DataError(
                f"the network takes no windows of {tuple(x.shape[1:])} (channels, time): {error}"
            ) from error
        finally:
            for handle in handles:
                handle.remove()

    def chain_to(self, output: Any) -> Chain:
        """The layers to an output of the network; one that computes twice stands there twice."""
        if not self._is_known(output):
            self._refuse(self._network)
        layers: dict[nn.Module, Layer] = {}
        for path, module in self._known[id(output)].layers:
            if not isinstance(module, IDENTITIES):
                own = copy.deepcopy(module) if module in layers else module
                if isinstance(own, nn.ReLU):
                    own.inplace = False  # its input is the output that a rule is attached to
                layers[own] = Layer(path, own)
        return Chain(list(layers.values()), output)

    def _take(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        if type(module) not in LAYERS:
            kinds = ", ".join(dict.fromkeys(kind.__name__ for kind in LAYERS))
            raise NetworkError(
                f"deep Taylor decomposition covers chains of {kinds}; "
                f"found {self._name(module)}. Replace it, or explain the part without it"
            )
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is None:
            raise NetworkError(
                f"{self._name(module)} keeps no running statistics, so that a window's relevance "
                f"would depend on its batch; set track_running_stats=True and train again"
            )
        if len(args) != 1 or not self._is_known(args[0]):
            raise NetworkError(
                f"the input of {self._name(module)} is neither the network's input nor what "
                f"a layer gave: a functional call or a residual stands before it. Deep Taylor "
                f"decomposition needs a chain of modules"
            )
        self._taken = self._known[id(args[0])].layers

    def _give(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG002
        self._know(output, (*self._taken, Layer(self._paths[module], module)))

    def _check(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG002
        outputs = output.values() if isinstance(output, Mapping) else [output]
        if not all(self._is_known(tensor) for tensor in outputs):
            self._refuse(module)

    def _refuse(self, module: nn.Module) -> NoReturn:
        raise NetworkError(
            f"{self._name(module)} returns what none of its layers gave: a functional call or a "
            f"residual stands at its end. Deep Taylor decomposition needs a chain of modules"
        )

    def _know(self, tensor: Tensor, layers: tuple[Layer, ...]) -> None:
        self._known[id(tensor)] = _Known(tensor, tensor._version, layers)

    def _is_known(self, tensor: Any) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known.tensor is tensor and known.version == tensor._version

    def _name(self, module: nn.Module) -> str:
        return f"{self._paths[module]} ({type(module).__name__})"

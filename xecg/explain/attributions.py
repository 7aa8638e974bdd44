"""Attribution methods by name, and one way to explain each branch of a network by any of them."""

from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from xecg.errors import ConfigError, NetworkError
from xecg.explain.chain import frozen_copy
from xecg.explain.deep_taylor import DeepTaylor, Explanation
from xecg.networks.pretraining import PWaveNetwork, RRNetwork
from xecg.plugins import Registry

Attribution = Callable[[Tensor, Tensor], Any]

ATTRIBUTIONS: Registry[Callable[[nn.Module], Attribution]] = Registry("attributions")
"""Each is made of a network in eval mode that maps ``(batch, 1, time)`` to logits
``(batch, classes)``, and called with windows and the explained class of each, ``(batch,)``. It
returns the attribution of every sample, of the shape of the windows; its sign is dropped."""

_POINTS = 20  # on the path of integrated gradients; Gauss-Legendre needs few
_CPU_BATCH = 32  # windows: what the layers keep of them stays in the cache
_BATCH = 256


class Gradient:
    """Gradient of the explained logit (Simonyan et al. 2014, arXiv 1312.6034).

    Args:
        network: Explained network.
        times_input: Whether the gradient is multiplied by the window.
    """

    def __init__(self, network: nn.Module, times_input: bool = False) -> None:
        self.network, self.times_input = network, times_input

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Slope of the explained logits, of the shape of ``x``."""
        x = x.detach().clone().requires_grad_()
        logits = self.network(x).gather(1, target.unsqueeze(1))
        (slope,) = torch.autograd.grad(logits.sum(), x)
        return x.detach() * slope if self.times_input else slope


class IntegratedGradients:
    """Integrated gradients of the explained logit (Sundararajan et al. 2017, arXiv 1703.01365).

    The path starts at zero: in a min-max scaled window, the flat line at its lowest value.

    Raises:
        ConfigError: captum, which is optional, is not installed.
    """

    def __init__(self, network: nn.Module) -> None:
        if find_spec("captum") is None:
            raise ConfigError(
                "integrated_gradients needs captum, which is not installed: "
                "pip install 'xecg-lightning[compare]', or choose another attribution"
            )
        from captum.attr import IntegratedGradients as OfCaptum

        self._explainer = OfCaptum(network, multiply_by_inputs=True)

    def __call__(self, x: Tensor, target: Tensor) -> Tensor:
        """Attributions that sum to the logit minus that of the flat line."""
        attributions: Tensor = self._explainer.attribute(
            x.clone(), baselines=0.0, target=target, n_steps=_POINTS, method="gausslegendre"
        )
        return attributions.to(x.dtype)


ATTRIBUTIONS.register("innvestigate", DeepTaylor)
ATTRIBUTIONS.register("innvestigate_bounded", partial(DeepTaylor, bounded=True))
ATTRIBUTIONS.register("zbox", partial(DeepTaylor, rules="zbox"))
ATTRIBUTIONS.register("gradient", Gradient)
ATTRIBUTIONS.register("input_x_gradient", partial(Gradient, times_input=True))
ATTRIBUTIONS.register("integrated_gradients", IntegratedGradients)


class BranchExplainer:
    """Explains the decision of each branch of a network as it is when this object is made.

    A copy in eval mode and float32 is explained; the network itself is never run or changed.

    Args:
        network: Has ``branches``; see :func:`branch_outputs`.
        attribution: Name in ``ATTRIBUTIONS``, or the class path of another method.

    Raises:
        ConfigError: If no attribution method has that name, or it cannot run here.
        NetworkError: If it cannot be told what to explain.
    """

    def __init__(self, network: nn.Module, attribution: str = "innvestigate") -> None:
        method = ATTRIBUTIONS[attribution]
        self.attribution = attribution
        with torch.inference_mode(False), torch.no_grad():
            self._outputs = branch_outputs(frozen_copy(network))
            self._methods = {name: method(output) for name, output in self._outputs.items()}

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches."""
        return tuple(self._outputs)

    def explain(self, x: Tensor) -> dict[str, Explanation]:
        """Logits of each branch, and the relevance of the class that it predicts.

        Args:
            x: Windows ``(n, 1, time)``, scaled as in training, on the network's device.

        Returns:
            By branch: logits ``(n, classes)`` and relevance ``(n, 1, time)``, never negative.

        Raises:
            DataError: If the method does not take such windows.
            NetworkError: If the method does not cover the network.
        """
        size = _CPU_BATCH if x.device.type == "cpu" else _BATCH
        with torch.inference_mode(False), torch.autocast(x.device.type, enabled=False):
            batches = torch.split(x.detach().to(torch.float32, copy=True), size)
            return {
                name: Explanation(*(torch.cat(part) for part in zip(*found, strict=True)))
                for name in self.branches
                if (found := list(self._explanations(name, batches)))
            }

    def _explanations(self, name: str, batches: tuple[Tensor, ...]) -> Iterator[Explanation]:
        method: Any = self._methods[name]
        for x in batches:
            if isinstance(method, DeepTaylor):  # has the logits anyway
                yield method.explain(x)  # type: ignore[misc]
                continue
            with torch.no_grad():
                logits = self._outputs[name](x)
            with torch.enable_grad():
                relevance = method(x, logits.argmax(dim=1)).detach().abs()
            if relevance.shape != x.shape:
                raise NetworkError(
                    f"attribution {self.attribution}: expected relevance of shape "
                    f"{tuple(x.shape)}, found {tuple(relevance.shape)}"
                )
            yield Explanation(logits, relevance)


def branch_outputs(network: nn.Module) -> dict[str, nn.Module]:
    """Returns by branch the modules from the input to the logits that are explained.

    - A classification with a head a branch (``heads``): the branch's logits.
    - Pre-training on P waves: the mean over time of :math:`\\max(0, z(t))`, so that relevance says
      what the detected P waves rest on; one output.
    - Pre-training on RR variability: the standardised log RMSSD :math:`z` as two logits,
      :math:`(-z, z)`: the prediction is "varies less, or more, than the average window".
    - Any other network: its logits, or its logits by branch.

    Args:
        network: Has ``branches``, a mapping of names to modules.

    Raises:
        NetworkError: If it has none.
    """
    branches: Any = getattr(network, "branches", None)
    if not branches:
        raise NetworkError(
            f"expected a network with `branches`, by name; found {type(network).__name__}"
        )
    if isinstance(network, PWaveNetwork):
        return {name: nn.Sequential(branch, _p_waves(network)) for name, branch in branches.items()}
    if isinstance(network, RRNetwork):
        return {name: nn.Sequential(branch, _rmssd(network)) for name, branch in branches.items()}
    if (heads := getattr(network, "heads", None)) is not None:
        return {name: nn.Sequential(branch, heads[name]) for name, branch in branches.items()}
    if len(branches) == 1:
        return dict.fromkeys(branches, network)
    return {name: _OneOutput(network, name) for name in branches}


class _OneOutput(nn.Module):
    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.network(x)[self.name]
        return logits


def _p_waves(network: PWaveNetwork) -> nn.Sequential:
    """Mean over time of the positive part of the P-wave logit, ``(batch, 1)``."""
    weight, bias = network.head.weight, network.head.conv.bias
    logit: Any = nn.Conv1d(weight.shape[1], 1, kernel_size=1).to(weight.device)
    logit.requires_grad_(False).weight.copy_(weight)
    logit.bias.copy_(bias)
    return nn.Sequential(logit, nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def _rmssd(network: RRNetwork) -> nn.Sequential:
    """Standardised log RMSSD z as logits (-z, z), ``(batch, 2)``."""
    *layers, last = network.head
    assert isinstance(last, nn.Linear)
    rmssd = network.measures.index("rmssd")
    both: Any = nn.Linear(last.in_features, 2).to(last.weight.device)
    both.requires_grad_(False).weight.copy_(torch.stack([-last.weight[rmssd], last.weight[rmssd]]))
    both.bias.copy_(torch.stack([-last.bias[rmssd], last.bias[rmssd]]))
    return nn.Sequential(*layers, both)

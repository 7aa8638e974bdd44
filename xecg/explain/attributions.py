"""Attribution methods by name, and one way to explain each branch of a network by any of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from xecg.errors import ConfigError, NetworkError
from xecg.explain.deep_taylor import DeepTaylor, Explanation, frozen_copy
from xecg.networks.xecgarch import PWaveNetwork, RRNetwork
from xecg.plugins import Registry

Attribution = Callable[[Tensor, Tensor], Any]

ATTRIBUTIONS: Registry[Callable[[nn.Module], Attribution]] = Registry("attributions")
"""Each is made of a network in eval mode, windows ``(batch, 1, time)`` to logits
``(batch, classes)``, and called with windows and explained classes ``(batch,)``. It returns the
attribution of every sample, of the shape of the windows; its sign is dropped."""

_CPU_BATCH = 32  # windows: what the layers keep of them stays in the cache
_BATCH = 256


def gradient(network: nn.Module, times_input: bool = False) -> Attribution:
    """Gradient of the explained logit (Simonyan et al. 2014, arXiv 1312.6034), times the input."""

    def attribution(x: Tensor, target: Tensor) -> Tensor:
        x = x.detach().clone().requires_grad_()
        logits = network(x).gather(1, target.unsqueeze(1))
        (slope,) = torch.autograd.grad(logits.sum(), x)
        return x.detach() * slope if times_input else slope

    return attribution


def integrated_gradients(network: nn.Module) -> Attribution:
    """Integrated gradients of the explained logit (Sundararajan et al. 2017, arXiv 1703.01365).

    They sum to the logit minus that of zero, a flat line. Raises ConfigError without captum.
    """
    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise ConfigError(
            "integrated_gradients needs captum, which is not installed: "
            "pip install 'xecg-lightning[compare]', or choose another attribution"
        ) from error
    path = {"baselines": 0.0, "n_steps": 20, "method": "gausslegendre"}  # which needs few points
    explainer = IntegratedGradients(network)
    return lambda x, target: explainer.attribute(x.clone(), target=target, **path).to(x.dtype)


ATTRIBUTIONS.register("innvestigate", DeepTaylor)
ATTRIBUTIONS.register("innvestigate_bounded", partial(DeepTaylor, bounded=True))
ATTRIBUTIONS.register("zbox", partial(DeepTaylor, rules="zbox"))
ATTRIBUTIONS.register("lrp_epsilon", partial(DeepTaylor, rules="zbox", epsilon_head=True))
ATTRIBUTIONS.register("gradient", gradient)
ATTRIBUTIONS.register("input_x_gradient", partial(gradient, times_input=True))
ATTRIBUTIONS.register("integrated_gradients", integrated_gradients)


class BranchExplainer:
    """Explains the decision of each branch of a network as it is when this object is made.

    ``attribution`` is a name in ``ATTRIBUTIONS``, or a class path; ``target`` is the class that is
    explained, by default what a branch predicts. A copy in eval mode and float32
    is explained. Raises ConfigError if the method is unknown or cannot run here, and NetworkError
    if the network has no branches (see :func:`branch_outputs`).
    """

    def __init__(
        self, network: nn.Module, attribution: str = "innvestigate", target: int | None = None
    ) -> None:
        self.attribution, method = attribution, ATTRIBUTIONS[attribution]
        self.target = target
        with torch.inference_mode(False), torch.no_grad():
            self._outputs = branch_outputs(frozen_copy(network))
            self._methods = {name: method(output) for name, output in self._outputs.items()}

    def explain(self, x: Tensor) -> dict[str, Explanation]:
        """Returns by branch the logits and the relevance of the explained class, not negative.

        Takes windows ``(n, 1, time)``, scaled as in training, on the network's device. Raises
        DataError or NetworkError if the method does not cover these windows or this network.
        """
        size = _CPU_BATCH if x.device.type == "cpu" else _BATCH
        explained = {}
        with torch.inference_mode(False), torch.autocast(x.device.type, enabled=False):
            batches = torch.split(x.detach().to(torch.float32, copy=True), size)
            for name in self._outputs:
                parts = [self._explanation(name, batch) for batch in batches]
                explained[name] = Explanation(*map(torch.cat, zip(*parts, strict=True)))
        return explained

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Returns by branch the logits ``(n, classes)`` of windows ``(n, 1, time)``."""
        with torch.inference_mode(), torch.autocast(x.device.type, enabled=False):
            batches = torch.split(x.float(), _CPU_BATCH if x.device.type == "cpu" else _BATCH)
            outputs = self._outputs.items()
            return {name: torch.cat([output(b) for b in batches]) for name, output in outputs}

    def _explanation(self, name: str, x: Tensor) -> Explanation:
        method: Any = self._methods[name]
        if isinstance(method, DeepTaylor):  # has the logits anyway
            target: Any = "predicted" if self.target is None else self.target
            logits, relevance = method.explain(x, target)
            return Explanation(logits, relevance.abs())
        with torch.no_grad():
            logits = self._outputs[name](x)
        with torch.enable_grad():
            classes = logits.argmax(dim=1)
            classes = classes if self.target is None else torch.full_like(classes, self.target)
            relevance = method(x, classes).detach().abs()
        if relevance.shape != x.shape:
            shapes = f"shape {tuple(x.shape)}, found {tuple(relevance.shape)}"
            raise NetworkError(f"attribution {self.attribution}: expected relevance of {shapes}")
        return Explanation(logits, relevance)


def branch_outputs(network: nn.Module) -> dict[str, nn.Module]:
    """Returns by branch the modules from the input to the logits that are explained.

    - A classification with a head a branch (``heads``): the branch's logits.
    - Pre-training on P waves: one output, the mean over time of :math:`\\max(0, z(t))`.
    - Pre-training on RR variability: the standardised log RMSSD :math:`z` as two logits,
      :math:`(-z, z)`, "varies less" and "varies more than the average window".
    - Any other network: its logits, or its logits by branch.

    Raises NetworkError if the network has no ``branches``, a mapping of names to modules.
    """
    branches: Any = getattr(network, "branches", None)
    heads: Any = getattr(network, "heads", None)
    if not branches:
        found = type(network).__name__
        raise NetworkError(f"expected a network with `branches`, by name; found {found}")
    if isinstance(network, PWaveNetwork):
        heads = dict.fromkeys(branches, _p_waves(network))
    elif isinstance(network, RRNetwork):
        heads = dict.fromkeys(branches, _rmssd(network))
    if heads is not None:
        return {name: nn.Sequential(branch, heads[name]) for name, branch in branches.items()}
    if len(branches) == 1:
        return dict.fromkeys(branches, network)
    return {name: _OneOutput(network, name) for name in branches}


class _OneOutput(nn.Module):
    def __init__(self, network: nn.Module, name: str) -> None:
        super().__init__()
        self.network, self.name = network, name

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)[self.name]  # type: ignore[no-any-return]


def _p_waves(network: PWaveNetwork) -> nn.Sequential:
    weight, bias = network.head.weight, network.head.conv.bias
    logit = _with(nn.Conv1d(weight.shape[1], 1, kernel_size=1), weight, bias)
    return nn.Sequential(logit, nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())


def _rmssd(network: RRNetwork) -> nn.Sequential:
    head: Any = network.head
    *layers, last = head
    rmssd = network.measures.index("rmssd")
    weight, bias = (torch.stack([-of[rmssd], of[rmssd]]) for of in (last.weight, last.bias))
    return nn.Sequential(*layers, _with(nn.Linear(last.in_features, 2), weight, bias))


def _with(layer: Any, weight: Any, bias: Any) -> nn.Module:
    layer.weight, layer.bias = (nn.Parameter(values.detach()) for values in (weight, bias))
    return layer.requires_grad_(False)  # type: ignore[no-any-return]

"""A network and its deep Taylor decomposition as one graph of tensor operations, for a file.

What :class:`xecg.DeepTaylor` computes by the gradients of its rules is traced as it is computed.
Layers become two-dimensional, time last: runtimes have their fast convolutions for such.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.fx.experimental.proxy_tensor import make_fx

from xecg.errors import NetworkError
from xecg.explain.attributions import branch_outputs
from xecg.explain.deep_taylor import DeepTaylor, Step, explain_steps, frozen_copy

aten = torch.ops.aten


def explained_program(network: nn.Module, time: int) -> ExportedProgram:
    """Returns a program of windows ``(batch, 1, time)``, for any batch, with outputs by name.

    ``p_af`` ``(batch,)`` is the probability of AF, fused; ``p_af_<branch>`` that of a branch;
    ``relevance_<branch>`` ``(batch, 1, time)`` that of the class that it predicts, as by
    :class:`xecg.explain.BranchExplainer`; ``logit_<branch>`` ``(batch,)`` what is explained. Raises
    NetworkError if the rules do not cover a layer.
    """
    x = torch.rand(3, 1, time)  # 0 and 1 would be taken for fixed sizes
    with torch.no_grad():
        outputs = branch_outputs(frozen_copy(network))
        layers = {name: DeepTaylor(output).steps(x)[""] for name, output in outputs.items()}
    steps = {name: [*map(_flat_step, of)] for name, of in layers.items()}

    def explained(x: Tensor) -> dict[str, Tensor]:
        windows = x.detach().unsqueeze(2)
        found = {name: explain_steps(of, windows, "predicted") for name, of in steps.items()}
        p = {name: one.logits.softmax(dim=1)[:, 1] for name, one in found.items()}
        return (
            {"p_af": torch.stack([*p.values()]).mean(dim=0)}
            | {f"p_af_{name}": of_branch for name, of_branch in p.items()}
            | {f"relevance_{name}": one.relevance.squeeze(2).abs() for name, one in found.items()}
            | {f"logit_{name}": one.logits.amax(dim=1) for name, one in found.items()}
        )

    plain: dict[Any, Any] = {aten.convolution_backward.default: _convolution_backward}
    plain[aten.nan_to_num_.default] = _finite
    how: Any = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}
    graph = make_fx(explained, decomposition_table=plain, **how)(x)
    return torch.export.export(graph, (x,), dynamic_shapes=({0: Dim("batch")},))


class _Mean(nn.Module):
    """A mean over time as one operation; that of ``AdaptiveAvgPool2d`` changes strides."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3), keepdim=True)


def _flat_step(step: Step) -> Step:
    layer, parts = step
    return _flat(layer), parts and tuple((modify, _flat(part)) for modify, part in parts)


def _flat(layer: Any) -> nn.Module:
    """Returns the layer for ``(batch, channels, 1, time)``."""
    if isinstance(layer, (nn.Identity, nn.ReLU, nn.Flatten, nn.Linear)):
        return layer
    if isinstance(layer, nn.AdaptiveAvgPool1d):
        return _Mean()
    if isinstance(layer, nn.BatchNorm1d):
        flat: nn.Module = nn.BatchNorm2d(layer.num_features, layer.eps)
    elif isinstance(layer, nn.Conv1d):
        axis = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
        shape: Any = {name: (added, *getattr(layer, name)) for name, added in axis.items()}
        channels = layer.in_channels, layer.out_channels
        flat = nn.Conv2d(*channels, **shape, bias=layer.bias is not None)
    else:
        raise NetworkError(f"expected a layer of a branch, found {type(layer).__name__}")
    state = layer.state_dict()
    flat.load_state_dict({k: v.unsqueeze(2) if v.ndim == 3 else v for k, v in state.items()})
    return flat.eval().requires_grad_(False)


def _convolution_backward(slope: Tensor, x: Tensor, weight: Tensor, *settings: Any) -> Any:
    """The slope for a convolution's input, of that for its output, by a transposed convolution."""
    _, stride, padding, dilation, *_ = settings
    reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
    sizes = zip(x.shape[2:], padding, reach, stride, strict=True)
    rest = [(size + 2 * p - r - 1) % s for size, p, r, s in sizes]
    return F.conv_transpose2d(slope, weight, None, stride, padding, rest, 1, dilation), None, None


def _finite(x: Tensor, *_: float) -> Tensor:
    """Sets to 0 what is infinite or undefined, in place."""
    return x.copy_(torch.where(x.abs() < torch.inf, x, 0))

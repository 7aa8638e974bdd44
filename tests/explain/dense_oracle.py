"""Deep Taylor decomposition written out with dense matrices in float64: slow, plain, no zennit.

The relevance of a linear layer is shared by an explicit matrix of contributions ``(out, in)``.
"""

import torch
from torch import Tensor, nn

KERNEL = (nn.Conv1d, nn.Linear)
AVERAGE = (nn.AvgPool1d, nn.AdaptiveAvgPool1d)


def decompose(
    layers: list[nn.Module], x: Tensor, target: int, *, rules: str, relu_in_conv=False, bounds=None
) -> Tensor:
    """Relevance of one window ``(channels, time)`` for the logit ``target``."""
    layers = [layer.double() for layer in layers]
    activations = [x.double().unsqueeze(0)]
    for layer in layers:
        activations.append(layer(activations[-1].clone()).detach())
    logits = activations.pop()
    relevance = torch.zeros_like(logits)
    relevance[0, target] = logits[0, target].relu()
    first = next(i for i, layer in enumerate(layers) if isinstance(layer, KERNEL))
    for index in reversed(range(len(layers))):
        layer, value = layers[index], activations[index]
        is_relu = isinstance(layer, nn.ReLU)
        in_conv = relu_in_conv and is_relu and isinstance(layers[index - 1], KERNEL)
        if isinstance(layer, KERNEL) or (rules == "zbox" and isinstance(layer, AVERAGE)):
            box = bounds if index == first else None
            relevance = _share(_matrix(layer, value), value, relevance, box)
        elif not (in_conv or isinstance(layer, nn.BatchNorm1d)):
            relevance = _gradient(layer, value, relevance)
    return relevance[0]


def _matrix(layer: nn.Module, value: Tensor) -> Tensor:
    """The layer's weights ``(out, in)`` without bias, one column for each input."""
    basis = torch.eye(value.numel(), dtype=torch.float64).reshape(-1, *value.shape[1:])
    at_zero = layer(torch.zeros_like(value))
    return (layer(basis) - at_zero).flatten(1).T.detach()


def _share(weights: Tensor, value: Tensor, relevance: Tensor, box) -> Tensor:
    x, up, down = value.flatten(), weights.clamp(min=0), weights.clamp(max=0)
    if box is None:
        contributions = x.clamp(min=0) * up + x.clamp(max=0) * down
    else:
        contributions = (x - box[0]) * up + (x - box[1]) * down
    total = contributions.sum(dim=1, keepdim=True)
    shares = torch.where(total == 0, 0, contributions / torch.where(total == 0, 1, total))
    return (relevance.flatten() @ shares).reshape(value.shape)


def _gradient(layer: nn.Module, value: Tensor, relevance: Tensor) -> Tensor:
    value = value.clone().requires_grad_()
    return torch.autograd.grad(layer(value.clone()), value, relevance)[0]

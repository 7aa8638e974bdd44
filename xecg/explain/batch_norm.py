"""Batch normalisation merged into the layer before it, so that a rule sees one linear layer."""

import copy
from typing import NoReturn

import torch
from torch import nn

from xecg.errors import NetworkError
from xecg.explain.chain import WEIGHTED, Chain, Layer
from xecg.networks.layers import scale_and_shift


def merge_batch_norms(chain: Chain) -> Chain:
    """The chain with each batch normalisation merged into the layer before it.

    Raises:
        NetworkError: If that layer is neither a convolution nor linear.
    """
    merged: list[Layer] = []
    for layer in chain.layers:
        if isinstance(layer.module, nn.BatchNorm1d):
            if not merged:
                _refuse_merge(layer, "the input")
            merged[-1] = _merge(merged[-1], layer)
        else:
            merged.append(layer)
    return chain._replace(layers=merged)


def _merge(layer: Layer, norm: Layer) -> Layer:
    merged, batch_norm = copy.deepcopy(layer.module), norm.module
    assert isinstance(batch_norm, nn.BatchNorm1d)
    if not isinstance(merged, WEIGHTED) or len(merged.weight) != batch_norm.num_features:
        return _refuse_merge(norm, f"{layer.path} ({type(merged).__name__})")
    scale, shift = scale_and_shift(batch_norm)
    bias = shift if merged.bias is None else merged.bias * scale + shift
    weight = torch.einsum("o...,o->o...", merged.weight, scale)
    merged.weight = nn.Parameter(weight, requires_grad=False)
    merged.bias = nn.Parameter(bias, requires_grad=False)
    return layer._replace(module=merged)


def _refuse_merge(norm: Layer, before: str) -> NoReturn:
    raise NetworkError(
        f"{norm.path} (BatchNorm1d) follows {before}; it can be merged only into a Conv1d or "
        f"Linear right before it. Move it there, or explain with rules='innvestigate'"
    )

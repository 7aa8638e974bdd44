"""Which rule each layer of a chain follows, in the two decompositions that xecg knows."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from xecg.errors import NetworkError
from xecg.explain import rules
from xecg.explain.chain import WEIGHTED, Layer

AVERAGES = (nn.AvgPool1d, nn.AdaptiveAvgPool1d)

Bounds = tuple[float, float]
Rules = list[rules.Rule | None]  # one a layer; None: the layer's own gradient


def innvestigate_rules(
    layers: Sequence[Layer], *, nonnegative: bool, relu_in_conv: bool, bounds: Bounds | None
) -> Rules:
    """The rules of iNNvestigate's ``deep_taylor``; with bounds, of ``deep_taylor.bounded``.

    Convolutions and linear layers share by positive contributions, batch normalisation hands
    relevance on unchanged, ReLU and pooling take their gradient.

    Args:
        layers: The layers from the input on.
        nonnegative: Whether the input is never negative.
        relu_in_conv: Whether a ReLU right behind a layer with weights is that layer's own
            activation, which iNNvestigate passes over; else it is a layer of its own.
        bounds: Lowest and highest input for the z-box rule in the first layer.

    Raises:
        NetworkError: If there are bounds but the first layer has no weights.
    """
    modules = [layer.module for layer in layers]
    chosen: Rules = []
    for module, never_negative in zip(modules, _never_negative(modules, nonnegative), strict=True):
        if isinstance(module, WEIGHTED):
            chosen.append(_weighted_rule(never_negative))
        else:
            chosen.append(rules.Unchanged() if isinstance(module, nn.BatchNorm1d) else None)
    if relu_in_conv:
        for index, (before, module) in enumerate(pairwise(modules), start=1):
            if isinstance(before, WEIGHTED) and isinstance(module, nn.ReLU):
                chosen[index] = rules.Unchanged()
    if bounds is not None:
        chosen[_first_weighted(layers, may_precede=(nn.Flatten,))] = rules.input_between(*bounds)
    return chosen


def zbox_rules(layers: Sequence[Layer], *, nonnegative: bool, bounds: Bounds) -> Rules:
    """z-box in the first layer with weights, z-plus in the others, averages in proportion.

    A maximum hands its relevance to the winner, a ReLU its gradient (what it cut off has no
    relevance): nothing is lost but where a sum of positive contributions is zero.

    Args:
        layers: The layers from the input on, batch normalisation merged.
        nonnegative: Whether the input is never negative.
        bounds: Lowest and highest input.

    Raises:
        NetworkError: If no layer has weights.
    """
    modules = [layer.module for layer in layers]
    chosen: Rules = []
    for module, never_negative in zip(modules, _never_negative(modules, nonnegative), strict=True):
        if isinstance(module, WEIGHTED):
            chosen.append(_weighted_rule(never_negative))
        elif isinstance(module, AVERAGES):
            chosen.append(rules.nonnegative_input() if never_negative else rules.positive_input())
        else:
            chosen.append(None)
    may_precede = (nn.Flatten, nn.MaxPool1d, nn.ReLU, *AVERAGES)
    chosen[_first_weighted(layers, may_precede)] = rules.input_between(*bounds)
    return chosen


def _weighted_rule(never_negative: bool) -> rules.Rule:
    return rules.nonnegative_input() if never_negative else rules.signed_input()


def _never_negative(modules: Sequence[nn.Module], of_input: bool) -> list[bool]:
    """For each layer, whether its input is known to be never negative."""
    known, inputs = of_input, []
    for module in modules:
        inputs.append(known)
        if isinstance(module, nn.ReLU):
            known = True
        elif isinstance(module, (*WEIGHTED, nn.BatchNorm1d)):
            known = False
    return inputs


def _first_weighted(layers: Sequence[Layer], may_precede: tuple[type[nn.Module], ...]) -> int:
    for index, (path, module) in enumerate(layers):
        if isinstance(module, WEIGHTED):
            return index
        if not isinstance(module, may_precede):
            raise NetworkError(
                f"bounds of the input need a Conv1d or Linear as first layer; "
                f"found {path} ({type(module).__name__})"
            )
    raise NetworkError("deep Taylor decomposition needs a Conv1d or Linear; the network has none")

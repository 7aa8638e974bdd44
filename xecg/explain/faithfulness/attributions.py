"""Methods that give each sample of a window its relevance for the explained logit, by name.

Relevance here says how much a sample mattered, not in which direction: deep Taylor decomposition
is never negative, and of signed attributions the absolute value is taken, so that an order by
relevance means the same for all of them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError
from xecg.explain.deep_taylor import DeepTaylor, RuleSet
from xecg.explain.faithfulness.decisions import Decisions
from xecg.explain.faithfulness.integrated_gradients import integrated_gradients

REFERENCE = "steepness"  # what a map has to beat to show more than where the signal is steep

_BATCH = 16  # windows; integrated gradients make 20 of each

Attribution = Callable[[Decisions, torch.Generator], Tensor]


@dataclass(frozen=True)
class Method:
    """A way to attribute a decision to the samples of its window.

    Args:
        title: How tables and figures call it.
        attribute: Relevance ``(n, 1, time)`` of decisions, of either sign.
        of_network: Whether it looks at the network at all; the others are what to compare with.
    """

    title: str
    attribute: Attribution
    of_network: bool = True


def relevance_maps(
    method: str,
    decisions: Decisions,
    *,
    seed: int = 0,
    done: Callable[[int], None] = lambda _: None,
) -> NDArray[np.float32]:
    """Relevance of each sample of each window, never negative.

    Args:
        method: A name in ``METHODS``.
        decisions: What to explain.
        seed: Of the random map.
        done: Told how many more windows have their map, again and again.

    Returns:
        float32 ``(n, time)``.

    Raises:
        ConfigError: No method has that name.
    """
    (chosen,) = find_methods([method]).values()
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for batch in decisions.batches(_BATCH):
        with torch.inference_mode(False), torch.enable_grad():
            maps.append(chosen.attribute(batch, generator).detach().squeeze(1).abs().numpy())
        done(len(batch))
    return np.concatenate(maps)


def find_methods(names: Iterable[str]) -> dict[str, Method]:
    """Methods by name.

    Raises:
        ConfigError: A name is not in ``METHODS``.
    """
    names = list(names)
    for name in names:
        if name not in METHODS:
            raise ConfigError(f"method must be one of {', '.join(METHODS)}; found {name!r}")
    return {name: METHODS[name] for name in names}


def gradient(decisions: Decisions) -> Tensor:
    """Gradient of the explained logit (Simonyan et al. 2014, arXiv 1312.6034)."""
    x = decisions.x.clone().requires_grad_()
    logits = decisions.network(x).gather(1, decisions.classes.unsqueeze(1))
    (slope,) = torch.autograd.grad(logits.sum(), x)
    return slope


def steepness(x: Tensor) -> Tensor:
    """Slope of the signal: a map that points at QRS complexes and knows no network."""
    (slope,) = torch.gradient(x, dim=-1)
    return slope


def _deep_taylor(decisions: Decisions, _: torch.Generator, *, rules: RuleSet) -> Tensor:
    relevance = DeepTaylor(decisions.network, rules).attribute(decisions.x, decisions.classes)
    assert isinstance(relevance, Tensor)  # the network has one output
    return relevance


METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "dtd_innvestigate": Method(
            "DTD, innvestigate", partial(_deep_taylor, rules="innvestigate")
        ),
        "dtd_zbox": Method("DTD, zbox", partial(_deep_taylor, rules="zbox")),
        "gradient": Method("gradient", lambda decisions, _: gradient(decisions)),
        "input_x_gradient": Method(
            "input x gradient", lambda decisions, _: decisions.x * gradient(decisions)
        ),
        "integrated_gradients": Method(
            "integrated gradients", lambda decisions, _: integrated_gradients(decisions)
        ),
        REFERENCE: Method(
            "steepness of the signal", lambda decisions, _: steepness(decisions.x), False
        ),
        "random": Method(
            "random order",
            lambda decisions, generator: torch.rand(decisions.x.shape, generator=generator),
            False,
        ),
    }
)

r"""Rules of deep Taylor decomposition in zennit's form; nothing else in xecg imports zennit.

Every rule here that has weights shares the relevance :math:`R_k` of an output out in proportion to
contributions that are never negative, bias left out:

.. math::
    R_i = \sum_k \frac{c_{ik}}{\sum_j c_{jk}} R_k

and differs from the others only in :math:`c_{ik}` (Montavon et al., Pattern Recognition 2017,
section 5; Bach et al., PLoS ONE 2015, equation 60 for signed inputs).

zennit's hooks let a layer's own gradient be computed and throw it away. These stand in its place,
which saves a backward pass a layer.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from zennit.composites import NameMapComposite
from zennit.core import BasicHook, Hook
from zennit.rules import ClampMod

# What needs a larger share is divided by rounding, not by evidence; float32 would overflow later.
LARGEST_SHARE = 1e30

POSITIVE_WEIGHTS = ClampMod(min=0.0, zero_params=["bias"])
NEGATIVE_WEIGHTS = ClampMod(max=0.0, zero_params=["bias"])


class _RuleAsGradient(torch.autograd.Function):
    """Identity on a layer's output whose gradient for the layer's input is a rule's relevance."""

    @staticmethod
    def forward(ctx: Any, layer_input: Tensor, output: Tensor, hook: Hook, layer: nn.Module) -> Any:
        ctx.hook, ctx.layer = hook, layer
        ctx.save_for_backward(layer_input)
        return output.view_as(output)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        return *ctx.hook.backward(ctx.layer, ctx.saved_tensors, grad_outputs), None, None, None


class _InsteadOfGradient:
    """Mixin for zennit's hooks: the layer runs outside the graph, only its rule stands there."""

    stored_tensors: dict[str, Any]

    def pre_forward(self, module: nn.Module, args: tuple[Tensor]) -> Tensor:  # noqa: ARG002
        """Keep the layer's input, and hand the layer the same without its history."""
        self.stored_tensors["attached"] = args[0]
        return args[0].detach()

    def post_forward(
        self,
        module: nn.Module,
        args: tuple[Tensor],  # noqa: ARG002
        output: Tensor,
    ) -> Tensor:
        """Connect the layer's output to its input by this rule."""
        attached = self.stored_tensors.pop("attached")
        return _RuleAsGradient.apply(attached, output, self, module)  # type: ignore[no-any-return]


class ContributionRule(_InsteadOfGradient, BasicHook):  # type: ignore[misc]
    """Shares relevance out in proportion to the contributions of (input, weights) pairs.

    Args:
        input_modifiers: For each pair, what is done to the layer's input.
        param_modifiers: For each pair, zennit's modifier of the layer's parameters.
    """

    def __init__(
        self, input_modifiers: list[Callable[[Tensor], Tensor]], param_modifiers: list[ClampMod]
    ) -> None:
        super().__init__(
            input_modifiers, param_modifiers, gradient_mapper=_share, reducer=_times_input
        )


def nonnegative_input() -> ContributionRule:
    """Of an input that is never negative, :math:`c_{ik} = x_i w^+_{ik}`: the z-plus rule.

    Equal there to alpha-beta with (1, 0) without bias, in a quarter of the convolutions.
    """
    return ContributionRule([_same], [POSITIVE_WEIGHTS])


def signed_input() -> ContributionRule:
    """Of any input, :math:`c_{ik} = x^+_i w^+_{ik} + x^-_i w^-_{ik}`: alpha-beta with (1, 0)."""
    return ContributionRule([_positive, _negative], [POSITIVE_WEIGHTS, NEGATIVE_WEIGHTS])


def positive_input() -> ContributionRule:
    """Of any input to an average, which has no negative weight: only positive inputs count."""
    return ContributionRule([_positive], [POSITIVE_WEIGHTS])


def input_between(low: float, high: float) -> ContributionRule:
    r"""Of an input in [low, high], the z-box rule.

    :math:`c_{ik} = (x_i - l) w^+_{ik} + (x_i - h) w^-_{ik}`, which is
    :math:`x_i w_{ik} - l w^+_{ik} - h w^-_{ik}` without the cancellation.
    """
    return ContributionRule(
        [lambda x: x - low, lambda x: x - high], [POSITIVE_WEIGHTS, NEGATIVE_WEIGHTS]
    )


class Unchanged(_InsteadOfGradient, Hook):  # type: ignore[misc]
    """Relevance passes an elementwise layer as it is: zennit's ``Pass``."""

    def backward(self, module: nn.Module, grad_input: Any, grad_output: Any) -> Any:  # noqa: ARG002
        """The relevance of the layer's output."""
        return grad_output


Rule = ContributionRule | Unchanged


def rules_on(
    chain: nn.Sequential, rules: Sequence[Rule | None]
) -> AbstractContextManager[nn.Module]:
    """A context in which each layer of ``chain`` follows its rule; None: its own gradient."""
    named = zip(chain._modules, rules, strict=True)
    composite = NameMapComposite([((name,), rule) for name, rule in named if rule is not None])
    return composite.context(chain)  # type: ignore[no-any-return]


def _same(x: Tensor) -> Tensor:
    return x


def _positive(x: Tensor) -> Tensor:
    return x.clamp(min=0)


def _negative(x: Tensor) -> Tensor:
    return x.clamp(max=0)


def _share(relevance: Tensor, contributions: list[Tensor]) -> list[Tensor]:
    """Relevance per unit of contribution; none where nothing contributes."""
    total = sum(contributions[1:], start=contributions[0])
    share = relevance / total
    # In place: every further tensor of this size would cost more than the division itself.
    share.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).clamp_(-LARGEST_SHARE, LARGEST_SHARE)
    return [share] * len(contributions)


def _times_input(inputs: list[Tensor], gradients: list[Tensor]) -> Tensor:
    terms = [x * gradient for x, gradient in zip(inputs, gradients, strict=True)]
    return sum(terms[1:], start=terms[0])

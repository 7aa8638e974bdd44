"""Deep Taylor decomposition: how much each sample of an ECG contributed to a network's logit."""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from typing import Any, Literal, NamedTuple, NoReturn

import torch
from torch import Tensor, nn
from zennit.composites import NameMapComposite
from zennit.core import BasicHook, Hook
from zennit.rules import ClampMod

from xecg.errors import ConfigError, DataError, NetworkError
from xecg.networks.branch import BatchNorm1d, Conv1d, scale_and_shift

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


AVERAGES = (nn.AvgPool1d, nn.AdaptiveAvgPool1d)

Bounds = tuple[float, float]
Rules = list[Rule | None]  # one a layer; None: the layer's own gradient


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
            chosen.append(Unchanged() if isinstance(module, nn.BatchNorm1d) else None)
    if relu_in_conv:
        for index, (before, module) in enumerate(pairwise(modules), start=1):
            if isinstance(before, WEIGHTED) and isinstance(module, nn.ReLU):
                chosen[index] = Unchanged()
    if bounds is not None:
        chosen[_first_weighted(layers, may_precede=(nn.Flatten,))] = input_between(*bounds)
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
            chosen.append(nonnegative_input() if never_negative else positive_input())
        else:
            chosen.append(None)
    may_precede = (nn.Flatten, nn.MaxPool1d, nn.ReLU, *AVERAGES)
    chosen[_first_weighted(layers, may_precede)] = input_between(*bounds)
    return chosen


def _weighted_rule(never_negative: bool) -> Rule:
    return nonnegative_input() if never_negative else signed_input()


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


RuleSet = Literal["innvestigate", "zbox"]
Target = int | Tensor | Literal["predicted"]

SAME_OUTPUT = 1e-2  # of the largest logit: merging rounds, a wrong layer is off by far more


class Explanation(NamedTuple):
    """What a network says of windows and why.

    Args:
        logits: ``(batch, classes)`` float32.
        relevance: float32 of the shape of the windows.
    """

    logits: Tensor
    relevance: Tensor


class DeepTaylor:
    r"""Deep Taylor decomposition (DTD) of a network's logits into relevance of its input.

    The relevance of a logit :math:`z` is its positive part :math:`\max(0, z)`, which each layer
    hands down to its inputs by a rule (Montavon et al., Pattern Recognition 2017). A logit that is
    not positive has no relevance: its map is all zero.

    ``"innvestigate"`` is what iNNvestigate 2.1.2 calls ``deep_taylor``, with which the original
    xECGArch was explained (Goettling et al., Sci Rep 2024); with ``bounded``, its
    ``deep_taylor.bounded``. Batch normalisation hands relevance on unchanged, the mean over time
    hands it to each step alike and ReLU cuts it there, so that relevance is not conserved.

    ``"zbox"`` follows the theory: batch normalisation is merged into the layer before it, the
    first layer knows that its input lies in [low, high], means share in proportion. Relevance
    sums to :math:`\max(0, z)`, with one exception that no rule without bias can mend: the share of
    a neuron that its bias alone made active, no input contributing, belongs to no sample and is
    left out.

    Every call explains the network as it is at that moment, by a copy in eval mode and float32.
    The network itself is never run, hooked or changed. On a GPU the convolutions of PyTorch are in
    TF32 unless ``torch.backends.cudnn.allow_tf32`` is false; sums then hold to three digits only.

    Args:
        network: Returns logits ``(batch, classes)``, or a mapping of names to such. It must be made
            of chains of Conv1d, BatchNorm1d, ReLU, MaxPool1d, AvgPool1d, AdaptiveAvgPool1d,
            Dropout, Flatten and Linear modules.
        rules: The rule set.
        relu_in_conv: With ``"innvestigate"``, whether a ReLU right behind a convolution is that
            layer's activation, as in Keras' ``Conv1D(activation="relu")``, or a layer of its own.
        bounded: With ``"innvestigate"``, the z-box rule in the first layer; ``"zbox"`` always has
            it.
        low: Lowest value of the input, for the z-box rule.
        high: Highest value of the input, for the z-box rule.

    Raises:
        ConfigError: If the settings contradict each other.
    """

    def __init__(
        self,
        network: nn.Module,
        rules: RuleSet = "innvestigate",
        *,
        relu_in_conv: bool = False,
        bounded: bool = False,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        if rules not in ("innvestigate", "zbox"):
            raise ConfigError(f"rules must be 'innvestigate' or 'zbox'; found {rules!r}")
        if rules == "zbox" and relu_in_conv:
            raise ConfigError("relu_in_conv belongs to rules='innvestigate'; found rules='zbox'")
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"low must be below high, both finite; found {low} and {high}")
        self.network = network
        self.rules = rules
        self.relu_in_conv = relu_in_conv
        self.bounded = bounded
        self.bounds = (low, high)

    def attribute(self, x: Tensor, target: Target = "predicted") -> Tensor | dict[str, Tensor]:
        """Relevance of each sample for the target's logit.

        May be called under ``no_grad``, ``inference_mode`` and autocast.

        Args:
            x: Windows ``(batch, channels, time)``, finite, on the network's device; for ``"zbox"``
                within [low, high].
            target: A class for all windows, a class per window ``(batch,)``, or ``"predicted"``:
                the class with the highest logit.

        Returns:
            float32 of the shape of ``x``. If the network returns a mapping, the same for each
            name: the relevance for that logit alone.

        Raises:
            DataError: If ``x`` or ``target`` is not as above.
            NetworkError: If the network holds what the rules do not cover; it is named.
        """
        explained = self._explain(x, target)
        if isinstance(explained, Explanation):
            return explained.relevance
        return {name: explanation.relevance for name, explanation in explained.items()}

    def explain(
        self, x: Tensor, *, batch_size: int | None = None
    ) -> Explanation | dict[str, Explanation]:
        """Relevance for the predicted class, with the logits that predict it.

        Args:
            x: As for :meth:`attribute`.
            batch_size: Windows at a time, all by one copy of the network; None: all at once.

        Returns:
            An explanation, or one for each name if the network returns a mapping.

        Raises:
            DataError: If ``x`` is not as above.
            NetworkError: If the network holds what the rules do not cover; it is named.
        """
        return self._explain(x, "predicted", batch_size)

    def _explain(
        self, x: Tensor, target: Target, batch_size: int | None = None
    ) -> Explanation | dict[str, Explanation]:
        self._check_device(x)
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast(x.device.type, enabled=False),
        ):
            x = self._checked(x)
            size = batch_size or len(x)
            chains = copy_chains(self.network, x[:1].clone())
            if isinstance(chains, Chain):
                return self._explain_chain(chains, x, target, size)
            return {
                name: self._explain_chain(chain, x, target, size) for name, chain in chains.items()
            }

    def _explain_chain(self, chain: Chain, x: Tensor, target: Target, size: int) -> Explanation:
        if self.rules == "zbox":
            chain = merge_batch_norms(chain)
        layers = nn.Sequential(*(layer.module for layer in chain.layers))
        logits: list[Tensor] = []
        relevance: list[Tensor] = []
        with rules_on(layers, self._rules(chain, x)):
            for batch in torch.split(x.detach(), size):
                outputs = layers(batch.requires_grad_())
                logits.append(outputs.detach())
                _check_same(logits[0][:1], chain.output)
                explained = _relevance_of_logits(logits[-1], target)
                relevance += torch.autograd.grad(outputs, batch, explained)
        return Explanation(torch.cat(logits), torch.cat(relevance))

    def _rules(self, chain: Chain, x: Tensor) -> Rules:
        nonnegative = bool(x.min() >= 0)
        if self.rules == "zbox":
            return zbox_rules(chain.layers, nonnegative=nonnegative, bounds=self.bounds)
        return innvestigate_rules(
            chain.layers,
            nonnegative=nonnegative,
            relu_in_conv=self.relu_in_conv,
            bounds=self.bounds if self.bounded else None,
        )

    def _check_device(self, x: Tensor) -> None:
        for parameter in self.network.parameters():
            if parameter.device != x.device:
                raise DataError(
                    f"x must be on the network's device, {parameter.device}; found {x.device}"
                )

    def _checked(self, x: Tensor) -> Tensor:
        """``x`` in float32, apart from the caller's."""
        if x.dim() != 3 or not x.is_floating_point() or x.numel() == 0:
            raise DataError(
                f"x must be windows (batch, channels, time) of floating point numbers; "
                f"found {tuple(x.shape)} of {x.dtype}"
            )
        x = x.detach().to(torch.float32, copy=True)
        lowest, highest = x.min().item(), x.max().item()
        if not -math.inf < lowest <= highest < math.inf:
            raise DataError("x must be finite; found NaN or infinity")
        low, high = self.bounds
        if self.rules == "zbox" and not low <= lowest <= highest <= high:
            raise DataError(
                f"x must lie in [{low}, {high}] for rules='zbox'; found {lowest} to {highest}. "
                f"Scale it, or set low and high"
            )
        return x


def _check_same(logits: Tensor, expected: Tensor) -> None:
    """The last line of defence: the explained layers must compute what the network computes."""
    if not expected.isfinite().all():
        raise NetworkError("the network's output is not finite; its weights have diverged")
    tolerance = SAME_OUTPUT * max(1.0, expected.abs().max().item())
    if logits.shape != expected.shape or (logits - expected).abs().max().item() > tolerance:
        raise NetworkError(
            "the network's layers, taken one by one, do not give the network's output; "
            "it computes something between its modules that cannot be explained"
        )


def _relevance_of_logits(logits: Tensor, target: Target) -> Tensor:
    """The positive part of the target's logit, zero for the other classes."""
    if logits.dim() != 2:
        raise NetworkError(
            f"the network must return logits (batch, classes); found {tuple(logits.shape)}"
        )
    classes = _classes(logits, target).unsqueeze(1)
    return torch.zeros_like(logits).scatter(1, classes, logits.gather(1, classes).relu())


def _classes(logits: Tensor, target: Target) -> Tensor:
    """The explained class of each window, ``(batch,)``."""
    n_windows, n_classes = logits.shape
    if isinstance(target, str) and target == "predicted":
        return logits.argmax(dim=1)
    wanted = f"target must be 'predicted', a class, or a class for each of {n_windows} windows"
    if not isinstance(target, (int, Tensor)):
        raise DataError(f"{wanted}; found {target!r}")
    classes = torch.as_tensor(target, device=logits.device)
    if classes.dim() == 0:
        classes = classes.expand(n_windows)
    if classes.shape != (n_windows,) or classes.is_floating_point():
        raise DataError(f"{wanted}; found {tuple(classes.shape)} of {classes.dtype}")
    if not 0 <= int(classes.min()) <= int(classes.max()) < n_classes:
        raise DataError(f"target must be within 0 to {n_classes - 1}; found {classes.tolist()}")
    return classes.long()

"""Deep Taylor decomposition: how much each sample of an ECG contributed to a network's logit."""

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from zennit.canonizers import SequentialMergeBatchNorm

from xecg.errors import ConfigError, DataError, NetworkError
from xecg.networks.branch import BatchNorm1d, Conv1d

WEIGHTED = (nn.Conv1d, nn.Linear)
AVERAGES = (nn.AvgPool1d, nn.AdaptiveAvgPool1d)
IDENTITIES = (nn.Dropout, nn.Identity)  # in eval mode
OTHERS = (nn.BatchNorm1d, nn.ReLU, nn.MaxPool1d, nn.Flatten, Conv1d, BatchNorm1d)
LAYERS = (*WEIGHTED, *OTHERS, *AVERAGES, *IDENTITIES)
RuleSet = Literal["innvestigate", "zbox"]
Target = int | Tensor | Literal["predicted"]

LARGEST_SHARE = 1e30  # a larger one comes of rounding, and float32 would overflow later
SAME_OUTPUT = 1e-2  # of the largest logit: merging rounds, a wrong layer is off by far more

# A change of a layer's input, and the layer with the weights that the changed input then meets.
Part = tuple[Callable[[Tensor], Tensor], nn.Module]
# A layer and the parts of its rule; () hands relevance on unchanged, None takes the gradient.
Step = tuple[nn.Module, tuple[Part, ...] | None]


class Layer(NamedTuple):
    """A layer and its path in the network."""

    path: str
    module: nn.Module

    def __str__(self) -> str:
        return f"{self.path} ({type(self.module).__name__})"


class Explanation(NamedTuple):
    """Logits ``(batch, classes)`` of windows, and relevance of the shape of the windows."""

    logits: Tensor
    relevance: Tensor


class _Rule(torch.autograd.Function):
    """A layer whose gradient for its input is the relevance that its rule hands down.

    The relevance of an output k is shared in proportion to contributions
    ``c_ik = sum over parts of modified_input_i * weight_ik``, without bias.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, layer: nn.Module, parts: tuple[Part, ...]) -> Any:
        ctx.save_for_backward(x)
        ctx.parts = parts
        return layer(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        (x,), (relevance,) = ctx.saved_tensors, grad_outputs
        if not ctx.parts:
            return relevance, None, None
        with torch.enable_grad():
            inputs = [modify(x.detach()).detach().requires_grad_() for modify, _ in ctx.parts]
            sums = [part(value) for (_, part), value in zip(ctx.parts, inputs, strict=True)]
        share = relevance / sum(sums[1:], start=sums[0]).detach()
        # In place: every further tensor of this size would cost more than the division itself.
        share.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0).clamp_(-LARGEST_SHARE, LARGEST_SHARE)
        slopes = torch.autograd.grad(sums, inputs, [share] * len(sums))
        terms = [value.detach() * slope for value, slope in zip(inputs, slopes, strict=True)]
        return sum(terms[1:], start=terms[0]), None, None


_same, _positive, _negative = nn.Identity(), nn.ReLU(), partial(torch.clamp, max=0)


def _clamped(layer: nn.Module, **limits: float) -> nn.Module:
    clamped: Any = copy.deepcopy(layer)
    clamped.weight.clamp_(**limits)
    clamped.bias = None
    return clamped  # type: ignore[no-any-return]


def nonnegative_input(layer: nn.Module) -> tuple[Part, ...]:
    """Rule for inputs that are never negative: ``c_ik = x_i w+_ik``, the z-plus rule."""
    return ((_same, _clamped(layer, min=0)),)


def signed_input(layer: nn.Module) -> tuple[Part, ...]:
    """Rule for any input: ``c_ik = x+_i w+_ik + x-_i w-_ik``, alpha-beta with (1, 0)."""
    return (_positive, _clamped(layer, min=0)), (_negative, _clamped(layer, max=0))


def input_between(layer: nn.Module, low: float, high: float) -> tuple[Part, ...]:
    """Rule for inputs in [low, high], z-box: ``c_ik = (x_i - low) w+_ik + (x_i - high) w-_ik``."""
    above, below = _clamped(layer, min=0), _clamped(layer, max=0)
    return (lambda x: x - low, above), (lambda x: x - high, below)


def run_steps(steps: list[Step], x: Tensor) -> Tensor:
    """Returns the output of a chain; its gradient for ``x`` is relevance."""
    for layer, parts in steps:
        x = layer(x) if parts is None else _Rule.apply(x, layer, parts)
    return x


class DeepTaylor:
    r"""Deep Taylor decomposition (DTD) of a network's logits into relevance of its input.

    The relevance of a logit :math:`z` is :math:`\max(0, z)`, which each layer hands down to its
    inputs by a rule (Montavon et al., Pattern Recognition 2017).

    - ``"innvestigate"`` is ``deep_taylor`` of iNNvestigate 2.1.2, by which the original xECGArch
      was explained (Goettling et al., Sci Rep 2024): weights share relevance by positive
      contributions, batch normalisation leaves it unchanged, ReLU and pooling take their gradient.
      Relevance is not conserved.
    - ``"zbox"`` follows the theory: batch normalisation is merged into the layer before it, the
      first layer's input lies in [low, high], means share in proportion. Relevance sums to
      :math:`\max(0, z)`, without the share of neurons that their bias alone made active.

    A copy in eval mode and float32 is explained, of the network as it is now. On a GPU, sums hold
    to three digits while ``torch.backends.cudnn.allow_tf32`` is true. Raises ConfigError if the
    settings contradict each other.

    Args:
        network: Chain of ``LAYERS``, or several, to logits ``(batch, classes)``, also by name.
        rules: Rule set.
        relu_in_conv: With ``"innvestigate"``, whether a ReLU right behind a convolution is that
            layer's activation, as in Keras' ``Conv1D(activation="relu")``, or a layer of its own.
        bounded: With ``"innvestigate"``, whether the first layer has the z-box rule, as in
            iNNvestigate's ``deep_taylor.bounded``; with ``"zbox"`` it always has.
        epsilon_head: Whether linear layers share relevance by all contributions and bias, as LRP's
            epsilon rule without its epsilon; relevance has a sign then.
        low: Lowest value of the input, for the z-box rule.
        high: Highest value of the input.
    """

    def __init__(
        self,
        network: nn.Module,
        rules: RuleSet = "innvestigate",
        *,
        relu_in_conv: bool = False,
        bounded: bool = False,
        epsilon_head: bool = False,
        low: float = 0.0,
        high: float = 1.0,
    ) -> None:
        if rules not in ("innvestigate", "zbox"):
            raise ConfigError(f"rules must be 'innvestigate' or 'zbox'; found {rules!r}")
        if rules == "zbox" and relu_in_conv:
            raise ConfigError("relu_in_conv belongs to rules='innvestigate'; found rules='zbox'")
        if not -math.inf < low < high < math.inf:
            raise ConfigError(f"low must be below high, both finite; found {low} and {high}")
        with torch.inference_mode(False), torch.no_grad():
            self.network, self.rules = frozen_copy(network), rules
        self.relu_in_conv, self.bounded = relu_in_conv, bounded or rules == "zbox"
        self.bounds, self.epsilon_head = (low, high), epsilon_head
        self._steps: dict[torch.Size, dict[str, list[Step]]] = {}

    def __call__(self, x: Tensor, target: Target = "predicted") -> Tensor | dict[str, Tensor]:
        """Returns the relevance of each sample for the target's logit, of the shape of ``x``.

        It is a mapping if the network's output is. May be called under ``no_grad``,
        ``inference_mode`` and autocast, and by several threads. Raises DataError if ``x`` or
        ``target`` is not as below, or on another device, and NetworkError if the rules do not cover
        a layer of the network, which is named.

        Args:
            x: Windows ``(batch, channels, time)``, finite; for ``"zbox"`` within [low, high].
            target: Class of all windows, a class per window ``(batch,)``, or ``"predicted"``.
        """
        explained = self.explain(x, target)
        if isinstance(explained, Explanation):
            return explained.relevance
        return {name: explanation.relevance for name, explanation in explained.items()}

    attribute = __call__

    def explain(self, x: Tensor, target: Target = "predicted") -> Any:
        """Returns an :class:`Explanation`, or one by name if the network returns a mapping."""
        for device in {parameter.device for parameter in self.network.parameters()} - {x.device}:
            raise DataError(f"x must be on the network's device, {device}; found {x.device}")
        autocast = torch.autocast(x.device.type, enabled=False)
        with torch.inference_mode(False), torch.enable_grad(), autocast:
            x = self._checked(x)
            explained = {name: explain_steps(s, x, target) for name, s in self.steps(x).items()}
        return explained.get("", explained)

    def _checked(self, x: Tensor) -> Tensor:
        if x.dim() != 3 or not x.is_floating_point() or x.numel() == 0:
            found = f"{tuple(x.shape)} of {x.dtype}"
            raise DataError(f"x must be windows (batch, channels, time) of floats; found {found}")
        x = x.detach().to(torch.float32, copy=True)
        lowest, highest, largest = x.min().item(), x.max().item(), torch.finfo().max
        low, high = self.bounds if self.rules == "zbox" else (-largest, largest)
        if not low <= lowest <= highest <= high:  # nor if one is NaN
            wanted = f"finite, for rules='zbox' in {[*self.bounds]}"
            found = f"found {lowest} to {highest}. Scale it, or set low and high"
            raise DataError(f"x must be {wanted}; {found}")
        return x

    def steps(self, x: Tensor) -> dict[str, list[Step]]:
        """Returns the steps to each output by name, kept for windows of one shape."""
        if x.shape[1:] not in self._steps:
            outputs = traced(self.network, x[:1].clone())
            named = outputs if isinstance(outputs, Mapping) else {"": outputs}
            found = {name: self._steps_to(output, x[:1]) for name, output in named.items()}
            self._steps[x.shape[1:]] = found
        return self._steps[x.shape[1:]]

    def _steps_to(self, output: Any, x: Tensor) -> list[Step]:
        layers = layers_to(output, "the output of the network")
        steps = list(self._with_rules(chain_of(layers, merge=self.rules == "zbox")))
        if not output.isfinite().all():
            raise NetworkError("the network's output is not finite; its weights have diverged")
        with torch.no_grad():
            found = run_steps(steps, x)
        tolerance = SAME_OUTPUT * max(1.0, output.abs().max().item())
        if found.shape != output.shape or (found - output).abs().max().item() > tolerance:
            raise NetworkError(
                "the network's layers, taken one by one, do not give the network's output; "
                "it computes something between its modules that cannot be explained"
            )
        return steps

    def _with_rules(self, chain: list[Layer]) -> Iterator[Step]:
        bounded, never_negative, before = self.bounded, False, None
        for layer in chain:
            module = layer.module
            parts: tuple[Part, ...] | None = None
            if isinstance(module, WEIGHTED):
                if self.epsilon_head and isinstance(module, nn.Linear):
                    parts = ((_same, module),)
                elif bounded:
                    parts = input_between(module, *self.bounds)
                else:
                    parts = (nonnegative_input if never_negative else signed_input)(module)
                bounded = never_negative = False
            elif isinstance(module, nn.BatchNorm1d):
                if bounded:
                    raise NetworkError(f"bounds of the input do not hold behind {layer}")
                parts, never_negative = (), False
            elif isinstance(module, nn.ReLU):
                parts = () if self.relu_in_conv and isinstance(before, WEIGHTED) else None
                never_negative = True
            elif isinstance(module, AVERAGES) and self.rules == "zbox":
                parts = ((_positive, module),)  # its weights are positive, so nothing else counts
            before = module
            yield module, parts
        if bounded:
            raise NetworkError("deep Taylor decomposition needs a Conv1d or Linear; found none")


def explain_steps(steps: list[Step], x: Tensor, target: Target) -> Explanation:
    """Explains the positive part of the target's logit."""
    outputs = run_steps(steps, x.requires_grad_())
    logits = outputs.detach()
    if logits.dim() != 2:
        found = tuple(logits.shape)
        raise NetworkError(f"the network must return logits (batch, classes); found {found}")
    classes = _classes(logits, target).unsqueeze(1)
    wanted = torch.zeros_like(logits).scatter(1, classes, logits.gather(1, classes).relu())
    (relevance,) = torch.autograd.grad(outputs, x, wanted)
    return Explanation(logits, relevance)


def _classes(logits: Tensor, target: Target) -> Tensor:
    n_windows, n_classes = logits.shape
    if isinstance(target, str) and target == "predicted":
        return logits.argmax(dim=1)
    numbers = target if isinstance(target, (int, Tensor)) else []
    classes = torch.as_tensor(numbers, device=logits.device)
    classes = classes if classes.dim() else classes.expand(n_windows)
    fits = classes.shape == (n_windows,) and not classes.is_floating_point()
    if not fits or classes.min() < 0 or classes.max() >= n_classes:
        wanted = f"a target within 0 to {n_classes - 1}, one or {n_windows}, or 'predicted'"
        found = f"{target!r}, {tuple(classes.shape)} of {classes.dtype}"
        raise DataError(f"expected {wanted}; found {found}")
    return classes.long()


def frozen_copy(network: nn.Module) -> nn.Module:
    """Returns a copy in eval mode and float32, without gradients and hooks.

    Batch normalisation that processes share, or that has no weights, becomes a plain one.
    """
    network = getattr(network, "_orig_mod", network)  # what torch.compile wraps
    no_hooks: dict[int, Any] = {}  # they belong to others and may hold a whole trainer
    for module in network.modules():
        hooks = [value for name, value in vars(module).items() if "_hooks" in name]
        no_hooks |= {id(value): type(value)() for value in hooks if isinstance(value, dict)}
    copied = copy.deepcopy(network, no_hooks)
    kept: Any
    for path, kept in [*copied.named_modules(remove_duplicate=False)][1:]:
        # The second is what Lightning leaves behind after a fit.
        shared = type(kept).__name__ in ("SyncBatchNorm", "_BatchNormXd")
        if shared or (isinstance(kept, nn.BatchNorm1d) and not kept.affine):
            tracked = kept.running_mean is not None
            plain = nn.BatchNorm1d(kept.num_features, kept.eps, track_running_stats=tracked)
            plain.load_state_dict(kept.state_dict(), strict=kept.affine)
            copied.set_submodule(path, plain.to(next((t.device for t in kept.buffers()), None)))
    return copied.eval().float().requires_grad_(False)


def traced(network: nn.Module, x: Tensor) -> Any:
    """Returns the output for ``x``; :func:`layers_to` says which layers led to its tensors.

    Raises NetworkError if the network computes by anything but chains of ``LAYERS``, and DataError
    if it does not take such windows.
    """
    layers = {module: Layer(path or "network", module) for path, module in network.named_modules()}
    taken: list[tuple[Layer, ...]] = []

    def take(module: nn.Module, args: tuple[Any, ...]) -> None:
        layer = layers[module]
        if type(module) not in LAYERS:
            kinds = ", ".join(dict.fromkeys(kind.__name__ for kind in LAYERS))
            raise NetworkError(
                f"deep Taylor decomposition covers chains of {kinds}; found {layer}. Replace it, "
                "or explain the part without it"
            )
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is None:
            raise NetworkError(
                f"{layer} keeps no running statistics, so that a window's relevance would depend "
                "on its batch; set track_running_stats=True and train again"
            )
        taken.append(layers_to(args[0], f"the input of {layer}"))

    def give(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:  # noqa: ARG001
        output.traced = ((*taken.pop(), layers[module]), output._version)

    start: Any = x
    start.traced = ((), x._version)
    leaves = [module for module in layers if next(module.children(), None) is None]
    handles = [leaf.register_forward_pre_hook(take) for leaf in leaves]
    handles += [leaf.register_forward_hook(give) for leaf in leaves]
    try:
        with torch.no_grad():
            return network(x)
    except RuntimeError as error:
        found = f"{tuple(x.shape[1:])} (channels, time)"
        raise DataError(f"the network takes no windows of {found}: {error}") from error
    finally:
        for handle in handles:
            handle.remove()


def layers_to(tensor: Any, where: str) -> tuple[Layer, ...]:
    """Returns the layers from the input to a tensor of a traced pass.

    Raises NetworkError if no layer returned the tensor, or it was changed in place since.
    """
    layers, version = getattr(tensor, "traced", ((), None))
    if version is None or version != tensor._version:  # the version counts changes
        raise NetworkError(
            f"{where} is not the output of a layer: a functional call or a residual is before it. "
            "Deep Taylor decomposition needs a chain of modules"
        )
    return tuple(layers)


def chain_of(layers: tuple[Layer, ...], *, merge: bool) -> list[Layer]:
    """Returns copies of the layers that compute something, batch normalisation merged if asked.

    Raises NetworkError if the layer before a batch normalisation cannot take it.
    """
    chain = [Layer(p, copy.deepcopy(m)) for p, m in layers if not isinstance(m, IDENTITIES)]
    modules: list[Any] = [layer.module for layer in chain]
    for module in modules:
        if isinstance(module, nn.ReLU):
            module.inplace = False  # what it would overwrite is needed for its gradient
    norms = [i for i, module in enumerate(modules) if isinstance(module, nn.BatchNorm1d)]
    if not merge or not norms:
        return chain
    for i in norms:
        before = modules[i - 1] if i else None
        if not isinstance(before, WEIGHTED) or len(before.weight) != modules[i].num_features:
            found = f"{chain[i]} follows {chain[i - 1] if i else 'the input'}"
            raise NetworkError(f"{found}, not its Conv1d or Linear; set rules='innvestigate'")
    with torch.no_grad():  # zennit merges in order of registration, here that of computation
        merged = SequentialMergeBatchNorm().apply(nn.Sequential(*modules))
    assert len(merged) == len(norms)
    for module in modules:  # zennit 1.0 lays what it merged over the parameters, as attributes
        for name in vars(module).keys() & {"weight", "bias"}:
            setattr(module, name, nn.Parameter(vars(module).pop(name), requires_grad=False))
    return [layer for i, layer in enumerate(chain) if i not in norms]

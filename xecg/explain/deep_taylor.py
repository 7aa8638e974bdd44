"""Deep Taylor decomposition: how much each sample of an ECG contributed to a network's logit."""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from xecg.errors import ConfigError, DataError, NetworkError
from xecg.explain.batch_norm import merge_batch_norms
from xecg.explain.chain import Chain, copy_chains
from xecg.explain.rule_sets import Rules, innvestigate_rules, zbox_rules
from xecg.explain.rules import rules_on

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

"""Perturbation curves: what a decision loses when relevant samples are taken away.

Source: Samek et al., IEEE Trans Neural Netw Learn Syst 2017, doi 10.1109/TNNLS.2016.2599820
(pixel flipping of Bach et al. 2015, most and least relevant first).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError, DataError
from xecg.explain.faithfulness.decisions import Decisions, logits_of
from xecg.explain.faithfulness.filling import FILLINGS

MEASURES = ("probability", "logit")
ORDERS = ("MoRF", "LeRF")  # most and least relevant first

_BATCH = 128  # signals in one forward pass


@dataclass(frozen=True, eq=False)
class PerturbationCurves:
    """Outputs for the explained class while more and more segments are replaced.

    Args:
        shares: Share of the segments that is replaced, ``(steps + 1,)``, from 0 to 1.
        outputs: By order (``ORDERS``) and measure (``MEASURES``), ``(n, steps + 1)``.
    """

    shares: NDArray[np.float64]
    outputs: dict[str, dict[str, NDArray[np.float64]]]

    def change(self, order: str, measure: str) -> NDArray[np.float64]:
        """Output minus the output of the whole window, ``(n, steps + 1)``."""
        output = self.outputs[order][measure]
        return output - output[:, :1]

    def area(self, measure: str) -> NDArray[np.float64]:
        """Area between the curves of each window, LeRF above MoRF, ``(n,)``.

        It is the mean difference over the shares: positive where the map puts what matters first,
        0 on average for a random order.
        """
        gap = self.outputs["LeRF"][measure] - self.outputs["MoRF"][measure]
        heights = (gap[:, 1:] + gap[:, :-1]) / 2
        area: NDArray[np.float64] = heights @ np.diff(self.shares)
        return area


def perturbation_curves(
    decisions: Decisions,
    ranks: NDArray[np.int64],
    filling: str,
    *,
    length: int,
    steps: int = 20,
    done: Callable[[int], None] = lambda _: None,
) -> PerturbationCurves:
    """Replace segments in the order of their relevance, and in the reverse order.

    Args:
        decisions: Whose outputs are watched, for the class that each window has there.
        ranks: Rank of each segment, ``(n, segments)``; 0 is the most relevant.
        filling: A name in ``FILLINGS``.
        length: Of a segment, in samples.
        steps: Number of equal steps from the whole window to one that is all replaced.
        done: Told how many more signals went through the network, again and again.

    Raises:
        ConfigError: No filling has that name, or there is no step.
        DataError: The ranks are of other windows or segments.
    """
    if filling not in FILLINGS:
        raise ConfigError(f"filling must be one of {', '.join(FILLINGS)}; found {filling!r}")
    n_segments = -(-decisions.x.shape[-1] // length)
    if ranks.shape != (len(decisions), n_segments):
        raise DataError(f"Expected ranks {(len(decisions), n_segments)}, found {ranks.shape}.")
    if not 1 <= steps <= n_segments:
        raise ConfigError(f"steps must be within 1 to {n_segments}; found {steps}")
    shares = np.linspace(0, 1, steps + 1)
    replaced = np.rint(shares * n_segments).astype(np.int64)
    outputs = {}
    for order, places in zip(ORDERS, (ranks, n_segments - 1 - ranks), strict=True):
        parts = []
        for signals, classes in _perturbed(decisions, places, replaced, filling, length):
            parts.append(_outputs(logits_of(decisions.network, signals), classes))
            done(len(signals))
        curves = np.concatenate(parts).reshape(len(decisions), steps + 1, len(MEASURES))
        outputs[order] = {measure: curves[..., i] for i, measure in enumerate(MEASURES)}
    return PerturbationCurves(replaced / n_segments, outputs)


def _perturbed(
    decisions: Decisions,
    places: NDArray[np.int64],
    replaced: NDArray[np.int64],
    filling: str,
    length: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Signals ``(windows * steps, 1, time)`` and their classes, some windows after the other."""
    segment = np.arange(decisions.x.shape[-1]) // length
    size = max(1, _BATCH // len(replaced))
    for first, batch in zip(range(0, len(decisions), size), decisions.batches(size), strict=True):
        place = places[first : first + size][:, None, segment]
        mask = place < replaced[:, None]
        signals = np.broadcast_to(batch.x.numpy(), mask.shape)
        filled = FILLINGS[filling](signals, mask).reshape(-1, 1, mask.shape[-1])
        yield torch.from_numpy(filled), batch.classes.repeat_interleave(len(replaced))


def _outputs(logits: Tensor, classes: Tensor) -> NDArray[np.float64]:
    """Probability and logit of the explained class, ``(n, 2)``."""
    both = torch.stack([logits.softmax(dim=1), logits], dim=2)
    chosen = both[torch.arange(len(classes)), classes]
    return chosen.double().numpy()

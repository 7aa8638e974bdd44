"""What is logged of a probe's relevance: per window, and as one number per branch and class."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xecg.callbacks.probe import Probe
from xecg.explain.summary import BRANCHES, CLASSES, wave_title
from xecg.explain.wave_measures import WAVES, FloatArray, domain_specificity
from xecg.explain.wave_relevance import RelevanceStatistics, relevance_statistics


@dataclass(frozen=True, eq=False)
class BranchRelevance:
    """What one branch says of the ``n`` windows of a probe, and where it looks.

    Args:
        p_af: Probability of AF, ``(n,)``.
        predicted: Class, ``(n,)``.
        right: Whether that is the true class, ``(n,)``.
        maps: Relevance for the predicted class, ``(n, time)``.
        statistics: Measures of the maps.
        correlation: Pearson's, of each map with that of the last epoch; NaN where the prediction
            was not right both times, ``(n,)``.
    """

    p_af: FloatArray
    predicted: NDArray[np.int64]
    right: NDArray[np.bool_]
    maps: Tensor
    statistics: RelevanceStatistics
    correlation: FloatArray

    def measured(self, classes: NDArray[np.int64], code: int) -> NDArray[np.bool_]:
        """Windows of a class that means are taken over: rightly predicted, with relevance."""
        measured: NDArray[np.bool_] = (classes == code) & self.right & self.statistics.valid
        return measured


def measure_branch(
    probe: Probe, logits: Tensor, maps: Tensor, last: Tensor | None
) -> BranchRelevance:
    """Measure the relevance that a branch gave to a probe.

    Args:
        probe: The windows.
        logits: ``(n, 2)``.
        maps: Relevance for the class of the higher logit, ``(n, time)``.
        last: What :func:`memorable` kept of the last epoch; None: there was none.
    """
    predicted = logits.argmax(dim=1).numpy()
    right = (predicted == probe.classes) & logits.isfinite().all(dim=1).numpy()
    kept = torch.full_like(maps, torch.nan) if last is None else last.float()
    return BranchRelevance(
        p_af=logits.double().softmax(dim=1)[:, 1].numpy(),
        predicted=predicted,
        right=right,
        maps=maps,
        statistics=relevance_statistics(
            maps.numpy(), probe.r_peaks, probe.sampling_rate, logits=logits.amax(dim=1).numpy()
        ),
        correlation=np.where(right, _pearson(maps, kept).numpy(), np.nan),
    )


def memorable(branch: BranchRelevance) -> Tensor:
    """The maps as the next epoch compares its own with: float16 in [0, 1], zero where wrong."""
    highest = branch.maps.amax(dim=1, keepdim=True).clamp_min(torch.finfo().tiny)
    return (branch.maps / highest * torch.from_numpy(branch.right)[:, None]).half()


def relevance_scalars(
    branches: Mapping[str, BranchRelevance], classes: NDArray[np.int64]
) -> dict[str, float]:
    """Means over the rightly predicted windows of each class, as in the published tables.

    The names are the same in every epoch; a mean without a window is NaN.

    Args:
        branches: Measures by branch.
        classes: True class of each window, ``(n,)``.

    Returns:
        By ``<branch>/<class>/<measure>``: ``enrichment_<wave>``, ``domain_specificity`` (of the
        mean enrichments), ``conservation``, ``gini``, ``map_correlation``, and the counts ``n``
        (windows that the means are over), ``n_right`` and ``n_windows``.
    """
    return {
        f"{name}/{slug(rhythm)}/{measure}": value
        for name, branch in branches.items()
        for code, rhythm in enumerate(CLASSES)
        for measure, value in _class_scalars(name, branch, classes, code).items()
    }


def enrichment_name(wave: str, rhythm: str) -> str:
    """Name of a wave's enrichment; that of P says in AF that it is where P would be."""
    return f"enrichment_{slug(wave_title(wave, rhythm))}"


def slug(title: str) -> str:
    """A title as part of a name: ``ST-T`` becomes ``st_t``."""
    return re.sub(r"\W+", "_", title.lower())


def _class_scalars(
    name: str, branch: BranchRelevance, classes: NDArray[np.int64], code: int
) -> dict[str, float]:
    chosen = branch.measured(classes, code)
    statistics = branch.statistics
    enrichment = {wave: _mean(statistics.enrichment[wave][chosen]) for wave in WAVES}
    scalars = {enrichment_name(wave, CLASSES[code]): value for wave, value in enrichment.items()}
    if name in BRANCHES:  # another branch has no wave of its own
        specificity = domain_specificity(enrichment["P"], enrichment["QRS"], name)
        scalars["domain_specificity"] = float(specificity)
    return scalars | {
        "conservation": _mean(statistics.conservation[chosen]),
        "gini": _mean(statistics.gini[chosen]),
        "map_correlation": _mean(branch.correlation[chosen]),
        "n": float(chosen.sum()),
        "n_right": float(branch.right[classes == code].sum()),
        "n_windows": float((classes == code).sum()),
    }


def _mean(values: FloatArray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else float("nan")


def _pearson(maps: Tensor, others: Tensor) -> Tensor:
    """Of each row with the same row; NaN where either is constant or unknown."""
    x = maps - maps.mean(dim=1, keepdim=True)
    y = others - others.mean(dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    correlation: Tensor = torch.einsum("nt,nt->n", x, y) / norms
    return correlation

"""Validation windows that are explained again and again, and what is measured of each branch."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError
from xecg.explain.deep_taylor import Explanation
from xecg.explain.relevance import (
    CLASSES,
    FEWEST_BEATS,
    OWN_WAVE,
    SPECIFICITY,
    domain_specificity,
    enrichment_column,
    wave_relevance,
    wave_title,
)

TITLES: Mapping[int, str] = {0: CLASSES[0], 1: CLASSES[1], -1: "unlabelled"}
CORRELATION = "map_correlation"
METHODS = ("r_peaks", "column", "__getitems__")


@dataclass(frozen=True, eq=False)
class WatchedWindows:
    """Validation windows with ``FEWEST_BEATS`` R peaks or more that are explained every time.

    Args:
        signals: ``(n, 1, time)`` float32, as the network reads them.
        r_peaks: R peaks of each window, in samples.
        sampling_rate: Sampling rate in Hz.
        index: A row a window: ``record``, ``lead``, ``start_s``, and ``af``: 1, 0, or -1.
    """

    signals: Tensor
    r_peaks: list[NDArray[np.int64]]
    sampling_rate: float
    index: pd.DataFrame

    @property
    def classes(self) -> list[int]:
        """Keys of ``TITLES``: non-AF and AF, or unlabelled alone."""
        return [-1] if self.index["af"].max() < 0 else [0, 1]

    def digest(self) -> str:
        """A short name for the windows' content."""
        return hashlib.blake2b(self.signals.numpy().tobytes(), digest_size=16).hexdigest()

    def to_draw(self, n: int) -> list[int]:
        """Rows of ``n`` windows, half of them AF where windows are labelled."""
        number_in_class = self.index.groupby("af").cumcount()
        return sorted(number_in_class.sort_values(kind="stable").index[:n])


def watch(dataset: Any, n_windows: int, sampling_rate: float, seed: int) -> WatchedWindows:
    """Draws windows: half AF, or as many as there are; without any label, unlabelled ones.

    Args:
        dataset: Validation data with ``r_peaks(position)``, ``__getitems__(positions)``, and
            ``column(name)`` of every window: ``record``, ``lead``, ``start_s``, ``af`` (1, 0, -1).
        n_windows: Number of windows.
        sampling_rate: Sampling rate of the windows, in Hz.
        seed: Random seed of the draw.

    Raises:
        ConfigError: If the data is of another kind, or no window has enough R peaks.
    """
    if missing := [name for name in METHODS if not hasattr(dataset, name)]:
        raise ConfigError(
            f"relevance logging needs validation data with {', '.join(METHODS)}, such as that of "
            f"xecg.data.AFData; found {type(dataset).__name__} without {', '.join(missing)}"
        )
    af = np.asarray(dataset.column("af")).astype(np.int64)
    rng = np.random.default_rng(seed)
    sizes = {0: n_windows - n_windows // 2, 1: n_windows // 2}
    chosen: list[int] = []
    for code, size in sizes.items() if af.max() >= 0 else [(-1, n_windows)]:
        positions = rng.permutation(np.flatnonzero(af == code)).tolist()
        able = (p for p in positions if len(dataset.r_peaks(p)) >= FEWEST_BEATS)
        chosen += islice(able, size)
    if not chosen:
        raise ConfigError(
            f"relevance logging needs validation windows with {FEWEST_BEATS} R peaks or more; "
            f"found none of {len(af)}"
        )
    names = "record", "lead", "start_s"
    index = {name: np.asarray(dataset.column(name))[chosen] for name in names}
    return WatchedWindows(
        signals=dataset.__getitems__(chosen).signal,
        r_peaks=[np.asarray(dataset.r_peaks(position), np.int64) for position in chosen],
        sampling_rate=sampling_rate,
        index=pd.DataFrame({**index, "af": af[chosen]}),
    )


@dataclass(frozen=True, eq=False)
class BranchRelevance:
    """Output of one branch for the ``n`` watched windows, and where it looks.

    Args:
        p_af: Probability of AF, ``(n,)``; None where the branch does not classify.
        right: Whether the branch predicts the true class, or has an output if it does not
            classify, ``(n,)``.
        maps: Relevance ``(n, time)``.
        table: Columns of :func:`wave_relevance`, and the correlation of each map with that of the
            last epoch; NaN where the prediction was not right both times.
    """

    p_af: NDArray[np.float64] | None
    right: NDArray[np.bool_]
    maps: Tensor
    table: pd.DataFrame

    def memory(self) -> Tensor:
        """The maps for comparison with the next epoch's: float16 in [0, 1], zero where wrong."""
        highest = self.maps.amax(dim=1, keepdim=True).clamp_min(torch.finfo().tiny)
        return (self.maps / highest * torch.from_numpy(self.right)[:, None]).half()


def measure_branch(
    windows: WatchedWindows,
    explanation: Explanation,
    last: Tensor | None,
    *,
    classifies: bool,
    statistics: Sequence[str] | None = None,
) -> BranchRelevance:
    """Measures an explanation of the watched windows; ``last`` is the last epoch's memory."""
    logits, maps = explanation.logits, explanation.relevance[:, 0]
    right = logits.isfinite().all(dim=1).numpy()
    if classifies:
        right = right & (logits.argmax(dim=1).numpy() == windows.index["af"].to_numpy())
    explained, rate = logits.amax(dim=1).numpy(), windows.sampling_rate
    table = wave_relevance(
        maps.numpy(), windows.r_peaks, rate, logits=explained, statistics=statistics
    )
    kept = torch.full_like(maps, torch.nan) if last is None else last.float()
    table[CORRELATION] = np.where(right, _pearson(maps, kept).numpy(), np.nan)
    p_af = logits.double().softmax(dim=1)[:, 1].numpy() if classifies else None
    return BranchRelevance(p_af, right, maps, table)


def class_means(
    name: str, branch: BranchRelevance, in_class: NDArray[np.bool_], rhythm: str
) -> tuple[dict[str, float], pd.DataFrame]:
    """Means over the rightly predicted windows of a class, and the columns that are averaged.

    Returns:
        The mean of each column under its name in the log; the domain specificity of the mean
        enrichments; ``n`` (windows that the means are over), ``n_right`` and ``n_windows``. The
        names are the same in every epoch; a mean without a window is NaN.
    """
    p, p_here, qrs = map(enrichment_column, ("P", wave_title("P", rhythm), "QRS"))
    columns = branch.table[in_class & branch.right].rename(columns={p: p_here})
    means = {str(key): float(mean) for key, mean in columns.mean().items()}
    if name in OWN_WAVE and {p_here, qrs} <= means.keys():
        means[SPECIFICITY] = float(domain_specificity(means[p_here], means[qrs], name))
    means["n"] = float(columns.drop(columns=CORRELATION).notna().any(axis=1).sum())
    means["n_right"] = float((in_class & branch.right).sum())
    means["n_windows"] = float(in_class.sum())
    return means, columns


def _pearson(maps: Tensor, others: Tensor) -> Tensor:
    """Of each row with the same row; NaN where either is constant or unknown."""
    x = maps - maps.mean(dim=1, keepdim=True)
    y = others - others.mean(dim=1, keepdim=True)
    norms = torch.linalg.vector_norm(x, dim=1) * torch.linalg.vector_norm(y, dim=1)
    correlation: Tensor = torch.einsum("nt,nt->n", x, y) / norms
    return correlation

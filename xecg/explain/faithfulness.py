"""Whether maps show what a network used: perturbation, randomised weights, agreement of networks.

Maps are compared in segments of 20 ms, shorter than any wave, because maps of strided networks are
ragged. Relevance is the absolute attribution, so that its order means the same for all methods.
Two controls know no network: the steepness of the signal and a random map.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from scipy.stats import rankdata
from torch import Tensor, nn
from tqdm import tqdm

from xecg.errors import ConfigError, DataError
from xecg.explain.attributions import ATTRIBUTIONS, Attribution, branch_outputs
from xecg.explain.chain import frozen_copy
from xecg.explain.relevance import CLASSES
from xecg.metrics.bootstrap import FloatArray, divide, intervals
from xecg.networks.branch import Branch
from xecg.networks.xecgarch import XECGArch

STEEPNESS, RANDOM = CONTROLS = ("steepness", "random")
METHODS = ("innvestigate", "zbox", "gradient", "input_x_gradient", "integrated_gradients")
FILLINGS, MEASURES = ("interpolation", "zero"), ("probability", "logit")
ORDERS = {"MoRF": "most relevant first", "LeRF": "least relevant first"}
COEFFICIENTS = ("spearman", "pearson")
ALL = "all"

_ATTRIBUTED, _FORWARD = 16, 128  # windows at a time


@dataclass(frozen=True)
class Settings:
    """How maps are evaluated; ConfigError if a method is unknown or a number not positive."""

    methods: tuple[str, ...] = METHODS  # names in ATTRIBUTIONS, or class paths; without controls
    segment_ms: float = 20.0
    steps: int = 20  # of a perturbation curve
    draws: int = 20  # random networks; each window meets one of them
    seed: int = 0  # of maps, ties, weights and bootstrap

    def __post_init__(self) -> None:
        if not self.methods:
            raise ConfigError("methods: expected at least one, found none")
        for name in self.methods:
            ATTRIBUTIONS[name]  # refuses an unknown one
        for name in ("segment_ms", "steps", "draws"):
            if not (value := getattr(self, name)) > 0:
                raise ConfigError(f"{name}: expected a number above 0, found {value}")


@dataclass(frozen=True, eq=False)
class Decisions:
    """Decisions of one branch, and how relevant each segment of each window is for them."""

    network: nn.Module  # in eval mode, (batch, 1, time) to logits (batch, classes)
    x: Tensor  # windows (n, 1, time), float32
    classes: Tensor  # explained class of each window, int64 (n,)
    relevance: dict[str, FloatArray]  # of segments by each method, (n, segments)


def evaluate_maps(
    networks: Sequence[XECGArch],
    x: NDArray[np.float32],
    groups: NDArray[np.str_],
    sampling_rate: float,
    settings: Settings,
) -> dict[str, pd.DataFrame]:
    """Evaluates the maps of each branch of the first network; compares those of all networks.

    Takes networks with the same branches, scaled windows ``(n, time)`` and the person or record of
    each. Returns tables of means with 95 % intervals: ``curves``, ``areas``, ``gains``,
    ``randomisation`` and, of several networks, ``agreement``. Raises ConfigError if there are more
    steps than segments or a method cannot run here, DataError if there is no window.
    """
    if x.ndim != 2 or not len(x) or groups.shape != x.shape[:1]:
        shapes = f"{x.shape} and {groups.shape}"
        raise DataError(f"expected windows (n, time) and n groups, found shapes {shapes}")
    length = max(1, round(settings.segment_ms * sampling_rate / 1000))
    n_segments = -(-x.shape[1] // length)
    if settings.steps > n_segments:
        raise ConfigError(f"steps: expected at most {n_segments}, found {settings.steps}")
    windows = torch.from_numpy(np.ascontiguousarray(x, np.float32)).unsqueeze(1)
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for branch in networks[0].branches:
        explained = [_explain(network, branch, windows, length, settings) for network in networks]
        of_first = explained[0], groups, length, settings
        for name, table in (*perturb(*of_first), *randomise(networks[0], branch, *of_first)):
            tables[name].append(table.assign(branch=branch))
        if len(networks) > 1:
            tables["agreement"].append(agree(explained, groups, settings).assign(branch=branch))
    joined = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return {
        name: table[["branch", *table.columns.drop("branch")]] for name, table in joined.items()
    }


def _explain(
    network: XECGArch, branch: str, x: Tensor, length: int, settings: Settings
) -> Decisions:
    """Explains the decisions of a branch by each method and control."""
    output = branch_outputs(frozen_copy(network))[branch].eval()
    names = *settings.methods, *CONTROLS
    methods = {name: _method(name, output, settings.seed) for name in names}
    classes = _logits(output, x).argmax(dim=1)
    cases = tqdm(methods.items(), f"explain {branch}", unit="map", disable=None)
    relevance = {name: segment_relevance(method, x, classes, length) for name, method in cases}
    return Decisions(output, x, classes, relevance)


def _method(name: str, network: nn.Module, seed: int) -> Attribution:
    if name == STEEPNESS:
        return lambda x, _: torch.gradient(x, dim=-1)[0]
    if name == RANDOM:
        generator = torch.Generator().manual_seed(seed)
        return lambda x, _: torch.rand(x.shape, generator=generator)
    return ATTRIBUTIONS[name](network)


def segment_relevance(method: Attribution, x: Tensor, classes: Tensor, length: int) -> FloatArray:
    """Returns the mean absolute attribution of segments of ``length`` samples, by window."""
    batches = zip(torch.split(x, _ATTRIBUTED), torch.split(classes, _ATTRIBUTED), strict=True)
    with torch.inference_mode(False), torch.enable_grad():
        maps = [method(*batch).detach().squeeze(1).abs().double().numpy() for batch in batches]
    starts = np.arange(0, x.shape[-1], length)  # the last segment may be shorter
    sums = np.add.reduceat(np.concatenate(maps), starts, axis=1)
    means: FloatArray = sums / np.diff(starts, append=x.shape[-1])
    return means


def relevance_ranks(relevance: FloatArray, seed: int) -> NDArray[np.int64]:
    """Returns the rank of each segment within its window, ``(n, segments)``; 0 is most relevant."""
    ties = np.random.default_rng(seed).random(relevance.shape)  # else time ranks where maps are 0
    return np.lexsort((ties, -relevance), axis=1).argsort(axis=1)


def perturb(
    decisions: Decisions, groups: NDArray[np.str_], length: int, settings: Settings
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Perturbation: segments are replaced, the most or the least relevant ones first.

    The area between both curves of the output for the explained class is above 0 where the map
    puts first what matters, and 0 on average for a random order, in which an empty map (all zero)
    ranks. Gains are areas minus that of the steepness. Interpolation takes a wave away and adds no
    edge; zero, the lowest value of a min-max scaled window, makes each gap a pit with two edges.

    Source: Samek et al., IEEE Trans Neural Netw Learn Syst 2017, doi 10.1109/TNNLS.2016.2599820.
    """
    cases = [*product(decisions.relevance, FILLINGS)]
    found = {}
    for name, filling in tqdm(cases, "perturb", unit="curve", disable=None):
        ranks = relevance_ranks(decisions.relevance[name], settings.seed)
        shares, outputs = curves(decisions, ranks, filling, length, settings.steps)
        found[name, filling] = outputs, area_between(shares, outputs)
    classes = decisions.classes.numpy()
    by_class = {ALL: np.arange(len(classes))}
    by_class |= {CLASSES[code]: np.flatnonzero(classes == code) for code in np.unique(classes)}
    for (name, filling), (outputs, area) in found.items():
        gain = area - found[STEEPNESS, filling][1]
        empty = decisions.relevance[name].max(axis=1) == 0
        for predicted, rows in by_class.items():
            key = {"method": name, "filling": filling, "predicted": predicted}
            chosen = groups[rows], settings.seed
            for (order, measure), output in outputs.items():
                change = (output - output[:, :1])[rows]
                at = key | {"order": order, "measure": measure, "share": shares}
                yield "curves", _means(change, *chosen, at)
            key["measure"] = MEASURES
            yield "areas", _means(area[rows], *chosen, key).assign(empty_maps=empty[rows].sum())
            if name != STEEPNESS:
                yield "gains", _means(gain[rows], *chosen, key)


def curves(
    decisions: Decisions, ranks: NDArray[np.int64], filling: str, length: int, steps: int
) -> tuple[FloatArray, dict[tuple[str, str], FloatArray]]:
    """Replaces segments in the order of ``ranks (n, segments)``, in equal ``steps``.

    Returns the shares of segments that are replaced, ``(steps + 1,)``, and by order and measure
    the outputs for the explained class, ``(n, steps + 1)``.
    """
    n, n_segments = ranks.shape
    n_replaced = np.rint(np.linspace(0, 1, steps + 1) * n_segments).astype(np.int64)
    segment, signals = np.arange(decisions.x.shape[-1]) // length, decisions.x.squeeze(1).numpy()
    batches = np.array_split(np.arange(n), max(1, -(-n * (steps + 1) // _FORWARD)))
    outputs: dict[tuple[str, str], FloatArray] = {}
    for order in ORDERS:
        places = ranks if order == "MoRF" else n_segments - 1 - ranks
        parts = []
        for rows in batches:
            replaced = places[rows][:, None, segment] < n_replaced[:, None]
            repeated = np.broadcast_to(signals[rows][:, None], replaced.shape)
            filled = fill(repeated, replaced, filling)
            x = torch.from_numpy(filled.reshape(-1, 1, len(segment)))
            parts.append(_logits(decisions.network, x).reshape(len(rows), steps + 1, -1))
        logits = torch.cat(parts).double()
        chosen = decisions.classes[:, None, None].expand(-1, steps + 1, 1)
        for measure, values in zip(MEASURES, (logits.softmax(dim=2), logits), strict=True):
            outputs[order, measure] = values.gather(2, chosen).squeeze(2).numpy()
    return n_replaced / n_segments, outputs


def area_between(shares: FloatArray, outputs: dict[tuple[str, str], FloatArray]) -> FloatArray:
    """Returns the area of each window between both curves by each of ``MEASURES``, ``(n, 2)``."""
    gaps = [outputs["LeRF", measure] - outputs["MoRF", measure] for measure in MEASURES]
    return np.stack([trapezoid(gap, shares, axis=1) for gap in gaps], axis=1)


def fill(
    signals: NDArray[np.float32], replaced: NDArray[np.bool_], filling: str
) -> NDArray[np.float32]:
    """Returns signals ``(..., time)`` without the samples that are replaced, ``(..., time)``.

    ``"interpolation"`` draws straight lines between the kept samples, constant beyond the first
    and last, and the mean where none is kept. ``"zero"`` is zero.
    """
    filled = np.ascontiguousarray(np.where(replaced, np.float32(0), signals))
    if filling == "interpolation":
        rows = zip(*(a.reshape(-1, a.shape[-1]) for a in (filled, signals, replaced)), strict=True)
        for row, signal, gone in rows:
            kept = np.flatnonzero(~gone)
            known = signal[kept] if kept.size else signal.mean(keepdims=True)
            row[gone] = np.interp(np.flatnonzero(gone), kept if kept.size else [0], known)
    return filled


def randomise(
    network: XECGArch,
    branch: str,
    decisions: Decisions,
    groups: NDArray[np.str_],
    length: int,
    settings: Settings,
) -> Iterator[tuple[str, pd.DataFrame]]:
    """Randomisation: correlation of maps with those under random weights, from the output down.

    A map that stays the same shows the input and the architecture, not what was learnt (Adebayo et
    al., NeurIPS 2018, arXiv 1810.03292; for rules that follow positive weights Sixt et al., ICML
    2020, arXiv 1912.09818). The explained class is that of the trained network. Each person meets
    one random network, and intervals are over these.
    """
    names, codes = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(settings.seed).permutation(len(names))[codes] % settings.draws
    fresh = fresh_networks(network, settings.draws, settings.seed)
    cases = [*product(settings.methods, np.unique(draws))]
    found: dict[tuple[str, str], FloatArray] = {}
    for name, draw in tqdm(cases, "randomise", unit="cascade", disable=None):
        rows = np.flatnonzero(draws == draw)
        x, classes = decisions.x[rows], decisions.classes[rows]
        for stage, output in cascade(network, fresh[draw], branch):
            maps = segment_relevance(_method(name, output, settings.seed), x, classes, length)
            values = found.setdefault((name, stage), np.full((len(groups), 2), np.nan))
            values[rows] = correlations(decisions.relevance[name][rows], maps)
    for (name, stage), values in found.items():
        key = {"method": name, "stage": stage, "coefficient": COEFFICIENTS}
        yield "randomisation", _means(values, draws, settings.seed, key)


def fresh_networks(network: XECGArch, n: int, seed: int) -> list[XECGArch]:
    """Returns new networks of the same architecture; torch's random state stays as it is."""
    branches: Any = network.branches.items()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [XECGArch({k: Branch(b.specs, b.width) for k, b in branches}) for _ in range(n)]


def cascade(trained: XECGArch, fresh: XECGArch, branch: str) -> Iterator[tuple[str, nn.Module]]:
    """Yields stages, ``head``, ``block8`` to ``block1``, and the branch with one more part random.

    A random part has the weights and running statistics of ``fresh``.
    """
    mixed = frozen_copy(trained)
    output, new = branch_outputs(mixed)[branch].eval(), _parts(fresh, branch)
    for stage, part in _parts(mixed, branch).items():
        part.load_state_dict(new[stage].state_dict())
        yield stage, output


def _parts(network: Any, branch: str) -> dict[str, nn.Module]:
    blocks = [*network.branches[branch].named_children()]
    return {"head": network.heads[branch], **dict(reversed(blocks))}


def agree(
    explained: Sequence[Decisions], groups: NDArray[np.str_], settings: Settings
) -> pd.DataFrame:
    """Agreement: mean correlation of maps over all pairs of networks that agree on the class."""
    tables = []
    for name in settings.methods:
        pairs = []
        for one, other in combinations(explained, 2):
            same = (one.classes == other.classes).numpy()[:, None]
            found = correlations(one.relevance[name], other.relevance[name])
            pairs.append(np.where(same, found, np.nan))
        values = divide(np.nansum(pairs, axis=0), np.sum(~np.isnan(pairs), axis=0))
        key = {"method": name, "networks": len(explained), "coefficient": COEFFICIENTS}
        tables.append(_means(values, groups, settings.seed, key))
    return pd.concat(tables, ignore_index=True)


def correlations(a: FloatArray, b: FloatArray) -> FloatArray:
    """Returns Spearman's and Pearson's coefficient of rows, ``(n, 2)``; NaN for constant ones."""
    columns = []
    for rows in ((rankdata(a, axis=1), rankdata(b, axis=1)), (a, b)):
        x, y = (row - row.mean(axis=1, keepdims=True) for row in rows)
        norms = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
        columns.append(divide((x * y).sum(axis=1), norms))
    return np.stack(columns, axis=1)


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        logits = torch.cat([network(batch) for batch in torch.split(x, _FORWARD)])
    return logits.clone()  # an ordinary tensor, that may enter a graph


def _means(
    values: FloatArray, groups: NDArray[Any], seed: int, key: dict[str, Any]
) -> pd.DataFrame:
    """Returns the mean and 95 % interval of each column ``(n, columns)`` without NaN, as rows."""
    by_group = pd.DataFrame(values).groupby(groups)
    sums, counts = by_group.sum().to_numpy(), by_group.count().to_numpy(np.float64)

    def means(weights: FloatArray) -> dict[Any, FloatArray]:
        return dict(enumerate(divide(weights @ sums, weights @ counts).T))

    found = intervals(means, np.arange(len(sums)), seed=seed)
    table = pd.DataFrame([vars(one) for one in found.values()])[["value", "low", "high"]]
    table["windows"] = counts.sum(axis=0).astype(int)
    table["groups"] = np.count_nonzero(counts, axis=0)
    return pd.DataFrame(key | dict(table))

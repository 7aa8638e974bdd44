"""Whether maps show what a network used: perturbation, randomised weights, agreement of networks.

Maps are compared in segments of 20 ms, shorter than any wave, because maps of strided networks are
ragged. Relevance is the absolute attribution, so that its order means the same for all methods.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.integrate import trapezoid
from torch import Tensor, nn
from tqdm import tqdm

from xecg.explain.attributions import ATTRIBUTIONS, Attribution, branch_outputs
from xecg.explain.deep_taylor import frozen_copy
from xecg.explain.effects import bridged
from xecg.metrics.bootstrap import FloatArray, divide, means, row_correlation
from xecg.networks.branch import Branch
from xecg.networks.xecgarch import XECGArch

STEEPNESS, RANDOM = CONTROLS = ("steepness", "random")  # know no network
METHODS = ("innvestigate", "zbox", "gradient", "input_x_gradient", "integrated_gradients")
FILLINGS = ("interpolation", "zero")
SEGMENT_MS = 20.0
STEPS = 20  # of a perturbation curve
DRAWS = 20  # random networks; each person or record meets one of them

_ATTRIBUTED, _FORWARD = 16, 128  # windows at a time


class Decisions(NamedTuple):
    """Decisions of one branch, and how relevant each segment of each window is for them."""

    network: nn.Module  # in eval mode, (batch, 1, time) to logits (batch, classes)
    x: Tensor  # windows (n, 1, time), float32
    classes: Tensor  # explained class of each window, int64 (n,)
    relevance: dict[str, FloatArray]  # of segments by each method, (n, segments)
    length: int  # samples of a segment


def evaluate_maps(
    networks: Sequence[XECGArch],
    x: NDArray[np.float32],
    groups: NDArray[np.str_],
    sampling_rate: float,
    methods: Sequence[str] = METHODS,
    seed: int = 0,
) -> dict[str, pd.DataFrame]:
    """Evaluates the maps of each branch of the first network; compares those of all networks.

    Takes networks with the same branches, scaled windows ``(n, time)`` and the person or record of
    each. Returns tables of means with 95 % intervals. Raises ConfigError if a method is unknown or
    cannot run here.

    - ``areas`` between the curves of the explained class's probability where the least and where
      the most relevant segments are replaced first: above 0 where the map puts first what matters
      (Samek et al., IEEE Trans Neural Netw Learn Syst 2017, doi 10.1109/TNNLS.2016.2599820).
      Interpolation adds no edge; zero, the lowest value of a scaled window, makes pits.
    - ``randomisation``: rank correlation with the map under weights that are random from the output
      down to a stage. A map that stays the same shows not what was learnt (Adebayo et al., NeurIPS
      2018, arXiv 1810.03292; for rules that follow positive weights Sixt et al., ICML 2020, arXiv
      1912.09818). Intervals are over random networks.
    - ``agreement``, of several: mean correlation over pairs that agree on the class.
    """
    length = max(1, round(SEGMENT_MS * sampling_rate / 1000))
    windows = torch.from_numpy(np.ascontiguousarray(x, np.float32)).unsqueeze(1)
    names, codes = np.unique(groups, return_inverse=True)
    draws = np.random.default_rng(seed).permutation(len(names))[codes] % DRAWS
    tables: dict[str, list[pd.DataFrame]] = defaultdict(list)
    for branch in networks[0].branches:
        explained = [_explain(one, branch, windows, methods, length, seed) for one in networks]
        cases = list(product(explained[0].relevance, FILLINGS))
        areas = {
            (name, filling): _area(explained[0], name, filling, seed)
            for name, filling in tqdm(cases, f"perturb {branch}", unit="curve", disable=None)
        }
        stages = randomise(networks[0], branch, explained[0], draws, seed)
        found: dict[str, Any] = {"areas": (areas, ["method", "filling"], groups)}
        found["randomisation"] = stages, ["method", "stage"], draws
        if len(networks) > 1:
            agreed = {(name, len(networks)): agreement(explained, name) for name in methods}
            found["agreement"] = agreed, ["method", "networks"], groups
        for table, (columns, keys, over) in found.items():
            interval = means(pd.DataFrame(columns).rename_axis(columns=keys), over, seed)
            tables[table].append(interval.reset_index().assign(branch=branch))
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def _explain(
    network: XECGArch, branch: str, x: Tensor, methods: Sequence[str], length: int, seed: int
) -> Decisions:
    output = branch_outputs(frozen_copy(network))[branch].eval()
    classes = _logits(output, x).argmax(dim=1)
    cases = tqdm([*methods, *CONTROLS], f"explain {branch}", unit="map", disable=None)
    relevance = {
        name: segment_relevance(_method(name, output, seed), x, classes, length) for name in cases
    }
    return Decisions(output, x, classes, relevance, length)


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
    return np.asarray(sums / np.diff(starts, append=x.shape[-1]))


def relevance_ranks(relevance: FloatArray, seed: int) -> NDArray[np.int64]:
    """Returns the rank of each segment within its window, ``(n, segments)``; 0 is most relevant."""
    ties = np.random.default_rng(seed).random(relevance.shape)  # else time ranks where maps are 0
    return np.lexsort((ties, -relevance), axis=1).argsort(axis=1)


def _area(decisions: Decisions, name: str, filling: str, seed: int) -> FloatArray:
    """Area of each window between the curves of least and most relevant first, ``(n,)``."""
    ranks = relevance_ranks(decisions.relevance[name], seed)
    shares, most = curve(decisions, ranks, filling)
    _, least = curve(decisions, ranks.shape[1] - 1 - ranks, filling)
    return np.asarray(trapezoid(least - most, shares, axis=1))


def curve(decisions: Decisions, ranks: NDArray[Any], filling: str) -> tuple[FloatArray, FloatArray]:
    """Replaces segments in the order of ``ranks (n, segments)``, in equal steps.

    Returns the shares of segments that are replaced, ``(steps + 1,)``, and the probability of the
    explained class, ``(n, steps + 1)``.
    """
    n, n_segments = ranks.shape
    n_replaced = np.rint(np.linspace(0, 1, STEPS + 1) * n_segments).astype(np.int64)
    signals, parts = decisions.x.squeeze(1).numpy(), []
    segment = np.arange(signals.shape[1]) // decisions.length
    for rows in np.array_split(np.arange(n), max(1, -(-n * (STEPS + 1) // _FORWARD))):
        replaced = ranks[rows][:, None, segment] < n_replaced[:, None]
        repeated = np.broadcast_to(signals[rows][:, None], replaced.shape)
        if filling == "interpolation":
            filled = bridged(repeated, replaced)
        else:
            filled = np.where(replaced, np.float32(0), repeated)
        x = torch.from_numpy(filled.reshape(-1, 1, len(segment)))
        parts.append(_logits(decisions.network, x).reshape(len(rows), STEPS + 1, -1))
    probabilities = torch.cat(parts).double().softmax(dim=2)
    chosen = decisions.classes[:, None, None].expand(-1, STEPS + 1, 1)
    return n_replaced / n_segments, probabilities.gather(2, chosen).squeeze(2).numpy()


def randomise(
    network: XECGArch, branch: str, decisions: Decisions, draws: NDArray[np.int64], seed: int
) -> dict[tuple[str, str], FloatArray]:
    """Correlates maps with those for the same class under random weights, ``(n,)`` by stage.

    ``draws`` is the number of the random network that each window meets, ``(n,)``.
    """
    fresh = fresh_networks(network, int(draws.max()) + 1, seed)
    found: dict[tuple[str, str], FloatArray] = {}
    methods = [name for name in decisions.relevance if name not in CONTROLS]
    cases = list(product(methods, np.unique(draws)))
    for name, draw in tqdm(cases, f"randomise {branch}", unit="cascade", disable=None):
        rows = np.flatnonzero(draws == draw)
        x, classes = decisions.x[rows], decisions.classes[rows]
        for stage, output in cascade(network, fresh[draw], branch):
            maps = segment_relevance(_method(name, output, seed), x, classes, decisions.length)
            values = found.setdefault((name, stage), np.full(len(draws), np.nan))
            values[rows] = row_correlation(decisions.relevance[name][rows], maps)
    return found


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
    mixed: Any = frozen_copy(trained)
    output = branch_outputs(mixed)[branch].eval()
    new = dict(fresh.branches[branch].named_children())
    mixed.heads[branch].load_state_dict(fresh.heads[branch].state_dict())
    yield "head", output
    for stage, block in reversed([*mixed.branches[branch].named_children()]):
        block.load_state_dict(new[stage].state_dict())
        yield stage, output


def agreement(explained: Sequence[Decisions], name: str) -> FloatArray:
    """Returns the mean correlation over pairs of networks that agree on the class, ``(n,)``."""
    pairs = []
    for one, other in combinations(explained, 2):
        same = (one.classes == other.classes).numpy()
        found = row_correlation(one.relevance[name], other.relevance[name])
        pairs.append(np.where(same, found, np.nan))
    return divide(np.nansum(pairs, axis=0), np.sum(~np.isnan(pairs), axis=0))


def _logits(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([network(batch) for batch in torch.split(x, _FORWARD)])

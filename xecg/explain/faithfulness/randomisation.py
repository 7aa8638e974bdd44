"""Model-parameter randomisation, cascading from the output down: do maps notice?

A map that stays the same when the weights are replaced by random ones shows the input and the
architecture, not what was learnt (Adebayo et al., NeurIPS 2018, arXiv 1810.03292). Rules that
follow positive weights only are known to be at risk (Sixt et al., ICML 2020, arXiv 1912.09818).
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from xecg.explain.faithfulness.attributions import relevance_maps
from xecg.explain.faithfulness.decisions import Decisions
from xecg.explain.faithfulness.segments import segment_means
from xecg.explain.faithfulness.similarity import SIMILARITIES, FloatArray, correlations
from xecg.networks.branch import Branch
from xecg.networks.xecgarch import XECGArch

STAGES = ("head", *(f"block{number}" for number in range(8, 0, -1)))


@dataclass(frozen=True, eq=False)
class Randomisation:
    """A trained network, new ones of the same architecture, and which window meets which.

    Every window is explained under one of the new networks only. That costs no more than a single
    draw of random weights for all windows, and an interval over draws tells how much depends on
    the draw.

    Args:
        trained: In eval mode.
        fresh: Of the same architecture, their weights as they are before training.
        draws: Number of the window's new network, ``(n,)``.
    """

    trained: XECGArch
    fresh: Sequence[XECGArch]
    draws: NDArray[np.int64]

    def similarity(
        self,
        branch: str,
        method: str,
        decisions: Decisions,
        relevance: FloatArray,
        *,
        length: int,
        done: Callable[[int], None] = lambda _: None,
    ) -> dict[str, dict[str, FloatArray]]:
        """Similarity of each window's map to its map after each stage of randomisation.

        The class stays the one that the trained network predicted.

        Args:
            branch: Name of the branch.
            method: Name of the attribution method.
            decisions: The trained branch's decisions.
            relevance: What the method makes of them, ``(n, segments)``.
            length: Of a segment, in samples.
            done: Told how many more windows have their map, again and again.

        Returns:
            By stage and coefficient, ``(n,)``; NaN where one of the two maps is constant: deep
            Taylor decomposition has no map where random weights make the logit negative.
        """
        n = len(decisions)
        found = {stage: {name: np.full(n, np.nan) for name in SIMILARITIES} for stage in STAGES}
        for draw in np.unique(self.draws):
            rows = np.flatnonzero(self.draws == draw)
            chosen = decisions.take(torch.from_numpy(rows))
            for stage, chain in cascade(self.trained, self.fresh[draw], branch):
                maps = segment_means(relevance_maps(method, chosen.by(chain), done=done), length)
                for name, values in correlations(relevance[rows], maps).items():
                    found[stage][name][rows] = values
        return found


def cascade(trained: XECGArch, fresh: XECGArch, branch: str) -> Iterator[tuple[str, nn.Sequential]]:
    """The chain to a branch's logits, with one part more randomised at each stage.

    A randomised part has the weights, and the statistics of batch normalisation, of ``fresh``.

    Args:
        trained: It is left as it is.
        fresh: Of the same architecture; it is left as it is.
        branch: Name of the branch.

    Returns:
        For each of ``STAGES`` its name and the chain in eval mode, in which the parts of all
        stages up to it are random. The next stage goes on with the same modules.
    """
    mixed = copy.deepcopy(trained).eval().requires_grad_(False)
    for stage, part, new in zip(STAGES, _parts(mixed, branch), _parts(fresh, branch), strict=True):
        part.load_state_dict(new.state_dict())
        yield stage, mixed.chain(branch).eval()


def fresh_networks(network: XECGArch, n: int, seed: int) -> list[XECGArch]:
    """New networks of the architecture of ``network``; torch's random state stays as it is.

    Args:
        network: Its branches are built anew.
        n: How many.
        seed: Of their weights.
    """
    branches = {
        name: branch for name, branch in network.branches.items() if isinstance(branch, Branch)
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return [
            XECGArch({name: Branch(old.specs, old.width) for name, old in branches.items()})
            for _ in range(n)
        ]


def deal_draws(groups: NDArray[np.str_], n_draws: int, seed: int) -> NDArray[np.int64]:
    """Deal persons or records out to draws of random weights.

    No group meets two draws, so that whole draws can be resampled as groups.

    Args:
        groups: Person or record of each window, ``(n,)``.
        n_draws: Number of draws; with fewer groups each group has its own.
        seed: Of the dealing.

    Returns:
        Number of the draw of each window, ``(n,)``.
    """
    names, codes = np.unique(groups, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(names)) % n_draws
    draws: NDArray[np.int64] = dealt[codes]
    return draws


def _parts(network: XECGArch, branch: str) -> list[nn.Module]:
    """What is randomised at each of ``STAGES``."""
    trunk = network.branches[branch]
    assert isinstance(trunk, Branch)
    return [network.heads[branch], *reversed(trunk.blocks)]

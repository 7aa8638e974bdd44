"""Which windows an epoch draws: a stated share of each source, classes in balance if asked."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from xecg.errors import ConfigError


class MixtureSampler(Sampler[int]):
    """Draws positions from several pools, each with its share of the epoch.

    A pool that is larger than its share is drawn without repetition; a smaller one is gone through
    whole before any position comes again. The order is a function of seed and epoch alone, so that
    a resumed run, and every process of a distributed one, draws the same.

    Args:
        pools: Positions per pool.
        shares: Weight per pool, positive; they need not sum to 1.
        size: Positions an epoch.
        seed: Of the order.
        epoch: Tells the current epoch.

    Raises:
        ConfigError: If a pool is empty or a share not positive.
    """

    def __init__(
        self,
        pools: Sequence[NDArray[np.int64]],
        shares: Sequence[float],
        size: int,
        seed: int,
        epoch: Callable[[], int],
    ) -> None:
        if not all(len(pool) for pool in pools):
            raise ConfigError("a source or class of the training data has no window to draw")
        if min(shares) <= 0:
            raise ConfigError(f"weights of sources must be positive; found {list(shares)}")
        self.pools, self.size, self.seed, self.epoch = tuple(pools), size, seed, epoch
        bounds = np.round(np.cumsum([0.0, *shares]) / sum(shares) * size).astype(int)
        self.counts = np.diff(bounds)

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch()])
        drawn = [_draw(pool, n, rng) for pool, n in zip(self.pools, self.counts, strict=True)]
        yield from rng.permutation(np.concatenate(drawn)).tolist()


def _draw(pool: NDArray[np.int64], n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    rounds = [rng.permutation(pool) for _ in range(-(-n // len(pool)))]
    return np.concatenate([np.empty(0, np.int64), *rounds])[:n]

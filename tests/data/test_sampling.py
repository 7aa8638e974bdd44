"""Drawing an epoch: shares, repetition, seeds."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.datasets import MixtureSampler
from xecg.errors import ConfigError


def draw(pools: list[range], shares: list[float], size: int, seed: int = 0, epoch: int = 0):
    arrays = [np.asarray(pool) for pool in pools]
    return list(MixtureSampler(arrays, shares, size, seed, lambda: epoch))


@given(
    shares=st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
    size=st.integers(1, 500),
    seed=st.integers(0, 2**31),
)
def test_every_pool_gets_its_share(shares: list[float], size: int, seed: int) -> None:
    pools = [range(1000 * i, 1000 * i + 700) for i in range(len(shares))]
    drawn = np.asarray(draw(pools, shares, size, seed))
    assert len(drawn) == size
    for i, share in enumerate(shares):
        expected = size * share / sum(shares)
        assert abs((drawn // 1000 == i).sum() - expected) <= 1


def test_a_large_pool_is_drawn_without_repetition() -> None:
    drawn = draw([range(100)], [1.0], 100)
    assert sorted(drawn) == list(range(100))


def test_a_small_pool_is_gone_through_before_anything_repeats() -> None:
    counts = np.bincount(draw([range(7)], [1.0], 40))
    assert set(counts) <= {5, 6}


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = draw([range(50)], [1.0], 30, seed=1, epoch=2)
    assert first == draw([range(50)], [1.0], 30, seed=1, epoch=2)
    assert first != draw([range(50)], [1.0], 30, seed=1, epoch=3)
    assert first != draw([range(50)], [1.0], 30, seed=2, epoch=2)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ConfigError, match="no window to draw"):
        draw([range(3), range(0)], [1.0, 1.0], 10)


def test_a_weight_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        draw([range(3), range(3)], [1.0, 0.0], 10)

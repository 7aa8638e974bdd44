import numpy as np
import pytest

from xecg.errors import ConfigError
from xecg.explain.faithfulness.agreement import pairwise_agreement
from xecg.explain.faithfulness.similarity import correlations


def test_it_is_the_mean_over_pairs() -> None:
    rng = np.random.default_rng(0)
    maps = [rng.random((5, 60)) for _ in range(3)]
    found = pairwise_agreement(maps, [np.zeros(5, np.int64)] * 3)
    pairs = [correlations(maps[i], maps[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    for name, values in found.items():
        np.testing.assert_allclose(values, np.mean([pair[name] for pair in pairs], axis=0))


def test_networks_that_disagree_on_the_class_are_not_compared() -> None:
    maps = np.random.default_rng(1).random((3, 60))
    other = 1 - maps  # perfectly opposed
    classes = [np.array([0, 0, 0]), np.array([0, 1, 0]), np.array([0, 0, 1])]
    found = pairwise_agreement([maps, maps, other], classes)["pearson"]
    np.testing.assert_allclose(found, [(1 - 1 - 1) / 3, -1, 1])


def test_a_window_without_a_pair_to_compare_has_no_value() -> None:
    maps = np.random.default_rng(2).random((2, 60))
    empty = np.zeros_like(maps)
    zeros = np.zeros(2, np.int64)
    assert np.isnan(pairwise_agreement([maps, maps], [zeros, zeros + 1])["spearman"]).all()
    assert np.isnan(pairwise_agreement([maps, empty], [zeros, zeros])["spearman"]).all()


def test_one_network_has_nobody_to_agree_with() -> None:
    with pytest.raises(ConfigError, match="at least two networks, found 1"):
        pairwise_agreement([np.ones((1, 5))], [np.zeros(1, np.int64)])

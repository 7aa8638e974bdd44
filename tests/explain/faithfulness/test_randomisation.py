import numpy as np
import pytest
import torch

from xecg.explain.faithfulness.attributions import relevance_maps
from xecg.explain.faithfulness.decisions import Decisions
from xecg.explain.faithfulness.randomisation import (
    STAGES,
    Randomisation,
    cascade,
    deal_draws,
    fresh_networks,
)
from xecg.explain.faithfulness.segments import segment_means
from xecg.networks.xecgarch import XECGArch


@pytest.fixture
def trained() -> XECGArch:
    torch.manual_seed(0)
    network = XECGArch.build(channels=8).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()  # what training leaves behind
    return network


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(6, 1, 500, generator=torch.Generator().manual_seed(1))


def test_each_stage_randomises_one_part_more_from_the_head_down(trained: XECGArch) -> None:
    (fresh,) = fresh_networks(trained, 1, seed=5)
    of_trained, of_fresh = (list(n.chain("rhythm").state_dict().values()) for n in (trained, fresh))
    assert [stage for stage, _ in cascade(trained, fresh, "rhythm")] == list(STAGES)
    from_the_head = []
    for _, chain in cascade(trained, fresh, "rhythm"):
        assert not chain.training
        values = list(chain.state_dict().values())
        is_fresh = [torch.equal(a, b) for a, b in zip(values, of_fresh, strict=True)]
        is_trained = [torch.equal(a, b) for a, b in zip(values, of_trained, strict=True)]
        assert all(a or b for a, b in zip(is_fresh, is_trained, strict=True))
        from_the_head.append(sum(is_trained))
    assert from_the_head == sorted(from_the_head, reverse=True)
    assert len(set(from_the_head)) == len(STAGES)


def test_the_last_stage_computes_what_the_fresh_network_computes(
    trained: XECGArch, x: torch.Tensor
) -> None:
    (fresh,) = fresh_networks(trained, 1, seed=5)
    *_, (_, chain) = cascade(trained, fresh, "morphology")
    with torch.no_grad():
        assert torch.equal(chain(x), fresh.eval().chain("morphology")(x))


def test_the_trained_network_and_torchs_random_state_stay_as_they_are(trained: XECGArch) -> None:
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    state = torch.get_rng_state()
    (fresh,) = fresh_networks(trained, 1, seed=5)
    list(cascade(trained, fresh, "rhythm"))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())


def test_fresh_networks_come_from_their_seed_and_differ(trained: XECGArch) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        return [n.heads["rhythm"][-1].weight for n in fresh_networks(trained, 2, seed)]

    first, second = weights(5)
    assert torch.equal(first, weights(5)[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first, weights(6)[0])


@pytest.mark.parametrize("method", ["gradient", "dtd_zbox"])
def test_weights_that_stay_leave_the_map_as_it_is(
    trained: XECGArch, x: torch.Tensor, method: str
) -> None:
    decisions = Decisions.of(trained.chain("morphology"), x)
    relevance = segment_means(relevance_maps(method, decisions), 5)
    unchanged = Randomisation(trained, [trained], np.zeros(6, np.int64))
    found = unchanged.similarity("morphology", method, decisions, relevance, length=5)
    for similarities in found.values():
        np.testing.assert_allclose(similarities["spearman"], 1)


def test_each_window_meets_the_network_that_it_was_dealt(
    trained: XECGArch, x: torch.Tensor
) -> None:
    decisions = Decisions.of(trained.chain("rhythm"), x)
    relevance = segment_means(relevance_maps("gradient", decisions), 5)
    fresh = fresh_networks(trained, 2, seed=5)
    draws = np.array([0, 1, 1, 0, 1, 0])
    told: list[int] = []

    def similarity(draws: np.ndarray) -> np.ndarray:
        randomisation = Randomisation(trained, fresh, draws)
        found = randomisation.similarity(
            "rhythm", "gradient", decisions, relevance, length=5, done=told.append
        )
        return found["block1"]["spearman"]

    dealt = similarity(draws)
    assert sum(told) == 6 * len(STAGES)
    np.testing.assert_allclose(dealt[draws == 0], similarity(draws * 0)[draws == 0])
    np.testing.assert_allclose(dealt[draws == 1], similarity(draws * 0 + 1)[draws == 1])
    assert (dealt < 0.99).all()


def test_groups_are_dealt_whole_and_evenly() -> None:
    groups = np.array([f"p{number}" for number in range(10)] * 3)
    draws = deal_draws(groups, 4, seed=0)
    of_group = {group: set(draws[groups == group]) for group in groups}
    assert all(len(found) == 1 for found in of_group.values())
    counts = np.bincount(draws[:10])
    assert sorted(counts) == [2, 2, 3, 3]
    np.testing.assert_array_equal(draws, deal_draws(groups, 4, seed=0))
    assert not np.array_equal(draws, deal_draws(groups, 4, seed=1))

"""Maps of networks of which it is known what they look at."""

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from xecg.errors import UnknownNameError
from xecg.explain import faithfulness
from xecg.explain.attributions import ATTRIBUTIONS
from xecg.explain.effects import bridged
from xecg.explain.faithfulness import (
    CONTROLS,
    FILLINGS,
    METHODS,
    Decisions,
    _area,
    agreement,
    cascade,
    curve,
    evaluate_maps,
    fresh_networks,
    relevance_ranks,
    segment_relevance,
)
from xecg.networks.branch import BlockSpec, Branch
from xecg.networks.xecgarch import XECGArch

GROUPS = np.array([f"p{number // 2}" for number in range(12)])
N_BLOCKS = 8
STAGES = ["head", *(f"block{number}" for number in range(N_BLOCKS, 0, -1))]


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faithfulness, "STEPS", 8)
        patch.setattr(faithfulness, "DRAWS", 3)
        yield


@pytest.fixture
def decisions() -> Decisions:
    """Weighted sums of 40 samples decide about 12 windows: everything is known in closed form."""
    network = nn.Sequential(OrderedDict(flatten=nn.Flatten(), linear=nn.Linear(40, 2))).eval()
    generator = torch.Generator().manual_seed(3)
    weights = torch.randn(2, 40, generator=generator)
    network.requires_grad_(False).linear.weight.copy_(weights - weights.mean(1, keepdim=True))
    network.linear.bias.fill_(0.1)
    x = torch.rand(12, 1, 40, generator=generator)
    return Decisions(network, x, network(x).argmax(dim=1), {}, length=1)


def random_ranks(n: int, segments: int, seed: int = 0) -> NDArray[np.int64]:
    return relevance_ranks(np.random.default_rng(seed).random((n, segments)), seed)


def of_terms(decisions: Decisions, length: int = 1) -> NDArray[np.float64]:
    method = ATTRIBUTIONS["input_x_gradient"](decisions.network)
    return segment_relevance(method, decisions.x, decisions.classes, length)


def test_relevance_of_segments_is_the_mean_of_absolute_attributions(decisions: Decisions) -> None:
    weights = decisions.network.linear.weight[decisions.classes]
    terms = np.abs((weights * decisions.x.squeeze(1)).numpy())
    np.testing.assert_allclose(of_terms(decisions), terms, rtol=1e-5)
    found = of_terms(decisions, 7)  # the last segment has five samples
    np.testing.assert_allclose(found[:, -1], terms[:, 35:].mean(axis=1), rtol=1e-5)


@given(st.integers(0, 2**32 - 1))
def test_more_relevance_never_ranks_behind_less(seed: int) -> None:
    maps = np.random.default_rng(seed).integers(0, 5, (2, 9)).astype(float)
    ranks = relevance_ranks(maps, 0)
    np.testing.assert_array_equal(np.sort(ranks, axis=1), np.tile(np.arange(9), (2, 1)))
    ordered = np.take_along_axis(maps, np.argsort(ranks, axis=1), axis=1)
    assert (np.diff(ordered, axis=1) <= 0).all()


def test_ties_stand_in_random_order_that_comes_from_the_seed() -> None:
    empty = np.zeros((200, 50))
    ranks = relevance_ranks(empty, 1)
    np.testing.assert_array_equal(ranks, relevance_ranks(empty, 1))
    assert not np.array_equal(ranks, relevance_ranks(empty, 2))
    assert np.abs(ranks.mean(axis=0) - 24.5).max() < 5  # five standard errors of a uniform rank


def filled(x: torch.Tensor, replaced: NDArray[np.bool_], filling: str) -> torch.Tensor:
    signals = x.squeeze(1).numpy()
    if filling == "interpolation":
        return torch.from_numpy(bridged(signals, replaced))[:, None]
    return torch.from_numpy(np.where(replaced, np.float32(0), signals))[:, None]


@pytest.mark.parametrize("filling", FILLINGS)
def test_curves_are_those_of_one_window_and_one_step_after_the_other(
    decisions: Decisions, filling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faithfulness, "STEPS", 4)
    ranks = random_ranks(12, 14)  # the last segment has one sample
    shares, found = curve(decisions._replace(length=3), ranks, filling)
    np.testing.assert_allclose(shares, [0, 4 / 14, 7 / 14, 10 / 14, 1])
    for step, n_replaced in enumerate((0, 4, 7, 10, 14)):
        replaced = np.repeat(ranks < n_replaced, 3, axis=1)[:, :40]
        p = decisions.network(filled(decisions.x, replaced, filling)).softmax(1)
        expected = p[torch.arange(12), decisions.classes]
        np.testing.assert_allclose(found[:, step], expected, rtol=1e-5, atol=1e-6)


def area_of(decisions: Decisions, relevance: NDArray[np.float64], filling: str = "zero") -> float:
    ranked = decisions._replace(relevance={"map": relevance})
    return _area(ranked, "map", filling, seed=0)


def test_of_a_positive_sum_no_order_has_a_larger_area_than_that_of_its_terms(
    decisions: Decisions,
) -> None:
    """With zero, the change of a sum is the sum of what was taken: its terms are the truth."""
    decisions.network.linear.weight.abs_()[0] = 0
    decisions = decisions._replace(classes=torch.ones_like(decisions.classes))
    best = area_of(decisions, of_terms(decisions))
    for seed in range(5):
        other = np.random.default_rng(seed).random((12, 40))
        assert (best > area_of(decisions, other)).all()


def test_the_reverse_order_has_the_opposite_area(decisions: Decisions) -> None:
    maps = np.random.default_rng(0).random((12, 40))
    forth, back = (area_of(decisions, order, "interpolation") for order in (maps, -maps))
    np.testing.assert_allclose(forth, -back, atol=1e-9)


def test_quantus_pixel_flipping_gives_the_same_curve(
    decisions: Decisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    quantus = pytest.importorskip("quantus", reason="quantus is not installed (extra: compare)")
    monkeypatch.setattr(faithfulness, "STEPS", 10)
    maps = of_terms(decisions)
    flipping = quantus.PixelFlipping(
        features_in_step=4,
        abs=False,
        normalise=False,
        perturb_baseline=0.0,
        disable_warnings=True,
        display_progressbar=False,
    )
    expected = flipping(
        model=decisions.network,
        x_batch=decisions.x.numpy(),
        y_batch=decisions.classes.numpy(),
        a_batch=maps[:, None],
        channel_first=True,
        softmax=True,
        device="cpu",
    )
    _, found = curve(decisions, relevance_ranks(maps, 0), "zero")
    found = found[:, 1:]  # Quantus leaves the whole window out
    np.testing.assert_allclose(found, np.array(expected), atol=1e-6)


@pytest.fixture
def trained() -> XECGArch:
    torch.manual_seed(0)
    network = XECGArch.build(channels=8).eval()
    for name, buffer in network.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()  # what training leaves behind
    return network


def test_each_stage_randomises_one_part_more_from_the_head_down(trained: XECGArch) -> None:
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    (fresh,) = fresh_networks(trained, 1, seed=5)
    stages, n_trained = [], []
    new = [*fresh.branches["rhythm"].state_dict().values()]
    new += [*fresh.heads["rhythm"].state_dict().values()]
    old = [*trained.branches["rhythm"].state_dict().values()]
    old += [*trained.heads["rhythm"].state_dict().values()]
    for stage, output in cascade(trained, fresh, "rhythm"):
        assert not output.training
        values = list(output.state_dict().values())
        is_old = [torch.equal(a, b) for a, b in zip(values, old, strict=True)]
        is_new = [torch.equal(a, b) for a, b in zip(values, new, strict=True)]
        assert all(a or b for a, b in zip(is_old, is_new, strict=True))
        stages.append(stage)
        n_trained.append(sum(is_old))
    assert stages == STAGES
    assert n_trained == sorted(n_trained, reverse=True)
    assert len(set(n_trained)) == len(STAGES)
    x = torch.rand(2, 1, 500)
    with torch.no_grad():
        torch.testing.assert_close(output(x), fresh.eval()(x)["rhythm"])
    assert all(torch.equal(value, before[key]) for key, value in trained.state_dict().items())


def test_fresh_networks_come_from_their_seed_and_leave_torchs_state(trained: XECGArch) -> None:
    def weights(seed: int) -> list[torch.Tensor]:
        return [n.heads["rhythm"][-1].weight for n in fresh_networks(trained, 2, seed)]

    state = torch.get_rng_state()
    first, second = weights(5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, weights(5)[0])
    assert not torch.equal(first, second)
    assert not torch.equal(first, weights(6)[0])


def agreed(maps: list[NDArray[np.float64]], classes: list[list[int]]) -> NDArray[np.float64]:
    explained = [
        Decisions(nn.Identity(), torch.empty(0), torch.tensor(of), {"zbox": relevance}, 1)
        for relevance, of in zip(maps, classes, strict=True)
    ]
    return agreement(explained, "zbox")


def test_agreement_is_the_mean_over_pairs_that_agree_on_the_class() -> None:
    maps = np.random.default_rng(1).random((3, 60))
    other = 1 - maps  # perfectly opposed
    found = agreed([maps, maps, other], [[0, 0, 0], [0, 1, 0], [0, 0, 1]])
    np.testing.assert_allclose(found, [(1 - 1 - 1) / 3, -1, 1])
    np.testing.assert_allclose(agreed([maps, maps], [[0, 0, 0], [1, 0, 0]]), [np.nan, 1, 1])
    assert np.isnan(agreed([maps, np.zeros_like(maps)], [[0, 0, 0]] * 2)).all()


def network_of_pulses(seed: int) -> XECGArch:
    """Its logit of AF is the mean amplitude above 0.5, whatever the seed of its other class."""
    branch = Branch([BlockSpec(1)] * N_BLOCKS, 2)
    network = XECGArch({"rhythm": branch})
    torch.manual_seed(seed)
    with torch.no_grad():
        for block in branch.blocks:
            block.conv.weight.copy_(torch.eye(2, block.conv.in_channels).unsqueeze(-1))
        branch.block1.norm.running_mean.copy_(torch.tensor([0.5, 10.0]))
        head = network.heads["rhythm"].linear
        head.weight.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0]]))
        head.bias.copy_(torch.tensor([0.1 * torch.rand(()), 0.0]))
    return network.eval()


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    """Ripples below 0.5, which the network does not see, and pulses, which it does."""
    rng = np.random.default_rng(0)
    signals = 0.4 * rng.random((12, 500), np.float32)
    for signal in signals:
        signal[rng.integers(20, 480, 4)[:, None] + np.arange(8)] = 0.9
    return signals


@pytest.fixture(scope="module")
def networks() -> list[XECGArch]:
    return [network_of_pulses(0), network_of_pulses(1)]


@pytest.fixture(scope="module")
def found(networks: list[XECGArch], x: NDArray[np.float32]) -> dict[str, pd.DataFrame]:
    pytest.importorskip("captum", reason="captum is not installed (extra: compare)")
    return evaluate_maps(networks, x, GROUPS, 250)


@pytest.mark.parametrize("filling", FILLINGS)
def test_maps_of_what_the_network_sees_beat_those_that_know_no_network(
    found: dict[str, pd.DataFrame], filling: str
) -> None:
    areas = found["areas"].set_index(["filling", "method"]).value[filling]
    for method in ("innvestigate", "zbox", "gradient", "integrated_gradients"):
        assert areas[method] > 2 * max(areas["steepness"], areas["random"])
    assert abs(areas["random"]) < 0.3 * areas["zbox"]


def test_every_map_is_in_the_tables(found: dict[str, pd.DataFrame]) -> None:
    assert list(found["areas"].method.unique()) == [*METHODS, *CONTROLS]
    cases = found["randomisation"].groupby("method", sort=False).stage.unique()
    assert {method: list(stages) for method, stages in cases.items()} == dict.fromkeys(
        METHODS, STAGES
    )
    agreement = found["agreement"]
    assert list(agreement.method.unique()) == list(METHODS)
    assert (agreement.value > 0.99).all()
    assert (agreement[["networks", "n", "n_groups"]] == [2, 12, 6]).all(axis=None)


def test_random_networks_make_other_maps_and_the_trained_one_the_same(
    found: dict[str, pd.DataFrame],
    networks: list[XECGArch],
    x: NDArray[np.float32],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = found["randomisation"].query("stage == 'block1'")
    assert (last.value.dropna() < 0.99).all()
    monkeypatch.setattr(faithfulness, "fresh_networks", lambda trained, n, seed: [trained] * n)
    same = evaluate_maps(networks[:1], x, GROUPS, 250, ["gradient", "zbox"])["randomisation"]
    np.testing.assert_allclose(same.value, 1)


def test_the_same_seed_gives_the_same_tables(
    networks: list[XECGArch], x: NDArray[np.float32]
) -> None:
    one, again = (evaluate_maps(networks, x, GROUPS, 250, ["zbox"]) for _ in range(2))
    for name, table in one.items():
        pd.testing.assert_frame_equal(again[name], table)


def test_an_unknown_method_is_refused(networks: list[XECGArch], x: NDArray[np.float32]) -> None:
    with pytest.raises(UnknownNameError, match="'magic'"):
        evaluate_maps(networks, x, GROUPS, 250, ["magic"])

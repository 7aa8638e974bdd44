"""The two-branch network: independence, fusion."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from xecg.errors import NetworkError
from xecg.networks.branch import BRANCHES, BlockSpec
from xecg.networks.weights import RELEASED, load_branch, load_xecgarch
from xecg.networks.xecgarch import PWaveNetwork, RRNetwork, XECGArch, probabilities

X = torch.rand(3, 1, 1000)


@pytest.fixture
def network() -> XECGArch:
    torch.manual_seed(0)
    return XECGArch.build(channels=8).eval()


def test_two_logits_per_branch_and_window(network: XECGArch) -> None:
    logits = network(X)
    assert list(logits) == ["morphology", "rhythm"]
    assert all(z.shape == (3, 2) for z in logits.values())


def test_branches_share_nothing(network: XECGArch) -> None:
    network(X)["rhythm"].sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == ("rhythm" in name), name


def test_a_branch_can_be_left_out(network: XECGArch) -> None:
    alone = XECGArch.build(["rhythm"], channels=8).eval()
    state = {k: v for k, v in network.state_dict().items() if "rhythm" in k}
    alone.load_state_dict(state)
    assert torch.equal(alone(X)["rhythm"], network(X)["rhythm"])


def test_a_branch_more_changes_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BRANCHES._registered, "tempo", (BlockSpec(3), BlockSpec(5)))
    assert list(XECGArch.build(channels=4).branches) == ["morphology", "rhythm"]
    network = XECGArch.build(["tempo", "rhythm"], channels=4)
    assert list(network(X)) == ["tempo", "rhythm"]


def test_branches_of_one_name_are_refused() -> None:
    with pytest.raises(NetworkError, match="rhythm, rhythm"):
        XECGArch.build(["rhythm", "rhythm"])


def released_input() -> torch.Tensor:
    """Three windows of waves at 250 Hz, at about 48, 66 and 114 a minute."""
    t = torch.arange(2500) / 250
    windows = []
    for rate in (0.8, 1.1, 1.9):
        beats = 0.5 * torch.exp(-(((t * rate % 1) - 0.5) ** 2) / 0.002)
        wander = 0.2 * torch.sin(2 * torch.pi * rate * t)
        windows.append((0.3 + wander + beats).clamp(0, 1))
    return torch.stack(windows)[:, None]


def test_released_weights_say_what_they_said() -> None:
    expected = np.load(Path(__file__).parent / "reference" / "released_outputs.npz")
    x = released_input()
    with torch.no_grad():
        outputs = {f"xecgarch_{k}": z for k, z in load_xecgarch("xecgarch")[0](x).items()}
        for name, network in (
            ("pwave_morphology", PWaveNetwork()),
            ("rr_rhythm", RRNetwork()),
        ):
            branch = name.partition("_")[2]
            load_branch(network.branches[branch], branch, name)
            outputs[f"{name}_features"] = network.eval().branches[branch](x).mean(dim=-1)
        network.load_state_dict(load_file(RELEASED / "rr_rhythm.safetensors"))
        outputs["rr_rhythm_ms"] = network.milliseconds(network(x))
    assert outputs.keys() == set(expected)
    for name, values in outputs.items():
        np.testing.assert_allclose(values, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_no_branch_is_refused() -> None:
    with pytest.raises(NetworkError, match="at least one branch"):
        XECGArch({})


logit = st.floats(-30, 30)


@given(st.lists(st.tuples(logit, logit), min_size=1, max_size=4))
def test_fused_probability_is_the_mean_of_the_branches(pairs: list[tuple[float, float]]) -> None:
    logits = {str(i): torch.tensor([pair]) for i, pair in enumerate(pairs)}
    p_af = probabilities(logits)
    branches = [torch.tensor(pair).softmax(0)[1] for pair in pairs]
    assert torch.allclose(p_af["fused"][0], sum(branches) / len(pairs), atol=1e-6)
    for i, p in enumerate(branches):
        assert torch.allclose(p_af[str(i)][0], p)


def test_fusion_is_in_float32() -> None:
    p_af = probabilities({"a": torch.zeros(1, 2, dtype=torch.bfloat16)})
    assert p_af["fused"].dtype == torch.float32


milliseconds = st.floats(1.0, 1000.0)


def test_p_wave_network_gives_a_logit_per_sample() -> None:
    assert PWaveNetwork(channels=8)(torch.rand(2, 1, 1003)).shape == (2, 1003)


def test_a_feature_may_speak_against_a_wave_unless_the_head_is_positive() -> None:
    features = torch.rand(2, 8, 20)
    for positive in (False, True):
        head = PWaveNetwork(channels=8, positive=positive).head
        torch.nn.init.constant_(head.conv.weight, -1.0)
        assert bool((head.weight > 0).all()) == positive
        silent = head(torch.zeros_like(features), 80)
        assert bool((head(features, 80) >= silent).all()) == positive


def test_rr_network_gives_two_measures() -> None:
    assert RRNetwork(channels=8)(torch.rand(2, 1, 1000)).shape == (2, 2)


@given(st.lists(st.tuples(milliseconds, milliseconds), min_size=3, max_size=20, unique=True))
def test_standardised_targets_come_back_in_ms(targets: list[tuple[float, float]]) -> None:
    network = RRNetwork(channels=8)
    values = torch.tensor(targets)
    network.standardise_by(values + torch.rand_like(values))
    back = network.milliseconds(network.standardised(values))
    assert torch.allclose(back, values, rtol=1e-3)


def test_standardised_training_targets_have_mean_0_and_deviation_1() -> None:
    network = RRNetwork(channels=8)
    targets = torch.rand(1000, 2) * 100 + 1
    network.standardise_by(targets)
    standardised = network.standardised(targets)
    assert torch.allclose(standardised.mean(0), torch.zeros(2), atol=1e-4)
    assert torch.allclose(standardised.std(0), torch.ones(2), atol=1e-4)


def test_scale_is_part_of_the_weights() -> None:
    assert {"mean", "std"} <= RRNetwork(channels=8).state_dict().keys()

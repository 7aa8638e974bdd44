"""Penalties: activity is a share of time, relevance has a gradient, evidence elsewhere costs."""

from math import nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import ConfigError
from xecg.explain import DeepTaylor
from xecg.networks.branch import build_branch
from xecg.networks.penalties import RelevanceGuidance, mean_activity, positive_relevance
from xecg.networks.xecgarch import PWaveNetwork, XECGArch


@given(active=st.integers(1, 50), size=st.floats(0.1, 100.0))
def test_a_feature_of_one_height_has_the_share_of_time_at_which_it_is_active(
    active: int, size: float
) -> None:
    feature = torch.zeros(2, 1, 50)
    feature[..., :active] = size
    assert mean_activity([feature]).item() == pytest.approx(active / 50, rel=1e-2)


@given(seed=st.integers(0, 1000), factor=st.floats(0.5, 50.0))
def test_activity_does_not_depend_on_the_size_of_features(seed: int, factor: float) -> None:
    feature = torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert mean_activity([feature]).item() == pytest.approx(
        mean_activity([feature * factor]).item(), rel=1e-3
    )


def test_blocks_count_alike_and_silence_is_no_activity() -> None:
    assert mean_activity([torch.ones(1, 1, 5), torch.zeros(1, 9, 7)]).item() == pytest.approx(
        0.5, abs=1e-3
    )


@pytest.mark.parametrize("name", ["morphology", "rhythm"])
@pytest.mark.parametrize("time", [2500, 1001])
def test_it_is_what_deep_taylor_says_of_a_branch(name: str, time: int) -> None:
    torch.manual_seed(0)
    network = XECGArch.build([name], channels=8).eval()
    branch, head = network.branches[name], network.heads[name]
    torch.nn.init.constant_(head.linear.bias, 5.0)  # a logit that is not positive has no map
    x = torch.rand(3, 1, time)
    activations = branch.activations(x)
    pooled = activations[-1].mean(dim=-1)
    shares = pooled * head.linear.weight[1].clamp_min(0)
    logit = network(x)[name][:, 1].clamp_min(0)
    of_channels = shares / shares.sum(dim=1, keepdim=True) * logit[:, None]
    steps = activations[-1].shape[-1]
    found = positive_relevance(
        branch, activations, of_channels[..., None].expand(-1, -1, steps) / steps
    )
    expected = DeepTaylor(network).attribute(x, 1)[name]
    assert expected.abs().max() > 0
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * expected.max().item())


def test_a_loss_on_it_moves_the_evidence() -> None:
    torch.manual_seed(0)
    branch = build_branch("morphology", channels=8)
    x = torch.rand(4, 1, 500)
    optimizer = torch.optim.AdamW(branch.parameters(), lr=1e-2)

    def share_of_the_first_half() -> torch.Tensor:
        activations = branch.activations(x)
        relevance = positive_relevance(branch, activations, activations[-1])
        return relevance[..., :250].sum() / relevance.sum()

    before = share_of_the_first_half()
    for _ in range(20):
        optimizer.zero_grad()
        (-share_of_the_first_half()).backward()
        optimizer.step()
    assert share_of_the_first_half() > before + 0.1


def outside(
    waves: torch.Tensor, margin_s: float = 0.0, windows: int = 16, elsewhere: float = 0.0
) -> torch.Tensor:
    torch.manual_seed(0)
    network = PWaveNetwork(channels=8, positive=True)
    branch = network.branches["morphology"]
    activations = branch.activations(torch.rand(len(waves), 1, waves.shape[1]))
    guidance = RelevanceGuidance(windows=windows, margin_s=margin_s)
    evidence = network.head.evidence(activations[-1])
    silent = ~waves[:, None, :: branch.stride]
    evidence = evidence + elsewhere * silent
    return guidance.outside(branch, activations, evidence, waves, sampling_rate=250.0)


def test_only_evidence_inside_of_the_waves_counts() -> None:
    wave = torch.zeros(3, 500, dtype=torch.bool)
    wave[:, 200:224] = True
    assert outside(wave) == outside(wave, elsewhere=100.0)


def test_without_a_wave_nothing_is_outside() -> None:
    assert outside(torch.zeros(3, 500, dtype=torch.bool)).item() == 0


def test_a_wave_everywhere_leaves_nothing_outside_and_a_margin_leaves_less() -> None:
    assert outside(torch.ones(3, 500, dtype=torch.bool)).item() == pytest.approx(0, abs=1e-3)
    wave = torch.zeros(3, 500, dtype=torch.bool)
    wave[:, 200:225] = True
    narrow, wide = outside(wave), outside(wave, margin_s=0.1)
    assert 0 < wide.item() < narrow.item() < 1


def test_windows_without_a_wave_are_passed_over() -> None:
    wave = torch.zeros(4, 500, dtype=torch.bool)
    wave[2:, 200:225] = True
    assert outside(wave, windows=1).item() > 0


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"windows": 0}, {"margin_s": nan}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"guidance.{next(iter(wrong))}"):
        RelevanceGuidance(**wrong)

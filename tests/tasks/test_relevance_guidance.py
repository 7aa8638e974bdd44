"""Guidance: evidence for a wave that comes from elsewhere costs."""

import pytest
import torch

from xecg.errors import ConfigError
from xecg.networks.penalties import RelevanceGuidance
from xecg.networks.pretraining import PWaveNetwork


def outside(waves: torch.Tensor, margin_s: float = 0.0, windows: int = 16) -> torch.Tensor:
    torch.manual_seed(0)
    network = PWaveNetwork(channels=8)
    branch = network.branches["morphology"]
    activations = branch.activations(torch.rand(len(waves), 1, waves.shape[1]))
    guidance = RelevanceGuidance(windows=windows, margin_s=margin_s)
    evidence = network.head.evidence(activations[-1])
    return guidance.outside(branch, activations, evidence, waves, sampling_rate=250.0)


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


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"windows": 0}, {"margin_s": -0.1}])
def test_settings_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="guidance: expected"):
        RelevanceGuidance(**wrong)

"""Augmentation: labels stay true, windows stay in [0, 1], everything can be switched off."""

from math import inf, nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.augmentation import Augmentation
from xecg.errors import ConfigError
from xecg.signal.waves import NOT_ANNOTATED

RATE = 250.0
OFF = {
    "share": 1.0,
    "polarity": 0.0,
    "amplitude": 0.0,
    "noise": 0.0,
    "motion": 0.0,
    "muscle": 0.0,
    "wander": 0.0,
    "time_shift_s": 0.0,
}


def windows(batch: int = 6, time: int = 500) -> torch.Tensor:
    x = torch.rand(batch, 1, time, generator=torch.Generator().manual_seed(3))
    low, high = x.aminmax(dim=-1, keepdim=True)
    return (x - low) / (high - low)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(seed=st.integers(0, 2**40), wander=st.floats(0, 1), noise=st.floats(0, 1))
def test_windows_stay_scaled(seed: int, wander: float, noise: float) -> None:
    changed, _ = Augmentation(wander=wander, noise=noise)(windows(), None, RATE, seeded(seed))
    low, high = changed.aminmax(dim=-1)
    assert torch.allclose(low, torch.zeros_like(low))
    assert torch.allclose(high, torch.ones_like(high))


def test_switched_off_it_changes_nothing() -> None:
    x = windows()
    changed, _ = Augmentation(**OFF)(x, None, RATE, seeded())
    assert torch.equal(changed, x)


@pytest.mark.parametrize("name", list(OFF)[1:])
def test_each_part_alone_changes_the_windows(name: str) -> None:
    x = windows()
    changed, _ = Augmentation(**{**OFF, name: 0.9})(x, None, RATE, seeded())
    assert not torch.equal(changed, x)


def test_the_same_seed_gives_the_same_windows() -> None:
    first, _ = Augmentation()(windows(), None, RATE, seeded(7))
    again, _ = Augmentation()(windows(), None, RATE, seeded(7))
    assert torch.equal(first, again)


def test_only_the_share_is_changed() -> None:
    x = windows(batch=400)
    changed, _ = Augmentation(share=0.3)(x, None, RATE, seeded())
    same = (changed == x).all(dim=-1).float().mean()
    assert 0.6 < same < 0.8


def test_a_batch_of_which_nothing_is_chosen_stays_as_it_is() -> None:
    x, codes = windows(), torch.zeros(6, 500, dtype=torch.uint8)
    changed, moved = Augmentation(share=0.0)(x, codes, RATE, seeded())
    assert torch.equal(changed, x)
    assert torch.equal(moved, codes)


def test_windows_in_half_precision_stay_so() -> None:
    x = windows()
    changed, _ = Augmentation(share=1.0, motion=0.1)(x.bfloat16(), None, RATE, seeded())
    exact, _ = Augmentation(share=1.0, motion=0.1)(x, None, RATE, seeded())
    assert changed.dtype == torch.bfloat16
    torch.testing.assert_close(changed.float(), exact, rtol=0, atol=0.05)


@pytest.mark.parametrize(("name", "band"), [("motion", (1, 8)), ("muscle", (5, 45))])
def test_noise_has_its_band_and_is_in_a_third_of_the_windows(
    name: str, band: tuple[int, int]
) -> None:
    flat = torch.zeros(300, 1, 2500)
    flat[:, :, 0] = 1  # a range of 1, so that scaling hardly changes the noise
    changed, _ = Augmentation(**{**OFF, name: 0.01})(flat, None, RATE, seeded())
    noise = changed[:, 0, 1:] - changed[:, 0, 1:].mean(dim=-1, keepdim=True)
    sizes = noise.std(dim=-1)
    assert 0.25 < (sizes > 0).float().mean() < 0.42
    assert 0.01 / 10**1.2 * 0.8 < sizes[sizes > 0].min() < sizes.max() < 0.011
    power = torch.fft.rfft(noise).abs().square().sum(dim=0)
    hz = torch.fft.rfftfreq(noise.shape[1], 1 / RATE)
    inside = (hz >= band[0] - 0.2) & (hz <= band[1] + 0.2)
    assert power[inside].sum() > 0.98 * power.sum()


def test_polarity_turns_windows_upside_down() -> None:
    x = windows()
    changed, _ = Augmentation(**{**OFF, "polarity": 1.0})(x, None, RATE, seeded())
    assert torch.allclose(changed, 1 - x, atol=1e-6)


@given(seed=st.integers(0, 2**40))
def test_labels_move_with_the_signal(seed: int) -> None:
    codes = (torch.arange(500) // 2).to(torch.uint8).expand(6, 500)
    x = codes[:, None] / 249  # a ramp, on which each sample tells its label
    shifted, moved = Augmentation(**{**OFF, "time_shift_s": 0.5})(x, codes, RATE, seeded(seed))
    assert ((moved != NOT_ANNOTATED).sum(dim=-1) >= 500 - RATE * 0.5).all()
    for signal, labels in zip(shifted[:, 0], moved, strict=True):
        inside = labels != NOT_ANNOTATED
        kept = labels[inside].float()
        assert kept.unique(return_counts=True)[1].max() == 2  # no edge that was held
        expected = (kept - kept.min()) / (kept.max() - kept.min())
        assert torch.allclose(signal[inside], expected, atol=1e-6)


@pytest.mark.parametrize(
    "bad", [{"noise": -0.1}, {"motion": inf}, {"polarity": 1.1}, {"amplitude": nan}]
)
def test_impossible_sizes_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        Augmentation(**bad)

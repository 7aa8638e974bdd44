"""Effects against networks of which it is known what they use."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from xecg.errors import ConfigError, DataError
from xecg.explain import agreement, wave_effects
from xecg.explain.effects import bridged
from xecg.explain.relevance import WAVE_CODES, WAVES, enrichment_column, slug
from xecg.networks.xecgarch import XECGArch
from xecg.signal.waves import NOT_ANNOTATED, OTHER, P, codes_around_r_peaks

RATE, TIME = 250.0, 2500
PEAKS = np.arange(200, TIME, 240)
CODES = codes_around_r_peaks(PEAKS, TIME, RATE)
NAMES = [slug(wave) for wave in WAVES]
CHANGES = [*NAMES, "rr", "f_waves"]
few = settings(max_examples=6)
seeds = st.integers(0, 2**32 - 1)


class Reads(nn.Module):
    """A branch that reads some samples: logits (0, their weighted mean minus a threshold)."""

    def __init__(self, read, threshold=0.0):
        super().__init__()
        weights = np.linspace(1, 2, TIME) * read
        self.weights = torch.from_numpy(weights / weights.sum()).float()
        self.threshold = threshold

    def forward(self, x):
        margin = (x[:, 0] * self.weights).sum(dim=1) - self.threshold
        return torch.stack([torch.zeros_like(margin), margin], dim=1)


def network_of(**branches):
    network = nn.Module()
    network.branches = nn.ModuleDict(branches)
    network.heads = nn.ModuleDict({name: nn.Identity() for name in branches})
    return network


def windows(n=3, seed=0):
    noise = np.random.default_rng(seed).random((n, 1, TIME))
    return torch.from_numpy(noise.cumsum(axis=2) % 1.0).float()


def effects_of(network, x, peaks=PEAKS, **options):
    return wave_effects(network, x, [peaks] * len(x), RATE, **options)


@given(seeds, st.sampled_from(WAVES), st.sampled_from(["line", "stretch"]))
@few
def test_a_branch_that_reads_one_wave_has_effects_there_alone(seed, wave, filling):
    read = np.equal(CODES, dict(zip(WAVES, WAVE_CODES, strict=True))[wave])
    network = network_of(one=Reads(read), all=Reads(np.ones(TIME)))
    found = effects_of(network, windows(seed=seed), filling=filling)
    effects = found["one"][[f"effect_{name}" for name in NAMES]]
    there = effects.pop(f"effect_{slug(wave)}")
    assert (effects == 0).all(axis=None)
    assert (there != 0).all()
    assert (found["all"][[f"effect_{name}" for name in NAMES]] != 0).all(axis=None)


@given(seeds, st.floats(-1, 1))
@few
def test_replacing_by_what_is_there_changes_nothing(seed, slope):
    line = np.linspace(0, slope, TIME) + np.random.default_rng(seed).random((2, 1, 1))
    torch.manual_seed(seed)
    x = torch.from_numpy(line).float()
    network = XECGArch.build(channels=4)
    for filling in ("line", "baseline", "stretch"):
        for table in effects_of(network, x, filling=filling).values():
            effects = table[[f"effect_{name}" for name in (*NAMES, "rr")]]
            assert effects.to_numpy() == pytest.approx(0, abs=5e-3)  # rounding, by random weights


def test_an_effect_is_the_fall_of_the_margin_and_a_flip_its_change_of_sign():
    x = torch.zeros(1, 1, TIME)
    x[0, 0, CODES == P] = 1.0
    for threshold, effect, flips in ((0.4, 1.0, 1.0), (-0.4, 1.0, 0.0), (1.4, -1.0, 0.0)):
        branch = Reads(CODES == P, threshold)  # decides AF, AF, non-AF with P waves
        (found,) = effects_of(network_of(one=branch), x)["one"].to_dict("records")
        assert found["effect_p"] == pytest.approx(effect)
        assert found["flips_p"] == flips
        assert found["effect_qrs"] == found["flips_qrs"] == 0


def test_annotated_waves_count_where_there_are_any():
    waves = np.full((3, TIME), OTHER, np.uint8)
    waves[:, 1000:1040], waves[2] = P, NOT_ANNOTATED
    network = network_of(one=Reads(waves[0] == P))
    found = effects_of(network, windows(), waves=waves)["one"]
    assert (found["effect_p"][:2] != 0).all()
    assert found[["effect_qrs", "effect_other"]].isna().all(axis=None)
    assert found.loc[2].isna().all()


@pytest.mark.parametrize(("peaks", "missing"), [(PEAKS[:3], CHANGES), (PEAKS[:1], CHANGES)])
def test_a_window_of_few_beats_is_not_measured(peaks, missing):
    found = effects_of(network_of(one=Reads(np.ones(TIME))), windows(), peaks=peaks)["one"]
    assert found[[f"effect_{name}" for name in missing]].isna().all(axis=None)
    assert found[[f"flips_{name}" for name in missing]].isna().all(axis=None)
    measured = effects_of(network_of(one=Reads(np.ones(TIME))), windows(), peaks, min_beats=1)
    assert measured["one"][["effect_p", "effect_qrs"]].notna().all(axis=None)


def test_where_beats_are_fast_there_is_no_stretch_to_replace():
    found = effects_of(network_of(one=Reads(np.ones(TIME))), windows(), np.arange(70, TIME, 140))
    assert found["one"]["effect_other"].isna().all()
    assert found["one"]["effect_p"].notna().all()


@given(seeds)
@few
def test_results_depend_on_the_seed_alone(seed):
    torch.manual_seed(0)
    network, x = XECGArch.build(channels=4).eval(), windows(4)
    one = effects_of(network, x, filling="stretch", seed=seed)["morphology"]
    pd.testing.assert_frame_equal(
        one, effects_of(network, x, filling="stretch", seed=seed)["morphology"]
    )
    line = effects_of(network, x, seed=seed)["morphology"]
    alone = effects_of(network, x[2:3], seed=seed)["morphology"]  # whatever the others are
    np.testing.assert_allclose(alone.loc[0], line.loc[2], rtol=1e-4, atol=1e-5)
    other = effects_of(network, x, seed=seed + 1)["morphology"]
    assert (other["effect_f_waves"] != line["effect_f_waves"]).all()
    pd.testing.assert_frame_equal(
        other.drop(columns=["effect_f_waves", "flips_f_waves"]),
        line.drop(columns=["effect_f_waves", "flips_f_waves"]),
    )


def test_a_baseline_passes_through_the_stretches_and_a_stretch_is_of_another_window():
    x = torch.full((2, 1, TIME), 0.5)
    x[:, :, CODES == P] = 1.0
    x[0] += torch.linspace(0, 0.3, TIME)
    x[1, 0, CODES == OTHER] += 0.1 * torch.rand((CODES == OTHER).sum())
    network, found = network_of(one=Reads(CODES == P)), {}
    for filling in ("line", "baseline", "stretch"):
        found[filling] = effects_of(network, x, filling=filling)["one"]["effect_p"]
        assert found[filling].to_numpy() == pytest.approx(0.5, abs=0.1)
    assert found["baseline"][0] == pytest.approx(0.5, abs=1e-3)  # the drift stays
    assert found["line"][0] != found["stretch"][0]
    assert found["line"][1] == found["stretch"][1]  # nothing varies in the other window
    alone = effects_of(network, x[:1], filling="stretch")["one"]
    assert alone["effect_p"].isna().all()  # there is no other window
    assert alone["effect_rr"].notna().all()


def test_what_does_not_fit_is_refused():
    network = network_of(one=Reads(np.ones(TIME)))
    with pytest.raises(ConfigError, match="zeros"):
        effects_of(network, windows(), filling="zeros")
    with pytest.raises(DataError, match="expected R peaks"):
        wave_effects(network, windows(), [PEAKS], RATE)
    with pytest.raises(DataError, match="wave codes"):
        effects_of(network, windows(), waves=CODES[None])


def test_agreement_is_one_where_waves_matter_as_they_are_relevant():
    rng = np.random.default_rng(0)
    effects = rng.normal(size=(20, len(WAVES)))
    table = pd.DataFrame(effects, columns=[f"effect_{name}" for name in NAMES])
    columns = [enrichment_column(wave) for wave in WAVES]
    true, false = (
        table.join(pd.DataFrame(sign * np.exp(effects), columns=columns)) for sign in (1, -1)
    )
    once = np.ones((1, 20))
    assert agreement(true)(once) == pytest.approx(1)
    assert agreement(false)(once) == pytest.approx(-1)
    assert np.isnan(agreement(true * np.nan)(once)).all()
    half = np.repeat([[1.0, 0.0]], 10, axis=1)
    false.loc[:9] = true.loc[:9]
    assert agreement(false)(half)[0] == pytest.approx(1)


@given(seeds, st.sampled_from([0, 0.1, 0.5, 0.9, 0.97, 1]))
def test_bridges_are_numpys_row_by_row_and_keep_the_rest_to_the_bit(seed, share):
    rng = np.random.default_rng(seed)
    signals = np.broadcast_to(rng.random((2, 1, 23), np.float32), (2, 3, 23))
    replaced = rng.random((2, 3, 23)) < share
    filled = bridged(signals, replaced)
    assert filled.dtype == np.float32
    np.testing.assert_array_equal(filled[~replaced], signals[~replaced])
    samples = np.arange(23)
    for at in np.ndindex(2, 3):
        signal, kept = signals[at], samples[~replaced[at]]
        line = np.interp(samples, kept, signal[kept]) if kept.size else np.full(23, signal.mean())
        np.testing.assert_allclose(filled[at], line, atol=1e-6)

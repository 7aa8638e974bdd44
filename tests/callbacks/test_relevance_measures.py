import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_task import RATE, TIME, Heartbeats

from xecg.callbacks.relevance import (
    enrichment_name,
    measure_branch,
    memorable,
    relevance_scalars,
    slug,
    take_probe,
)
from xecg.explain import relevance_statistics, summarize

N = 12
PROBE = take_probe(Heartbeats(40, seed=2), N, RATE, seed=0)


def maps_of(seed):
    return torch.rand(N, TIME, generator=torch.Generator().manual_seed(seed))


def logits_that(right, height=2.0):
    """Logits of a branch that is right where it is said to be."""
    predicted = np.where(right, PROBE.classes, 1 - PROBE.classes)
    return torch.nn.functional.one_hot(torch.from_numpy(predicted), 2) * height


def scalars_of(branch, logits, maps, last=None):
    measured = measure_branch(PROBE, logits.float(), maps, last)
    return relevance_scalars({branch: measured}, PROBE.classes)


@pytest.mark.parametrize("branch", ["morphology", "rhythm"])
def test_means_are_those_of_the_summary_of_right_predictions(branch):
    maps, right = maps_of(0), np.arange(N) % 3 > 0
    maps[1] = 0  # right, but without relevance
    scalars = scalars_of(branch, logits_that(right), maps)
    statistics = relevance_statistics(
        maps.numpy(), PROBE.r_peaks, PROBE.sampling_rate, logits=np.full(N, 2.0)
    )
    rows = summarize(statistics, PROBE.classes, right, np.arange(N), branch=branch, n_resamples=1)
    compared = 0
    for row in rows:
        measure = enrichment_name(row.wave, row.rhythm) if row.wave else slug(row.measure)
        key = f"{branch}/{slug(row.rhythm)}/{measure}"
        if row.prediction == "right" and row.measure not in ("share", "mean") and key in scalars:
            assert scalars[key] == pytest.approx(row.value, rel=1e-12)
            compared += 1
    assert compared == 2 * 7  # of both classes: four waves, specificity, Gini, conservation
    counted = {key: value for key, value in scalars.items() if "/n" in key and "af/n" in key}
    assert counted == {
        f"{branch}/{rhythm}/{count}": float(windows[PROBE.classes == code].sum())
        for code, rhythm in enumerate(("non_af", "af"))
        for count, windows in {
            "n": right & statistics.valid,
            "n_right": right,
            "n_windows": np.ones(N),
        }.items()
    }


def test_names_are_the_same_and_means_over_nothing_are_nan():
    maps = maps_of(0)
    all_right = scalars_of("rhythm", logits_that(np.ones(N, bool)), maps, maps)
    none_right = scalars_of("rhythm", logits_that(np.zeros(N, bool)), maps, maps)
    assert all_right.keys() == none_right.keys()
    assert not any(map(math.isnan, all_right.values()))
    for key, value in none_right.items():
        assert math.isnan(value) == ("/n" not in key.removeprefix("rhythm/non"))


def test_p_in_af_is_named_as_the_place_where_it_would_be():
    names = scalars_of("morphology", logits_that(np.ones(N, bool)), maps_of(0)).keys()
    assert "morphology/non_af/enrichment_p" in names
    assert "morphology/af/enrichment_where_p_would_be" in names
    assert "morphology/af/enrichment_p" not in names
    assert "morphology/af/enrichment_st_t" in names


def test_a_branch_of_another_name_has_no_specificity():
    names = scalars_of("tempo", logits_that(np.ones(N, bool)), maps_of(0)).keys()
    assert "tempo/af/gini" in names
    assert not any("specificity" in name for name in names)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-12, 1e6))
def test_the_memory_of_maps_keeps_their_correlation(seed, scale):
    before, now = maps_of(seed) ** 4 * scale, maps_of(seed + 1) ** 4
    logits = logits_that(np.ones(N, bool)).float()
    last = memorable(measure_branch(PROBE, logits, before, None))
    assert last.dtype == torch.float16
    found = measure_branch(PROBE, logits, now, last).correlation
    expected = [np.corrcoef(one, other)[0, 1] for one, other in zip(before, now, strict=True)]
    assert found == pytest.approx(expected, abs=1e-3)


def test_only_maps_for_the_right_class_are_correlated():
    maps = maps_of(0)
    maps[0] = 0
    before, now = np.ones(N, bool), np.ones(N, bool)
    before[1], now[2] = False, False
    last = memorable(measure_branch(PROBE, logits_that(before).float(), maps, None))
    found = measure_branch(PROBE, logits_that(now).float(), maps, last).correlation
    assert np.isnan(found).tolist() == [True, True, True, *[False] * (N - 3)]
    assert found[3:] == pytest.approx(1, abs=1e-3)
    first = measure_branch(PROBE, logits_that(now).float(), maps, None)
    assert np.isnan(first.correlation).all()

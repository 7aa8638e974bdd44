import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_task import RATE, TIME, Heartbeats

from xecg.callbacks.relevance import class_means, measure_branch, watch
from xecg.errors import ConfigError
from xecg.explain import domain_specificity, wave_relevance
from xecg.explain.deep_taylor import Explanation
from xecg.explain.relevance import CLASSES, STATISTICS

COUNTS = ("n", "n_right", "n_windows")


def test_half_of_the_windows_are_af_and_every_one_has_four_beats():
    dataset = Heartbeats(60, seed=3)
    windows = watch(dataset, 20, RATE, seed=0)
    assert windows.index["af"].tolist() == [0] * 10 + [1] * 10
    assert min(map(len, windows.r_peaks)) >= 4
    positions = windows.index["record"].str.removeprefix("record").astype(int)
    assert positions.nunique() == 20
    for row, position in enumerate(positions):
        assert torch.equal(windows.signals[row], dataset.signals[position])
        assert np.array_equal(windows.r_peaks[row], dataset.peaks[position])
        label = windows.index.iloc[row]
        assert label["af"] == dataset.labels[position]
        assert (label["start_s"], label["lead"]) == (10.0 * position, f"lead{position}")


def test_the_seed_alone_decides_the_draw():
    dataset = Heartbeats(60, seed=3)
    np.random.seed(0)  # noqa: NPY002 (what the draw must not depend on)
    one = watch(dataset, 20, RATE, seed=0)
    np.random.seed(1)  # noqa: NPY002
    assert watch(dataset, 20, RATE, seed=0).digest() == one.digest()
    assert watch(dataset, 20, RATE, seed=1).digest() != one.digest()


@pytest.mark.parametrize(("asked", "expected"), [(16, [8, 4]), (9, [5, 4]), (3, [2, 1])])
def test_a_class_with_few_windows_gives_what_it_has(asked, expected):
    dataset = Heartbeats(60, seed=3)
    dataset.labels[1::2] = 0
    dataset.labels[[1, 3, 5, 7, 9, 19]] = 1  # 9 and 19 have three beats
    assert np.bincount(watch(dataset, asked, RATE, seed=0).index["af"]).tolist() == expected


def test_unlabelled_windows_are_watched_only_where_there_are_no_others():
    dataset = Heartbeats(60, seed=3)
    dataset.labels[:40] = -1
    assert watch(dataset, 60, RATE, seed=0).classes == [0, 1]
    dataset.labels[:] = -1
    windows = watch(dataset, 20, RATE, seed=0)
    assert (len(windows.index), windows.classes) == (20, [-1])


def test_pictures_show_both_classes():
    windows = watch(Heartbeats(60, seed=3), 20, RATE, seed=0)
    for n, n_af in ((4, 2), (5, 2), (1, 0), (0, 0)):
        rows = windows.to_draw(n)
        assert len(set(rows)) == n
        assert windows.index["af"].iloc[rows].sum() == n_af


def test_data_that_cannot_be_explained_is_refused():
    with pytest.raises(ConfigError, match="found list without r_peaks, column"):
        watch([], 20, RATE, seed=0)
    dataset = Heartbeats(60, seed=3)
    dataset.peaks = [peaks[:3] for peaks in dataset.peaks]
    with pytest.raises(ConfigError, match="none of 60"):
        watch(dataset, 20, RATE, seed=0)


N = 12
WINDOWS = watch(Heartbeats(40, seed=2), N, RATE, seed=0)
AF = WINDOWS.index["af"].to_numpy()
ALL, NONE = np.ones(N, bool), np.zeros(N, bool)


def maps_of(seed):
    return torch.rand(N, 1, TIME, generator=torch.Generator().manual_seed(seed))


def measured(maps, right=ALL, last=None):
    predicted = torch.from_numpy(np.where(right, AF, 1 - AF))
    logits = torch.nn.functional.one_hot(predicted, 2) * 2.0
    return measure_branch(WINDOWS, Explanation(logits, maps), last, classifies=True)


def scalars_of(name, measures):
    return {
        f"{rhythm}/{key}": value
        for code, rhythm in enumerate(CLASSES)
        for key, value in class_means(name, measures[0][code == AF], rhythm)[0].items()
    }


@pytest.mark.parametrize("name", ["morphology", "rhythm"])
def test_means_are_those_of_right_predictions(name):
    maps, right = maps_of(0), np.arange(N) % 3 > 0
    maps[1] = 0  # right, but without relevance
    scalars = scalars_of(name, measured(maps, right))
    table = wave_relevance(maps, WINDOWS.r_peaks, RATE, logits=np.full(N, 2.0))
    for code, rhythm in enumerate(CLASSES):
        means = table[right & (code == AF)].mean()
        assert list(means.index) == [*STATISTICS]
        means["domain_specificity"] = domain_specificity(
            means.enrichment_p, means.enrichment_qrs, name
        )
        for key, value in means.items():
            named = "enrichment_where_p_would_be" if (key, code) == ("enrichment_p", 1) else key
            assert scalars[f"{rhythm}/{named}"] == pytest.approx(value, rel=1e-12)
    for code, rhythm in enumerate(CLASSES):
        counts = [scalars[f"{rhythm}/{count}"] for count in COUNTS]
        valid = table.notna().any(axis=1)
        masks = (right & valid, right, ALL)
        assert counts == [mask[code == AF].sum() for mask in masks]


def test_names_are_the_same_and_means_over_nothing_are_nan():
    _, last = measured(maps_of(0))
    all_right = scalars_of("rhythm", measured(maps_of(0), last=last))
    none_right = scalars_of("rhythm", measured(maps_of(0), NONE, last))
    assert all_right.keys() == none_right.keys()
    assert not any(map(np.isnan, all_right.values()))
    for key, value in none_right.items():
        assert np.isnan(value) == (key.split("/")[1] not in COUNTS)


def test_a_third_branch_has_no_specificity():
    names = scalars_of("tempo", measured(maps_of(0)))
    assert "AF/gini" in names
    assert not any("specificity" in name for name in names)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-12, 1e6))
def test_the_memory_of_maps_keeps_their_correlation(seed, scale):
    before, now = maps_of(seed) ** 4 * scale, maps_of(seed + 1) ** 4
    _, last = measured(before)
    assert last.dtype == torch.float16
    found = measured(now, last=last)[0].map_correlation
    pairs = zip(before[:, 0], now[:, 0], strict=True)
    expected = [np.corrcoef(one, other)[0, 1] for one, other in pairs]
    assert found.to_numpy() == pytest.approx(expected, abs=1e-3)


def test_only_maps_for_the_right_class_are_correlated():
    maps = maps_of(0)
    maps[0] = 0
    before, now = ALL.copy(), ALL.copy()
    before[1], now[2] = False, False
    _, last = measured(maps, before)
    found = measured(maps, now, last)[0].map_correlation
    assert found.isna().tolist() == [True, True, True, *[False] * (N - 3)]
    assert found[3:].to_numpy() == pytest.approx(1, abs=1e-3)
    assert measured(maps, now)[0].map_correlation.isna().all()

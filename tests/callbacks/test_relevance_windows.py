import numpy as np
import pytest
import torch
from small_task import RATE, TIME, Heartbeats

from xecg.callbacks.relevance import class_means, watch
from xecg.errors import ConfigError
from xecg.explain import domain_specificity, wave_relevance
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
    assert torch.equal(watch(dataset, 20, RATE, seed=0).signals, one.signals)
    assert not torch.equal(watch(dataset, 20, RATE, seed=1).signals, one.signals)


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


def measured(maps, right=ALL):
    """The table of windows that a branch decides about with logits of 0 and 2."""
    table = wave_relevance(maps, WINDOWS.r_peaks, RATE, logits=np.full(N, 2.0))
    return table.assign(right=right, p_af=0.5)


def scalars_of(name, table):
    return {
        f"{rhythm}/{key}": value
        for code, rhythm in enumerate(CLASSES)
        for key, value in class_means(name, table[code == AF], rhythm).items()
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
    all_right = scalars_of("rhythm", measured(maps_of(0)))
    none_right = scalars_of("rhythm", measured(maps_of(0), NONE))
    assert all_right.keys() == none_right.keys()
    assert not any(map(np.isnan, all_right.values()))
    for key, value in none_right.items():
        assert np.isnan(value) == (key.split("/")[1] not in COUNTS)


def test_a_third_branch_has_no_specificity():
    names = scalars_of("tempo", measured(maps_of(0)))
    assert "AF/conservation" in names
    assert not any("specificity" in name for name in names)

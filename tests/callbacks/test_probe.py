import numpy as np
import pytest
import torch
from small_task import RATE, Heartbeats

from xecg.callbacks.relevance import take_probe
from xecg.errors import ConfigError


def test_half_of_a_probe_is_af_and_every_window_has_four_beats():
    dataset = Heartbeats(60, seed=3)
    probe = take_probe(dataset, 20, RATE, seed=0)
    assert len(probe) == 20
    assert probe.classes.sum() == 10
    assert min(map(len, probe.r_peaks)) >= 4
    assert len(set(probe.records)) == 20
    for row, record in enumerate(probe.records):
        position = int(record.removeprefix("record"))
        assert torch.equal(probe.signals[row], dataset.signals[position])
        assert np.array_equal(probe.r_peaks[row], dataset.peaks[position])
        assert probe.classes[row] == dataset.labels[position]
        assert probe.starts_s[row] == 10.0 * position
        assert probe.leads[row] == f"lead{position}"


def test_the_seed_alone_decides_the_draw():
    dataset = Heartbeats(60, seed=3)
    np.random.seed(0)  # noqa: NPY002 (what the draw must not depend on)
    one = take_probe(dataset, 20, RATE, seed=0)
    np.random.seed(1)  # noqa: NPY002
    assert take_probe(dataset, 20, RATE, seed=0).digest() == one.digest()
    assert take_probe(dataset, 20, RATE, seed=1).digest() != one.digest()


@pytest.mark.parametrize(("asked", "expected"), [(16, (8, 4)), (9, (5, 4)), (3, (2, 1))])
def test_a_class_with_few_windows_gives_what_it_has(asked, expected):
    dataset = Heartbeats(60, seed=3)
    dataset.labels[1::2] = 0
    dataset.labels[[1, 3, 5, 7, 9, 19]] = 1  # 9 and 19 have three beats
    probe = take_probe(dataset, asked, RATE, seed=0)
    assert (int((probe.classes == 0).sum()), int((probe.classes == 1).sum())) == expected


def test_pictures_show_both_classes():
    probe = take_probe(Heartbeats(60, seed=3), 20, RATE, seed=0)
    for n, n_af in ((4, 2), (5, 2), (1, 0)):
        rows = probe.of_both_classes(n)
        assert len(set(rows)) == n
        assert probe.classes[rows].sum() == n_af


def test_data_that_cannot_be_explained_is_refused():
    with pytest.raises(ConfigError, match="found list without targets, r_peaks, column"):
        take_probe([], 20, RATE, seed=0)
    dataset = Heartbeats(60, seed=3)
    dataset.peaks = [peaks[:3] for peaks in dataset.peaks]
    with pytest.raises(ConfigError, match="4 R peaks or more; found none of 60"):
        take_probe(dataset, 20, RATE, seed=0)

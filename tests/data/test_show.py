"""Counts by class and split, and the page of example windows."""

import numpy as np
import pytest
from fake_database import describe, many

from xecg.data.prepare import prepare
from xecg.data.show import N_EXAMPLES, choose_examples, count_classes, draw_examples
from xecg.data.show import describe as describe_store
from xecg.data.splits import PARTS, Split, split_stores
from xecg.errors import UnwritableError

WHOLE = "whole store"


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("show")
    changing = {"rhythms": [["N", 0, 0, 12], ["AFIB", 1, 12, 100]], "person": "fake-0", "seed": 20}
    records = many(20, waves=True) | {
        "changing": changing,
        "bad": "corrupt",
        "few": {"rr_s": 3, "seed": 21},
    }
    database = describe(folder / "fake", **records)
    return prepare(database, folder / "store", jobs=1)


def test_counts_per_class_and_part(store):
    split = Split(0.5, 0.3, 0.2, seed=3)
    counts = count_classes(store, split)
    whole = counts[WHOLE].to_numpy().tolist()
    assert dict(zip(counts.index, whole, strict=True)) == {
        "all": [44, 22, 10],
        "AF": [10, 5, 5],
        "  AFIB": [10, 5, 5],
        "not AF": [33, 17, 10],
        "  N": [33, 17, 10],
        "left out": [1, 1, 1],
        "  N+AFIB": [1, 1, 1],
    }
    windows = counts.xs("windows", axis=1, level=1)
    assert (windows[list(PARTS)].sum(axis=1) == windows[WHOLE]).all()
    rows = split_stores([("", store.index)], [split])[0]
    assert windows.loc["all", list(PARTS)].tolist() == [len(rows[part]) for part in PARTS]


def test_says_what_was_done_and_what_is_missing(store):
    text = describe_store(store, Split())
    for expected in (
        "Fake ECGs, version 1",
        "licence: CC0",
        "44 of 10 s, one every 10 s, at 250 Hz; band 0.5 Hz to 40 Hz; scaling minmax",
        "leads: II",
        "annotated in 44 windows, detected in 0; fewer than 5 in 2; nothing but sinus beats in 33",
        "waves: annotated in 20 windows",
        "records skipped: 1",
        "Split by person, seed 0: train 0.7, validation 0.15, test 0.15",
        "\nall ",
    ):
        assert expected in text


def test_persons_are_not_counted_where_none_is_known(tmp_path):
    database = describe(tmp_path / "fake", **{f"r{i}": {"seed": i} for i in range(4)})
    unknown = prepare(database, tmp_path / "store", jobs=1)
    counts = count_classes(unknown, Split())
    assert counts[WHOLE].loc["all"].to_dict() == {"windows": 8, "records": 4}
    assert "Split by record" in describe_store(unknown, Split())


def test_rare_rhythms_are_counted_together(tmp_path):
    records = {f"r{i:02d}": {"seed": i, "rhythms": [[f"R{i:02d}", 0, 0, 99]]} for i in range(11)}
    rare = prepare(describe(tmp_path / "fake", **records), tmp_path / "s")
    windows = count_classes(rare, Split(1, 0, 0))["train"]["windows"]
    assert windows.tail(2).tolist() == [2, 6]
    assert windows.index[-1] == "  3 others"


def test_rhythms_take_turns_and_annotated_windows_come_first(store):
    rhythm = np.asarray(store.index.rhythm)
    annotated = np.asarray(store.index.wave_row) >= 0
    chosen = choose_examples(store, n=5)
    assert sorted(rhythm[chosen].tolist()) == ["AFIB", "AFIB", "N", "N", "N+AFIB"]
    assert annotated[chosen].sum() == 4
    assert len(set(np.asarray(store.index.record)[chosen])) == 5
    everything = choose_examples(store, n=100)
    assert sorted(everything) == list(range(len(store)))
    assert choose_examples(store, seed=1) == choose_examples(store, seed=1)
    assert choose_examples(store, seed=1) != choose_examples(store, seed=2)


def test_draws_signal_r_peaks_and_waves(store, tmp_path):
    from matplotlib.image import imread

    draw_examples(store, tmp_path / "page.png")
    picture = imread(tmp_path / "page.png")[..., :3]
    assert picture.shape[0] > 100 * N_EXAMPLES
    assert picture.shape[1] > 1000
    red = np.all(np.abs(picture - np.array([0xB3, 0x26, 0x4F]) / 255) < 0.02, axis=-1)
    rows_with_peaks = np.flatnonzero(red.any(axis=1))
    assert np.count_nonzero(np.diff(rows_with_peaks) > 20) >= N_EXAMPLES - 1
    assert (picture < 0.3).all(axis=-1).sum() > 10_000  # signal
    grey = np.ptp(picture, axis=-1) < 0.03
    not_annotated = grey & (picture.mean(axis=-1) > 0.8) & (picture.mean(axis=-1) < 0.95)
    assert not_annotated.sum() > 10_000
    assert [p.name for p in tmp_path.iterdir()] == ["page.png"]


def test_names_with_dollars_are_no_formulas(tmp_path):
    records = {"a$b": {"rhythms": [["$x_$", 0, 0, 99]]}}
    named = prepare(describe(tmp_path / "fake", **records), tmp_path / "s")
    draw_examples(named, tmp_path / "page.png")


def test_a_place_that_takes_no_files(store, tmp_path):
    with pytest.raises(UnwritableError, match=r"page\.png: cannot be written"):
        draw_examples(store, tmp_path / "missing" / "page.png")

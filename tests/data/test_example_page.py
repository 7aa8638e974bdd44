from itertools import pairwise

import numpy as np
import pytest
from fake_database import describe, index_columns, many
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.prepare import prepare
from xecg.data.show import N_EXAMPLES, choose_examples, draw_examples, runs
from xecg.data.store import index_of
from xecg.errors import StoreError


def index(rhythms, records=None, wave_rows=None):
    n = len(rhythms)
    return index_of(
        index_columns(
            n,
            rhythm=np.array(list(rhythms), dtype=np.str_),
            record=np.array(records or [str(i) for i in range(n)], dtype=np.str_),
            wave_row=np.array(wave_rows or [-1] * n, dtype=np.int32),
        )
    )


@given(st.lists(st.sampled_from("ANO~"), max_size=40), st.integers(1, 12))
def test_chooses_as_many_as_there_are_and_no_row_twice(rhythms, n):
    chosen = choose_examples(index(rhythms), n)
    assert len(chosen) == len(set(chosen)) == min(n, len(rhythms))


def test_every_rhythm_has_its_turn():
    chosen = choose_examples(index("N" * 90 + "A" * 5 + "~"), 6)
    rhythms = [("N" * 90 + "A" * 5 + "~")[row] for row in chosen]
    assert rhythms == ["N", "N", "N", "A", "A", "~"]


def test_annotated_windows_and_other_records_come_first():
    wave_rows = [-1] * 20 + [0, 1]
    records = [f"r{i}" for i in range(20)] + ["w", "w"]
    chosen = choose_examples(index("N" * 22, records, wave_rows), 2)
    assert chosen[0] in (20, 21)
    assert chosen[1] < 20


def test_another_seed_chooses_others():
    table = index("N" * 90)
    assert choose_examples(table, seed=1) == choose_examples(table, seed=1)
    assert choose_examples(table, seed=1) != choose_examples(table, seed=2)


@given(st.lists(st.integers(0, 3), min_size=1))
def test_runs_tell_where_codes_change(codes):
    found = list(runs(np.array(codes, dtype=np.uint8)))
    assert [code for start, stop, code in found for _ in range(start, stop)] == codes
    assert all(a[2] != b[2] for a, b in pairwise(found))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    records = many(8, waves=True) | {"few": {"rr_s": 3.0}}
    return prepare(describe(folder / "fake", **records), folder / "store", progress=False)


def test_draws_signal_r_peaks_and_waves(store, tmp_path):
    from matplotlib.image import imread

    path = draw_examples(store, tmp_path / "page.png")
    picture = imread(path)[..., :3]
    assert picture.shape[0] > 100 * N_EXAMPLES
    assert picture.shape[1] > 1000
    red = np.all(np.abs(picture - np.array([0xB3, 0x26, 0x4F]) / 255) < 0.02, axis=-1)
    rows_with_peaks = np.flatnonzero(red.any(axis=1))
    assert np.count_nonzero(np.diff(rows_with_peaks) > 20) >= N_EXAMPLES - 1
    dark = (picture < 0.3).all(axis=-1)
    assert dark.sum() > 10_000
    grey = np.ptp(picture, axis=-1) < 0.03
    assert (grey & (picture.mean(axis=-1) > 0.8) & (picture.mean(axis=-1) < 0.95)).sum() > 10_000
    assert [p.name for p in tmp_path.iterdir()] == ["page.png"]


def test_a_place_that_takes_no_files(store, tmp_path):
    with pytest.raises(StoreError, match=r"cannot be written .* another --picture"):
        draw_examples(store, tmp_path / "missing" / "page.png")

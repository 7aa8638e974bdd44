import dataclasses
from collections import Counter

import numpy as np
import pytest
from fake_database import index_columns as columns
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.splits import PARTS, Split, assert_disjoint, split_rows
from xecg.data.store import index_of
from xecg.errors import ConfigError, StoreError


def index(groups, rhythms=None, persons=None):
    rhythms = ["N"] * len(groups) if rhythms is None else rhythms
    changed = {
        "group": np.array(groups, dtype=np.str_),
        "record": np.array(groups, dtype=np.str_),
        "rhythm": np.array(rhythms, dtype=np.str_),
        "af": np.array([rhythm == "A" for rhythm in rhythms], dtype=np.int8),
        "person": np.array([""] * len(groups) if persons is None else persons, dtype=np.str_),
    }
    return index_of(columns(len(groups), **changed))


WINDOWS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ANO~")), max_size=80)
SPLITS = st.builds(
    lambda a, b, seed: Split(*np.diff([0, *sorted((a, b)), 100]) / 100, seed=seed),
    st.integers(0, 100),
    st.integers(0, 100),
    st.integers(0, 5),
)


@given(WINDOWS, SPLITS)
def test_covers_every_row_once_and_divides_no_group(windows, split):
    groups, rhythms = [f"g{g}" for g, _ in windows], [rhythm for _, rhythm in windows]
    table = index(groups, rhythms)
    rows = split_rows(table, split)
    assert tuple(rows) == PARTS
    assert sorted(np.concatenate(list(rows.values())).tolist()) == list(range(len(windows)))
    parts_of = {}
    for part, chosen in rows.items():
        for group in table.group[chosen]:
            parts_of.setdefault(group, set()).add(part)
    assert all(len(parts) == 1 for parts in parts_of.values())


@given(WINDOWS, SPLITS, st.randoms())
def test_does_not_depend_on_the_order_of_rows(windows, split, random):
    shuffled = list(windows)
    random.shuffle(shuffled)

    def groups_by_part(listed):
        table = index([f"g{g}" for g, _ in listed], [rhythm for _, rhythm in listed])
        return {part: set(table.group[r].tolist()) for part, r in split_rows(table, split).items()}

    assert groups_by_part(windows) == groups_by_part(shuffled)


@given(st.integers(1, 60), st.integers(0, 60), SPLITS)
def test_every_stratum_gets_its_shares(n_af, n_other, split):
    groups = [f"a{i}" for i in range(n_af)] + [f"n{i}" for i in range(n_other)]
    table = index(groups, ["A"] * n_af + ["N"] * n_other)
    for part, rows in split_rows(table, split).items():
        found = Counter(table.rhythm[rows].tolist())
        share = getattr(split, part)
        assert abs(found["A"] - share * n_af) < 2
        assert abs(found["N"] - share * n_other) < 2
        if share == 0:
            assert len(rows) == 0


def test_a_group_with_any_af_is_in_the_stratum_of_af():
    groups = np.repeat([f"g{i:02d}" for i in range(40)], 3)
    rhythms = np.array(["N"] * 120)
    rhythms[0:60:3] = "A"  # one of three windows of the first 20 groups
    rows = split_rows(index(groups, rhythms), Split(0.5, 0.25, 0.25))
    with_af = {f"g{i:02d}" for i in range(20)}
    counts = [len(with_af & set(groups[rows[part]].tolist())) for part in PARTS]
    assert counts == [10, 5, 5]


def test_another_seed_draws_other_groups():
    table = index([f"g{i}" for i in range(50)])
    first, again, other = (split_rows(table, Split(seed=seed))["test"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert first.tolist() != other.tolist()


def test_external_test_set():
    rows = split_rows(index(["a", "b", "b"]), Split(train=0, validation=0, test=1))
    assert [len(rows[part]) for part in PARTS] == [0, 0, 3]


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ((0.7, 0.2, 0.2), r"train 0.7, validation 0.2, test 0.2 \(sum 1.1\)"),
        ((1.2, -0.2, 0), "at least 0"),
        ((float("nan"), 0.5, 0.5), "sum to 1"),
    ],
)
def test_refuses_shares_that_are_none(shares, message):
    with pytest.raises(ConfigError, match=message):
        Split(*shares)


def test_refuses_a_negative_seed():
    with pytest.raises(ConfigError, match="seed of at least 0, found -1"):
        Split(seed=-1)


def test_disjoint_over_databases():
    mitdb = index(["mitdb-100", "mitdb-101"], persons=["mitdb-100", "mitdb-101"])
    qtdb = index(["mitdb-100", "qtdb-1"], persons=["mitdb-100", "qtdb-1"])
    with pytest.raises(StoreError, match=r"\(qtdb\).*\(mitdb\).*both hold mitdb-100 \(1 in all\)"):
        assert_disjoint([("qtdb", qtdb)], [("mitdb", mitdb)])
    assert_disjoint([("qtdb", qtdb.take([1]))], [("mitdb", mitdb)])


def test_unknown_persons_are_told_apart_by_database_and_group():
    a, b = index(["1", "2"]), index(["1", "3"])
    assert_disjoint([("one", a)], [("other", b)])
    with pytest.raises(StoreError, match="both hold one/1"):
        assert_disjoint([("one", a)], [("one", b)])


def test_no_name_is_lost_when_groups_were_merged():
    table = dataclasses.replace(index(["1", "2"]), group=np.array(["1", "1"]))
    with pytest.raises(StoreError, match="both hold one/1"):
        assert_disjoint([("one", table.take([0]))], [("one", table.take([1]))])

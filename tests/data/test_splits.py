"""Splits: shares, strata, seeds; each person in one part, over all stores."""

from collections import Counter
from itertools import count

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.splits import (
    PARTS,
    Split,
    assert_disjoint,
    keys,
    merge_groups,
    persons,
    seen,
    split_stores,
)
from xecg.errors import ConfigError, StoreError

DIGESTS = count(1000)  # of signals that are nobody else's


def index(groups, rhythms=None, persons=None, digests=None, records=None):
    rhythms = ["N"] * len(groups) if rhythms is None else list(rhythms)
    table = pd.DataFrame(
        {
            "group": pd.Categorical(groups),
            "record": groups if records is None else records,
            "rhythm": rhythms,
            "af": np.array([rhythm == "A" for rhythm in rhythms], dtype=np.int8),
            "person": [""] * len(groups) if persons is None else persons,
        }
    )
    own = [next(DIGESTS) for _ in groups] if digests is None else digests
    return table.assign(digest=np.asarray(own, dtype=np.uint64))


def split_rows(table, split):
    return split_stores([("", table)], [split])[0]


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
        for group in table.group.iloc[chosen]:
            parts_of.setdefault(group, set()).add(part)
    assert all(len(parts) == 1 for parts in parts_of.values())


@given(WINDOWS, SPLITS, st.randoms())
def test_does_not_depend_on_the_order_of_rows(windows, split, random):
    shuffled = list(windows)
    random.shuffle(shuffled)

    def groups_by_part(listed):
        table = index([f"g{g}" for g, _ in listed], [rhythm for _, rhythm in listed])
        return {
            part: set(table.group.iloc[r].tolist()) for part, r in split_rows(table, split).items()
        }

    assert groups_by_part(windows) == groups_by_part(shuffled)


@given(st.integers(1, 60), st.integers(0, 60), SPLITS)
def test_every_stratum_gets_its_shares(n_af, n_other, split):
    groups = [f"a{i}" for i in range(n_af)] + [f"n{i}" for i in range(n_other)]
    table = index(groups, ["A"] * n_af + ["N"] * n_other)
    for part, rows in split_rows(table, split).items():
        found = Counter(table.rhythm.iloc[rows].tolist())
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
        ((0.7, 0.2, 0.2), r"\(0.7, 0.2, 0.2\)"),
        ((1.2, -0.2, 0), "at least 0"),
        ((float("nan"), 0.5, 0.5), "sum to 1"),
    ],
)
def test_refuses_shares_that_are_none(shares, message):
    with pytest.raises(ConfigError, match=message):
        Split(*shares)


def test_refuses_a_negative_seed():
    with pytest.raises(ConfigError, match=r"split\.seed: expected 0 or more, found -1"):
        Split(seed=-1)


def test_split_of_one_store_is_that_of_the_released_weights():
    groups = [f"p{7 * i % 30:02d}" for i in range(60)]
    rhythms = [
        "NAO~"[(int(g[1:]) * 5 + i // 30 * (int(g[1:]) % 4 == 0)) % 4] for i, g in enumerate(groups)
    ]
    table = index(groups, rhythms)
    expected = {
        Split(): ("01 12 22 27 28", "05 23 25 26"),
        Split(0.5, 0.3, 0.2, seed=3): ("07 09 10 12 14 16 24 25 27", "04 08 15 17 18 22"),
    }
    for split, parts in expected.items():
        rows = split_rows(table, split)
        for part, names in zip(PARTS[1:], parts, strict=True):
            assert set(table["group"].iloc[rows[part]]) == {f"p{n}" for n in names.split()}


def parts_of(tables, splits):
    """Parts of each person over all stores; a store without names tells its records apart."""
    found = {}
    for table, rows in zip(tables, split_stores(tables, splits), strict=True):
        names = np.where(
            table[1]["person"] == "", table[0] + table[1]["record"], table[1]["person"]
        )
        for part, chosen in rows.items():
            for name in names[chosen]:
                found.setdefault(name, set()).add(part)
    return found


PEOPLE = st.lists(st.integers(0, 12), min_size=1, max_size=25)


@given(PEOPLE, PEOPLE, PEOPLE, st.integers(0, 5))
def test_a_person_of_several_stores_is_in_one_part(first, second, third, seed):
    tables = [
        (name, index([f"p{i}" for i in people], persons=[f"p{i}" for i in people]))
        for name, people in zip("abc", (first, second, third), strict=True)
    ]
    splits = [Split(0.4, 0.3, 0.3, seed), Split(0.3, 0.3, 0.4, seed + 1), Split(0.2, 0.2, 0.6)]
    assert all(len(parts) == 1 for parts in parts_of(tables, splits).values())
    for part, rows in split_stores(tables, splits)[0].items():  # the first one is split as alone
        assert np.array_equal(rows, split_rows(tables[0][1], splits[0])[part])


def test_a_store_without_shared_persons_is_split_as_alone():
    tables = [("a", index([f"a{i}" for i in range(30)])), ("b", index([f"b{i}" for i in range(9)]))]
    for table, rows in zip(tables, split_stores(tables, [Split(), Split(seed=1)]), strict=True):
        alone = split_rows(table[1], Split(seed=int(table[0] == "b")))
        assert all(np.array_equal(rows[part], alone[part]) for part in PARTS)


def test_identical_signals_are_one_person_by_way_of_others_too():
    a = index(["1", "2", "3"], digests=[11, 12, 13])
    b = index(["x", "x", "y"], digests=[21, 12, 22])  # x of b holds a signal of 2 in a
    c = index(["u", "v"], digests=[21, 30])  # u of c another one of x
    numbers = persons([("a", a), ("b", b), ("c", c)])
    assert numbers[1] == numbers[3] == numbers[4] == numbers[6]
    assert len(set(numbers.tolist())) == 5
    for seed in range(9):
        splits = [Split(0.4, 0.3, 0.3, seed), Split(0.3, 0.3, 0.4, seed), Split(0, 0.5, 0.5, seed)]
        first = split_stores([("a", a), ("b", b), ("c", c)], splits)
        part = next(part for part, rows in first[0].items() if 1 in rows)
        assert {0, 1} <= set(first[1][part].tolist())


def test_a_part_without_share_gets_nothing_from_another_store():
    persons_of = [f"p{i}" for i in range(20)]
    tables = [
        ("a", index(persons_of, persons=persons_of)),
        ("b", index(persons_of, persons=persons_of)),
    ]
    rows = split_stores(tables, [Split(), Split(0, 0, 1)])
    assert len(rows[1]["train"]) == len(rows[1]["validation"]) == 0
    assert np.array_equal(rows[1]["test"], rows[0]["test"])


def test_disjoint_over_databases():
    mitdb = index(["mitdb-100", "mitdb-101"], persons=["mitdb-100", "mitdb-101"])
    qtdb = index(["mitdb-100", "qtdb-1"], persons=["mitdb-100", "qtdb-1"])
    with pytest.raises(StoreError, match=r"train.*test.*both hold mitdb-100 \(1 in all\)"):
        assert_disjoint({"train": [("qtdb", qtdb)], "test": [("mitdb", mitdb)]})
    assert_disjoint({"train": [("qtdb", qtdb.iloc[[1]])], "test": [("mitdb", mitdb)]})


def test_unknown_persons_are_told_apart_by_database_and_record():
    a, b = index(["1", "2"]), index(["1", "3"])
    assert_disjoint({"train": [("one", a)], "test": [("other", b)]})
    with pytest.raises(StoreError, match="both hold one/1"):
        assert_disjoint({"train": [("one", a)], "test": [("one", b)]})


def test_identical_signals_are_refused_over_databases():
    a, b = index(["1", "2"], digests=[5, 6]), index(["x", "y"], digests=[8, 6])
    with pytest.raises(StoreError, match=r"validation.*both hold two/y \(1 in all\)"):
        assert_disjoint({"train": [("one", a)], "validation": [("two", b)]})


def test_seen_is_a_group_with_a_known_person_or_signal():
    learnt = keys("a", index(["1", "2"], persons=["p", ""], digests=[1, 2]))
    table = index(
        ["p", "g", "g", "x", "2"],
        persons=["p", "q", "q", "", ""],
        digests=[100, 101, 2, 102, 103],
    )
    assert seen("b", table, learnt).tolist() == [True, True, True, False, False]
    assert seen("a", table, learnt).tolist() == [True, True, True, False, True]


def test_keys_do_not_change():  # they are in weights files
    table = index(["r"], digests=[2**63 + 5])
    assert keys("database", table).tolist() == [[280606945934669, 5]]


SIGNALS = st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 9)), min_size=1)


def merged(windows):
    groups, signals = zip(*windows, strict=True)
    return merge_groups(np.array(groups), np.array(signals, dtype=np.uint64)).tolist()


def test_groups_that_share_a_signal_become_one():
    assert merged([("b", 1), ("a", 1), ("c", 2), ("b", 3)]) == ["a", "a", "c", "a"]


def test_groups_joined_by_way_of_another():
    assert merged([("c", 1), ("b", 1), ("b", 2), ("a", 2), ("d", 4)]) == ["a", "a", "a", "a", "d"]


@given(SIGNALS)
def test_merging_is_the_finest_partition_that_keeps_groups_and_signals_together(windows):
    result = merged(windows)
    parent = {group: group for group, _ in windows}

    def root(group):
        return group if parent[group] == group else root(parent[group])

    for one, signal in windows:
        for other, other_signal in windows:
            if signal == other_signal:
                first, last = sorted((root(one), root(other)))
                parent[last] = first
    assert result == [root(group) for group, _ in windows]

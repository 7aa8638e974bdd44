import pytest
from fake_database import describe, many

from xecg.data.prepare import prepare
from xecg.data.show import describe as describe_store
from xecg.data.splits import Split, split_rows
from xecg.data.store import count_classes


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("show")
    changing = {"rhythms": [["N", 0, 0, 12], ["AFIB", 1, 12, 100]], "person": "fake-0"}
    records = many(20, waves=True) | {"changing": changing, "bad": "corrupt", "few": {"rr_s": 3}}
    database = describe(folder / "fake", **records)
    return prepare(database, folder / "store", workers=1, progress=False)


DEFAULT = Split()


def lines_of(store, split=DEFAULT):
    return describe_store(store, split).splitlines()


def row(lines, name):
    found = [line for line in lines if line.startswith(name)]
    assert len(found) == 1, found
    return [int(number) for number in found[0].removeprefix(name).split()]


def test_counts_per_class_and_part(store):
    lines = lines_of(store)
    everything = row(lines, "all ")
    assert everything[:3] == [44, 22, 10]
    for column in range(3):
        assert everything[column] <= sum(everything[3 + column :: 3])
    assert everything[0] == sum(everything[3::3])
    assert everything[2] == sum(everything[5::3])
    assert row(lines, "AF ")[:3] == row(lines, "  AFIB ")[:3] == [10, 5, 5]
    assert row(lines, "not AF ")[0] == row(lines, "  N ")[0] == 33
    assert row(lines, "  N+AFIB ")[:3] == [1, 1, 1]


def test_counts_are_those_of_the_split(store):
    split = Split(0.5, 0.3, 0.2, seed=3)
    rows = split_rows(store.index, split)
    numbers = row(lines_of(store, split), "all ")[3::3]
    assert numbers == [len(rows[part]) for part in ("train", "validation", "test")]


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
        "bad: bad: expected JSON",
        "Split by person, seed 0: train 0.7, validation 0.15, test 0.15",
    ):
        assert expected in text


def test_persons_are_not_counted_where_nobody_is_known(tmp_path):
    database = describe(tmp_path / "fake", **{f"r{i}": {"seed": i} for i in range(4)})
    lines = lines_of(prepare(database, tmp_path / "store", workers=1, progress=False))
    assert row(lines, "all ")[:2] == [8, 4]
    assert [line.split() for line in lines if line.startswith("class")] == [
        ["class", *["windows", "records"] * 4]
    ]
    assert any(line.startswith("Split by record") for line in lines)


def test_rare_rhythms_are_counted_together(tmp_path):
    records = {f"r{i:02d}": {"seed": i, "rhythms": [[f"R{i:02d}", 0, 0, 99]]} for i in range(11)}
    store = prepare(describe(tmp_path / "fake", **records), tmp_path / "s", progress=False)
    counted = count_classes(store.index, split_rows(store.index, Split(1, 0, 0)))
    assert [(line.rhythm, line.counts["train"].windows) for line in counted][-2:] == [
        ("R07", 2),
        ("3 others", 6),
    ]

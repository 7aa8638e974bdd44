import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from fake_database import describe, many

from xecg.data.prepare import prepare
from xecg.data.splits import PARTS, Split, split_stores
from xecg.data.store import COLUMNS, FORMAT, Store, count_classes, show
from xecg.errors import StoreError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    records = many(5, waves=True) | {"short": {"duration_s": 3}, "worse": "corrupt"}
    database = describe(folder / "fake", **records)
    return prepare(database, folder / "store")


@pytest.fixture
def store_folder(prepared, tmp_path):
    return shutil.copytree(prepared.path, tmp_path / "store")


def test_holds_what_was_prepared(prepared):
    store = Store.open(str(prepared.path))
    assert len(store) == len(store.index) == 10
    assert store.signals.shape == (10, 2500)
    assert store.waves.shape == (5, 2500)
    assert store.index.wave_row.tolist() == [0, -1, 1, -1, 2, -1, 3, -1, 4, -1]
    assert [len(store.r_peaks(row)) for row in range(10)] == store.index.n_beats.tolist()
    assert (store.signals.min(axis=1) == 0).all()
    assert (store.signals.max(axis=1) == 1).all()


def test_info_says_where_it_comes_from(prepared):
    info = Store.open(prepared.path).info
    assert (info.recipe.database, info.title, info.licence) == ("fake", "Fake ECGs", "CC0")
    assert info.citation == "Nobody. Nowhere."
    assert (info.recipe.leads, info.recipe.stride_s, info.preprocessing.window_s) == (
        "preferred",
        10.0,
        10.0,
    )
    assert (info.n_records, info.n_windows, info.n_annotated) == (5, 10, 5)
    assert list(info.skipped) == ["short", "worse"]
    assert info.left_out == {}
    assert (info.recipe.format, info.fingerprint) == (FORMAT, info.recipe.fingerprint)
    assert info == prepared.info


def test_signals_stay_on_disk(prepared):
    store = Store.open(prepared.path)
    assert isinstance(store.signals, np.memmap)
    assert isinstance(store.waves, np.memmap)
    assert not store.signals.flags.writeable


def test_is_opened_anew_in_another_process(prepared):
    sent = pickle.dumps(prepared)
    assert len(sent) < 1000
    store = pickle.loads(sent)
    assert isinstance(store.signals, np.memmap)
    np.testing.assert_array_equal(store.signals, prepared.signals)


def test_opening_imports_no_torch(prepared):
    code = (
        "import sys; from xecg.data.store import Store; from xecg.data.splits import split_stores; "
        f"print(len(Store.open({str(prepared.path)!r})));"
        "print({'torch', 'wfdb', 'sleepecg'} & {*sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["10", "set()"]


def test_no_store(tmp_path):
    with pytest.raises(StoreError, match=r"found no store.json; .*prepare NAME --out .*nothing"):
        Store.open(tmp_path / "nothing")


@pytest.mark.parametrize("name", ["signals.npy", "waves.npy", "index.parquet"])
@pytest.mark.parametrize("size", [0, 100, -1000])
def test_a_file_cut_off_is_named(store_folder, name, size):
    path = store_folder / "data" / name
    data = path.read_bytes()
    path.write_bytes(data[:size])
    with pytest.raises(StoreError, match=rf"{name}: missing or damaged .*--overwrite"):
        Store.open(store_folder)
    path.unlink()
    with pytest.raises(StoreError, match=rf"{name}: missing or damaged"):
        Store.open(store_folder)


@pytest.mark.parametrize("name", ["signals.npy", "waves.npy", "index.parquet"])
def test_a_changed_bit_is_named(store_folder, name):
    path = store_folder / "data" / name
    content = bytearray(path.read_bytes())
    content[-500] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=name):
        Store.open(store_folder)


def test_a_pipe_in_place_of_a_file_is_named(store_folder):
    (path := store_folder / "data" / "waves.npy").unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match=r"waves\.npy"):
        Store.open(store_folder)


def test_the_index_has_its_columns_and_is_small(prepared):
    assert prepared.index.dtypes.astype(str).to_dict() == COLUMNS
    assert prepared.index.index.equals(pd.RangeIndex(10))


def changed_info(store_folder, change):
    path = store_folder / "store.json"
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))


def test_another_format_is_told(store_folder):
    changed_info(store_folder, lambda plain: plain["recipe"].update(format=99))
    with pytest.raises(
        StoreError, match=f"format {FORMAT}, found format 99.*data prepare fake .*--overwrite"
    ):
        Store.open(store_folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda plain: plain.pop("recipe"),
        lambda plain: plain.pop("n_windows"),
        lambda plain: plain["recipe"].pop("stride_s"),
        lambda plain: plain["recipe"]["preprocessing"].pop("low_hz"),
        lambda plain: plain.update(unknown=1),
        lambda plain: plain.pop("digest"),
        lambda plain: plain.update(n_records=6),
        lambda plain: plain["recipe"].update(stride_s=5.0),
    ],
)
def test_damaged_info_is_named(store_folder, change):
    changed_info(store_folder, change)
    with pytest.raises(StoreError, match=r"store.json: missing or damaged"):
        Store.open(store_folder)


def test_info_that_is_no_json(store_folder):
    (store_folder / "store.json").write_text("{")
    with pytest.raises(StoreError, match=r"store.json: missing or damaged"):
        Store.open(store_folder)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    changing = {"rhythms": [["N", 0, 0, 12], ["AFIB", 1, 12, 100]], "person": "fake-0", "seed": 20}
    records = many(20, waves=True) | {"changing": changing, "bad": "corrupt"}
    return prepare(describe(folder / "fake", **records), folder / "store", jobs=1)


def test_windows_records_and_persons_are_counted_by_class_rhythm_and_part(mixed):
    split = Split(0.5, 0.3, 0.2, seed=3)
    counts = count_classes(mixed, split)
    whole = counts["whole store"][["windows", "records", "persons"]].to_numpy().tolist()
    assert dict(zip(counts.index, whole, strict=True)) == {
        ("all", ""): [42, 21, 10],
        ("AF", ""): [10, 5, 5],
        ("AF", "AFIB"): [10, 5, 5],
        ("not AF", ""): [31, 16, 10],
        ("not AF", "N"): [31, 16, 10],
        ("left out", ""): [1, 1, 1],
        ("left out", "N+AFIB"): [1, 1, 1],
    }
    windows = counts.xs("windows", axis=1, level=1)
    assert (windows[list(PARTS)].sum(axis=1) == windows["whole store"]).all()
    rows = split_stores([("", mixed.index)], [split])[0]
    assert windows.loc[("all", ""), list(PARTS)].tolist() == [len(rows[part]) for part in PARTS]


def test_rare_rhythms_are_counted_together(tmp_path):
    records = {f"r{i:02d}": {"seed": i, "rhythms": [[f"R{i:02d}", 0, 0, 99]]} for i in range(19)}
    rare = prepare(describe(tmp_path / "fake", **records), tmp_path / "s")
    windows = count_classes(rare, Split(1, 0, 0))["train"]["windows"]
    assert windows["not AF"].max() == windows["not AF", ""] == 38
    assert windows["not AF", "other rhythms"] == 6


def test_show_says_what_was_done_and_what_is_missing(mixed, capsys):
    show(str(mixed.path))
    text = capsys.readouterr().out
    for expected in (
        "Fake ECGs, version 1",
        "licence: CC0",
        "42 of 10 s, one every 10 s, at 250 Hz; band 0.5 to 40.0 Hz; scaling minmax",
        "leads: II",
        "annotated in 42 windows",
        "waves: annotated in 20 windows",
        "records skipped: 1",
        "whole store",
    ):
        assert expected in text

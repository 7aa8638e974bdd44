import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fake_database import FakeDatabase, describe, many

from xecg.data.databases import get_database
from xecg.data.prepare import prepare
from xecg.data.splits import Split, split_rows
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError, StoreError
from xecg.signal.preprocessing import Preprocessing

PREPARE = """
import sys; from pathlib import Path
from fake_database import FakeDatabase
from xecg.data.prepare import prepare
prepare(FakeDatabase(Path(sys.argv[1])), sys.argv[2], workers=2, progress=False)
"""


def quietly(database, out, **settings):
    return prepare(database, out, **{"workers": 1, "progress": False, **settings})


def in_another_process(database, out):
    here = str(Path(__file__).parent)
    return subprocess.Popen(
        [sys.executable, "-c", PREPARE, str(database.root), str(out)],
        env=os.environ | {"PYTHONPATH": here},
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(store_folder):
    return {path.name: path.read_bytes() for path in Path(store_folder).iterdir()}


@pytest.fixture
def database(tmp_path):
    return describe(tmp_path / "fake", **many(6))


def test_the_number_of_workers_makes_no_difference(tmp_path):
    records = many(40, waves=True) | {"r005": "corrupt", "r017": {"duration_s": 5}}
    database = describe(tmp_path / "fake", **records)
    one, three = (
        quietly(database, tmp_path / str(workers), workers=workers).path for workers in (1, 3)
    )
    for name, content in contents(one).items():
        if name == "index.npz":  # a zip file, with the time of day in it
            for a, b in zip(
                np.load(one / name).values(), np.load(three / name).values(), strict=True
            ):
                np.testing.assert_array_equal(a, b)
        else:
            assert content == (three / name).read_bytes(), name


def test_an_unchanged_store_is_reused(database, tmp_path, caplog):
    first = contents(quietly(database, tmp_path / "store").path)
    with caplog.at_level(logging.INFO):
        store = quietly(FakeDatabase(database.root), tmp_path / "store")
    assert contents(store.path) == first
    assert "prepared already; its 12 windows are reused" in caplog.text


def test_other_settings_are_refused_and_named(database, tmp_path):
    out = tmp_path / "store"
    before = contents(quietly(database, out).path)
    with pytest.raises(StoreError, match=r"stride_s: 10.0 here, 5.0 asked for\. Pass --overwrite"):
        quietly(database, out, stride_s=5)
    with pytest.raises(StoreError, match=r"preprocessing.low_hz: 0.5 here, 1.0 asked"):
        quietly(database, out, preprocessing=Preprocessing(low_hz=1.0))
    describe(database.root, another={})
    with pytest.raises(StoreError, match=r"files: 6 files, .* here, 7 files, .* asked for"):
        quietly(database, out)
    assert contents(out) == before


def test_overwrite_replaces(database, tmp_path):
    out = tmp_path / "store"
    quietly(database, out)
    assert len(quietly(database, out, stride_s=5, overwrite=True)) == 24
    (out / "signals.npy").write_bytes(b"")
    assert len(quietly(database, out, stride_s=5, overwrite=True)) == 24


def test_what_is_no_store_is_never_replaced(database, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("precious")
    with pytest.raises(StoreError, match="which is never replaced"):
        quietly(database, out, overwrite=True)
    assert (out / "chapter1.tex").read_text() == "precious"


def test_records_that_cannot_be_used_are_skipped_told_and_counted(tmp_path, caplog):
    records = many(3) | {"short": {"duration_s": 9}} | {f"x{i}": "corrupt" for i in range(6)}
    store = quietly(describe(tmp_path / "fake", **records), tmp_path / "store", workers=2)
    assert sorted(set(store.index.record.tolist())) == ["r000", "r001", "r002"]
    assert store.info.n_records == 3
    assert list(store.info.skipped) == ["short", *(f"x{i}" for i in range(6))]
    assert "less than one window" in store.info.skipped["short"]
    assert store.info.skipped["x0"] == "x0: expected JSON, found 'corrupt'"
    assert "skipped x0: x0: expected JSON" in caplog.text
    assert "7 of 10 records skipped, 5 of them above" in caplog.text


def test_a_missing_file_is_skipped(tmp_path):
    class Forgetful(FakeDatabase):
        def records(self):
            return [*super().records(), "lost"]

    describe(tmp_path / "fake", **many(2))
    store = quietly(Forgetful(tmp_path / "fake"), tmp_path / "store")
    assert "No such file" in store.info.skipped["lost"]


def test_whatever_a_parser_raises_on_damaged_bytes_is_not_fatal(tmp_path):
    database = describe(tmp_path / "fake", **many(2), broken='{"seed": ')
    store = quietly(database, tmp_path / "store", workers=2)
    assert store.info.n_records == 2
    assert store.info.skipped["broken"].startswith("cannot be read (JSONDecodeError: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_mistake_in_the_code_is_not_counted_as_a_bad_record(tmp_path, workers, monkeypatch):
    def mistaken(*_):
        raise AttributeError("nonsense")

    monkeypatch.setattr("xecg.data.prepare.labelled_windows", mistaken)  # a fork inherits it
    with pytest.raises(AttributeError, match="nonsense") as caught:
        quietly(describe(tmp_path / "fake", **many(2)), tmp_path / "store", workers=workers)
    assert caught.value.__notes__ == ["while record r000 of fake was cut into windows"]
    assert not (tmp_path / "store").exists()


def test_nothing_usable(tmp_path):
    records = {"a": "corrupt a", "b": {"duration_s": 2}}
    with pytest.raises(DataError, match=r"in the 2 records .* found 2 records that could.*, a: "):
        quietly(describe(tmp_path / "fake", **records), tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["fake"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"workers": 0}, "workers: expected at least 1, found 0"),
        ({"limit": 0}, "limit: expected at least 1"),
        ({"stride_s": -1}, "stride_s: expected more than 0"),
        ({"leads": "II"}, "leads: expected"),
    ],
)
def test_settings_out_of_range(database, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        quietly(database, tmp_path / "store", **settings)


def test_a_store_within_the_database_is_refused(database):
    with pytest.raises(ConfigError, match="lies in the folder of the database"):
        quietly(database, database.root / "store")


def test_limit_and_leads(tmp_path):
    database = describe(tmp_path / "fake", **many(4, leads=["V1", "II"]))
    store = quietly(database, tmp_path / "one", limit=3)
    assert store.index.record.tolist() == ["r000", "r000", "r001", "r001", "r002", "r002"]
    assert set(store.index.lead.tolist()) == {"II"}
    assert len(quietly(database, tmp_path / "all", leads="all")) == 16
    named = quietly(database, tmp_path / "named", leads=["V1"])
    assert set(named.index.lead.tolist()) == {"V1"}


def test_identical_signals_are_one_group_in_one_part(tmp_path):
    records = {f"r{i:02d}": {"seed": i} for i in range(20)} | {"twin": {"seed": 7}}
    store = quietly(describe(tmp_path / "fake", **records), tmp_path / "store", workers=2)
    groups = dict(zip(store.index.record.tolist(), store.index.group.tolist(), strict=True))
    assert groups["twin"] == groups["r07"] == "r07"
    assert len(set(groups.values())) == 20
    for rows in split_rows(store.index, Split(0.4, 0.3, 0.3)).values():
        records_here = set(store.index.record[rows].tolist())
        assert ("twin" in records_here) == ("r07" in records_here)


def test_killed_half_way_leaves_no_store_and_the_next_run_succeeds(tmp_path):
    database = describe(tmp_path / "fake", **many(12, delay_s=0.2))
    out = tmp_path / "store"
    killed = in_another_process(database, out)
    partial = tmp_path / "store.partial" / "signals.npy"
    while not (partial.is_file() and partial.stat().st_size > 20_000):
        assert killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not out.exists()
    describe(database.root, **many(12))
    store = quietly(database, out)  # waits for nothing: the workers went with their parent
    assert len(store) == 24
    assert not partial.parent.exists()


def test_of_two_processes_one_prepares_and_the_other_reuses(tmp_path):
    database = describe(tmp_path / "fake", **many(12, delay_s=0.1))
    out = tmp_path / "store"
    processes = [in_another_process(database, out) for _ in range(2)]
    messages = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], messages
    assert sorted("another process is preparing it" in text for text in messages) == [False, True]
    assert len(Store.open(out)) == 24


def test_store_json_can_be_read_by_people(database, tmp_path):
    path = quietly(database, tmp_path / "store").path / "store.json"
    assert json.loads(path.read_text())["recipe"]["preprocessing"]["low_hz"] == 0.5
    assert path.read_text().count("\n") > 10


def test_ludb_whole(real_database, tmp_path):
    store = quietly(get_database("ludb", real_database("ludb")), tmp_path / "ludb", workers=2)
    index = store.index
    assert len(store) == 2400
    assert index.lead[:12].tolist() == [
        *("I", "II", "III", "aVR", "aVL", "aVF"),
        *(f"V{i}" for i in range(1, 7)),
    ]
    assert len(set(index.person.tolist())) == 200
    assert ((index.af == 1).sum(), (index.af == -1).sum()) == (15 * 12, 3 * 12)
    assert 0.6 < index.annotated_share[index.wave_row >= 0].mean() < 0.8


def test_first_records_of_cinc2017(real_database, tmp_path):
    database = get_database("cinc2017", real_database("cinc2017"))
    store = quietly(database, tmp_path / "store", workers=2, limit=50)
    windows = Counter(store.index.record.tolist())
    for record in database.records()[:50]:
        labelled = database.read(record)
        assert windows[record] == int(labelled.recording.duration_s // 10)
        chosen = store.index.record == record
        assert set(store.index.rhythm[chosen].tolist()) == {labelled.rhythms[0].label}


def test_cinc2017_twins_are_one_group(real_database, tmp_path):
    folder = real_database("cinc2017")

    class Twins(type(get_database("cinc2017", folder))):
        def records(self):
            return ["A00226", "A00227", "A01175", "A01176", "A02656", "A03123"]

    store = quietly(Twins(folder), tmp_path / "store")
    groups = dict(zip(store.index.record.tolist(), store.index.group.tolist(), strict=True))
    assert groups["A01176"] == groups["A00227"] == "A00227"
    assert groups["A03123"] == groups["A02656"] == "A02656"
    assert len(set(groups.values())) == 4

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from fake_database import FakeDatabase, describe, labelled_recording, many

from xecg.data.databases import get_database
from xecg.data.prepare import file_digest, only_one, prepare, recipe_of
from xecg.data.splits import Split, split_stores
from xecg.data.store import FORMAT, Store, StoreInfo
from xecg.errors import ConfigError, DataError, StoreError
from xecg.executors import executor, run_parts
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.wfdb import write_recording

PREPARE = """
import sys; from pathlib import Path
from fake_database import FakeDatabase
from xecg.data.prepare import prepare
if __name__ == "__main__":
    import logging
    logging.basicConfig(level=logging.INFO)
    prepare(FakeDatabase(Path(sys.argv[1])), sys.argv[2], jobs=2)
"""


def in_another_process(database, out):
    script = database.root.parent / "script.py"  # worker processes import it
    script.write_text(PREPARE)
    here = f"{Path(__file__).parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    return subprocess.Popen(
        [sys.executable, str(script), str(database.root), str(out)],
        env=os.environ | {"PYTHONPATH": here},
        stderr=subprocess.PIPE,
        text=True,
    )


def contents(store_folder):
    files = [path for path in Path(store_folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(store_folder)): path.read_bytes() for path in files}


@pytest.fixture
def database(tmp_path):
    return describe(tmp_path / "fake", **many(6))


def test_the_number_of_processes_makes_no_difference(tmp_path):
    records = many(130, waves=True) | {"r005": "corrupt", "r017": {"duration_s": 5}}
    database = describe(tmp_path / "fake", **records)
    one, two = (prepare(database, tmp_path / str(jobs), jobs=jobs).path for jobs in (1, 2))
    assert contents(one) == contents(two)
    assert set(contents(one)) == {
        *("store.json", "data/index.parquet", "data/signals.npy", "data/waves.npy")
    }


def test_an_unchanged_store_is_reused(database, tmp_path, caplog):
    first = contents(prepare(database, tmp_path / "store").path)
    with caplog.at_level(logging.INFO):
        store = prepare(FakeDatabase(database.root), tmp_path / "store")
    assert contents(store.path) == first
    assert "prepared already; its 12 windows are reused" in caplog.text


def test_other_settings_are_refused_and_named(database, tmp_path):
    out = tmp_path / "store"
    before = contents(prepare(database, out).path)
    with pytest.raises(StoreError, match=r"stride_s: 10.0 here, 5.0 asked for\. Pass --overwrite"):
        prepare(database, out, stride_s=5)
    with pytest.raises(StoreError, match=r"preprocessing.low_hz: 0.5 here, 1.0 asked"):
        prepare(database, out, preprocessing=Preprocessing(low_hz=1.0))
    describe(database.root, another={})
    with pytest.raises(StoreError, match=r"files: 6 files of \d+ bytes, \w+ here, 7 files"):
        prepare(database, out)
    assert contents(out) == before


def test_overwrite_replaces(database, tmp_path):
    out = tmp_path / "store"
    prepare(database, out)
    assert len(prepare(database, out, stride_s=5, overwrite=True)) == 24
    next(out.glob("data*/signals.npy")).write_bytes(b"")
    assert len(prepare(database, out, stride_s=5, overwrite=True)) == 24
    assert len(list(out.iterdir())) == 2
    (out / "store.json").write_text("{")
    assert len(prepare(database, out, overwrite=True)) == 12


def test_while_a_store_is_replaced_there_is_always_one(database, tmp_path, monkeypatch):
    out = tmp_path / "store"
    prepare(database, out)
    seen = []
    for cls, name in ((Path, "rename"), (StoreInfo, "write"), (shutil, "rmtree")):
        whole = getattr(cls, name)

        def looking(*given, whole=whole, **named):
            seen.append(len(Store.open(out)))
            done = whole(*given, **named)
            seen.append(len(Store.open(out)))
            return done

        monkeypatch.setattr(cls, name, looking)
    prepare(database, out, stride_s=5, overwrite=True)
    assert set(seen) == {12, 24}


def test_what_is_no_store_is_never_replaced(database, tmp_path):
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.tex").write_text("precious")
    with pytest.raises(StoreError, match="which is never replaced"):
        prepare(database, out, overwrite=True)
    assert (out / "chapter1.tex").read_text() == "precious"


def test_records_that_cannot_be_used_are_skipped_told_and_counted(tmp_path, caplog):
    records = many(3) | {"short": {"duration_s": 9}} | {f"x{i}": "corrupt" for i in range(6)}
    store = prepare(describe(tmp_path / "fake", **records), tmp_path / "store")
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
    store = prepare(Forgetful(tmp_path / "fake"), tmp_path / "store")
    assert "No such file" in store.info.skipped["lost"]


def test_whatever_a_parser_raises_on_damaged_bytes_is_not_fatal(tmp_path):
    database = describe(tmp_path / "fake", **many(2), broken='{"seed": ')
    store = prepare(database, tmp_path / "store")
    assert store.info.n_records == 2
    assert store.info.skipped["broken"].startswith("cannot be read (JSONDecodeError: ")


def test_a_mistake_in_the_code_is_not_counted_as_a_bad_record(tmp_path, monkeypatch):
    def mistaken(*_):
        raise AttributeError("nonsense")

    monkeypatch.setattr("xecg.data.prepare.labelled_windows", mistaken)
    with pytest.raises(AttributeError, match="nonsense") as caught:
        prepare(describe(tmp_path / "fake", **many(2)), tmp_path / "store")
    assert caught.value.__notes__ == ["while record r000 of fake was cut into windows"]
    assert not (tmp_path / "store").exists()


def test_nothing_usable(tmp_path):
    records = {"a": "corrupt a", "b": {"duration_s": 2}}
    with pytest.raises(DataError, match=r"in the 2 records .* found a: .*; b: "):
        prepare(describe(tmp_path / "fake", **records), tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["fake"]  # no parts


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"jobs": 0}, "jobs: expected 1 or more, found 0"),
        ({"limit": 0}, "limit: expected 1 or more"),
        ({"stride_s": -1}, "stride_s: expected more than 0"),
        ({"leads": "II"}, "leads: expected"),
    ],
)
def test_settings_out_of_range(database, tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        prepare(database, tmp_path / "store", **settings)


def test_a_store_within_the_database_is_refused(database):
    with pytest.raises(ConfigError, match="lies in the folder of the database"):
        prepare(database, database.root / "store")


def test_limit_and_leads(tmp_path):
    database = describe(tmp_path / "fake", **many(4, leads=["V1", "II"]))
    store = prepare(database, tmp_path / "one", limit=3)
    assert store.index.record.tolist() == ["r000", "r000", "r001", "r001", "r002", "r002"]
    assert set(store.index.lead.tolist()) == {"II"}
    assert len(prepare(database, tmp_path / "all", leads="all")) == 16
    named = prepare(database, tmp_path / "named", leads=["V1"])
    assert set(named.index.lead.tolist()) == {"V1"}


def test_identical_signals_are_one_group_in_one_part(tmp_path):
    records = {f"r{i:02d}": {"seed": i} for i in range(20)} | {"twin": {"seed": 7}}
    store = prepare(describe(tmp_path / "fake", **records), tmp_path / "store")
    groups = dict(zip(store.index.record.tolist(), store.index.group.tolist(), strict=True))
    assert groups["twin"] == groups["r07"] == "fake/r07"
    assert len(set(groups.values())) == 20
    for rows in split_stores([("", store.index)], [Split(0.4, 0.3, 0.3)])[0].values():
        records_here = set(store.index["record"].iloc[rows].tolist())
        assert ("twin" in records_here) == ("r07" in records_here)


def test_opposite_labels_of_one_signal_are_left_out_and_named(tmp_path, caplog):
    def labelled(seed, label, af):
        return {"seed": seed, "rhythms": [[label, af, 0, 1000]]}

    records = {f"r{i}": labelled(i, "N", 0) for i in range(3)}
    records |= {"twin": labelled(1, "AFIB", 1), "same": labelled(0, "N", 0)}
    records |= {"unsure": labelled(2, "?", -1)}
    store = prepare(describe(tmp_path / "fake", **records), tmp_path / "store")
    af = dict(zip(store.index.record.tolist(), store.index.af.tolist(), strict=True))
    assert af == {"r0": 0, "r1": -1, "r2": 0, "twin": -1, "same": 0, "unsure": -1}
    (reason,) = store.info.left_out
    assert "r1, twin" in reason
    assert store.info.left_out[reason] == 4
    assert reason in caplog.text


def test_killed_half_way_continues_from_its_parts(tmp_path):
    database = describe(tmp_path / "fake", **many(12, delay_s=0.2))
    out = tmp_path / "store"
    killed = in_another_process(database, out)
    while len(parts := list(tmp_path.glob("store.parts-*/*.part"))) < 3:
        assert killed.poll() is None, killed.stderr.read()
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not out.exists()
    made = {part: part.stat().st_mtime_ns for part in parts}
    with executor(1) as pool:  # what is there is not made again
        folder = parts[0].parent
        pieces = [[f"r{i:03d}"] for i in range(12)]
        list(run_parts(partial(only_missing, set(made)), pieces, folder, pool, title="fake"))
    assert {part: part.stat().st_mtime_ns for part in parts} == made
    assert len(prepare(database, out)) == 24
    assert [path.name for path in tmp_path.iterdir() if ".parts" in path.name] == []
    assert contents(out) == contents(prepare(database, tmp_path / "whole").path)


def only_missing(made, _, path):
    assert path not in made


def test_a_record_that_kills_its_worker_is_skipped_and_named(tmp_path):
    database = describe(tmp_path / "fake", **many(5), deadly="kill")
    store = prepare(database, tmp_path / "store", jobs=2)
    assert store.info.n_records == 5
    assert list(store.info.skipped) == ["deadly"]
    assert "died" in store.info.skipped["deadly"]


def test_of_two_processes_one_prepares_and_the_other_reuses(tmp_path):
    database = describe(tmp_path / "fake", **many(12, delay_s=0.1))
    out = tmp_path / "store"
    processes = [in_another_process(database, out) for _ in range(2)]
    messages = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], messages
    assert sorted("its 24 windows are reused" in text for text in messages) == [False, True]
    assert len(Store.open(out)) == 24


def test_store_json_can_be_read_by_people(database, tmp_path):
    path = prepare(database, tmp_path / "store").path / "store.json"
    assert json.loads(path.read_text())["recipe"]["preprocessing"]["low_hz"] == 0.5
    assert path.read_text().count("\n") > 10


def test_ludb_whole(real_database, tmp_path):
    store = prepare(get_database("ludb", real_database("ludb")), tmp_path / "ludb")
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
    store = prepare(database, tmp_path / "store", limit=50)
    windows = Counter(store.index.record.tolist())
    for record in database.records()[:50]:
        labelled = database.read(record)
        assert windows[record] == int(labelled.recording.duration_s // 10)
        chosen = store.index["record"] == record
        assert set(store.index.rhythm[chosen].tolist()) == {labelled.rhythms[0].label}


def test_cinc2017_twins_are_one_group(real_database, tmp_path):
    folder = real_database("cinc2017")

    class Twins(type(get_database("cinc2017", folder))):
        def records(self):
            return ["A00226", "A00227", "A01175", "A01176", "A02656", "A03123"]

    store = prepare(Twins(folder), tmp_path / "store")
    groups = dict(zip(store.index.record.tolist(), store.index.group.tolist(), strict=True))
    assert groups["A01176"] == groups["A00227"] == "cinc2017/A00227"
    assert groups["A03123"] == groups["A02656"] == "cinc2017/A02656"
    assert len(set(groups.values())) == 4


def test_the_recipe_has_what_suits_the_database_and_survives_json(tmp_path):
    database = describe(tmp_path / "fake", **many(3, leads=["II", "V1"]))
    recipe = recipe_of(database, Preprocessing(window_s=4.0))
    assert (recipe.leads, recipe.stride_s, recipe.limit) == ("preferred", 4.0, None)
    assert recipe.format == FORMAT
    for leads in (None, "all", ["II", "V1"]):
        recipe = recipe_of(database, Preprocessing(low_hz=None), leads, 5, 3)
        out = tmp_path / str(leads)
        prepare(database, out, preprocessing=recipe.preprocessing, leads=leads, stride_s=5, limit=3)
        again = StoreInfo.read(out).recipe
        assert (again, again.fingerprint) == (recipe, recipe.fingerprint)
        assert recipe.differences(again) == []


def test_settings_of_the_database_count_and_its_place_does_not(tmp_path):
    def recipe(folder, **settings):
        database = describe(tmp_path / folder, a={})
        vars(database).update(settings, table=database.root / "t.csv", _cache=object())
        return recipe_of(database, Preprocessing())

    first = recipe("here", meaning={"A": 1})
    assert first.options == {"meaning": {"A": 1}, "table": "t.csv"}
    assert recipe("there", meaning={"A": 1}) == first
    assert recipe("here", meaning={"A": 0}).differences(first) == [
        "options.meaning: {'A': 0} here, {'A': 1} asked for"
    ]
    with pytest.raises(ConfigError, match="opened of type object"):
        recipe("here", opened=object())


def test_files_count_by_name_and_size_and_tables_by_content(tmp_path):
    root = describe(tmp_path / "fake", a={}, b={}).root
    first = file_digest(root, [root / "a.json"])
    assert first.startswith("2 files of 4 bytes, ")
    (root / ".hidden").write_text("x")
    os.utime(root / "a.json", ns=(1, 1))
    (root / "b.json").write_text("[]")
    assert file_digest(root, [root / "a.json"]) == first  # a copy is the same database
    (root / "a.json").write_text("[]")
    changed = file_digest(root, [root / "a.json"])
    (root / "b.json").rename(root / "c.json")
    assert len({first, changed, file_digest(root, [root / "a.json"])}) == 3
    recipe = recipe_of(FakeDatabase(root), Preprocessing())
    (difference,) = replace(recipe, files=first).differences(replace(recipe, files=changed))
    assert difference == f"files: {first} here, {changed} asked for"


def test_one_after_the_other(tmp_path):
    out = tmp_path / "below" / "out"
    order = []

    def second():
        with only_one(out):
            order.append("second")

    with only_one(out):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_place_that_takes_no_files(database, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/out: cannot be written"):
        prepare(database, tmp_path / "file" / "out")


def test_two_clinics_with_the_same_names_are_different_people(tmp_path):
    stores = []
    for clinic in ("a/ecgs", "b/ecgs"):
        root = tmp_path / clinic
        for i, patient in enumerate(("x", "y")):
            recording = labelled_recording("000", seed=i + len(stores) * 2, leads=("II",)).recording
            write_recording(recording, root / patient)
        table = "record,label,person\nx/000,AF,1\ny/000.hea,N,\n"
        (root / "records.csv").write_text(table)
        stores.append(prepare(get_database("folder", root), tmp_path / f"s{len(stores)}"))
    one, other = (set(store.index.group) for store in stores)
    assert set(stores[0].index.record) == {"x/000", "y/000"}
    assert len(one) == len(other) == 2
    assert not one & other
    assert not set(stores[0].index.person) & set(stores[1].index.person) - {""}


def test_links_that_lead_round_are_followed_once(tmp_path):
    (tmp_path / "a").write_text("12345")
    for folder in ("b", "c"):
        (tmp_path / folder).mkdir()
        for name in ("x", "y"):
            (tmp_path / folder / name).symlink_to("..")
    (tmp_path / "loop").symlink_to("loop")
    assert file_digest(tmp_path).startswith("2 files of 9 bytes")

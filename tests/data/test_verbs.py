import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xecg.cli import main
from xecg.data.databases import DATABASES
from xecg.data.store import Store

SMALL = (
    *("--synthetic.persons", "4", "--synthetic.records_per_person", "2"),
    *("--synthetic.duration_s", "10", "--jobs", "1"),
)


def data(*arguments):
    assert main(["data", *map(str, arguments)]) == 0


def refused(capsys, *arguments):
    """The sentence that a refused command prints."""
    capsys.readouterr()
    assert main(["data", *map(str, arguments)]) == 1
    return capsys.readouterr().err


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    data("prepare", "synthetic", "--out", folder / "store", *SMALL)
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_list_tells_of_every_database(capsys):
    data("list")
    printed = capsys.readouterr().out
    for name, database in DATABASES.items():
        for expected in (name, database.title, f"licence: {database.licence}", database.url):
            assert expected in printed


def test_list_is_quick():
    heavy = {"pandas", "scipy.signal", "wfdb"}
    code = f"import sys, xecg.data.databases; print({heavy} & {{*sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "set()\n"


def test_prepare_synthetic_makes_the_records_first(made):
    store = Store.open(made / "store")
    assert len(store) == 8
    assert len(set(store.index.person.tolist())) == 4
    assert store.info.n_annotated == 8
    assert len(list((made / "store-records").glob("*.hea"))) == 8


def test_prepare_again_reuses(made, caplog, capsys):
    before = (made / "store" / "store.json").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        data("prepare", "synthetic", "--out", made / "store", *SMALL)
    assert (made / "store" / "store.json").stat().st_mtime_ns == before
    assert "its 8 windows are reused" in caplog.text
    assert capsys.readouterr().out == f"{made / 'store'}: 8 windows of 8 records\n"


def test_prepare_takes_every_setting():
    other = ("--synthetic.seed", 3, "--synthetic.af_share", 0.5)
    data("prepare", "synthetic", *SMALL, "--leads", "I", "V1", *other)
    assert Path("stores/synthetic-records").is_dir()
    again = ("prepare", "synthetic", "--root", "stores/synthetic-records", "--overwrite")
    data(
        *again,
        *("--preprocessing.low_hz", "null", "--preprocessing.high_hz", "30"),
        *("--preprocessing.sampling_rate", "200", "--preprocessing.window_s", "5"),
        *(
            "--preprocessing.scaling",
            "none",
            "--stride_s",
            "2.5",
            "--leads",
            "V1",
            "--limit",
            "3",
            "--jobs",
            "1",
        ),
    )
    info = Store.open("stores/synthetic").info
    settings = {"low_hz": None, "high_hz": 30.0, "sampling_rate": 200.0, "window_s": 5.0}
    assert info.preprocessing.to_dict() == settings | {"scaling": "none"}
    assert (info.recipe.leads, info.recipe.stride_s, info.recipe.limit) == (("V1",), 2.5, 3)
    assert info.n_windows == 9


def test_prepare_a_folder_of_own_records(made, capsys):
    shutil.copytree(made / "store-records", "mine")
    table = Path("mine/records.csv")
    table.write_text(table.read_text().replace(",A,", ",flimmern,"))
    mine = ("prepare", "folder", "--root", "mine", "--jobs", "1")
    assert "flimmern" in refused(capsys, *mine)
    data(*mine, "--af", "flimmern", "--not_af", "N", "O")
    store = Store.open("stores/folder")
    assert set(store.index["rhythm"][store.index["af"] == 1]) == {"flimmern"}
    assert "options.meaning: " in refused(capsys, *mine, "--left_out", "flimmern")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ludb", "--synthetic.persons", "3"), "--synthetic: only for 'synthetic'"),
        (("synthetic", "--root", "x", "--synthetic.seed", "3"), "--synthetic: only for"),
        (("ludb", "--af", "A", "--table", "t"), "--table, --af: only for the database 'folder'"),
    ],
)
def test_options_without_effect_are_refused(arguments, message, capsys):
    assert message in refused(capsys, "prepare", *arguments)


def test_prepare_names_what_is_missing(capsys):
    assert "'nonsense'" in refused(capsys, "prepare", "nonsense")
    assert "data/ludb" in refused(capsys, "prepare", "ludb")


def test_show_finds_a_store_by_name_and_counts_it(made, capsys):
    shutil.copytree(made / "store", "stores/named")
    data("show", "named", "--split.seed", 4)
    printed = capsys.readouterr().out
    assert "Synthetic ECGs" in printed
    assert "validation" in printed
    assert "nothing: expected a prepared store" in refused(capsys, "show", "nothing")


def test_no_verb_imports_torch(made):
    code = f"""
import sys
from xecg.cli import main
assert main(["data", "list"]) == 0
assert main(["data", "prepare", "synthetic", "--out", {str(made / "other")!r},
             *{SMALL!r}]) == 0
assert main(["data", "show", {str(made / "other")!r}]) == 0
print(sorted({{"torch", "lightning"}} & {{*sys.modules}}))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]"

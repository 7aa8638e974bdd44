import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from xecg.data.databases import DATABASES
from xecg.data.store import Store
from xecg.data.verbs import add_data_parser
from xecg.errors import ConfigError, DataError, StoreError

SMALL = ("--persons", "4", "--records_per_person", "2", "--duration_s", "10", "--workers", "1")


def data(*arguments):
    parser = argparse.ArgumentParser()
    add_data_parser(parser.add_subparsers())
    parsed = parser.parse_args(["data", *map(str, arguments)])
    return parsed.run(parsed)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    data("prepare", "synthetic", "--out", folder / "store", *SMALL)
    return folder


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_list_tells_of_every_database(capsys):
    assert data("list") == 0
    printed = capsys.readouterr().out
    for name, database in DATABASES.items():
        for expected in (name, database.title, f"licence: {database.licence}", database.url):
            assert expected in printed


def test_prepare_synthetic_makes_the_records_first(made):
    store = Store.open(made / "store")
    assert len(store) == 8
    assert len(set(store.index.person.tolist())) == 4
    assert store.info.n_annotated == 8
    assert len(list((made / "store-records").glob("*.hea"))) == 8


def test_prepare_again_reuses(made, capsys):
    before = (made / "store" / "store.json").stat().st_mtime_ns
    data("prepare", "synthetic", "--out", made / "store", *SMALL)
    assert (made / "store" / "store.json").stat().st_mtime_ns == before
    assert "8 windows of 8 records" in capsys.readouterr().out


def test_prepare_takes_every_setting():
    data("prepare", "synthetic", *SMALL, "--leads", "I", "V1", "--seed", 3, "--af_share", 0.5)
    assert Path("stores/synthetic-records").is_dir()
    again = ("prepare", "synthetic", "--root", "stores/synthetic-records", "--overwrite")
    data(
        *again,
        *("--leads", "V1", "--low_hz", "none", "--high_hz", "30", "--sampling_rate", "200"),
        *("--window_s", "5", "--stride_s", "2.5", "--scaling", "none", "--limit", "3"),
    )
    info = Store.open("stores/synthetic").info
    settings = {"low_hz": None, "high_hz": 30.0, "sampling_rate": 200.0, "window_s": 5.0}
    assert info.preprocessing.to_dict() == settings | {"scaling": "none"}
    assert (info.leads, info.stride_s, info.recipe.limit) == (("V1",), 2.5, 3)
    assert info.n_windows == 9


def test_prepare_a_folder_of_own_records(made):
    shutil.copytree(made / "store-records", "mine")
    table = Path("mine/records.csv")
    table.write_text(table.read_text().replace(",A,", ",flimmern,"))
    with pytest.raises(DataError, match="flimmern"):
        data("prepare", "folder", "--root", "mine")
    data("prepare", "folder", "--root", "mine", "--af", "flimmern", "--not_af", "N", "O")
    store = Store.open("stores/folder")
    assert set(store.index.rhythm[store.index.af == 1].tolist()) == {"flimmern"}
    with pytest.raises(StoreError, match=r"options: .*flimmern"):
        data("prepare", "folder", "--root", "mine", "--left_out", "flimmern")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("ludb", "--persons", "3"), "--persons: only for synthetic records"),
        (("synthetic", "--root", "x", "--seed", "3"), "--seed: only for synthetic records"),
        (("ludb", "--af", "A", "--table", "t"), "--table, --af: only for the database 'folder'"),
    ],
)
def test_options_without_effect_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        data("prepare", *arguments)


def test_prepare_names_what_is_missing():
    with pytest.raises(DataError, match="no database is called 'nonsense'"):
        data("prepare", "nonsense")
    with pytest.raises(DataError, match="data/ludb"):
        data("prepare", "ludb")


def test_fetch_hands_on_name_and_folder(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr("xecg.data.download.fetch", lambda *given: calls.append(given) or given[1])
    data("fetch", "ludb")
    data("fetch", "mitdb", "--out", "elsewhere")
    assert calls == [("ludb", Path("data/ludb")), ("mitdb", Path("elsewhere"))]
    assert "xecg data prepare ludb --root data/ludb" in capsys.readouterr().out


def test_show_prints_and_draws(made, capsys):
    data("show", made / "store", "--split-seed", 4)
    printed = capsys.readouterr().out
    assert "Synthetic ECGs" in printed
    assert "Split by person, seed 4" in printed
    assert (made / "store" / "examples.png").read_bytes().startswith(b"\x89PNG")
    data("show", made / "store")  # its own picture is drawn anew


def test_show_finds_a_store_by_name(made):
    shutil.copytree(made / "store", "stores/named")
    data("show", "named", "--picture", "page.png", "--train", 0, "--validation", 0, "--test", 1)
    assert Path("page.png").is_file()
    with pytest.raises(StoreError, match="nothing: expected a prepared store"):
        data("show", "nothing")


def test_show_replaces_no_file_unasked(made):
    Path("page.png").write_text("precious")
    with pytest.raises(StoreError, match=r"page.png: is there already; pass --overwrite"):
        data("show", made / "store", "--picture", "page.png")
    assert Path("page.png").read_text() == "precious"
    data("show", made / "store", "--picture", "page.png", "--overwrite")
    assert Path("page.png").read_bytes().startswith(b"\x89PNG")


def test_no_verb_imports_torch(made):
    code = f"""
import sys
from xecg.cli import main
assert main(["data", "list"]) == 0
assert main(["data", "prepare", "synthetic", "--out", {str(made / "other")!r},
             "--persons", "2", "--records_per_person", "1", "--duration_s", "10"]) == 0
assert main(["data", "show", {str(made / "other")!r}]) == 0
print(sorted({{"torch", "lightning"}} & {{*sys.modules}}))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines()[-1] == "[]"
    assert "synthetic: 100%" in run.stderr

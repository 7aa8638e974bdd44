"""What docs/EXTENDING.md says of databases, done from a package of somebody's own."""

import re
from pathlib import Path

import pytest

from xecg.cli import main
from xecg.data.store import Store

from .files import write_record

GUIDE = Path(__file__).parents[3] / "docs/EXTENDING.md"


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_the_database_of_the_guide_is_prepared(tmp_path, monkeypatch, jobs):
    (code,) = re.findall(r"```python\n# my_package/databases.py\n(.*?)```", GUIDE.read_text(), re.S)
    package = f"my_package{jobs}"
    (tmp_path / package).mkdir()
    (tmp_path / package / "databases.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    for number in range(4):
        comments = ("Rhythm: AF",) if number % 2 else ()
        about = {"seconds": 20, "phase": number, "comments": comments}
        write_record(tmp_path / "mine" / "sub", f"{number}", **about)
    (command,) = re.findall(r"`xecg (data prepare my_package[^`]*)`", GUIDE.read_text())
    command = command.replace("my_package", package).replace("FOLDER", str(tmp_path / "mine"))
    out = tmp_path / "store"
    assert main([*command.replace("stores/mydb", str(out)).split(), "--jobs", jobs]) == 0
    store = Store.open(out)
    assert sorted(set(store.index["record"])) == [f"sub/{number}" for number in range(4)]
    assert store.index.groupby("record", observed=True)["af"].max().tolist() == [0, 1, 0, 1]
    assert store.info.title == "My ECGs"

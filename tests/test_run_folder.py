"""The folder of a run: its name, whose it is."""

from pathlib import Path

import pytest
from jsonargparse import Namespace

from xecg.errors import ConfigError
from xecg.run_folder import _name, claimed


def test_a_folder_is_held_by_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for resumed in (False, True):
        with claimed(folder, resumed=False):
            with pytest.raises(ConfigError, match="a/b"), claimed(folder, resumed):
                pass
            assert [path.name for path in folder.iterdir()] == [".running"]
        assert not any(folder.iterdir())


def test_the_folder_of_a_killed_run_is_free(tmp_path: Path) -> None:
    (tmp_path / ".running").touch()
    with claimed(tmp_path, resumed=False):
        pass


def test_a_folder_that_holds_something_is_refused_unless_its_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=str(tmp_path)), claimed(tmp_path, resumed=False):
        pass
    with claimed(tmp_path, resumed=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/finetune_frozen3.yaml", "finetune_frozen3"),
        ("runs/finetune_frozen3/20261126-101500/config.yaml", "finetune_frozen3_test"),
        ("runs/p_wave/config.yaml", "p_wave_test"),
    ],
)
def test_a_run_is_named_after_its_config(config: str, name: str) -> None:
    assert _name(Namespace(config=[config]), "test") == name

"""The folder of a run: its name, whose it is."""

from pathlib import Path

import pytest
from jsonargparse import Namespace

from xecg.errors import ConfigError
from xecg.run_folder import _name, claim_folder


def test_a_folder_is_made_for_a_run_alone(tmp_path: Path) -> None:
    claim = claim_folder(tmp_path / "a" / "b", resumed=False)
    with pytest.raises(ConfigError, match="a/b"):
        claim_folder(tmp_path / "a" / "b", resumed=False)
    claim.unlink()
    claim_folder(tmp_path / "a" / "b", resumed=False)


def test_two_runs_do_not_share_an_empty_folder(tmp_path: Path) -> None:
    claim = tmp_path / ".running"
    claim.touch()
    with pytest.raises(ConfigError, match=str(tmp_path)):
        claim_folder(tmp_path, resumed=False)


def test_a_folder_that_holds_something_is_refused_unless_its_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        claim_folder(tmp_path, resumed=False)
    claim_folder(tmp_path, resumed=True)
    assert (tmp_path / "mine.txt").read_text() == "mine"


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

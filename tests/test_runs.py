"""Run folders and the last table."""

import csv
from pathlib import Path

import pytest
from jsonargparse import Namespace

from xecg.errors import ConfigError
from xecg.metrics.bootstrap import Interval
from xecg.runs import _claim, _name, format_report, write_report

REPORTS = {
    "mitdb": {
        "morphology": {"f1": Interval(0.9, 0.85, 0.95, 100, 7)},
        "fused": {"f1": Interval(0.95, 0.9, 0.99, 100, 7), "auroc": Interval(1, 1, 1, 100, 7)},
    }
}


def test_a_folder_is_made_for_a_run_alone(tmp_path: Path) -> None:
    claim = _claim(tmp_path / "a" / "b", resumed=False)
    with pytest.raises(ConfigError, match="a/b"):
        _claim(tmp_path / "a" / "b", resumed=False)
    claim.unlink()
    _claim(tmp_path / "a" / "b", resumed=False)


def test_two_runs_do_not_share_an_empty_folder(tmp_path: Path) -> None:
    claim = tmp_path / ".running"
    claim.touch()
    with pytest.raises(ConfigError, match=str(tmp_path)):
        _claim(tmp_path, resumed=False)


def test_a_folder_that_holds_something_is_refused_unless_its_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=str(tmp_path)):
        _claim(tmp_path, resumed=False)
    _claim(tmp_path, resumed=True)
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


def test_report_is_written_with_intervals_and_counts(tmp_path: Path) -> None:
    path = tmp_path / "test_metrics.csv"
    write_report(REPORTS, path)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3
    assert rows[0] == {
        "test_set": "mitdb",
        "part": "morphology",
        "metric": "f1",
        "value": "0.9",
        "low": "0.85",
        "high": "0.95",
        "n": "100",
        "n_groups": "7",
    }


def test_table_has_a_column_per_part_and_says_how_many() -> None:
    lines = format_report(REPORTS).splitlines()
    assert lines[0] == "Test set mitdb: 100 windows, 7 persons or records, 95 % intervals"
    assert lines[1].split() == ["metric", "morphology", "fused"]
    assert "0.900 [0.850, 0.950]" in lines[2]
    assert lines[3].split()[0] == "auroc"

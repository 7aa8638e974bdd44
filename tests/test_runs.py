"""Run folders and the last table."""

import csv
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from wandb.errors import CommError

from xecg.metrics.bootstrap import Interval
from xecg.networks.weights import WeightsInfo
from xecg.runs import _log_model, write_report

REPORTS = {
    "mitdb": {
        "morphology": {"f1": Interval(0.9, 0.85, 0.95, 100, 7)},
        "fused": {"f1": Interval(0.95, 0.9, 0.99, 100, 7), "auroc": Interval(1, 1, 1, 100, 7)},
    }
}
AF = {"accuracy": Interval(0.9, 0.8, 0.95, 100, 7), "sensitivity": Interval(1, 0.6, 1, 12, 3)}


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


def test_table_has_a_column_per_part_and_says_how_many(tmp_path: Path) -> None:
    lines = write_report(REPORTS, tmp_path / "t.csv").splitlines()
    assert lines[0].startswith("Test set mitdb: 100 windows of 7 persons (records")
    assert lines[1].split() == ["morphology", "fused"]
    assert "0.900 [0.850, 0.950]" in lines[2]
    assert lines[3].split()[0] == "auroc"


def test_the_table_counts_af(tmp_path: Path) -> None:
    title = write_report({"own": {"fused": AF}}, tmp_path / "t.csv").splitlines()[0]
    assert "100 windows of 7 persons, 12 of 3 with AF" in title


def test_weights_that_wandb_does_not_take_do_not_end_the_run(tmp_path: Path) -> None:
    weights = tmp_path / "weights.safetensors"
    weights.write_bytes(b"weights")
    run = SimpleNamespace(id="r1", log_artifact=Mock(side_effect=CommError("Cannot query this")))
    with pytest.warns(UserWarning, match=r"weights\.safetensors: .*Cannot query this"):
        _log_model(SimpleNamespace(experiment=run), weights, WeightsInfo({}, {}))
    run.log_artifact.assert_called_once()
    assert weights.read_bytes() == b"weights"

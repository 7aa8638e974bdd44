"""The folder of a study and the moves of its cells."""

from datetime import datetime
from pathlib import Path

import pytest

from xecg.errors import StudyError
from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell

CELL = Cell("scratch-seed0", "finetune", 0)
NOW = datetime(2026, 1, 2, 3, 4, 5)


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    folder = StudyFolder(tmp_path / "ladder")
    folder.make()
    return folder


def begin(folder: StudyFolder, *files: str) -> Path:
    """A run in a cell's working folder."""
    run = folder.work(CELL.name) / "run-1"
    for name in files:
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    return run


def test_a_finished_cell_is_moved_whole(folder: StudyFolder) -> None:
    run = begin(folder, "weights.safetensors")
    (folder.work(CELL.name) / "log.txt").write_text("log")
    folder.finish(CELL, run, 12.34, NOW)
    cell = folder.cell(CELL.name)
    names = {path.name for path in cell.iterdir()}
    assert names == {"weights.safetensors", "cell.yaml", "log.txt"}
    assert folder.about(CELL.name)["seconds"] == 12.3
    assert folder.about(CELL.name)["started"] == "2026-01-02T03:04:05"
    assert not folder.work(CELL.name).exists()


def test_offline_runs_find_the_weights_where_they_were_logged(folder: StudyFolder) -> None:
    run = begin(folder, "weights.safetensors", "wandb/offline-run-1/run.wandb")
    folder.finish(CELL, run, 1.0, NOW)
    assert (run / "weights.safetensors").read_text() == "weights.safetensors"
    folder.path.rename(folder.path.with_name("moved"))
    moved = StudyFolder(folder.path.with_name("moved"))
    assert (moved.work(CELL.name) / "run-1" / "weights.safetensors").exists()


def test_a_cell_that_is_there_stays(folder: StudyFolder) -> None:
    folder.finish(CELL, begin(folder, "first"), 1.0, NOW)
    with pytest.raises(StudyError, match="cannot be written"):
        folder.finish(CELL, begin(folder, "second"), 1.0, NOW)
    assert (folder.cell(CELL.name) / "first").exists()


@pytest.mark.parametrize("tested", [False, True])
def test_a_failed_cell_is_opened_again(folder: StudyFolder, tested: bool) -> None:
    run = begin(folder, "config.yaml", *(["test_metrics.csv"] if tested else []))
    folder.fail(CELL.name, "no space left")
    assert folder.has_failed(CELL.name)
    assert folder.reason(CELL.name) == "no space left"
    assert not folder.work(CELL.name).exists()
    folder.reopen(CELL.name)
    assert not folder.has_failed(CELL.name)
    assert run.exists() == tested


def test_what_failed_again_replaces_what_failed_before(folder: StudyFolder) -> None:
    for reason in ("first", "second"):
        begin(folder, "config.yaml")
        folder.fail(CELL.name, reason)
    assert folder.reason(CELL.name) == "second"

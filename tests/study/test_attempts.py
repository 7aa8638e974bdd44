"""Tries at one cell become one run."""

import csv
import os
import zipfile
from pathlib import Path

import pytest
import yaml

from xecg.study.attempts import (
    attempts,
    checkpoint_to_go_on_from,
    first_start,
    merge,
    next_attempt,
    note_time,
    seconds_worked,
)


def make_attempt(work: Path, metrics: str = "", checkpoint: bytes | None = None) -> Path:
    folder = next_attempt(work).folder
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "config.yaml").write_text("run_folder: here\nckpt_path: there\nmodel: {a: 1}\n")
    if metrics:
        (folder / "metrics.csv").write_text(metrics)
    if checkpoint is not None:
        (folder / "checkpoints" / "last.ckpt").write_bytes(checkpoint)
    return folder


def archive(path: Path) -> bytes:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("data", "weights")
    return path.read_bytes()


def test_tries_are_counted(tmp_path: Path) -> None:
    for number in range(1, 12):
        assert make_attempt(tmp_path).name == f"run-{number}"
    assert [attempt.number for attempt in attempts(tmp_path)] == list(range(1, 12))


def test_it_goes_on_from_the_latest_whole_checkpoint(tmp_path: Path) -> None:
    assert checkpoint_to_go_on_from(tmp_path) is None
    whole = archive(tmp_path / "whole")
    first = make_attempt(tmp_path, checkpoint=whole)
    assert checkpoint_to_go_on_from(tmp_path) == first / "checkpoints" / "last.ckpt"
    make_attempt(tmp_path)
    make_attempt(tmp_path, checkpoint=whole[:-20])
    assert checkpoint_to_go_on_from(tmp_path) == first / "checkpoints" / "last.ckpt"


def test_epochs_of_all_tries_are_kept_once(tmp_path: Path) -> None:
    make_attempt(tmp_path, "epoch,step,a\n0,9,1\n1,19,2\n2,29,3\n")
    make_attempt(tmp_path)  # killed before its first epoch
    make_attempt(tmp_path, "epoch,step,a\n2,29,4\n3,39,5\n")
    last = make_attempt(tmp_path, 'epoch,step,a,b\n3,39,6,\n4,49,7,\n4,49,,"0.5"\n')
    assert merge(tmp_path) == last
    with (last / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["epoch"], row["a"], row["b"]) for row in rows] == [
        ("0", "1", ""),
        ("1", "2", ""),
        ("2", "4", ""),
        ("3", "6", ""),
        ("4", "7", ""),
        ("4", "", "0.5"),
    ]


def test_a_run_in_one_try_keeps_its_table(tmp_path: Path) -> None:
    folder = make_attempt(tmp_path, "epoch,a\n0,1e-05\n")
    merge(tmp_path)
    assert (folder / "metrics.csv").read_text() == "epoch,a\n0,1e-05\n"


def test_a_run_names_no_place_of_the_work_on_it(tmp_path: Path) -> None:
    folder = make_attempt(tmp_path, checkpoint=archive(tmp_path / "whole"))
    (folder / "checkpoints" / "best.ckpt").write_text("best")
    merge(tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config == {"run_folder": None, "ckpt_path": None, "model": {"a": 1}}
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best.ckpt"]


def test_offline_runs_of_all_tries_are_kept(tmp_path: Path) -> None:
    for name in ("offline-run-1", "offline-run-2"):
        folder = make_attempt(tmp_path)
        (folder / "wandb" / name).mkdir(parents=True)
    merge(tmp_path)
    assert {path.name for path in (folder / "wandb").iterdir()} == {
        "offline-run-1",
        "offline-run-2",
    }


def test_time_between_a_kill_and_the_next_try_does_not_count(tmp_path: Path) -> None:
    assert seconds_worked(tmp_path, 50.0) == 0
    note_time(tmp_path, 100.0)
    assert seconds_worked(tmp_path, 150.0) == 50
    folder = make_attempt(tmp_path, checkpoint=b"")
    os.utime(folder / "checkpoints" / "last.ckpt", (130.0, 130.0))
    note_time(tmp_path, 1000.0)
    note_time(tmp_path, 2000.0)  # the second try got to the end of no epoch
    assert seconds_worked(tmp_path, 2010.0) == pytest.approx(30 + 10)
    assert first_start(tmp_path) == 100.0

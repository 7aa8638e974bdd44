"""Cells are made once, in their order, whatever happens to those who make them."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from threading import Thread

import pytest
import yaml
from filelock import FileLock

from xecg.errors import ConfigError, DataError, StudyError
from xecg.study import run

FIT = (sys.executable, str(Path(__file__).parent / "fake_fit.py"))
LADDER = Path("ladder")
run_study = partial(run.run_study, jobs=1)


@pytest.fixture
def write_study(tmp_path, monkeypatch):
    """Writes a study into the working folder, whose cells behave as asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_FIT", FIT)
    for name in ("pretrain", "finetune"):
        Path(f"{name}.yaml").write_text(f"# {name}\n")

    def write(behaviour=(), **changes):
        Path("behaviour.json").write_text(json.dumps(dict(behaviour)))
        config = {
            "folder": str(LADDER),
            "seeds": [0],
            "frozen_layers": [0, 3],
            "pretraining": {"morphology": {"configs": ["pretrain.yaml"]}, "rhythm": "rr_rhythm"},
            "finetuning": {"configs": ["finetune.yaml"], "arguments": {"trainer.max_epochs": 1}},
        }
        Path("study.yaml").write_text(yaml.safe_dump(config | changes))
        return Path("study.yaml")

    return write


def begun():
    path = Path("begun.txt")
    return path.read_text().splitlines() if path.exists() else []


def done():
    return sorted(path.name for path in (LADDER / "cells").iterdir())


CELLS = ["frozen0-seed0", "frozen3-seed0", "pretrain-morphology-seed0", "scratch-seed0"]


def test_cells_are_made_once_pretraining_first(write_study, capsys):
    config = write_study()
    assert run_study(config, jobs=2) == 0
    assert done() == CELLS
    assert begun()[0] == "pretrain-morphology-seed0 new"
    assert "frozen0-seed0 ours 0.900" in capsys.readouterr().out
    assert run_study(config) == 0
    assert len(begun()) == len(CELLS)
    flags = yaml.safe_load((LADDER / "cells" / "frozen3-seed0" / "config.yaml").read_text())
    assert (flags["freezing.frozen_layers"], flags["seed_everything"]) == ("3", "0")
    assert flags["config"] == "finetune.yaml"
    assert [path.name for path in LADDER.iterdir() if path.name == "parts"] == []


def test_seeds_and_depths_may_be_added(write_study):
    run_study(write_study())
    assert run_study(write_study(seeds=[0, 1], frozen_layers=[0, 3, 8])) == 0
    added = ["frozen8-seed0", "frozen0-seed1", "frozen3-seed1", "frozen8-seed1", "scratch-seed1"]
    assert begun()[4:] == [f"{name} new" for name in added]


def test_a_cell_that_fails_is_told_with_its_reason_and_the_others_are_made(write_study, capsys):
    config = write_study({"frozen0-seed0": "fail"})
    assert run_study(config) == 1
    out = capsys.readouterr().out
    assert "failed   frozen0-seed0 xecg: no such store" in out
    assert done() == [name for name in CELLS if name != "frozen0-seed0"]
    config = write_study()
    run_study(config, status=True)
    assert "1 failed" in capsys.readouterr().out
    assert run_study(config) == 0
    assert done() == CELLS


def test_a_folder_that_cannot_be_made_is_named(write_study):
    with pytest.raises(StudyError, match=r"behaviour\.json"):
        run_study(write_study(), folder=Path("behaviour.json/inside"))


def test_what_needs_a_failed_pretraining_waits(write_study, capsys):
    assert run_study(write_study({"pretrain-morphology-seed0": "kill"})) == 1
    assert done() == ["scratch-seed0"]
    assert "1 done, 0 running, 1 failed, 2 open" in capsys.readouterr().out


def test_a_cell_that_is_stopped_continues_from_its_last_epoch(write_study):
    config = write_study({"frozen0-seed0": "terminate"})
    assert run_study(config) == 1
    work = LADDER / "work" / "frozen0-seed0"
    (work / "checkpoints").mkdir()
    last = work / "checkpoints" / "last.ckpt"
    last.write_bytes(b"cut off while it was written")
    run_study(config)
    assert begun()[-1] == "frozen0-seed0 new"
    (work / "checkpoints").mkdir(parents=True)
    with zipfile.ZipFile(last, "w") as file:
        file.writestr("epoch", "3")
    assert run_study(write_study()) == 0
    assert begun()[-1] == "frozen0-seed0 resumed"


@pytest.mark.parametrize("on_dask", [False, True])
def test_a_study_that_is_stopped_ends_its_fits(write_study, on_dask):
    """SIGTERM reaches the study alone, unlike ctrl-C; neither waits for the fits to be done."""
    slow = {"frozen0-seed0": "long", "frozen3-seed0": "long"}
    config, workers = write_study(slow), nullcontext()

    def stop():
        while not {f"{name} new" for name in slow} <= {*begun()}:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    if on_dask:
        workers = pytest.importorskip("dask.distributed").LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        )
    with workers as cluster:
        Thread(target=stop).start()
        with pytest.raises(KeyboardInterrupt):
            run_study(config, jobs=2, cluster=cluster and cluster.scheduler_address)
        while any(run._state(LADDER, name) == "running" for name in slow):
            time.sleep(0.01)  # on a cluster nobody waits for them
        assert done() == ["pretrain-morphology-seed0"]
        assert run_study(write_study(), jobs=2) == 0
    assert done() == CELLS


def test_a_study_that_is_killed_leaves_no_fit_behind(write_study):
    config = write_study({"scratch-seed0": "long"}, frozen_layers=[])
    code = f"from xecg.study import run; from pathlib import Path; run._FIT = {FIT}; "
    study = subprocess.Popen([sys.executable, "-c", f"{code}run.run_study(Path('{config}'))"])
    while not begun():
        time.sleep(0.01)
    study.kill()
    study.wait()
    assert run_study(write_study(frozen_layers=[])) == 0
    assert begun() == ["scratch-seed0 new"] * 2
    assert done() == ["scratch-seed0"]


def test_a_fit_ends_with_its_standard_input(tmp_path, monkeypatch):
    classes = ["--model=xecg.tasks.AFClassifier", "--data=xecg.data.AFData"]
    with subprocess.Popen([*run._FIT, *classes], stdin=subprocess.PIPE, cwd=tmp_path) as fit:
        pass
    assert fit.returncode == 1
    assert not any(tmp_path.rglob("*.ckpt"))


def test_a_second_command_on_a_study_is_refused_and_status_is_told(write_study, capsys):
    config = write_study()
    assert run_study(config, status=True) == 0
    assert "0 done, 0 running, 0 failed, 4 open" in capsys.readouterr().out
    assert not LADDER.exists()
    (LADDER / "work").mkdir(parents=True)
    with FileLock(LADDER / "work" / "frozen0-seed0.lock"), FileLock(LADDER / ".lock"):
        with pytest.raises(StudyError, match="another command"):
            run_study(config)
        run_study(config, status=True)
    assert "0 done, 1 running, 0 failed, 3 open" in capsys.readouterr().out
    run_study(config, status=True)
    assert "0 done, 0 running, 0 failed, 4 open" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"finetuning": {"configs": ["finetune.yaml"]}}, "finetuning"),
        ({"seeds": [1]}, "first seed"),
        ({"pretraining": {"morphology": "mine", "rhythm": "rr_rhythm"}}, "pretraining.morphology"),
    ],
)
def test_cells_of_other_settings_do_not_come_together(write_study, changes, key):
    run_study(write_study())
    with pytest.raises(ConfigError, match=f"another {key}"):
        run_study(write_study(**changes))


def test_an_edited_config_and_a_foreign_folder_are_refused(write_study):
    run_study(config := write_study())
    Path("finetune.yaml").write_text("# other\n")
    with pytest.raises(ConfigError, match="finetuning"):
        run_study(config)
    Path("finetune.yaml").unlink()
    with pytest.raises(ConfigError, match=r"finetuning\.configs.*finetune\.yaml"):
        run_study(config)
    Path("notes").mkdir()
    Path("notes/mine.txt").touch()
    Path("finetune.yaml").touch()
    with pytest.raises(StudyError, match="notes"):
        run_study(config, folder=Path("notes"))
    assert [path.name for path in Path("notes").iterdir() if path.name[0] != "."] == ["mine.txt"]


def test_a_damaged_cell_or_beginning_is_named(write_study):
    run_study(config := write_study())
    metrics = LADDER / "cells" / "frozen0-seed0" / "test_metrics.csv"
    metrics.write_text((good := metrics.read_text()).replace("0.9", "0.8"))
    with pytest.raises(DataError, match=r"frozen0-seed0.*test_metrics\.csv"):
        run_study(config, status=True)
    metrics.write_text(good)
    run_study(config, status=True)
    for text in ("{", "[1]", "\udcff"):
        (LADDER / "begun.json").write_text(text, errors="surrogateescape")
        with pytest.raises(StudyError, match=r"begun\.json"):
            run_study(config)


def test_on_a_cluster_the_same_cells_are_made(write_study):
    distributed = pytest.importorskip("dask.distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
    ) as cluster:
        assert run_study(write_study({"scratch-seed0": "fail"}), cluster=cluster.scheduler_address)
        assert run_study(write_study(), cluster=cluster.scheduler_address) == 0
    assert done() == CELLS
    assert len(begun()) == len(CELLS) + 1

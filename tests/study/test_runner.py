"""Making the cells of a study: in order, once each, whatever happens in between."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from study_folders import Study

from xecg.study import runner as runner_module
from xecg.study.plan import choose

ALL = ["frozen0-seed0", "frozen3-seed0", "pretrain-morphology-seed0", "scratch-seed0"]
BeginStudy = Callable[..., Study]
ANOTHER_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from study_folders import Study
from xecg.study.folder import StudyFolder
from xecg.study.plan import read_settings
folder = StudyFolder(Path(sys.argv[1]))
Study(folder, read_settings(folder.settings)).run(jobs=2)
"""


class Clock:
    """The runner's clock, with another way to sleep."""

    time = staticmethod(time.time)

    def __init__(self, sleep: Callable[[float], None]) -> None:
        self.sleep = sleep


def another_process(study: Study) -> subprocess.Popen[bytes]:
    """The same study, two cells side by side, in a process of its own."""
    command = [
        sys.executable,
        "-c",
        ANOTHER_PROCESS,
        str(study.folder.path),
        str(Path(__file__).parent),
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def test_every_cell_is_made_once_what_others_need_first(begin_study: BeginStudy) -> None:
    study = begin_study()
    study.run()
    assert study.done() == ALL
    assert study.finished() == [cell.name for cell in study.cells]
    assert study.begun()[0] == "pretrain-morphology-seed0"
    for name in ("work", "claims", "failed"):
        assert list((study.folder.path / name).iterdir()) == []
    study.run()
    assert len(study.begun()) == len(ALL)


def test_a_finished_cell_is_a_run_that_says_what_it_is(begin_study: BeginStudy) -> None:
    study = begin_study()
    study.run()
    cell = study.folder.cell("frozen3-seed0")
    about = yaml.safe_load((cell / "cell.yaml").read_text())
    assert about["seconds"] > 0
    assert {key: about[key] for key in ("kind", "branch", "frozen_layers", "seed")} == {
        "kind": "finetune",
        "branch": None,
        "frozen_layers": 3,
        "seed": 0,
    }
    assert "working" in (cell / "log.txt").read_text()
    config = yaml.safe_load((cell / "config.yaml").read_text())
    assert config == {"seed_everything": 0, "run_folder": None, "ckpt_path": None}
    flags = json.loads((cell / "task.json").read_text())["fit"]
    weights = study.folder.cell("pretrain-morphology-seed0") / "weights.safetensors"
    assert f"--model.morphology_weights={weights}" in flags
    scratch = study.folder.cell("scratch-seed0")
    assert yaml.safe_load((scratch / "cell.yaml").read_text())["frozen_layers"] is None


def test_what_is_made_is_told(begin_study: BeginStudy, capsys: pytest.CaptureFixture[str]) -> None:
    study = begin_study({"scratch-seed0": "fail"})
    study.run()
    lines = [line.partition(" ")[2] for line in capsys.readouterr().out.splitlines()]
    assert "frozen3-seed0 started" in lines
    assert any(
        line.startswith("frozen3-seed0 done in") and line.endswith("fused accuracy 0.900 (ours)")
        for line in lines
    )
    assert any("scratch-seed0 failed: xecg: the store is not there" in line for line in lines)


def test_cells_side_by_side_share_the_cores(
    begin_study: BeginStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    study = begin_study(dict.fromkeys(ALL, 0.4), pretraining={"morphology": "a", "rhythm": "b"})
    study.run(jobs=3)
    threads = [
        json.loads((study.folder.cell(name) / "task.json").read_text())["threads"]
        for name in study.done()
    ]
    cores = len(os.sched_getaffinity(0))
    assert threads == [str(max(1, cores // 3))] * 3


def test_two_processes_share_a_study(begin_study: BeginStudy) -> None:
    study = begin_study(dict.fromkeys(ALL, 0.1), seeds=[0, 1, 2], frozen_layers=[0, 1, 2])
    others = [another_process(study) for _ in range(2)]
    assert [other.wait(timeout=120) for other in others] == [0, 0]
    assert study.done() == sorted(cell.name for cell in study.cells)
    assert sorted(study.finished()) == study.done()
    assert sorted(study.begun()) == study.done()


def test_killed_and_started_again_it_goes_on(begin_study: BeginStudy) -> None:
    study = begin_study({"frozen0-seed0": "hang", "frozen3-seed0": "hang"}, scratch=False)
    killed = another_process(study)
    wait_until(lambda: len(study.begun()) == 3)
    killed.kill()
    killed.wait()
    wait_until(lambda: not any(map(is_running, study.pids())))
    assert study.done() == ["pretrain-morphology-seed0"]
    (study.folder.path / "behaviour.json").write_text("{}")
    study.run()
    assert study.done() == ALL[:3]
    assert sorted(study.finished()) == ALL[:3]
    assert sorted(study.begun()) == sorted([*ALL[:3], *ALL[:2]])


def test_a_cell_that_fails_harms_no_other(begin_study: BeginStudy) -> None:
    study = begin_study({"frozen0-seed0": "fail", "frozen3-seed0": "crash"})
    study.run()
    assert study.done() == ["pretrain-morphology-seed0", "scratch-seed0"]
    assert study.folder.reason("frozen0-seed0") == "xecg: the store is not there"
    assert study.folder.reason("frozen3-seed0").startswith("killed by SIGSEGV")
    assert "the store" in (study.folder.failed("frozen0-seed0") / "log.txt").read_text()
    tries = len(study.begun())
    study.run()
    assert len(study.begun()) == tries
    (study.folder.path / "behaviour.json").write_text("{}")
    study.folder.reopen("frozen0-seed0")
    study.run()
    assert study.done() == [name for name in ALL if name != "frozen3-seed0"]


def test_what_needs_a_failed_cell_is_left_open(begin_study: BeginStudy) -> None:
    study = begin_study({"pretrain-morphology-seed0": "fail"})
    study.run()
    assert study.done() == ["scratch-seed0"]
    assert study.begun() == ["pretrain-morphology-seed0", "scratch-seed0"]


def test_a_cell_that_is_stopped_from_outside_has_not_failed(begin_study: BeginStudy) -> None:
    study = begin_study({"pretrain-morphology-seed0": "terminated"})
    study.run()
    assert study.begun() == ["pretrain-morphology-seed0", "scratch-seed0"]
    assert study.done() == ["scratch-seed0"]
    assert not study.folder.has_failed("pretrain-morphology-seed0")
    assert list(study.folder.claims.iterdir()) == []
    (study.folder.path / "behaviour.json").write_text("{}")
    study.run()
    assert study.done() == ALL


def test_an_interrupt_stops_the_cells_and_gives_them_back(
    begin_study: BeginStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = begin_study({"pretrain-morphology-seed0": "hang"})

    def interrupted(seconds: float) -> None:
        if study.begun():
            raise KeyboardInterrupt
        time.sleep(seconds)

    monkeypatch.setattr(runner_module, "time", Clock(interrupted))
    with pytest.raises(KeyboardInterrupt):
        study.run()
    assert not any(map(is_running, study.pids()))
    assert list(study.folder.claims.iterdir()) == []
    assert study.done() == []
    assert study.folder.work("pretrain-morphology-seed0").is_dir()


def test_one_cell_alone_is_made_with_what_it_needs(begin_study: BeginStudy) -> None:
    study = begin_study()
    study.runner(wait=False).run(choose(study.cells, "3", 0))
    assert study.done() == ["frozen3-seed0", "pretrain-morphology-seed0"]


def test_one_cell_alone_is_left_to_who_has_it(begin_study: BeginStudy) -> None:
    study = begin_study()
    runner = study.runner(wait=False)
    claim = runner.claims.take("scratch-seed0")
    assert claim is not None
    runner.run(choose(study.cells, "scratch", 0))
    assert study.begun() == []
    claim.release()


def test_one_cell_alone_waits_for_the_pretraining_that_another_makes(
    begin_study: BeginStudy,
) -> None:
    study = begin_study({"pretrain-morphology-seed0": 0.5})
    first = threading.Thread(target=study.runner().run, args=(study.cells[:1],))
    first.start()
    wait_until(study.begun)
    study.runner(wait=False).run(choose(study.cells, "3", 0))
    first.join()
    assert study.finished() == ["pretrain-morphology-seed0", "frozen3-seed0"]


def test_a_cell_that_was_taken_over_is_left(begin_study: BeginStudy) -> None:
    study = begin_study({"scratch-seed0": "hang"}, frozen_layers=[])
    thread = threading.Thread(target=study.runner(wait=False).run, args=(study.cells,))
    thread.start()
    wait_until(study.begun)
    (claim,) = study.folder.claims.glob("scratch-seed0.*")
    claim.with_suffix(".1").write_text(claim.read_text())  # another process's
    thread.join(timeout=60)
    assert not thread.is_alive()
    assert not any(map(is_running, study.pids()))
    assert [path.name for path in study.folder.claims.iterdir()] == [claim.name, "scratch-seed0.1"]
    assert study.done() == []


def test_a_cell_is_not_finished_twice(begin_study: BeginStudy) -> None:
    study = begin_study({"scratch-seed0": 0.3}, frozen_layers=[])
    made = study.folder.cell("scratch-seed0")
    thread = threading.Thread(target=study.run)
    thread.start()
    wait_until(study.begun)
    made.mkdir()
    (made / "cell.yaml").write_text("seconds: 1\n")
    thread.join(timeout=60)
    assert [path.name for path in made.iterdir()] == ["cell.yaml"]
    assert not study.folder.has_failed("scratch-seed0")

"""What the process of a cell is told by its environment."""

import os
from pathlib import Path

import pytest

from xecg.study.agent_run import agent_cells, last_values
from xecg.study.environment import cell_environment
from xecg.study.folder import StudyFolder
from xecg.study.plan import Cell

CELL = Cell("frozen3-seed1", "finetune", 1, frozen_layers=3)
PRETRAINING = Cell("pretrain-rhythm-seed0", "pretrain", 0, branch="rhythm")
AGENT = {"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r", "WANDB_SWEEP_PARAM_PATH": "p", "PATH": "/bin"}
FOLDER = StudyFolder(Path("runs/ladder"))


def test_runs_of_a_study_are_grouped() -> None:
    environment = cell_environment(CELL, FOLDER, {"PATH": "/bin"}, jobs=1, of_agent=False)
    assert environment["WANDB_RUN_GROUP"] == "ladder"
    assert environment["WANDB_NAME"] == "frozen3-seed1"
    assert environment["WANDB_JOB_TYPE"] == "finetune"
    assert environment["PATH"] == "/bin"
    assert not {"OMP_NUM_THREADS", "WANDB_MODE"} & environment.keys()


@pytest.mark.parametrize("given", [{}, {"OMP_NUM_THREADS": "7"}])
def test_cells_side_by_side_share_the_cores(given: dict[str, str]) -> None:
    environment = cell_environment(CELL, FOLDER, given, jobs=2, of_agent=False)
    cores = len(os.sched_getaffinity(0))
    expected = given.get("OMP_NUM_THREADS", str(max(1, cores // 2)))
    assert environment["OMP_NUM_THREADS"] == expected


def test_the_cell_of_an_agent_is_the_agents_run() -> None:
    environment = cell_environment(CELL, FOLDER, AGENT, jobs=1, of_agent=True)
    assert environment.items() >= AGENT.items()


def test_a_pretraining_under_an_agent_is_an_online_run_of_its_own() -> None:
    environment = cell_environment(PRETRAINING, FOLDER, AGENT, jobs=1, of_agent=False)
    assert environment["WANDB_MODE"] == "online"
    assert not {"WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH"} & environment.keys()


def test_an_agent_waits_for_one_fine_tuned_cell() -> None:
    assert agent_cells([PRETRAINING, CELL], AGENT) == [CELL]
    assert agent_cells([PRETRAINING, CELL], {}) == []
    other = Cell("scratch-seed1", "finetune", 1)
    assert agent_cells([PRETRAINING, CELL, other], AGENT) == []


def test_the_last_value_of_each_column_is_told(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text("epoch,a,b,c\n0,1,2,\n1,3,,\n1,,nan,5\n")
    values = last_values(tmp_path / "metrics.csv")
    assert {key: value for key, value in values.items() if key != "b"} == {
        "epoch": 1,
        "a": 3,
        "c": 5,
    }
    assert values["b"] != values["b"]

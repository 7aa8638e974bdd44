"""The sweep of the ladder, by the real ``wandb agent``: its runs are the cells of a report."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from wandb_stand_in import ENTITY, SWEEP, WandbStandIn, run_with, serving

from xecg.cli import main
from xecg.data.store import Store
from xecg.study.run import read_study

ROOT = Path(__file__).parents[2]


def sweep_of_the_ladder() -> dict:
    return yaml.safe_load((ROOT / "configs" / "sweeps" / "study.yaml").read_text())


def test_the_sweep_is_the_ladder_of_the_study() -> None:
    study = read_study(ROOT / "configs" / "study.yaml")
    parameters = sweep_of_the_ladder()["parameters"]
    *rungs, scratch = [yaml.safe_load(value) for value in parameters["config"]["values"]]
    depths = [rung["freezing"]["frozen_layers"] for rung in rungs]
    assert depths == study.frozen_layers
    assert {*scratch["model"]["init_args"].values()} == {None}
    assert parameters["seed_everything"]["values"] == study.seeds


def test_agents_make_runs_that_the_report_reads(
    tmp_path: Path, synthetic_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("configs").symlink_to(ROOT / "configs")
    sweep = sweep_of_the_ladder()
    values = sweep["parameters"]["config"]["values"]
    tiny = [f"--data.stores={synthetic_store.path}", "--data.windows_per_epoch=64"]
    tiny += ["--trainer.max_epochs=1", "--trainer.callbacks=null", "--test_windows.explain=6"]
    sweep["command"][-1:] = [*tiny, "${args}"]
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    chosen = [{"config": values[place], "seed_everything": 1} for place in (3, -1)]
    with serving(WandbStandIn(chosen)) as server:
        run_with(server, "wandb", "sweep", "sweep.yaml")
        output = run_with(server, "wandb", "agent", f"{ENTITY}/xecg/{SWEEP}")
    assert [run.exit_code for run in server.runs.values()] == [0, 0], output
    runs = Path("runs/finetune_frozen0")
    assert main(["study", "report", str(runs), "--resamples=20"]) == 0
    accuracy = pd.read_csv(runs / "report" / "accuracy.csv")
    assert {*accuracy["frozen_layers"]} == {"scratch", "3"}
    relevance = pd.read_csv(runs / "report" / "relevance.csv")
    assert relevance["most_windows"].between(0, 6).all()

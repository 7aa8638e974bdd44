"""The sweep over the cells of a study, by the real ``wandb agent``: no cell is made twice."""

import csv
from pathlib import Path

import pytest
import yaml
from wandb_stand_in import ENTITY, SWEEP, WandbStandIn, run_with, serving

from xecg.data.store import Store
from xecg.study.plan import choose, plan, read_settings

ROOT = Path(__file__).parents[2]
CELL = {"frozen_layers": "scratch", "seed": 1}
NAMES = ("validation/fused/f1", "train/loss")


def last_logged(metrics: Path, name: str) -> float:
    with metrics.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]][-1]


def write_study(store: Store) -> None:
    """A study with one cell that takes a moment, and the sweep with its config."""
    config = yaml.safe_load((ROOT / "configs" / "study_demo.yaml").read_text())
    config["folder"] = "ladder"
    config["finetuning"] = {
        "configs": [str(ROOT / "configs" / "finetune_frozen0.yaml")],
        "arguments": {
            "model.channels": 4,
            "data.stores": str(store.path),
            "data.windows_per_epoch": 64,
            "trainer.max_epochs": 1,
            "trainer.callbacks": None,
        },
    }
    Path("study.yaml").write_text(yaml.safe_dump(config))
    sweep = yaml.safe_load((ROOT / "configs" / "sweeps" / "study.yaml").read_text())
    command = [part.replace("configs/study.yaml", "study.yaml") for part in sweep["command"]]
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep | {"command": command}))


def test_the_sweep_is_over_the_cells_of_the_study(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    sweep = yaml.safe_load(Path("configs/sweeps/study.yaml").read_text())
    (config,) = [part for part in sweep["command"] if part.endswith(".yaml")]
    cells = plan(read_settings(Path(config)))
    values = {name: parameter["values"] for name, parameter in sweep["parameters"].items()}
    chosen = [
        choose(cells, str(depth), seed)[-1]
        for depth in values["frozen_layers"]
        for seed in values["seed"]
    ]
    assert {*chosen} == {cell for cell in cells if cell.kind == "finetune"}


def test_a_cell_is_the_agents_run_and_one_that_is_done_tells_what_it_found(
    tmp_path: Path, synthetic_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_study(synthetic_store)
    with serving(WandbStandIn([CELL, CELL])) as server:
        run_with(server, "wandb", "sweep", "sweep.yaml")
        output = run_with(server, "wandb", "agent", f"{ENTITY}/xecg/{SWEEP}")
    assert output.count("scratch-seed1 started") == 1
    (cell,) = Path("ladder/cells").iterdir()
    assert len(server.runs) == 2
    for run in server.runs.values():
        assert (run.exit_code, run.sweep) == (0, SWEEP), output
        assert run.labels["groupName"] == "ladder"
        assert run.labels["displayName"] == cell.name == "scratch-seed1"
        for name in NAMES:
            assert run.summary[name] == pytest.approx(last_logged(cell / "metrics.csv", name))
    made, told = server.runs.values()
    assert [row for row in made.history if "train/loss" in row]
    assert told.config["seed"] == 1

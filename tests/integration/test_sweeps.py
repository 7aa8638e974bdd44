"""The sweeps, by the real ``wandb sweep`` and ``wandb agent`` against a stand-in for the server."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_stand_in import ENTITY, SWEEP, WandbStandIn, run_with, serving

CONFIGS = Path(__file__).parents[2] / "configs"
STUDY = CONFIGS / "sweeps" / "study.yaml"  # its command is another: see test_study_sweep.py
SWEEPS = sorted({*(CONFIGS / "sweeps").glob("*.yaml")} - {STUDY})
DEADLINE_S = 300.0  # against a hang: 40 s beside other work
TINY = [
    "--model.channels=4",
    "--model.pretrained=null",  # released weights are wider
    "--freezing.allow_random=true",
    "--data.windows_per_epoch=128",
    "--trainer.max_epochs=1",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks=null",
]


def ends_of(parameters: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Two configurations: every parameter at the one end of its range, and at the other."""
    ranges = {name: p.get("values") or [p["min"], p["max"]] for name, p in parameters.items()}
    return [{name: values[end] for name, values in ranges.items()} for end in (0, -1)]


def setting(config: Any, name: str) -> Any:
    """The value that a dotted flag sets, through the ``init_args`` that flags leave out."""
    for key in name.split("."):
        config = config.get("init_args", config)[key]
    return config


def last_logged(metrics: Path, name: str) -> float:
    with metrics.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]][-1]


@pytest.fixture
def sweep_workplace(workplace: Path) -> Path:
    """The place to run from, with the configs that a sweep's command names."""
    (workplace / "configs").symlink_to(CONFIGS)
    return workplace


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_an_agent_runs_what_the_sweep_asks_for(path: Path, sweep_workplace: Path) -> None:
    sweep = yaml.safe_load(path.read_text())
    sweep["command"][-1:] = [*TINY, "${args}"]
    Path("sweep.yaml").write_text(yaml.safe_dump(sweep))
    configurations = ends_of(sweep["parameters"])
    with serving(WandbStandIn(configurations, DEADLINE_S)) as server:
        address = f"{ENTITY}/{sweep['project']}/{SWEEP}"
        assert f"wandb agent {address}" in run_with(server, "wandb", "sweep", "sweep.yaml")
        output = run_with(server, "wandb", "agent", address)
    metric = sweep["metric"]["name"]
    folders = sorted((sweep_workplace / "runs" / "finetune_frozen3").iterdir())
    assert len(folders) == len(server.runs) == len(configurations), output
    for values, folder, run in zip(configurations, folders, server.runs.values(), strict=True):
        assert (run.exit_code, run.sweep) == (0, SWEEP), output
        arguments = json.loads(run.files["wandb-metadata.json"])["args"]
        assert set(arguments) >= {f"--{name}={value}" for name, value in values.items()}
        for name, value in values.items():
            assert setting(run.config, name) == value
        assert [row["train/loss"] for row in run.history if "train/loss" in row]
        assert run.summary[metric] == pytest.approx(last_logged(folder / "metrics.csv", metric))

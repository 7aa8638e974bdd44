"""The sweeps, by the real ``wandb sweep`` and ``wandb agent`` against a stand-in for the server."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from wandb_stand_in import ENTITY, SWEEP, WandbStandIn, serving

CONFIGS = Path(__file__).parents[2] / "configs"
SWEEPS = sorted((CONFIGS / "sweeps").glob("*.yaml"))
BIN = Path(sys.executable).parent
DEADLINE_S = 300.0  # against a hang: 40 s beside other work
TINY = [
    "--model.channels=4",
    "--model.morphology_weights=null",  # released weights are wider
    "--model.rhythm_weights=null",
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


def wandb(server: WandbStandIn, *arguments: str) -> str:
    """Run the client in this folder, where it finds no account; returns what it printed."""
    environment = {key: v for key, v in os.environ.items() if not key.startswith("WANDB_")} | {
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "WANDB_API_KEY": "0" * 40,
        "WANDB_BASE_URL": server.url,
        "WANDB_ERROR_REPORTING": "false",
        "OMP_NUM_THREADS": "1",  # on a busy machine threads wait for each other
        **{f"WANDB_{name}_DIR": str(Path.cwd()) for name in ("CACHE", "CONFIG", "DATA")},
    }
    done = subprocess.run(
        [BIN / "wandb", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=DEADLINE_S + 60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


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
        assert f"wandb agent {address}" in wandb(server, "sweep", "sweep.yaml")
        output = wandb(server, "agent", address)
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

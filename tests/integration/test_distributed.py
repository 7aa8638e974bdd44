"""A fit in two processes: one run folder, and what one process gives with the same batches.

All blocks are frozen: batch normalisation in training goes by the part of a batch that a process
has, and PyTorch synchronises it on GPUs alone.
"""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from xecg.cli import main

ROOT = Path(__file__).parents[2]
TINY = [
    *["fit", "--config", str(ROOT / "configs" / "finetune_scratch.yaml")],
    "--model.channels=4",
    "--model.optimizer.lr=0.01",
    "--data.windows_per_epoch=128",
    "--data.augmentation=null",  # is drawn by each process
    "--freezing.frozen_layers=8",
    "--freezing.allow_random=true",
    "--trainer.max_epochs=2",
    "--trainer.accelerator=cpu",
    "--trainer.precision=32-true",
    "--trainer.callbacks=null",
    "--trainer.enable_progress_bar=false",
    "--trainer.log_every_n_steps=1",
]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=32"]


def fit_in_two_processes(folder: str) -> str:
    """Run the command as its users do; returns what it printed."""
    command = [Path(sys.executable).parent / "xecg", *TINY, *TWO, f"--run_folder={folder}"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def logged(path: Path) -> list[dict[str, float]]:
    """Rows of a table, each without its words and empty cells."""
    with path.open() as file:
        rows = [{name: v for name, v in row.items() if v} for row in csv.DictReader(file)]
    words = {"test_set", "part", "metric"}
    return [{name: float(v) for name, v in row.items() if name not in words} for row in rows]


def test_two_processes_give_what_one_gives(workplace: Path) -> None:
    output = fit_in_two_processes("two")
    assert "sync_dist" not in output  # no advice to synchronise: it is done
    assert "DistributedSampler" not in output  # no window is tested twice
    assert output.count("Everything is in two") == 1
    assert {path.name for path in workplace.iterdir()} == {"two"}
    assert len(list(Path("two").glob("wandb/offline-run-*"))) == 1
    assert main([*TINY, "--data.batch_size=64", "--run_folder=one"]) == 0
    for name in ("metrics.csv", "test_metrics.csv"):
        found, expected = logged(Path("two") / name), logged(Path("one") / name)
        for row, other in zip(found, expected, strict=True):
            assert row == pytest.approx(other, abs=1e-5, nan_ok=True)
    two, one = (
        torch.load(f"{run}/checkpoints/last.ckpt", weights_only=True) for run in ("two", "one")
    )
    assert two["global_step"] == one["global_step"] == 4
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(two["state_dict"][key], value, rtol=1e-5, atol=1e-6)

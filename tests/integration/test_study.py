"""A study for real: pre-trains, is killed, goes on, fine-tunes, tests and explains."""

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from test_cluster import Cluster, end

from xecg.cli import main
from xecg.data.store import Store
from xecg.errors import ExecutorError
from xecg.networks.weights import WeightsInfo, describe_branches, load_xecgarch, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing
from xecg.study import run
from xecg.study.run import cells_of, read_study

CONFIGS = Path(__file__).parents[2] / "configs"
FAKE_FIT = Path(__file__).parents[1] / "study" / "fake_fit.py"
EPOCHS = 3
MAX_WINDOWS = 8


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def write_study(store: Store) -> None:
    """A pre-training and one frozen depth, on a store of 80 windows."""
    torch.manual_seed(0)
    network = XECGArch.build(channels=4)
    info = WeightsInfo(describe_branches(network.branches), Preprocessing().to_dict(), {})
    save_weights(network, Path("rhythm.safetensors"), info)
    arguments = {
        "model.channels": 4,
        "data.stores": str(store.path),
        "data.windows_per_epoch": 64,
        "trainer.max_epochs": EPOCHS,
        "trainer.callbacks": None,
    }
    config = {
        "folder": "ladder",
        "seeds": [3],
        "frozen_layers": [2],
        "scratch": False,
        "pretraining": {
            "morphology": {
                "configs": [str(CONFIGS / "pretrain_pwave.yaml")],
                "arguments": arguments,
            },
            "rhythm": "rhythm.safetensors",
        },
        "finetuning": {
            "configs": [str(CONFIGS / "finetune_frozen0.yaml")],
            "arguments": {
                **arguments,
                "trainer.max_epochs": 1,
                "test_windows.explain": MAX_WINDOWS,
            },
        },
    }
    Path("study.yaml").write_text(yaml.safe_dump(config))


def trained_for_an_epoch(run: Path) -> bool:
    """Whether an epoch is over, written down and saved."""
    metrics = run / "metrics.csv"
    logged = metrics.exists() and any(row.get("train/loss") for row in rows(metrics))
    return logged and (run / "checkpoints" / "last.ckpt").exists()


def kill_after_an_epoch(work: Path) -> None:
    """Start the study and kill all of it, without any warning, as soon as an epoch is saved."""
    command = [sys.executable, "-m", "xecg.cli", "study", "--config", "study.yaml"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = subprocess.Popen(command, start_new_session=True, **quiet)
    deadline = time.monotonic() + 300
    while not trained_for_an_epoch(work):
        assert time.monotonic() < deadline
        assert started.poll() is None
        time.sleep(0.002)
    os.killpg(started.pid, signal.SIGKILL)
    started.wait()


def test_a_study_that_is_killed_continues_to_its_end(
    tmp_path: Path,
    synthetic_store: Store,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.delenv("XECG_RUN_FOLDER", raising=False)
    write_study(synthetic_store)
    kill_after_an_epoch(Path("ladder", "work", "pretrain-morphology-seed3"))
    assert main(["study", "--config", "study.yaml"]) == 0, Path("ladder/logs").glob("*")
    assert "2 done" in capsys.readouterr().out

    pretrained = Path("ladder/cells/pretrain-morphology-seed3")
    epochs = [row["epoch"] for row in rows(pretrained / "metrics.csv") if row["train/loss"]]
    assert epochs == [str(epoch) for epoch in range(EPOCHS)]
    assert "Restored all states" in Path("ladder/logs/pretrain-morphology-seed3.txt").read_text()
    assert len(list(pretrained.glob("wandb/offline-run-*"))) == 2

    cell = Path("ladder/cells/frozen2-seed3")
    before = morphology_of(pretrained / "weights.safetensors")
    after = load_xecgarch(cell / "weights.safetensors")[0].branches["morphology"].state_dict()
    frozen = [key for key in after if key.startswith(("block1.", "block2."))]
    assert frozen
    assert all(torch.equal(after[key], before[key]) for key in frozen)
    assert not all(torch.equal(value, before[key]) for key, value in after.items())
    check_windows(cell, synthetic_store)
    noted = Path("ladder", "work", "frozen2-seed3", "weights.safetensors")  # for `wandb sync`
    assert noted.resolve() == (cell / "weights.safetensors").resolve()

    assert main(["study", "report", "ladder", "--resamples=20"]) == 0
    page = Path("ladder/report/report.html").read_text()
    assert "not finished" not in page


def morphology_of(path: Path) -> dict[str, torch.Tensor]:
    """The morphology branch of a pre-training."""
    prefix = "branches.morphology."
    return {
        key.removeprefix(prefix): value
        for key, value in load_file(path).items()
        if key.startswith(prefix)
    }


def check_windows(cell: Path, store: Store) -> None:
    """The table of windows agrees with the store, and its probabilities with the network's."""
    (path,) = (cell / "windows").iterdir()
    table = rows(path)
    assert path.stem == store.path.name
    tested = [row for row in rows(cell / "test_metrics.csv") if row["metric"] == "accuracy"]
    (count,) = {row["n"] for row in tested}
    assert len(table) == int(count) > MAX_WINDOWS
    network = load_xecgarch(cell / "weights.safetensors")[0].eval()
    index = store.index
    places = {
        (record, start): row
        for row, (record, start) in enumerate(zip(index.record, index.start_s, strict=True))
    }
    at = [places[row["record"], float(row["start_s"])] for row in table]
    assert [row["group"] for row in table] == index.group[at].tolist()
    assert [int(row["af"]) for row in table] == index.af[at].tolist()
    with torch.inference_mode():
        logits = network(torch.from_numpy(store.signals[at][:, None]))
    for branch, z in logits.items():
        p_af = [float(row[f"p_af_{branch}"]) for row in table]
        np.testing.assert_allclose(p_af, z.softmax(1)[:, 1].numpy(), atol=1e-4)
        enrichments = [float(row[f"{branch}_enrichment_qrs"] or "nan") for row in table]
        assert 0 < np.isfinite(enrichments).sum() <= MAX_WINDOWS


def test_a_study_outlives_the_scheduler_of_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_FIT", (sys.executable, str(FAKE_FIT)))
    fit = {"configs": ["fit.yaml"]}
    config = {"folder": "ladder", "seeds": [0, 1], "frozen_layers": [0, 3], "finetuning": fit}
    config["pretraining"] = {"morphology": fit, "rhythm": "rr_rhythm"}
    Path("fit.yaml").touch()
    Path("study.yaml").write_text(yaml.safe_dump(config))
    names = [cell.name for cell in cells_of(read_study(Path("study.yaml")))]
    Path("behaviour.json").write_text(json.dumps(dict.fromkeys(names, "slow")))
    begun = Path("begun.txt")

    def kill_scheduler_in_the_middle() -> None:
        while not begun.exists() or len(begun.read_text().splitlines()) < 4:
            time.sleep(0.01)
        end(clusters[0].scheduler)

    clusters = [Cluster(tmp_path / "first"), Cluster(tmp_path / "second")]
    try:
        for cluster in clusters:
            cluster.add_worker()
            cluster.add_worker()
            cluster.wait_for(2)
        threading.Thread(target=kill_scheduler_in_the_middle, daemon=True).start()
        with pytest.raises(ExecutorError, match="cluster is lost"):
            run.run_study(Path("study.yaml"), cluster=str(clusters[0].file))
        done = {path.name for path in Path("ladder/cells").iterdir()}
        times = set[tuple[str, ...]]()
        for _ in range(2):
            assert run.run_study(Path("study.yaml"), cluster=str(clusters[1].file)) == 0
            assert "7 cells: 7 done" in capsys.readouterr().out
            fits = [line.split()[0] for line in begun.read_text().splitlines()]
            assert sorted(set(fits)) == sorted(names)
            assert done <= {name for name in names if fits.count(name) == 1}  # not made again
            times.add(tuple(fits))
        assert len(times) == 1
    finally:
        for cluster in clusters:
            cluster.stop()

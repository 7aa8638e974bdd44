"""What docs/EXTENDING.md says of branches, tasks and schedules, from a package of one's own."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from xecg.cli import main
from xecg.data.store import Store
from xecg.networks.weights import load_xecgarch

ROOT = Path(__file__).parents[2]
Fit = Callable[..., pd.DataFrame]


@pytest.fixture
def fit(my_package: Path, synthetic_store: Store, monkeypatch: pytest.MonkeyPatch) -> Fit:
    """Runs a short fit by ``xecg fit ...``, and returns what it logged."""
    monkeypatch.chdir(my_package.parent)
    monkeypatch.delenv("XECG_RUN_FOLDER", raising=False)
    short = f"""
        --data.stores {synthetic_store.path} --data.windows_per_epoch 64 --model.channels 4
        --trainer.max_epochs 2 --trainer.callbacks null --trainer.enable_progress_bar false
        --trainer.accelerator cpu --trainer.logger CSVLogger --trainer.logger.save_dir .
        --trainer.logger.name "" --trainer.logger.version ""
    """

    def run(command: str, *changes: str, folder: str = "run") -> pd.DataFrame:
        flags = shlex.split(command.replace("configs/", f"{ROOT}/configs/") + short)
        assert main([*flags[1:], *changes, f"--run_folder={folder}"]) == 0
        return pd.read_csv(f"{folder}/metrics.csv")

    return run


def of_the_guide(word: str) -> str:
    """Returns the one fit of the guide that has a word in it."""
    guide = (ROOT / "docs/EXTENDING.md").read_text()
    (command,) = re.findall(rf"`(xecg fit [^`]*{re.escape(word)}[^`]*)`", guide)
    return str(command)


@pytest.mark.parametrize("name", ["my_package.branches.wide", "wide"])
def test_a_branch_trains_beside_the_others(fit: Fit, name: str) -> None:
    command = of_the_guide("my_package.branches.wide").replace("my_package.branches.wide", name)
    logged = fit(command, "--freezing.frozen_layers={wide: 2}", "--freezing.allow_random=true")
    assert logged["frozen_layers/wide"].max() == 2
    assert set(pd.read_csv("run/test_metrics.csv").part) == {
        "morphology",
        "rhythm",
        "wide",
        "fused",
    }
    network, _ = load_xecgarch("run/weights.safetensors")
    assert network.branches["wide"].receptive_field == 15 + 3 * 8 * 2 * 4


def test_a_task_is_trained_and_tested_and_its_branch_is_fine_tuned(fit: Fit) -> None:
    logged = fit(of_the_guide("my_package.tasks"), "--model.optimizer.lr=0.01")
    assert logged["validation/loss"].notna().sum() == 2
    report = pd.read_csv("run/test_metrics.csv", index_col="metric")
    assert set(report.part) == {"rhythm"}
    assert report.low["accuracy"] <= report.value["accuracy"] <= report.high["accuracy"]
    frozen = (
        "--model.pretrained.rhythm=run/weights.safetensors",
        "--freezing.frozen_layers.rhythm=8",
    )
    fit("xecg fit --config configs/finetune_scratch.yaml", *frozen, folder="tuned")
    before, after = (
        load_xecgarch(f"{folder}/weights.safetensors")[0].branches["rhythm"].state_dict()
        for folder in ("run", "tuned")
    )
    assert all(after[name].equal(value) for name, value in before.items())


def test_a_schedule_freezes(fit: Fit) -> None:
    random = "--model.pretrained=null", "--freezing.allow_random=true"
    logged = fit(of_the_guide("my_package.schedules"), *random)
    depths = logged.set_index("epoch")["frozen_layers/rhythm"].dropna()
    assert depths.to_dict() == {0: 4.0, 1: 0.0}

"""What W&B knows of a run in the end: its weights, its group, name and type of job."""

import json
from pathlib import Path
from typing import Any

import pytest
from wandb_stand_in import ReceivedRun, WandbStandIn, run_with, serving

from xecg.networks.weights import load_xecgarch

CONFIG = Path(__file__).parents[2] / "configs" / "finetune_scratch.yaml"
FIT = [
    *("xecg", "fit", "--config", str(CONFIG), "--run_folder=run"),
    "--model.channels=4",
    "--data.windows_per_epoch=64",
    "--trainer.max_epochs=1",
    "--trainer.callbacks=null",
    "--trainer.enable_progress_bar=false",
]
LABELS = {"groupName": "depths", "displayName": "three", "jobType": "finetune"}


@pytest.fixture(params=["online", "offline, then synchronised"])
def received(request: pytest.FixtureRequest, workplace: Path) -> ReceivedRun:
    """What the server has of a run."""
    variables = {"RUN_GROUP": "depths", "NAME": "three", "JOB_TYPE": "finetune"}
    variables |= {"MODE": request.param.split(",")[0]}
    with serving(WandbStandIn()) as server:
        run_with(server, *FIT, **{f"WANDB_{key}": value for key, value in variables.items()})
        if variables["MODE"] == "offline":
            assert not server.runs
            run_with(server, "wandb", "sync", *Path("run/wandb").glob("offline-run-*"))
    (run,) = server.runs.values()
    return run


def test_the_weights_are_its_model_and_it_says_how_the_test_went(received: ReceivedRun) -> None:
    ((name, artifact),) = received.artifacts.items()
    assert artifact["artifactTypeName"] == "model"
    assert artifact["complete"]
    assert "best" in {alias["alias"] for alias in artifact["aliases"]}
    uploaded = received.files[f"{name}/weights.safetensors"]
    assert uploaded == Path("run/weights.safetensors").read_bytes()
    metadata: dict[str, Any] = json.loads(artifact["metadata"])
    _, info = load_xecgarch("run/weights.safetensors")
    described = {name: value for name, value in vars(info).items() if name != "learnt"}
    assert metadata == json.loads(json.dumps(described))
    assert received.labels == LABELS
    assert received.tags == ["AFClassifier", "seed 0", "frozen 0", "synthetic"]
    named = {"learning_rate", "test/synthetic/curves"}
    ends = ("", "_low", "_high", "_n", "_n_groups")
    named |= {f"test/synthetic/fused/auroc{end}" for end in ends}
    assert named <= received.summary.keys()

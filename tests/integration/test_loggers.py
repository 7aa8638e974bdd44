"""Loggers beside W&B, each chosen by one flag: what they get, and where it lies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from xecg.callbacks.loggers import with_folders
from xecg.cli import main

CONFIG = Path(__file__).parents[2] / "configs" / "finetune_frozen0.yaml"
SMALL = [
    *("--model.channels=4", "--model.pretrained=null", "--freezing.allow_random=true"),
    *("--data.windows_per_epoch=64", "--trainer.max_epochs=1"),
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks.n_windows=8",
    "--run_folder=run",
]
PICTURES = {"relevance/ecgs", "test/synthetic/curves"}
Found = tuple[dict[str, float], set[str]]  # the last value of each scalar, pictures


def of_tensorboard() -> Found:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator("run/tensorboard").Reload()
    tags = events.Tags()
    settings = yaml.safe_load(Path("run/tensorboard/hparams.yaml").read_text())
    assert settings["freezing"]["frozen_layers"] == 0
    for name in tags["images"]:
        assert events.Images(name)[-1].width > 400
    return {name: events.Scalars(name)[-1].value for name in tags["scalars"]}, {*tags["images"]}


def of_mlflow() -> Found:
    from mlflow import MlflowClient

    client = MlflowClient(f"file:{Path('run/mlruns').resolve()}")
    (experiment,) = client.search_experiments(filter_string="name = 'lightning_logs'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name.endswith("/run")
    assert run.data.params["freezing/frozen_layers"] == "0"
    artifacts = Path(run.info.artifact_uri.removeprefix("file:"))
    return run.data.metrics, named(artifacts, lambda path: str(path.parent))


def of_csv() -> Found:
    table = pd.read_csv("run/metrics.csv").ffill().iloc[-1].dropna()
    names = {"relevance_ecgs": "relevance/ecgs", "test_synthetic_curves": "test/synthetic/curves"}
    return table.to_dict(), named(Path("run/pictures"), lambda p: names[p.stem.rpartition("_")[0]])


def named(folder: Path, name: Callable[[Path], str]) -> set[str]:
    """Names of the PNG in a folder, each of which opens."""
    paths = [path for path in folder.rglob("*.png") if Image.open(path).width > 400]
    return {name(path.relative_to(folder)) for path in paths}


@pytest.mark.parametrize(
    ("logger", "read"),
    [("TensorBoardLogger", of_tensorboard), ("MLFlowLogger", of_mlflow), ("CSVLogger", of_csv)],
)
def test_a_logger_gets_scalars_and_pictures(
    logger: str, read: Callable[[], Found], workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    pytest.importorskip({"T": "tensorboard", "M": "mlflow"}.get(logger[0], "xecg"))
    assert main(["fit", "--config", str(CONFIG), *SMALL, f"--trainer.logger={logger}"]) == 0
    scalars, pictures = read()
    assert pictures == PICTURES
    assert {"validation/loss", "train/loss", "relevance/rhythm/af/n"} <= scalars.keys()
    assert scalars["learning_rate"] == pytest.approx(1e-3, rel=0.9)
    report = pd.read_csv("run/test_metrics.csv")
    for _, row in report.iterrows():
        name = f"test/{row['test_set']}/{row['part']}/{row['metric']}"
        for column, end in {"value": "", "low": "_low", "high": "_high", "n": "_n"}.items():
            if np.isfinite(row[column]):
                assert scalars[name + end] == pytest.approx(row[column], rel=1e-5)
    assert not Path("run/wandb").exists()
    assert not [path for path in workplace.iterdir() if path.name in ("mlruns", "lightning_logs")]


def test_a_logger_may_come_beside_the_others() -> None:
    placed = '{"class_path": "CSVLogger", "init_args": {"save_dir": "."}}'
    assert with_folders(["--trainer.logger", "CSVLogger"]) == ["--trainer.logger", placed]
    (flag,) = with_folders(["--trainer.logger+=a.TensorBoardLogger"])
    assert flag.startswith('--trainer.logger+={"class_path": "a.TensorBoardLogger"')
    untouched = ["--name=CSVLogger", "CSVLogger", "--trainer.logger=false"]
    assert with_folders(untouched) == untouched

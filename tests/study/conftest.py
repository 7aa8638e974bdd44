"""Studies whose cells are made by a fake worker in a fraction of a second."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from study_folders import Study

from xecg.study.beginning import begin
from xecg.study.plan import read_settings

WriteConfig = Callable[..., Path]


@pytest.fixture
def write_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteConfig:
    """Writes the config of a study into the working folder, with what the caller changes."""
    monkeypatch.chdir(tmp_path)
    for name in ("pretrain", "finetune"):
        Path(f"{name}.yaml").write_text(f"# {name}\ntrainer: {{max_epochs: 3}}\n")

    def write(name: str = "study.yaml", **changes: Any) -> Path:
        config = {
            "folder": "ladder",
            "seeds": [0],
            "frozen_layers": [0, 3],
            "scratch": True,
            "pretraining": {
                "morphology": {"configs": ["pretrain.yaml"]},
                "rhythm": "rr_rhythm",
            },
            "finetuning": {"configs": ["finetune.yaml"], "arguments": {"model.channels": 4}},
        }
        settings = {key: value for key, value in {**config, **changes}.items() if value != "gone"}
        Path(name).write_text(yaml.safe_dump(settings))
        return Path(name)

    return write


@pytest.fixture
def begin_study(write_config: WriteConfig) -> Callable[..., Study]:
    """Begins a study whose cells behave as told; see ``fake_worker.py``."""

    def begun(behaviour: Mapping[str, Any] | None = None, **changes: Any) -> Study:
        folder, settings = begin(read_settings(write_config(**changes)))
        (folder.path / "behaviour.json").write_text(json.dumps(behaviour or {}))
        return Study(folder, settings)

    return begun

"""A place to run from: embedded ECGs prepared once, a folder of its own per test."""

from pathlib import Path

import pytest

from xecg.data.databases.synthetic import embedded_store


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run from; the embedded ECGs are prepared."""
    assert len(embedded_store()) == 1800
    monkeypatch.chdir(tmp_path)
    for name in ("XECG_RUN_FOLDER", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path

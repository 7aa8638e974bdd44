"""A place to run from: embedded ECGs prepared once, a folder of its own per test."""

from pathlib import Path

import pytest

from xecg.data.embedded import STORES, embedded_store

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds the embedded store."""
    folder = tmp_path_factory.mktemp("embedded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        embedded_store()
    return folder / STORES


@pytest.fixture
def workplace(embedded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to run from, with the embedded store in its place."""
    (tmp_path / STORES).symlink_to(embedded)
    monkeypatch.chdir(tmp_path)
    for name in ("XECG_RUN_FOLDER", "WANDB_SWEEP_ID"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path

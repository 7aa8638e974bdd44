"""Real databases, for the tests that read one record of each."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_database() -> Callable[[str], Path]:
    """Folder of a database below $XECG_DATA; the test is skipped where there is none."""

    def folder(name: str) -> Path:
        if "XECG_DATA" not in os.environ:
            pytest.skip("XECG_DATA does not name a folder of real databases")
        path = Path(os.environ["XECG_DATA"]) / name
        if not path.is_dir():
            pytest.skip(f"{path} is not there")
        return path

    return folder

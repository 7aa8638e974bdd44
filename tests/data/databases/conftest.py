import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def real() -> Callable[[str], Path]:
    """The folder of a real database; the test is skipped where there is none."""

    def folder(name: str) -> Path:
        if "XECG_DATA" not in os.environ:
            pytest.skip("the environment variable XECG_DATA names no folder of real databases")
        path = Path(os.environ["XECG_DATA"]) / name
        if not path.is_dir():
            pytest.skip(f"there is no {path}")
        return path

    return folder

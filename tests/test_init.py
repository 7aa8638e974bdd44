"""The names that one types."""

import subprocess
import sys
from importlib.metadata import version

import pytest

import xecg


def test_importing_xecg_costs_nothing() -> None:
    code = "import sys, xecg; dir(xecg); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "lightning", "pandas", "numpy", "scipy"} & set(done.stdout.split())


@pytest.mark.parametrize("name", dir(xecg))
def test_every_name_is_there(name: str) -> None:
    assert getattr(xecg, name)


def test_the_version_is_that_of_the_package() -> None:
    assert xecg.__version__ == version("xecg-lightning")


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        _ = xecg.nothing

"""What `xecg.explain` offers by name."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import xecg.explain


def test_names_are_what_they_say_whatever_was_imported_before():
    for path in Path(xecg.explain.__file__).parent.glob("*.py"):
        import_module(f"xecg.explain.{path.stem}")
    for name in xecg.explain.__all__:
        assert getattr(xecg.explain, name) is not None
        assert getattr(getattr(xecg.explain, name), "__name__", name) == name


def test_a_name_is_imported_only_when_asked_for():
    code = (
        "import sys, xecg.explain; from xecg.explain import DeepTaylor, wave_relevance\n"
        "print({'matplotlib', 'captum'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_another_name_does_not_exist():
    with pytest.raises(AttributeError, match="has no attribute 'explanation'"):
        xecg.explain.explanation  # noqa: B018

"""Who may import what: data goes down the list of folders, and nothing comes back up."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "xecg"
MAY_NOT = {
    "signal": {"torch", "lightning", "wandb", "xecg.data", "xecg.networks", "xecg.tasks"},
    "data": {"wandb", "zennit", "xecg.networks", "xecg.tasks", "xecg.callbacks", "xecg.explain"},
    "networks": {"lightning", "wandb", "zennit", "numpy", "xecg.data", "xecg.tasks", "xecg.signal"},
    "metrics": {"lightning", "wandb", "xecg.data", "xecg.networks", "xecg.tasks"},
    "tasks": {"wandb", "zennit", "xecg.data", "xecg.callbacks", "xecg.explain"},
    "explain": {"lightning", "wandb", "xecg.data", "xecg.tasks", "xecg.callbacks"},
    "callbacks": {"zennit", "xecg.data", "xecg.cli", "xecg.runs"},
    "inference": {"lightning", "wandb", "zennit", "xecg.tasks", "xecg.callbacks"},
    "study": {"lightning", "zennit", "xecg.cli"},
}
ONLY_IN = {
    "dask": {"xecg/executors.py"},
    "zennit": {"xecg/explain/deep_taylor.py"},
    "wfdb": {"xecg/signal/wfdb.py"},
    "sleepecg": {"xecg/signal/waves.py"},
}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


@pytest.mark.parametrize("folder", MAY_NOT)
def test_nothing_is_imported_upwards(folder: str) -> None:
    files = sorted((PACKAGE / folder).rglob("*.py"))
    assert files
    found = [
        f"{path.relative_to(PACKAGE.parent)} imports {module}"
        for path in files
        for module in imports(path)
        if any(within(module, package) for package in MAY_NOT[folder])
    ]
    assert not found


@pytest.mark.parametrize("library", ONLY_IN)
def test_a_library_stays_in_its_file(library: str) -> None:
    users = {
        str(path.relative_to(PACKAGE.parent))
        for path in FILES
        if any(within(module, library) for module in imports(path))
    }
    assert users
    assert users <= ONLY_IN[library]

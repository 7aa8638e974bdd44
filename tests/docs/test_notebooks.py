"""The notebooks of the documentation run from top to bottom, and show pictures."""

from pathlib import Path

import pytest

jupytext = pytest.importorskip("jupytext", reason="notebooks need jupytext")
nbclient = pytest.importorskip("nbclient", reason="notebooks need nbclient and ipykernel")
pytest.importorskip("ipykernel", reason="notebooks need nbclient and ipykernel")

NOTEBOOKS = sorted(Path(__file__).parents[2].joinpath("docs/notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    notebook, place = jupytext.read(path), {"metadata": {"path": tmp_path}}
    client = nbclient.NotebookClient(notebook, timeout=900, resources=place, coalesce_streams=True)
    try:
        client.execute()
    finally:
        jupytext.write(notebook, tmp_path / f"{path.stem}.ipynb")
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


def test_there_are_three() -> None:
    assert len(NOTEBOOKS) == 3

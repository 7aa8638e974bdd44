"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_python_session_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    exec(compile(code, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert re.search(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", printed)
    assert "torch.Size([64, 1, 2500])" in printed


def test_every_file_that_the_readme_names_is_there() -> None:
    text = README.read_text()
    paths = re.findall(r"configs/[\w./-]+\.yaml", text)
    paths += re.findall(r"\]\(((?!http)[\w./-]+)\)", text)
    assert paths
    missing = [path for path in paths if not (README.parent / path).exists()]
    assert not missing

"""The README's Python runs as it stands."""

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_python_sessions_run(
    number: int, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(BLOCKS[number], str(README), "exec"), {})
    printed = capsys.readouterr().out
    if "trainer.fit" in BLOCKS[number]:
        assert re.search(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", printed)
        assert "torch.Size([64, 1, 2500])" in printed
    else:
        assert "p_af_morphology" in printed
        assert Path("explained.png").is_file()


def test_every_file_that_the_readme_names_is_there() -> None:
    text = README.read_text()
    paths = re.findall(r"configs/[\w./-]+\.yaml", text)
    paths += re.findall(r"\]\(((?!http)[\w./-]+)\)", text)
    assert paths
    missing = [path for path in paths if not (README.parent / path).exists()]
    assert not missing

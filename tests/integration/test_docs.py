"""README and docs: their Python runs, their commands are understood, their links lead somewhere."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path

import pytest

from xecg import cli
from xecg.runs import RunCLI

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = ("EXTENDING.md", "EXPORT.md")  # in tests/conftest.py and tests/inference/test_export.py
PYTHON = [
    (page.name, block)
    for page in PAGES
    if page.name not in ELSEWHERE
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
]


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every ``xecg`` command of the pages, without comments, on one line."""
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        for line in re.findall(r"^ *(xecg .*)", text, re.MULTILINE):
            if "..." not in line and line.count("'") % 2 == 0 and "`" not in line:
                yield page.name, shlex.split(line.partition(" &")[0], comments=True)[1:]


COMMANDS = list(dict.fromkeys((page, tuple(words)) for page, words in commands()))


class Understood(Exception):  # noqa: N818 (no error)
    """The flags of a run were parsed."""


@pytest.mark.parametrize(("page", "block"), PYTHON, ids=lambda one: one[:24])
def test_python_runs(
    page: str, block: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    exec(compile(block, page, "exec"), {})
    printed = capsys.readouterr().out
    if "trainer.fit" in block:
        assert re.search(r"\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", printed)
        assert "torch.Size([64, 1, 2500])" in printed
    if "plot()" in block:
        assert "p_af_morphology" in printed
        assert Path("explained.png").is_file()


def test_there_is_something_to_run() -> None:
    assert len(PYTHON) >= 3
    assert {words[0] for _, words in COMMANDS} >= {"data", "fit", "test", "classify", "study"}


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda one: " ".join(one)[:60])
def test_commands_are_understood(
    page: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: object) -> None:
        raise Understood

    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(RunCLI, "before_instantiate_classes", stop)
    name = next(
        (" ".join(words[:n]) for n in (2, 1) if " ".join(words[:n]) in cli.FILE_VERBS), words[0]
    )
    if words[0] == "test" and "--weights" in words:
        name = "test --weights"
    arguments = list(words[len(name.partition(" --")[0].split()) :])
    if name in cli.FILE_VERBS:
        module, _, attribute = cli.FILE_VERBS[name][0].partition(":")
        function = getattr(import_module(module), attribute)
        if arguments:
            given = [cli._with_underscores(argument) for argument in arguments]
            assert cli.parse(cli.function_parser(name, function), given) is not None
        return
    assert name in cli.RUN_VERBS
    configs = [flag for flag in arguments if flag.endswith("config.yaml")]  # of a run of one's own
    flags = ["configs/finetune_frozen3.yaml" if f in configs else f for f in arguments]
    with pytest.raises(Understood):
        RunCLI(name, flags, ExitStack())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    text = page.read_text()
    named = [ROOT / path for path in re.findall(r"configs/[\w./-]+\.yaml", text)]
    named += [page.parent / path for path in re.findall(r"\]\(((?!http|cards/)[\w./-]+)\)", text)]
    assert [path for path in named if not path.exists()] == []


def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra: dev)")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr[-2000:]
    assert "branches" in (tmp_path / "API" / "index.html").read_text()
    assert (tmp_path / "cards" / "xecgarch" / "index.html").is_file()

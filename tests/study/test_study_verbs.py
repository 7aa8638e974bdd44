"""The command ``xecg study``."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from study_folders import Study, fake_command

from xecg.cli import main
from xecg.study import runner as runner_module


@pytest.fixture(autouse=True)
def _fake_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells are made by the fake worker, looked after often."""
    defaults = runner_module.Runner.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "command", fake_command)
    monkeypatch.setitem(defaults, "poll_s", 0.02)
    monkeypatch.delenv("WANDB_SWEEP_ID", raising=False)


def study(*flags: str) -> int:
    return main(["study", "--config", "study.yaml", *flags])


def test_a_study_is_made_and_shown(
    write_config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_config()
    assert study("--jobs", "2") == 0
    assert "4 of 4 cells are done; xecg study report ladder" in capsys.readouterr().out
    assert study("--status") == 0
    assert "4 of 4 cells done" in capsys.readouterr().out


def test_a_failed_cell_is_the_exit_status_and_retried_when_asked(
    begin_study: Callable[..., Study], capsys: pytest.CaptureFixture[str]
) -> None:
    ladder = begin_study({"frozen3-seed0": "fail"})
    assert study() == 1
    assert "failed: frozen3-seed0; logs in ladder/failed" in capsys.readouterr().out
    assert study() == 1
    assert len(ladder.begun()) == 4
    (ladder.folder.path / "behaviour.json").write_text("{}")
    assert study("--retry") == 0
    assert ladder.begun()[4:] == ["frozen3-seed0"]


def test_one_cell_alone_and_again_at_once(begin_study: Callable[..., Study]) -> None:
    ladder = begin_study()
    for _ in range(2):
        assert study("--frozen_layers=3", "--seed=0") == 0
        assert ladder.finished() == ["pretrain-morphology-seed0", "frozen3-seed0"]


def test_another_folder_may_be_named(write_config: Callable[..., Path]) -> None:
    write_config(frozen_layers=[])
    assert study("--folder", "other") == 0
    assert Path("other/cells/scratch-seed0").is_dir()
    assert not Path("ladder").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--status"], "there is no study yet"),
        (["--jobs", "0"], "--jobs: expected 1 or more, found 0"),
        (["--seed", "9"], "no cell with seed 9"),
    ],
)
def test_mistakes_are_told(
    write_config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    write_config()
    assert study(*flags) == 1
    assert message in capsys.readouterr().err


RUN = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in a shell's background ignore it
sys.path.insert(0, sys.argv[1])
from study_folders import fake_command
from xecg.cli import main
from xecg.study.runner import Runner
Runner.__init__.__kwdefaults__.update(command=fake_command, poll_s=0.02)
sys.exit(main(["study", "--config", "study.yaml"]))
"""


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_cells_and_frees_their_claims(
    begin_study: Callable[..., Study], signal_number: int
) -> None:
    ladder = begin_study({"pretrain-morphology-seed0": "hang"})
    command = [sys.executable, "-c", RUN, str(Path(__file__).parent)]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not ladder.begun():
        time.sleep(0.02)
    started.send_signal(signal_number)
    _, errors = started.communicate(timeout=60)
    assert started.returncode == 130
    assert b"xecg: interrupted" in errors
    assert list(ladder.folder.claims.iterdir()) == []
    (pid,) = ladder.pids()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_status_imports_neither_torch_nor_lightning(begin_study: Callable[..., Study]) -> None:
    begin_study()
    code = (
        "import json, sys; from xecg.cli import main\n"
        "main(['study', '--config', 'study.yaml', '--status'])\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "0 of 4 cells done" in done.stdout
    assert not {"torch", "lightning", "wandb", "numpy"} & set(json.loads(done.stderr))

"""Parts: made once, in order, whatever becomes of single pieces and of those who work on them."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from xecg.errors import ConfigError, DataError, WorkerDiedError
from xecg.executors import Part, executor, run_parts
from xecg.files import write_whole

PIECES = [("a", "b"), ("c",), ("d", "e", "f", "g"), ("h",)]


def write(items: Sequence[str], path: Path, *, bad: str = "", deadly: str = "") -> None:
    if bad in items:
        raise DataError(f"{bad} cannot be read")
    if deadly in items:
        os.kill(os.getpid(), signal.SIGKILL)
    write_whole(path, " ".join(items))


def parts(folder: Path, jobs: int, work=write) -> list[Part]:
    with executor(jobs) as pool:
        return list(run_parts(work, PIECES, folder, pool, title="write"))


@pytest.mark.parametrize("jobs", [1, 2])
def test_parts_come_in_the_order_of_the_pieces(jobs: int, tmp_path: Path) -> None:
    made = parts(tmp_path, jobs)
    assert [part.items for part in made] == PIECES
    assert [part.path.read_text() for part in made] == ["a b", "c", "d e f g", "h"]
    assert {part.error for part in made} == {None}


def test_a_part_that_is_there_is_not_made_again(tmp_path: Path) -> None:
    first = parts(tmp_path, 1)
    first[1].path.write_text("kept")
    first[3].path.unlink()
    assert [part.path.read_text() for part in parts(tmp_path, 1)] == ["a b", "kept", "d e f g", "h"]


@pytest.mark.parametrize("jobs", [1, 2])
def test_the_error_of_a_piece_is_in_its_part_and_the_others_are_made(
    jobs: int, tmp_path: Path
) -> None:
    made = parts(tmp_path, jobs, partial(write, bad="c"))
    assert [type(part.error) for part in made] == [type(None), DataError, type(None), type(None)]
    assert made[1].items == ("c",)


def test_an_item_that_kills_its_process_is_found_and_the_rest_is_made(tmp_path: Path) -> None:
    made = parts(tmp_path, 2, partial(write, deadly="f"))
    assert [item for part in made for item in part.items] == list("abcdefgh")
    (dead,) = [part for part in made if part.error]
    assert dead.items == ("f",)
    assert isinstance(dead.error, WorkerDiedError)
    assert "f" in str(dead.error)
    assert all(part.path.is_file() for part in made if part is not dead)


def test_jobs_are_at_least_one() -> None:
    with pytest.raises(ConfigError, match="jobs"), executor(0):
        pass


def test_processes_end_with_the_command_that_started_them() -> None:
    code = (
        "import time\nfrom xecg.executors import executor\nwith executor(2) as pool:\n"
        "    pool.submit(print, 'ready', flush=True)\n    pool.submit(time.sleep, 60).result()"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        process.kill()
        try:
            process.communicate(timeout=20)  # the output is open as long as one of them lives
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def test_a_script_that_is_not_guarded_is_told_so(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from xecg.executors import executor, run_parts\n"
        "with executor(2) as pool:\n"
        "    list(run_parts(print, [['a']], Path('parts'), pool, title='t'))\n"
    )
    found = subprocess.run(
        [sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert found.stderr.strip().splitlines()[-1].startswith("xecg.errors.ExecutorError")
    assert "__main__" in found.stderr.strip().splitlines()[-1]

"""The command line as a process of its own: what it imports, its exit status, what it prints."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "lightning", "scipy", "matplotlib", "wfdb", "pandas", "wandb")
MAIN = "import sys; from xecg.cli import main; sys.exit(main())"
PROBE = f"""
import sys
from xecg.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert end.code == 0
loaded = [name for name in {HEAVY} if name in sys.modules]
print("loaded", loaded)
"""


def run(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.mark.parametrize(
    "arguments", [["--help"], ["classify", "--help"], ["explain", "--help"], ["data", "list"]]
)
def test_help_and_lists_import_nothing_heavy(arguments):
    done = run("-c", PROBE, *arguments)
    assert done.stdout.splitlines()[-1] == "loaded []", done.stderr


def test_help_names_both_verbs():
    text = run("-c", MAIN, "--help").stdout
    assert "classify" in text
    assert "explain" in text


def test_exit_status_and_messages(tmp_path, write_record, weights):
    write_record("good")
    write_record("short", n_samples=2000)
    asked = ["-c", MAIN, "classify", str(tmp_path / "records"), "--weights", str(weights)]
    done = run(*asked, "--out", str(tmp_path / "p.csv"))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("xecg: ")]
    assert [line.split(": ")[1] for line in told] == ["short"]  # beside a progress bar, if slow
    assert run(*asked).returncode == 2  # --out is missing

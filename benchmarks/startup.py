"""How soon a command answers, beside importing torch and lightning.

    python benchmarks/startup.py [--json FILE]

About a minute.
"""

import subprocess
import sys

from side_by_side import Row, alternate, medians, run_alone

IMPORTS = [sys.executable, "-c", "import torch, lightning"]
COMMANDS = {"`xecg --help`": ["--help"], "`xecg data list`": ["data", "list"]}


def measure() -> list[Row]:
    commands = {name: [sys.executable, "-m", "xecg.cli", *args] for name, args in COMMANDS.items()}
    seconds = medians(
        alternate(
            {name: _runs(command) for name, command in {"imports": IMPORTS, **commands}.items()}
        )
    )
    return [
        Row(
            what=name,
            against="`python -c 'import torch, lightning'`",
            value=seconds[name] / seconds["imports"],
            goal=1.3,
            better="at most",
            measured={case: f"{seconds[case]:.2f} s" for case in (name, "imports")},
        )
        for name in commands
    ]


def _runs(command: list[str]):
    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return run


if __name__ == "__main__":
    run_alone(measure, __doc__)

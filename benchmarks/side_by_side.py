"""What all benchmarks share: runs that take turns, and their medians as rows of one table.

On a busy machine set BUSY=1 and OMP_NUM_THREADS=1: then processor seconds of one thread (of a
process and its children) are measured, which other processes lengthen less than they lengthen time.
The JSON says so.
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

REPEATS = 5
BUSY = os.environ.get("BUSY") == "1"


@dataclass(frozen=True)
class Row:
    """A ratio of two medians, and what it is to be.

    Args:
        what: What was measured.
        against: What it was measured against.
        value: The ratio, or a size where a goal is absolute.
        goal: The bound.
        better: Whether the value is to be at least or at most the goal.
        measured: Medians in words, such as ``{"fit": "410 windows/s"}``.
        repeats: Runs that each median is of, after the warm-up.
        unit: Of the value; none for a ratio.
    """

    what: str
    against: str
    value: float
    goal: float
    better: Literal["at least", "at most"]
    measured: Mapping[str, str] = field(default_factory=dict)
    repeats: int = REPEATS
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value >= self.goal if self.better == "at least" else self.value <= self.goal


def clock() -> float:
    return sum(os.times()[:4]) if BUSY else time.perf_counter()


def alternate(
    cases: Mapping[str, Callable[[], object]], repeats: int = REPEATS
) -> dict[str, list[float]]:
    """Seconds of every run, the cases taking turns; the first turn is a warm-up and left out.

    A case that returns a float says itself how many seconds it took.
    """
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in tqdm(range(repeats + 1), unit="turn", leave=False, disable=None):
        for name, run in cases.items():
            start = clock()
            said = run()
            took = said if isinstance(said, float) else clock() - start
            if turn > 0:
                seconds[name].append(took)
    return seconds


def medians(seconds: Mapping[str, list[float]]) -> dict[str, float]:
    return {name: statistics.median(values) for name, values in seconds.items()}


def environment() -> dict[str, Any]:
    """The machine; its load says whether it did anything else."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "clock": "processor seconds of one thread" if BUSY else "time",
        "load_average": list(os.getloadavg()),
        "python": platform.python_version(),
        "torch": version("torch"),
        "time": time.strftime("%Y-%m-%d %H:%M"),
    }


def run_alone(measure: Callable[[], list[Row]], description: str) -> None:
    """The command line of one benchmark."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    parser.add_argument("--json", type=Path, help="write rows and machine here, too")
    arguments = parser.parse_args()
    before = environment()
    rows = measure()
    print(table(rows))
    if arguments.json:
        write_json(arguments.json, rows, before)


def write_json(path: Path, rows: list[Row], before: Mapping[str, Any]) -> None:
    after = {"load_average_after": list(os.getloadavg())}
    content = {"machine": {**before, **after}, "rows": [asdict(r) | {"met": r.met} for r in rows]}
    path.write_text(json.dumps(content, indent=2) + "\n")


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = ["| what | against | goal | found | medians |", "|---|---|---|---|---|"]
    for row in rows:
        found = f"{row.value:.3g}{row.unit and ' ' + row.unit}"
        found = found if row.met else f"**{found}**"
        measured = ", ".join(f"{name} {value}" for name, value in row.measured.items())
        goal = f"{row.better} {row.goal:g}{row.unit and ' ' + row.unit}"
        lines.append(f"| {row.what} | {row.against} | {goal} | {found} | {measured} |")
    return "\n".join(lines)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()

"""The folder of a run: its name, what is written into it, the table that is printed last."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from xecg.errors import ConfigError
from xecg.files import write_table
from xecg.metrics.bootstrap import Interval

RUNS = Path("runs")
REPORT = "test_metrics.csv"
COLUMNS = ("test_set", "part", "metric", "value", "low", "high", "n", "n_groups")
Reports = Mapping[str, Mapping[str, Mapping[str, Interval]]]  # test set -> part -> metric


def new_run_folder(name: str, asked: str | None = None) -> Path:
    """Make the folder of a new run.

    Args:
        name: Of the config; the folder is ``runs/<name>/<date>-<time>``.
        asked: The folder that the user named instead.

    Raises:
        ConfigError: If the named folder holds something already.
    """
    if asked is not None:
        folder = Path(asked)
        if folder.is_dir() and any(folder.iterdir()):
            raise ConfigError(f"run_folder {folder} is not empty; name another, or move it away")
        folder.mkdir(parents=True, exist_ok=True)
        return folder
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        folder = RUNS / name / f"{stamp}{suffix}"
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        return folder
    raise ConfigError(f"{RUNS / name} holds a hundred runs of this second; set run_folder")


def write_report(reports: Reports, path: Path) -> None:
    """Write one row per test set, part and metric, with interval and counts."""
    rows = [
        (test_set, part, metric, i.value, i.low, i.high, i.n, i.n_groups)
        for test_set, parts in reports.items()
        for part, metrics in parts.items()
        for metric, i in metrics.items()
    ]
    write_table(path, dict(zip(COLUMNS, zip(*rows, strict=True), strict=True)))


def format_report(reports: Reports) -> str:
    """The table that a person reads: a block per test set, a row per metric, a column per part."""
    return "\n\n".join(_format_set(name, parts) for name, parts in reports.items())


def _format_set(name: str, parts: Mapping[str, Mapping[str, Interval]]) -> str:
    metrics = list(dict.fromkeys(metric for part in parts.values() for metric in part))
    some = next(iter(next(iter(parts.values())).values()))
    rows = [["metric", *parts]]
    for metric in metrics:
        rows.append(
            [metric, *(str(part[metric]) if metric in part else "" for part in parts.values())]
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
    title = f"Test set {name}: {some.n} windows, {some.n_groups} persons or records, 95 % intervals"
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])

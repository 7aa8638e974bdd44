"""A table of what the pre-trained branches' own tests found."""

import csv
from collections.abc import Iterable, Sequence
from typing import Any

from xecg.errors import DataError
from xecg.runs import COLUMNS, REPORT
from xecg.study.report.cells import PRETRAIN, Cell
from xecg.study.report.tables import Result, Row, ShownTable, with_interval


def pretraining_tables(cells: Sequence[Cell]) -> Result:
    """Every metric of the test of every pre-training.

    Raises:
        DataError: The table of a cell's test cannot be read.
    """
    found = [(cell, row) for cell in cells if cell.kind == PRETRAIN for row in _metrics(cell)]
    rows: list[Row] = [{"branch": cell.branch, "seed": cell.seed, **row} for cell, row in found]
    lines = [
        [
            str(cell.branch),
            str(cell.seed),
            str(row["test_set"]),
            f"{row['part']}, {row['metric']}",
            with_interval(row["value"], row["low"], row["high"]),
            f"{row['n']} of {row['n_groups']}",
        ]
        for cell, row in found
    ]
    head = ["branch", "seed", "test set", "metric", "value", "n of persons or records"]
    caption = "Tests of the pre-trained branches on their own tasks."
    return Result("pretraining", rows, [ShownTable(caption, head, lines)] if lines else [])


def _metrics(cell: Cell) -> Iterable[dict[str, Any]]:
    path = cell.folder / REPORT
    try:
        with path.open(newline="") as file:
            for row in csv.DictReader(file):
                kept: dict[str, Any] = {name: row[name] for name in COLUMNS}
                kept |= {name: float(row[name]) for name in ("value", "low", "high")}
                yield kept | {name: int(row[name]) for name in ("n", "n_groups")}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: expected a table with {', '.join(COLUMNS)} ({error!r})"
        ) from error

"""What a finished cell's test found, in a few words."""

from __future__ import annotations

import csv
from pathlib import Path

from xecg.study.attempts import TESTED


def fused_accuracies(cell: Path) -> dict[str, float]:
    """Accuracy of both branches together by test set; empty for pre-training."""
    try:
        with (cell / TESTED).open(newline="") as file:
            rows = list(csv.DictReader(file))
    except OSError:
        return {}
    return {
        row["test_set"]: float(row["value"])
        for row in rows
        if (row["part"], row["metric"]) == ("fused", "accuracy")
    }


def accuracy_of(cell: Path) -> str:
    """The accuracies as the end of a line; empty for pre-training."""
    found = fused_accuracies(cell)
    values = ", ".join(f"{value:.3f} ({name})" for name, value in found.items())
    return f", fused accuracy {values}" if values else ""

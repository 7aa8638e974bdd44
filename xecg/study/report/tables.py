"""A report's tables: long ones for programs (CSV), short ones for people (Markdown and HTML)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from xecg.files import write_table, write_whole
from xecg.markdown import markdown_table

Row = Mapping[str, Any]

NOTHING = "-"


@dataclass(frozen=True)
class ShownTable:
    """A table for people.

    Args:
        caption: What it shows: measure, test set, number of windows, seeds.
        head: Titles of the columns.
        lines: Cells, each as long as the head.
    """

    caption: str
    head: Sequence[str]
    lines: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """Caption and table."""
        return f"{self.caption}\n\n{markdown_table([self.head, *self.lines])}"

    def html(self) -> str:
        """The table with its caption, escaped."""

        def row(cells: Sequence[str], tag: str) -> str:
            return f"<tr>{''.join(f'<{tag}>{escape(cell)}</{tag}>' for cell in cells)}</tr>\n"

        body = "".join(row(cells, "td") for cells in self.lines)
        return (
            f'<div class="wide"><table><caption>{escape(self.caption)}</caption>\n'
            f"<thead>{row(self.head, 'th')}</thead>\n<tbody>{body}</tbody></table></div>\n"
        )


@dataclass(frozen=True)
class Result:
    """One subject of a report: everything as rows, and what people are shown of it.

    Args:
        name: Of its files, without ending.
        rows: Rows with the same keys; none where the study has nothing to say yet.
        shown: For people.
    """

    name: str
    rows: Sequence[Row] = field(default=())
    shown: Sequence[ShownTable] = field(default=())

    def write(self, folder: Path) -> None:
        """Write ``<name>.csv`` and ``<name>.md``; neither where there is nothing."""
        if self.rows:
            keys = list(self.rows[0])
            write_table(
                folder / f"{self.name}.csv", {key: [row[key] for row in self.rows] for key in keys}
            )
            write_whole(
                folder / f"{self.name}.md", "\n".join(table.markdown() for table in self.shown)
            )


def join(name: str, parts: Sequence[Result]) -> Result:
    """Results of several test sets as one."""
    rows = list(chain.from_iterable(part.rows for part in parts))
    return Result(name, rows, list(chain.from_iterable(part.shown for part in parts)))


def with_interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """A number with its interval; a dash where there is none."""
    if np.isnan(value):
        return NOTHING
    if np.isnan(low):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def span(numbers: Sequence[int]) -> str:
    """Whole numbers as one, or from the smallest to the largest."""
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low} to {high}"

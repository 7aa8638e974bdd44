"""The pictures of an explained record: two windows to a sheet of A4 across."""

from pathlib import Path

import numpy as np

from xecg.explain.pictures import draw_page, save_figure
from xecg.inference.explained_record import ExplainedRecord

_PER_SHEET = 2


def draw_record(
    explained: ExplainedRecord, folder: Path, *, ending: str, most: int, overwrite: bool
) -> list[Path]:
    """Draw windows of a record.

    Args:
        explained: The record.
        folder: Where the sheets are written, as ``<record>.png``, ``<record>.sheet2.png``, ...
        ending: ``"png"`` or ``"svg"``.
        most: How many windows to draw at most; of a longer record they are spread evenly.
        overwrite: Replace files that exist.

    Returns:
        The sheets in order.
    """
    rows = spread(len(explained.windows), most)
    sheets = [rows[start : start + _PER_SHEET] for start in range(0, len(rows), _PER_SHEET)]
    paths = []
    for number, sheet in enumerate(sheets, start=1):
        figure = draw_page([explained.drawable(row) for row in sheet])
        suffix = ending if number == 1 else f"sheet{number}.{ending}"
        path = folder / f"{explained.windows.record}.{suffix}"
        paths.append(save_figure(figure, path, overwrite=overwrite))
    return paths


def spread(n: int, most: int) -> list[int]:
    """At most ``most`` of the rows 0 to n - 1, evenly spread, the first and last among them."""
    rows: list[int] = np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()
    return rows

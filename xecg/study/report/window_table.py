"""What a fine-tuned cell says of each window of a test set, read from its table."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.explain.pictures import FUSED
from xecg.explain.relevance import WAVES
from xecg.metrics.bootstrap import FloatArray

_P_AF = "p_af"
_PLACE = ("row", "record", "group", "start_s", "af")


@dataclass(frozen=True, eq=False)
class WindowTable:
    """What a network says of the ``n`` windows of a test set.

    Args:
        row: Rows in the store, ``(n,)``.
        record: Names of the records, ``(n,)``.
        group: Person or record, which the bootstrap draws, ``(n,)``.
        start_s: Where the windows start in their records, in seconds, ``(n,)``.
        af: 1 where the rhythm is AF, else 0, ``(n,)``.
        p_af: Probability of AF by each branch and under ``"fused"``, ``(n,)``.
        enrichment: By branch and wave, of the relevance of the class which the branch predicts,
            ``(n,)``; NaN where it is undefined.
    """

    row: NDArray[np.int64]
    record: NDArray[np.str_]
    group: NDArray[np.str_]
    start_s: FloatArray
    af: NDArray[np.int64]
    p_af: dict[str, FloatArray]
    enrichment: dict[str, dict[str, FloatArray]]


def read_window_table(path: Path) -> WindowTable:
    """Read a cell's table of windows.

    Raises:
        DataError: A column is missing or holds something else.
    """
    columns = _read_columns(path)
    branches = [name.removeprefix(f"{_P_AF}_") for name in columns if name.startswith(f"{_P_AF}_")]
    needed = [*_PLACE, _P_AF, *(enrichment_column(b, w) for b in branches for w in WAVES)]
    if lacking := [name for name in needed if name not in columns]:
        raise DataError(f"{path}: expected the columns {', '.join(needed)}; {lacking} are missing")

    def numbers(name: str) -> FloatArray:
        return _numbers(path, name, columns[name])

    table = WindowTable(
        row=numbers("row").astype(np.int64),
        record=np.array(columns["record"], dtype=np.str_),
        group=np.array(columns["group"], dtype=np.str_),
        start_s=numbers("start_s"),
        af=numbers("af").astype(np.int64),
        p_af={b: numbers(f"{_P_AF}_{b}") for b in branches} | {FUSED: numbers(_P_AF)},
        enrichment={b: {w: numbers(enrichment_column(b, w)) for w in WAVES} for b in branches},
    )
    _check_classes(path, table)
    return table


def enrichment_column(branch: str, wave: str) -> str:
    """Name of the column of a branch's enrichment of a wave."""
    return f"{branch}_enrichment_{wave.lower().replace('-', '_')}"


def _read_columns(path: Path) -> dict[str, tuple[str, ...]]:
    try:
        with path.open(newline="") as file:
            header, *lines = csv.reader(file)
        return dict(zip(header, zip(*lines, strict=True), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: expected a table with a row per window ({error})") from error


def _numbers(path: Path, name: str, texts: tuple[str, ...]) -> FloatArray:
    try:
        return np.array([float(text) for text in texts])
    except ValueError as error:
        raise DataError(f"{path}: expected numbers in column {name} ({error})") from error


def _check_classes(path: Path, table: WindowTable) -> None:
    def outside(values: NDArray[Any], allowed: bool | NDArray[np.bool_]) -> Any:
        return values[~np.asarray(allowed)][:1]

    if (wrong := outside(table.af, np.isin(table.af, (0, 1)))).size:
        raise DataError(f"{path}: expected af 0 or 1, found {wrong[0]}")
    for name, p_af in table.p_af.items():
        if (unlike := outside(p_af, (p_af >= 0) & (p_af <= 1))).size:
            raise DataError(f"{path}: expected P(AF) of {name} between 0 and 1, found {unlike[0]}")

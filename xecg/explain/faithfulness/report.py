"""The results of an evaluation as Markdown tables."""

from collections.abc import Iterator, Sequence

import numpy as np

from xecg.explain.faithfulness.attributions import METHODS
from xecg.explain.faithfulness.filling import FILLINGS
from xecg.explain.faithfulness.perturbation import MEASURES
from xecg.explain.faithfulness.tables import ALL, Row

_SHOWN_STAGES = ("head", "block5", "block1")


def area_report(areas: Sequence[Row]) -> str:
    """Areas between the curves over all windows, a line for each branch and method."""
    kinds = [(filling, measure) for measure in MEASURES for filling in FILLINGS]
    cells: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for row in areas:
        if row["predicted"] == ALL:
            line = cells.setdefault((row["branch"], row["method"]), {})
            line[row["filling"], row["measure"]] = row
    head = [f"{measure}, {filling}" for filling, measure in kinds]
    lines = [["branch", "map", *head, "windows", "empty maps"]]
    for (branch, method), line in cells.items():
        first = line[kinds[0]]
        shown = [_cell(line[kind]) for kind in kinds]
        counts = [str(first["windows"]), str(first["empty_maps"])]
        lines.append([branch, METHODS[method].title, *shown, *counts])
    return _table(lines)


def randomisation_report(rows: Sequence[Row]) -> str:
    """Spearman's correlation with the trained map, after some of the stages."""
    chosen = [row for row in rows if row["coefficient"] == "spearman"]
    cells = {(row["branch"], row["method"], row["stage"]): row for row in chosen}
    lines = [["branch", "map", *_SHOWN_STAGES, "windows"]]
    for branch, method in dict.fromkeys((row["branch"], row["method"]) for row in chosen):
        line = [cells[branch, method, stage] for stage in _SHOWN_STAGES]
        counts = "/".join(str(row["windows"]) for row in line)
        lines.append([branch, METHODS[method].title, *map(_cell, line), counts])
    return _table(lines)


def agreement_report(rows: Sequence[Row]) -> str:
    """Correlation between the maps of several networks."""
    cells = {(row["branch"], row["method"], row["coefficient"]): row for row in rows}
    lines = [["branch", "map", "Spearman", "Pearson", "windows"]]
    for branch, method in dict.fromkeys((row["branch"], row["method"]) for row in rows):
        both = [cells[branch, method, name] for name in ("spearman", "pearson")]
        lines.append([branch, METHODS[method].title, *map(_cell, both), str(both[0]["windows"])])
    return _table(lines)


def _table(lines: Sequence[Sequence[str]]) -> str:
    def rows() -> Iterator[Sequence[str]]:
        yield lines[0]
        yield ["---"] * len(lines[0])
        yield from lines[1:]

    return "".join(f"| {' | '.join(row)} |\n" for row in rows())


def _cell(row: Row) -> str:
    """A mean with its interval; a dash where there is none."""
    if np.isnan(row["value"]):
        return "-"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"

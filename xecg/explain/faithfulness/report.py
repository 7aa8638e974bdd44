"""The results of an evaluation as Markdown tables."""

from collections.abc import Sequence

import numpy as np

from xecg.explain.faithfulness.attributions import METHODS, REFERENCE
from xecg.explain.faithfulness.evaluation import Faithfulness
from xecg.explain.faithfulness.filling import FILLINGS
from xecg.explain.faithfulness.perturbation import MEASURES
from xecg.explain.faithfulness.tables import ALL, Row
from xecg.explain.relevance import CLASSES
from xecg.markdown import markdown_table

_SHOWN_STAGES = ("head", "block5", "block1")


def report_of(found: Faithfulness) -> str:
    """All tables, each below a line that says what it is."""
    n_empty = sum(row["empty_maps"] for row in found.areas if _stands_for_its_map(row))
    parts = [
        "Area between the perturbation curves, least minus most relevant first (above 0: the map "
        "puts first what matters; a random order has 0). "
        f"{n_empty} maps are empty, their order random.\n",
        area_report(found.areas),
        "The areas in probability by predicted class:\n",
        class_report(found.areas),
    ]
    if found.gains:
        parts += [
            f"Area minus that of the {METHODS[REFERENCE].title}, in the same windows (above 0: "
            "better than a map that knows no network):\n",
            area_report(found.gains),
        ]
    if found.randomisation:
        parts += [
            "Correlation (Spearman) with the trained network's map when the weights are random "
            "from the output down to a stage (near 1: the map does not depend on the weights):\n",
            randomisation_report(found.randomisation),
        ]
    if found.agreement:
        n = found.agreement[0]["networks"]
        parts += [
            f"Mean correlation between the maps of {n} networks, where they agree on the class:\n",
            agreement_report(found.agreement),
        ]
    return "\n" + "\n".join(parts)


def area_report(areas: Sequence[Row]) -> str:
    """Areas, or gains, over all windows, a line for each branch and method."""
    kinds = [(filling, measure) for measure in MEASURES for filling in FILLINGS]
    cells: dict[tuple[str, str], dict[tuple[str, str], Row]] = {}
    for row in areas:
        if row["predicted"] == ALL:
            line = cells.setdefault((row["branch"], row["method"]), {})
            line[row["filling"], row["measure"]] = row
    head = [f"{measure}, {filling}" for filling, measure in kinds]
    lines = [["branch", "map", *head, "windows"]]
    for (branch, method), line in cells.items():
        shown = [_cell(line[kind]) for kind in kinds]
        lines.append([branch, METHODS[method].title, *shown, str(line[kinds[0]]["windows"])])
    return markdown_table(lines)


def class_report(areas: Sequence[Row]) -> str:
    """Areas in probability by predicted class, a line for each branch and method."""
    chosen = [row for row in areas if row["measure"] == "probability"]
    classes = [name for name in CLASSES if any(row["predicted"] == name for row in chosen)]
    kinds = [(name, filling) for filling in FILLINGS for name in classes]
    cells = {
        (row["branch"], row["method"], row["predicted"], row["filling"]): row for row in chosen
    }
    head = [f"{name}, {filling}" for name, filling in kinds]
    lines = [["branch", "map", *head, f"windows {' / '.join(classes)}"]]
    for branch, method in dict.fromkeys((row["branch"], row["method"]) for row in chosen):
        shown = [cells.get((branch, method, *kind)) for kind in kinds]
        counts = [str(row["windows"]) if row else "0" for row in shown[: len(classes)]]
        lines.append([branch, METHODS[method].title, *map(_cell, shown), " / ".join(counts)])
    return markdown_table(lines)


def randomisation_report(rows: Sequence[Row]) -> str:
    """Spearman's correlation with the trained map, after some of the stages."""
    chosen = [row for row in rows if row["coefficient"] == "spearman"]
    cells = {(row["branch"], row["method"], row["stage"]): row for row in chosen}
    lines = [["branch", "map", *_SHOWN_STAGES, "windows"]]
    for branch, method in dict.fromkeys((row["branch"], row["method"]) for row in chosen):
        line = [cells[branch, method, stage] for stage in _SHOWN_STAGES]
        counts = "/".join(str(row["windows"]) for row in line)
        lines.append([branch, METHODS[method].title, *map(_cell, line), counts])
    return markdown_table(lines)


def agreement_report(rows: Sequence[Row]) -> str:
    """Correlation between the maps of several networks."""
    cells = {(row["branch"], row["method"], row["coefficient"]): row for row in rows}
    lines = [["branch", "map", "Spearman", "Pearson", "windows"]]
    for branch, method in dict.fromkeys((row["branch"], row["method"]) for row in rows):
        both = [cells[branch, method, name] for name in ("spearman", "pearson")]
        lines.append([branch, METHODS[method].title, *map(_cell, both), str(both[0]["windows"])])
    return markdown_table(lines)


def _stands_for_its_map(row: Row) -> bool:
    """Whether it is the one of a map's rows that counts its windows once."""
    return (row["predicted"], row["filling"], row["measure"]) == (ALL, "zero", "logit")


def _cell(row: Row | None) -> str:
    """A mean with its interval; a dash where there is none."""
    if row is None or np.isnan(row["value"]):
        return "-"
    return f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"

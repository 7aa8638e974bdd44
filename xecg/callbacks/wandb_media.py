"""Histograms and a table of a probe's relevance for Weights & Biases."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from xecg.callbacks.probe import Probe
from xecg.callbacks.relevance_measures import BranchRelevance, enrichment_name, slug
from xecg.explain.summary import CLASSES
from xecg.explain.wave_measures import WAVES, FloatArray

Branches = Mapping[str, BranchRelevance]


def histograms(probe: Probe, branches: Branches) -> dict[str, Any]:
    """Enrichments of the windows that the means are over, by branch, class and wave."""
    from wandb import Histogram

    media = {}
    for name, branch in branches.items():
        for code, rhythm in enumerate(CLASSES):
            chosen = branch.measured(probe.classes, code)
            for wave in WAVES:
                values = branch.statistics.enrichment[wave][chosen]
                key = f"{name}/{slug(rhythm)}/{enrichment_name(wave, rhythm)}_histogram"
                media[key] = Histogram(values[~np.isnan(values)].tolist())
    return media


def table(probe: Probe, branches: Branches) -> Any:
    """One row per window: where it is from, and what each branch says of it and looks at.

    Enrichment of P in a window of AF is that of where P would be.
    """
    from wandb import Table

    columns: dict[str, list[Any]] = {
        "record": probe.records.tolist(),
        "lead": probe.leads.tolist(),
        "start_s": probe.starts_s.tolist(),
        "class": [CLASSES[code] for code in probe.classes],
    }
    for name, branch in branches.items():
        columns |= {f"{name}_{key}": values for key, values in _columns(branch).items()}
    rows = zip(*columns.values(), strict=True)
    return Table(columns=list(columns), data=[list(row) for row in rows])


def drawable(branches: Branches) -> bool:
    """Whether there are maps to draw: the network has not diverged."""
    return all(bool(branch.maps.isfinite().all()) for branch in branches.values())


def _columns(branch: BranchRelevance) -> dict[str, list[Any]]:
    statistics = branch.statistics
    numbers: dict[str, FloatArray] = {"p_af": branch.p_af}
    numbers |= {f"enrichment_{slug(wave)}": statistics.enrichment[wave] for wave in WAVES}
    numbers |= {
        "conservation": statistics.conservation,
        "gini": statistics.gini,
        "map_correlation": branch.correlation,
    }
    predicted = [CLASSES[code] for code in branch.predicted]
    return {"predicted": predicted} | {key: column.tolist() for key, column in numbers.items()}

"""The same ECGs as networks of several frozen depths see them."""

from argparse import ArgumentError
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from jsonargparse import ArgumentParser

from xecg.data.datamodules import WindowDataModule
from xecg.errors import DataError
from xecg.explain.attributions import BranchExplainer
from xecg.explain.pictures import ExplainedWindow
from xecg.explain.relevance import CLASSES
from xecg.networks.weights import load_xecgarch
from xecg.study.ladder import SCRATCH, Ladder


class Example(NamedTuple):
    """A window that networks of several depths explain.

    Args:
        rhythm: True class of the window.
        seed: Seed of the networks.
        window: Window with the relevance by each branch at each depth.
    """

    rhythm: str
    seed: int
    window: ExplainedWindow


def examples(
    ladder: Ladder, depths: Sequence[int], attribution: str, seed: int
) -> Iterator[Example]:
    """Yields a window of each class, explained at several depths by one seed's networks.

    The seed of the networks is the first of those that have most of the depths. A window is drawn
    among those that all branches of all these networks predict rightly and that have relevance
    statistics; a class without such a window has no example.

    Args:
        ladder: Networks, whose runs must lie where they were tested, with their stores.
        depths: Depths to show; those that the ladder lacks are left out.
        attribution: Name of the attribution method.
        seed: Random seed of the draw.

    Raises:
        XECGError: The stores or the weights of a run cannot be used.
    """
    cells = ladder.cells[ladder.cells["depth"].isin(depths)]
    if cells.empty:
        return
    cells = cells[cells["seed"] == cells.groupby("seed").size().idxmax()].sort_values("depth")
    data = None
    for code, rhythm in enumerate(CLASSES):
        suitable = ladder.af == bool(code)
        for branch in ladder.branches:
            suitable &= ladder.right(branch)[cells.index].all(axis=0)
            if (column := f"{branch}_enrichment_p") in ladder.columns:
                suitable &= ~np.isnan(ladder.columns[column][cells.index]).any(axis=0)
        if suitable.any():
            data = data or test_data(cells["folder"].iloc[0])
            row = np.random.default_rng([seed, code]).choice(np.flatnonzero(suitable))
            place = ladder.windows.iloc[row]
            window = _explained(cells, data, ladder.test_set, place, attribution)
            yield Example(rhythm, int(cells["seed"].iloc[0]), window)


def test_data(run: Path) -> WindowDataModule:
    """Returns the data of a run, set up as for its test."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(WindowDataModule, "data")
    try:
        config = yaml.safe_load((run / "config.yaml").read_text())
        given = parser.parse_object({"data": config["data"]})
    except (ArgumentError, KeyError, TypeError, yaml.YAMLError) as error:
        raise DataError(f"{run / 'config.yaml'}: expected the data of the run ({error})") from error
    data: WindowDataModule = parser.instantiate(given).data
    data.prepare_data()
    data.setup("test")
    return data


def _explained(
    cells: pd.DataFrame, data: WindowDataModule, test_set: str, place: Any, attribution: str
) -> ExplainedWindow:
    """The window at a place, as each network sees it."""
    dataset = next(found for found in data.test_sets if found.name == test_set)
    same = (dataset.column("record") == place["record"]) & (dataset.column("lead") == place["lead"])
    starts = dataset.column("start_s").astype(np.float64)
    positions = np.flatnonzero(same & np.isclose(starts, place["start_s"]))
    if positions.size != 1:
        raise DataError(
            f"{test_set}: expected one window of record {place['record']} at {place['start_s']} s, "
            f"found {positions.size}: the store was prepared again since"
        )
    signal = dataset.__getitems__(positions.tolist()).signal
    relevance, p_af, predicted = {}, {}, {}
    cell: Any
    for cell in cells.itertuples():
        network, _ = load_xecgarch(cell.folder / "weights.safetensors")
        explainer = BranchExplainer(network, attribution)
        blocks = "from scratch" if cell.depth == SCRATCH else f"{cell.depth} blocks frozen"
        for branch, explanation in explainer.explain(signal).items():
            name = f"{blocks}, {branch}"
            relevance[name] = explanation.relevance[0, 0].numpy()
            p_af[name] = float(explanation.logits.softmax(dim=1)[0, 1])
            predicted[name] = CLASSES[int(p_af[name] > 0.5)]
    return ExplainedWindow(
        record=str(place["record"]),
        lead=str(place["lead"]),
        start_s=float(place["start_s"]),
        signal=signal[0, 0].numpy(),
        unit="",
        sampling_rate=data.sampling_rate,
        r_peaks=dataset.r_peaks(int(positions[0])),
        relevance=relevance,
        p_af=p_af,
        predicted=predicted,
    )

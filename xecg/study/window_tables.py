"""A table of each test set: what the network says of every window, and where its branches look."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from jsonargparse import ArgumentParser
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from xecg.data.datamodules import WindowDataModule
from xecg.data.datasets import WindowDataset
from xecg.errors import ConfigError
from xecg.explain.deep_taylor import DeepTaylor
from xecg.explain.relevance import WAVES, enrichment_column, wave_relevance
from xecg.files import write_table
from xecg.networks.weights import load_xecgarch
from xecg.networks.xecgarch import XECGArch, fuse
from xecg.study.fit_arguments import WEIGHTS
from xecg.study.plan import Explanations

WINDOWS = "windows"

_BATCH = 64  # windows: explaining keeps what every layer gave
_SEED = 0  # the same windows in every cell
Columns = dict[str, NDArray[Any]]


def write_window_tables(run: Path, explain: Explanations) -> None:
    """Explain the test sets of a fine-tuned run; writes ``windows/<test set>.csv`` into it.

    A row a window, in the order of the test set: ``row`` (position in the test set), ``record``,
    ``group`` (person or record), ``start_s``, ``af`` (1 AF, 0 not), ``n_beats``, ``p_af``,
    ``p_af_<branch>``, and ``<branch>_enrichment_<p|qrs|st_t|other>``: share of the relevance of
    the class that the branch predicts / share of time, in windows relative to the R peaks; empty
    (nan) with fewer than four beats, no relevance, or beyond ``explain.max_windows``. In float32:
    next to a threshold a window may differ from the test's metrics, which are in the precision of
    the run.

    Args:
        run: Folder of the run, with ``config.yaml`` and ``weights.safetensors``.
        explain: How, and which.

    Raises:
        ConfigError: A test set that was asked for is not there.
    """
    network, _ = load_xecgarch(run / WEIGHTS)
    network.eval()
    deep_taylor = DeepTaylor(network, explain.rules)
    data = test_data(run)
    (run / WINDOWS).mkdir(exist_ok=True)
    for test_set in _chosen(data.test_sets, explain.sets):
        rows = rows_to_explain(len(test_set), explain.max_windows)
        columns = _table(test_set, rows, network, deep_taylor, data.sampling_rate)
        write_table(run / WINDOWS / f"{test_set.name}.csv", columns)


def test_data(run: Path) -> WindowDataModule:
    """The data of a run, set up as for its test."""
    config = yaml.safe_load((run / "config.yaml").read_text())
    parser = ArgumentParser()
    parser.add_subclass_arguments(WindowDataModule, "data")
    parsed = parser.parse_object({"data": config["data"]})
    data = parser.instantiate_classes(parsed).data
    assert isinstance(data, WindowDataModule)
    data.prepare_data()
    data.setup("test")
    return data


def rows_to_explain(n: int, most: int | None) -> NDArray[np.int64]:
    """Positions in a test set of ``n`` windows, rising; the same ones for every network."""
    if most is None or most >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(_SEED).permutation(n)[:most])


def _chosen(test_sets: list[WindowDataset], names: tuple[str, ...] | None) -> list[WindowDataset]:
    there = {test_set.name: test_set for test_set in test_sets}
    if names is None:
        return test_sets
    if missing := [name for name in names if name not in there]:
        raise ConfigError(
            f"explain.sets: found no test set {', '.join(missing)}; there are {', '.join(there)}"
        )
    return [there[name] for name in names]


def _table(
    test_set: WindowDataset,
    explained: NDArray[np.int64],
    network: XECGArch,
    deep_taylor: DeepTaylor,
    sampling_rate: float,
) -> Mapping[str, Any]:
    """What is known of every window; enrichments of those at the positions ``explained``."""
    peaks = [test_set.r_peaks(row) for row in range(len(test_set))]
    columns: dict[str, Any] = {
        "row": np.arange(len(test_set)),
        "record": test_set.column("record"),
        "group": test_set.column("group"),
        "start_s": np.array([f"{start:.10g}" for start in test_set.column("start_s")]),
        "af": test_set.targets(),
        "n_beats": np.array([window.size for window in peaks]),
        **_joined(_probabilities(network, signal) for _, signal in _batches(test_set)),
    }
    enrichments = _joined(
        _enrichments(deep_taylor, signal, [peaks[row] for row in rows], sampling_rate)
        for rows, signal in _batches(test_set, explained)
    )
    for name, values in enrichments.items():
        columns[name] = np.full(len(test_set), np.nan)
        columns[name][explained] = values
    return columns


def _batches(
    test_set: WindowDataset, rows: NDArray[np.int64] | None = None
) -> Iterator[tuple[NDArray[np.int64], Tensor]]:
    """Positions and their windows ``(batch, 1, time)``, with a bar; all if none are named."""
    verb = "classify" if rows is None else "explain"
    rows = np.arange(len(test_set)) if rows is None else rows
    with tqdm(total=rows.size, desc=f"{verb} {test_set.name}", unit="window") as bar:
        for start in range(0, rows.size, _BATCH):
            chosen = rows[start : start + _BATCH]
            yield chosen, test_set.__getitems__(chosen.tolist()).signal
            bar.update(chosen.size)


def _joined(parts: Iterable[Columns]) -> Columns:
    found = list(parts)
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def _probabilities(network: XECGArch, signal: Tensor) -> Columns:
    with torch.inference_mode():
        logits = network(signal)
    branches = {f"p_af_{branch}": _column(z.softmax(dim=1)) for branch, z in logits.items()}
    return {"p_af": _column(fuse(logits)), **branches}


def _enrichments(
    deep_taylor: DeepTaylor,
    signal: Tensor,
    peaks: list[NDArray[np.int32]],
    sampling_rate: float,
) -> Columns:
    explained = deep_taylor.explain(signal)
    assert isinstance(explained, dict)  # by branch
    columns = {}
    for branch, explanation in explained.items():
        table = wave_relevance(explanation.relevance, peaks, sampling_rate)
        for wave in WAVES:
            name = enrichment_column(wave)
            columns[f"{branch}_{name}"] = table[name].to_numpy()
    return columns


def _column(probabilities: Tensor) -> NDArray[np.float64]:
    """P(AF) of class probabilities ``(batch, 2)``."""
    return probabilities[:, 1].to(torch.float64).numpy()

"""Whether the maps of trained weights are faithful, on windows of a prepared store."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from xecg.data.splits import Split, split_rows
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.explain.faithfulness.evaluation import Faithfulness, evaluate_maps
from xecg.explain.faithfulness.figures import draw_curves, draw_randomisation
from xecg.explain.faithfulness.report import report_of
from xecg.explain.faithfulness.settings import EvaluationSettings
from xecg.explain.faithfulness.tables import columns_of
from xecg.explain.pictures import save_figure
from xecg.files import write_table, write_whole
from xecg.inference.model import Classifier

REPORT = "faithfulness.md"

_DPI = 150.0


@dataclass(frozen=True)
class WindowChoice:
    """Which windows of a store are used.

    Args:
        windows: How many at most, drawn at random without replacement.
        part: What the default split holds out, or the whole store.
        split_seed: Seed of the split.
        seed: Seed of the draw.

    Raises:
        ConfigError: The number of windows is not positive.
    """

    windows: int = 200
    part: Literal["test", "all"] = "test"
    split_seed: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.windows < 1:
            raise ConfigError(f"expected at least one window, found --windows {self.windows}")

    def rows(self, index: pd.DataFrame) -> NDArray[np.int64]:
        """Rows of a store's index, rising; fewer than asked for where there are fewer."""
        rows = np.arange(len(index))
        if self.part == "test":
            rows = split_rows(index, Split(seed=self.split_seed))["test"]
        drawn = np.random.default_rng(self.seed).permutation(rows)[: self.windows]
        return np.sort(drawn)


def evaluate(
    store: Path,
    out: Path,
    *,
    weights: Sequence[str | Path],
    choice: WindowChoice,
    settings: EvaluationSettings,
    picture: Literal["png", "svg"] = "png",
) -> str:
    """Evaluate maps; writes tables, figures and a report into ``out``.

    Args:
        store: Folder of a prepared store.
        out: A new folder, or an empty one.
        weights: Weights files, or released weights by name; the first ones' maps are evaluated.
        choice: Which windows.
        settings: How maps are evaluated.
        picture: Kind of the figures.

    Returns:
        The report, in Markdown.

    Raises:
        ConfigError: A setting is out of range, or the folder is not empty.
        StoreError: The store cannot be used, or its windows are not what the weights take.
        WeightsError: Weights cannot be used, or do not go together.
    """
    windows = Store.open(store)
    classifiers = _load(weights, windows)
    rows = choice.rows(windows.index)
    if not rows.size:
        raise StoreError(f"{store}: no window in the part {choice.part!r}; pass --split all")
    _make_folder(out)
    index = windows.index.take(rows)
    networks = [classifier.network for classifier in classifiers]
    groups = np.asarray(index["group"], dtype=np.str_)
    rate = windows.info.preprocessing.sampling_rate
    found = evaluate_maps(networks, windows.signals[rows], groups, rate, settings)
    report = _introduction(windows, classifiers, choice, settings, index) + report_of(found)
    _write(found, report, out, picture)
    return report


def _load(weights: Sequence[str | Path], store: Store) -> list[Classifier]:
    classifiers = [Classifier.load(source) for source in weights]
    first = classifiers[0]
    if len({classifier.weights.resolve() for classifier in classifiers}) < len(classifiers):
        raise ConfigError("expected different weights to compare; the same file is given twice")
    for classifier in classifiers:
        if classifier.branches != first.branches:
            raise WeightsError(
                f"expected the branches {', '.join(first.branches)} of {first.weights} in "
                f"{classifier.weights}, found {', '.join(classifier.branches)}"
            )
        if classifier.preprocessing != store.info.preprocessing:
            raise StoreError(
                f"{store.path}: expected windows made as {classifier.weights} takes them, "
                f"{classifier.preprocessing}; found {store.info.preprocessing}. Prepare the "
                "database again with these settings"
            )
    return classifiers


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made ({error})") from error
    if any(out.iterdir()):
        raise ConfigError(f"--out {out} is not empty; name another folder")


def _write(found: Faithfulness, report: str, out: Path, picture: str) -> None:
    for name, rows in vars(found).items():
        if rows:
            write_table(out / f"{name}.csv", columns_of(rows))
    figures = {"curves": draw_curves(found.curves, found.areas)}
    if found.randomisation:
        figures["randomisation"] = draw_randomisation(found.randomisation)
    for name, figure in figures.items():
        save_figure(figure, out / f"{name}.{picture}", dpi=_DPI)
    write_whole(out / REPORT, report)


def _introduction(
    store: Store,
    classifiers: Sequence[Classifier],
    choice: WindowChoice,
    settings: EvaluationSettings,
    index: pd.DataFrame,
) -> str:
    files = ", ".join(classifier.weights.name for classifier in classifiers)
    return (
        f"Weights {files}; {len(index)} windows ({choice.part}) of {index['group'].nunique()} "
        f"persons or records of {store.info.database} ({(index.af == 1).sum()} AF, "
        f"{(index.af == 0).sum()} non-AF), seed {settings.seed}. "
        f"Segments of {settings.segment_ms:g} ms, {settings.steps} steps. "
        "The class that each branch predicts is explained. Means with 95 % bootstrap intervals.\n"
    )

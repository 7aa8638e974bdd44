"""The networks of a folder of runs, side by side: what they say of the same windows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.metrics.bootstrap import FloatArray

SCRATCH = -1  # depth of training from random weights, which is no rung of the ladder
FUSED = "fused"
_BRANCH_OF = {"PWaveDetection": "morphology", "RRVariability": "rhythm"}
_PLACE = ["record", "group", "lead", "start_s", "af"]


@dataclass(frozen=True, eq=False)
class Ladder:
    """What ``c`` networks say of the same ``n`` windows.

    Args:
        test_set: Name of the test set.
        cells: A row per network: ``depth``, ``seed``, ``folder``.
        windows: A row per window: ``record``, ``group``, ``lead``, ``start_s``, ``af``.
        columns: Further columns of the tables of windows by name, ``(c, n)``.
    """

    test_set: str
    cells: pd.DataFrame
    windows: pd.DataFrame
    columns: Mapping[str, FloatArray]

    @property
    def title(self) -> str:
        """Test set, number of windows and groups, seeds: what a figure or a table is of."""
        windows, groups = f"{self.af.size:,} windows", self.windows["group"].nunique()
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)}"
        return (
            f"{self.test_set}: {windows} ({self.af.sum():,} AF) of {groups:,} persons or records; "
            f"{seeds} ({', '.join(map(str, self.seeds))})"
        )

    @property
    def branches(self) -> list[str]:
        """Names of the branches."""
        return [name[5:] for name in self.columns if name.startswith("p_af_")]

    @property
    def depths(self) -> list[int]:
        """Depths from scratch on."""
        return sorted(self.cells["depth"].unique().tolist())

    @property
    def seeds(self) -> list[int]:
        """Seeds, rising."""
        return sorted(self.cells["seed"].unique().tolist())

    @property
    def af(self) -> NDArray[np.bool_]:
        """Where the rhythm is AF, ``(n,)``."""
        af: NDArray[np.bool_] = self.windows["af"].to_numpy() == 1
        return af

    def p_af(self, part: str) -> FloatArray:
        """P(AF) by a branch or fused, ``(c, n)``."""
        return self.columns["p_af" if part == FUSED else f"p_af_{part}"]

    def right(self, part: str) -> NDArray[np.bool_]:
        """Where the more probable class is the true one, ``(c, n)``."""
        right: NDArray[np.bool_] = (self.p_af(part) > 0.5) == self.af
        return right


def depth_title(depth: int) -> str:
    """Returns a depth as tables and figures show it."""
    return "scratch" if depth == SCRATCH else str(depth)


def read_runs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Returns the finished runs of a folder, by branch, depth and seed.

    A run is what its ``config.yaml`` says: a pre-training by its task, a depth by
    ``freezing.frozen_layers``, training from scratch by branches without weights.

    Args:
        folder: Folder of a study, or of runs.

    Returns:
        A row per run: ``folder``, ``branch`` (empty in fine-tuning), ``depth``, ``seed``; and what
        was left out, a sentence each.

    Raises:
        DataError: There is no finished run, two have the same depth and seed, or a config is
            damaged.
    """
    paths = [
        path for pattern in ("*/config.yaml", "*/*/config.yaml") for path in folder.glob(pattern)
    ]
    found = [
        _run(path)
        for path in sorted(paths)
        if (path.parent / "test_metrics.csv").exists() and path.parents[1].name != "work"
    ]
    runs = pd.DataFrame(found, columns=["folder", "branch", "depth", "seed"])
    if runs.empty:
        raise DataError(
            f"{folder}: expected runs that are finished, each a folder with config.yaml and "
            "test_metrics.csv, found none. Name the folder of a study, or of runs of xecg fit"
        )
    ladder = runs["depth"].map(lambda depth: isinstance(depth, int))
    left_out = [f"{run} has a schedule of frozen blocks" for run in runs["folder"][~ladder]]
    runs = runs[ladder].astype({"depth": int}).sort_values(["branch", "depth", "seed"])
    twice = runs.duplicated(["branch", "depth", "seed"])
    if twice.any():
        raise DataError(
            f"{runs['folder'][twice].iloc[0]}: expected one run for each depth and seed, found "
            "another one of this depth and seed. Move one of them out of the folder"
        )
    return runs, left_out


def _run(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
        task, given = config["model"]["class_path"].rpartition(".")[2], config["model"]["init_args"]
        depth = config["freezing"]["frozen_layers"]
        return {
            "folder": path.parent,
            "branch": _BRANCH_OF.get(task, "" if "branches" in given else task),
            "depth": depth if given.get("pretrained") else SCRATCH,
            "seed": int(config["seed_everything"]),
        }
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise DataError(f"{path}: expected the config of a run of xecg fit ({error!r})") from error


def read_ladders(runs: pd.DataFrame) -> Iterator[Ladder]:
    """Yields the fine-tuned networks of each test set.

    Args:
        runs: Finished runs.

    Raises:
        DataError: No run has a table of windows, a table cannot be used, or networks differ in
            windows.
    """
    tuned = runs[runs["branch"] == ""]
    paths = {run: sorted((run / "windows").glob("*.csv")) for run in tuned["folder"]}
    names = dict.fromkeys(path.stem for found in paths.values() for path in found)
    if not names:
        raise DataError("no run is fine-tuned and has a table of windows: nothing to report")
    for name in names:
        has = [name in [path.stem for path in found] for found in paths.values()]
        cells = tuned[has].reset_index(drop=True)
        tables = [_windows(run / "windows" / f"{name}.csv") for run in cells["folder"]]
        first = tables[0]
        for run, table in zip(cells["folder"], tables, strict=True):
            if [*table] != [*first] or not table[_PLACE].equals(first[_PLACE]):
                raise DataError(
                    f"{run / 'windows' / name}.csv: expected the windows, groups, labels and "
                    f"columns of {cells['folder'][0]}, found others. Networks can be compared on "
                    "the same windows only: run one of them again"
                )
        others = [str(column) for column in first if column not in _PLACE]
        columns = {
            name: np.stack([table[name].to_numpy(float) for table in tables]) for name in others
        }
        yield Ladder(name, cells, first[_PLACE], columns)


def _windows(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(("record", "group", "lead"), str))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: expected a table with a row per window ({error})") from error
    if missing := [name for name in (*_PLACE, "p_af") if name not in table]:
        raise DataError(f"{path}: expected the columns {_PLACE} and p_af; {missing} are missing")
    for name in [str(name) for name in table if name not in _PLACE[:4]]:
        if not pd.api.types.is_numeric_dtype(table[name]):
            raise DataError(f"{path}: expected numbers in column {name}")
        wrong = ~table[name].between(0, 1)
        if (name == "af" or name.startswith("p_af")) and wrong.any():
            found = table[name][wrong].iloc[0]
            raise DataError(f"{path}: expected {name} from 0 to 1, found {found}")
    return table

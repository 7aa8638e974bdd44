"""What the networks of several frozen depths say of the same windows, in numbers.

Each number is computed for each network and averaged over seeds. Its interval is of the cluster
bootstrap over persons (Davison and Hinkley 1997, section 3.8), with the same resamples for every
network, so that what they have in common (hard records) drops out of trends.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import factorial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import yaml
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test, rankdata

from xecg.errors import DataError
from xecg.explain.relevance import (
    CLASSES,
    OWN_WAVE,
    WAVES,
    domain_specificity,
    enrichment_column,
)
from xecg.metrics.bootstrap import FloatArray, divide, group_weights, percentile_interval
from xecg.metrics.classification import ranked
from xecg.study.plan import Reference

SCRATCH = -1  # depth of training from random weights, which is no rung of the ladder
FUSED = "fused"
METRICS = {"accuracy": "accuracy", "f1": "F1 (AF)", "auroc": "AUROC"}
SPECIFICITY = "domain specificity"
TRADED_CLASS = "non-AF"  # where there are P waves: its specificity is compared with the accuracy
KEY = ["measure", "part", "class", "wave"]
_BRANCH_OF = {"PWaveDetection": "morphology", "RRVariability": "rhythm"}
_NAMES = ["record", "group", "lead"]
_PLACE = [*_NAMES, "start_s", "af"]
_FEWEST_DEPTHS = 3
_CHUNK = 64  # resamples for which every window has its weight in memory

Key = tuple[str, str, str, str]


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
    paths = [*folder.glob("*/config.yaml"), *folder.glob("*/*/config.yaml")]
    found = [
        _run(path)
        for path in sorted(paths)
        if (path.parent / "test_metrics.csv").exists() and path.parents[1].name != "work"
    ]
    if not found:
        raise DataError(
            f"{folder}: expected runs that are finished, each a folder with config.yaml and "
            "test_metrics.csv, found none. Name the folder of a study, or of runs of xecg fit"
        )
    runs = pd.DataFrame(found)
    rungs = runs["depth"].map(lambda depth: isinstance(depth, int))
    left_out = [f"{run} has a schedule of frozen blocks" for run in runs["folder"][~rungs]]
    runs = runs[rungs].astype({"depth": int}).sort_values(["branch", "depth", "seed"])
    for run in runs["folder"][runs.duplicated(["branch", "depth", "seed"])]:
        raise DataError(
            f"{run}: expected one run for each depth and seed, found another one of this depth and "
            "seed. Move one of them out of the folder"
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
    paths = [sorted((run / "windows").glob("*.csv")) for run in tuned["folder"]]
    names = dict.fromkeys(path.stem for found in paths for path in found)
    if not names:
        raise DataError("no run is fine-tuned and has a table of windows: nothing to report")
    for name in names:
        cells = tuned[[name in [path.stem for path in found] for found in paths]]
        tables = [_windows(run / "windows" / f"{name}.csv") for run in cells["folder"]]
        first = tables[0]
        for run, table in zip(cells["folder"], tables, strict=True):
            if [*table] != [*first] or not table[_PLACE].equals(first[_PLACE]):
                raise DataError(
                    f"{run / 'windows' / name}.csv: expected the windows, groups, labels and "
                    f"columns of {cells['folder'].iloc[0]}, found others. Networks can be compared "
                    "on the same windows only: run one of them again"
                )
        others = first.columns.drop(_PLACE)
        columns = {key: np.stack([table[key].to_numpy() for table in tables]) for key in others}
        yield Ladder(name, cells.reset_index(drop=True), first[_PLACE], columns)


def _windows(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=dict.fromkeys(_NAMES, str))
        table = table.astype(dict.fromkeys(table.columns.drop(_NAMES), float))
        shares = table[["start_s", "af", "p_af"]].join(table.filter(regex="^p_af_"))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: expected a table with a row per window ({error})") from error
    for name in shares.columns[1:]:
        if not shares[name].between(0, 1).all():
            raise DataError(f"{path}: expected {name} from 0 to 1, found others")
    return table


class Measure(NamedTuple):
    """One number of each network.

    Args:
        values: As they are, then under each resample, ``(1 + resamples, c)``.
        windows: Number of windows that have a value, ``(c,)``.
        groups: Number of persons or records that they come from, ``(c,)``.
    """

    values: FloatArray
    windows: NDArray[np.int64]
    groups: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found on one test set.

    Args:
        ladder: Networks and windows.
        means: A row per measure, part, class, wave and depth: mean over seeds, interval, counts,
            what the reference found.
        networks: The same of each network: depth, seed, value.
        trends: A row per measure, part, class and wave: Spearman's rho with the depth.
        tradeoffs: A row per branch: rho over depths between its specificity and its accuracy.
    """

    ladder: Ladder
    means: pd.DataFrame
    networks: pd.DataFrame
    trends: pd.DataFrame
    tradeoffs: pd.DataFrame


def analyse(
    ladder: Ladder,
    resamples: int,
    permutations: int,
    seed: int,
    reference: Reference | None = None,
) -> Analysis:
    """Returns means, intervals and trends of all measures.

    Args:
        ladder: Networks and windows.
        resamples: Number of resamples of the bootstrap.
        permutations: Number of permutations of a test that has more.
        seed: Random seed of both.
        reference: What others found.
    """
    draws = _Draws(ladder, resamples, seed)
    known = _known(reference, ladder.test_set)
    found = dict(_measures(ladder, draws))
    means, networks, trends, tradeoffs = [], [], [], []
    depths = ladder.cells["depth"].to_numpy(float)
    for key, measure in found.items():
        named = {"test_set": ladder.test_set} | dict(zip(KEY, key, strict=True))
        means.append(_means(measure, ladder).assign(**named, known=known.get(key, np.nan)))
        networks.append(ladder.cells.assign(**named, value=measure.values[0]))
        x = np.broadcast_to(depths, measure.values.shape)
        trends.append(named | _trend(x, measure.values, draws, permutations))
        if key == (SPECIFICITY, branch := key[1], TRADED_CLASS, ""):
            accuracy = found["accuracy", branch, "", ""].values
            tradeoffs.append(named | _trend(accuracy, measure.values, draws, permutations))
    frames = pd.concat(means, ignore_index=True), pd.concat(networks, ignore_index=True)
    return Analysis(ladder, *frames, pd.DataFrame(trends), pd.DataFrame(tradeoffs))


def _known(reference: Reference | None, test_set: str) -> dict[Key, float]:
    if reference is None or reference.test_set != test_set:
        return {}
    metrics = {"accuracy": reference.accuracy, "f1": reference.f1}
    known: dict[Key, float] = {
        (metric, part, "", ""): value
        for metric, values in metrics.items()
        for part, value in values.items()
    }
    for branch, classes in reference.enrichment.items():
        for rhythm, waves in classes.items():
            known |= {("enrichment", branch, rhythm, wave): v for wave, v in waves.items()}
            if branch in OWN_WAVE and {"P", "QRS"} <= waves.keys():
                specificity = domain_specificity(waves["P"], waves["QRS"], branch)
                known[SPECIFICITY, branch, rhythm, ""] = float(specificity)
    return known


class _Draws:
    """How often each group and each seed counts: first as they are, then resampled.

    A single group leaves nothing to resample: what is computed of it is NaN.
    """

    def __init__(self, ladder: Ladder, resamples: int, seed: int) -> None:
        self.ladder, self.seed = ladder, seed
        self.codes, names = pd.factorize(ladder.windows["group"], sort=True)
        sizes, seeds = (len(names), len(ladder.seeds)), np.random.SeedSequence(seed)
        self.groups, self.seeds = (
            np.concatenate([np.ones((1, n)), group_weights(np.arange(n), resamples, int(one))])
            for n, one in zip(sizes, seeds.generate_state(2), strict=True)
        )
        if len(names) < 2:
            self.groups[1:] = np.nan

    def per_group(self, values: ArrayLike) -> FloatArray:
        """Sum of ``(c, n)`` over the windows of each group, ``(c, groups)``; NaN counts nothing."""
        rows = np.nan_to_num(np.asarray(values, dtype=np.float64))
        return np.stack([np.bincount(self.codes, row, self.groups.shape[1]) for row in rows])

    def sums(self, values: ArrayLike) -> FloatArray:
        """Sum of ``(c, n)`` over windows, ``(1 + resamples, c)``."""
        sums: FloatArray = self.groups @ self.per_group(values).T
        return sums

    def auroc(self, p_af: FloatArray) -> FloatArray:
        """AUROC of each network ``(c, n)``, ``(1 + resamples, c)``."""
        areas = np.empty((len(self.groups), len(p_af)))
        for cell, row in enumerate(p_af):
            order = np.argsort(-row, kind="stable")
            curves = ranked(row[order], self.ladder.af[order].astype(np.float64))
            for start in range(0, len(areas), _CHUNK):
                weights = self.groups[start : start + _CHUNK, self.codes[order]]
                areas[start : start + _CHUNK, cell] = curves(weights)["auroc"]
        return areas


def _measures(ladder: Ladder, draws: _Draws) -> Iterator[tuple[Key, Measure]]:
    af, networks = ladder.af, len(ladder.cells)
    counts = np.full(networks, af.size), np.full(networks, draws.groups.shape[1])
    for part in (*ladder.branches, FUSED):
        called = ladder.p_af(part) > 0.5
        true, wrong = draws.sums(called & af), draws.sums(called ^ af)
        accuracy = 1 - divide(wrong, draws.sums(np.ones_like(called)))
        yield ("accuracy", part, "", ""), Measure(accuracy, *counts)
        yield ("f1", part, "", ""), Measure(divide(2 * true, 2 * true + wrong), *counts)
        yield ("auroc", part, "", ""), Measure(draws.auroc(ladder.p_af(part)), *counts)
    for branch, (code, rhythm) in product(ladder.branches, enumerate(CLASSES)):
        chosen = ladder.right(branch) & (af == bool(code))
        found: dict[str, Measure] = {}
        for measure, wave, column in _statistics(ladder, branch):
            values = np.where(chosen, ladder.columns[column], np.nan)
            known = ~np.isnan(values)
            means = divide(draws.sums(values), draws.sums(known))
            groups = (draws.per_group(known) > 0).sum(axis=1)
            found[wave] = Measure(means, known.sum(axis=1), groups)
            yield (measure, branch, rhythm, wave), found[wave]
        if branch in OWN_WAVE and "P" in found:  # another branch has no wave of its own
            p, qrs = found["P"], found["QRS"]
            values = domain_specificity(p.values, qrs.values, branch)
            yield (SPECIFICITY, branch, rhythm, ""), p._replace(values=values)


def _statistics(ladder: Ladder, branch: str) -> list[tuple[str, str, str]]:
    """Measure, wave and column of each relevance statistic of a branch, enrichments first."""
    waves = {f"{branch}_{enrichment_column(wave)}": wave for wave in WAVES}
    found = [("enrichment", wave, column) for column, wave in waves.items()]
    others = [name for name in ladder.columns if name.startswith(f"{branch}_")]
    found += [(name.removeprefix(f"{branch}_"), "", name) for name in others if name not in waves]
    return [row for row in found if row[2] in ladder.columns]


def _over_seeds(
    values: FloatArray, ladder: Ladder, depths: list[int], seed_weights: FloatArray | None = None
) -> FloatArray:
    """Mean of ``(r, c)`` over seeds, ``(r, depths)``; seeds count by ``(r, seeds)``, or once."""
    cells = ladder.cells
    at_depth = (cells["depth"].to_numpy()[:, None] == np.array(depths)).astype(np.float64)
    weights = (~np.isnan(values)).astype(np.float64)
    if seed_weights is not None:
        weights *= seed_weights[:, np.searchsorted(ladder.seeds, cells["seed"])]
    return divide((np.nan_to_num(values) * weights) @ at_depth, weights @ at_depth)


def _means(measure: Measure, ladder: Ladder) -> pd.DataFrame:
    """A row per depth, from scratch first."""
    networks = ladder.cells.assign(value=measure.values[0], windows=measure.windows)
    rows = networks.assign(groups=measure.groups).groupby("depth", as_index=False)
    means = _over_seeds(measure.values, ladder, ladder.depths)
    ends = [percentile_interval(column, 0.95) for column in means[1:].T]
    return rows.agg(
        seeds=("value", "size"),
        seed_sd=("value", "std"),
        fewest_windows=("windows", "min"),
        most_windows=("windows", "max"),
        fewest_groups=("groups", "min"),
    ).assign(value=means[0], low=[low for low, _ in ends], high=[high for _, high in ends])


def _trend(x: FloatArray, y: FloatArray, draws: _Draws, permutations: int) -> dict[str, Any]:
    """Spearman's rho over rungs between means over seeds of two measures, ``(1 + resamples, c)``.

    In its interval persons or records and, independently, seeds are resampled. Its p is that of
    the two-sided permutation test of the means.
    """
    ladder, cells = draws.ladder, draws.ladder.cells
    depths = [depth for depth in ladder.depths if depth != SCRATCH]
    known = _over_seeds(x[:1], ladder, depths) + _over_seeds(y[:1], ladder, depths)
    rungs = np.array(depths)[np.isfinite(known[0])].tolist()
    means, others = (_over_seeds(one, ladder, rungs, draws.seeds) for one in (y, x))
    rho = _rho(others, means)
    low, high = percentile_interval(rho[1:], 0.95)
    row = {"rho": rho[0], "low": low, "high": high, "p": np.nan, "permutations": 0, "exact": False}
    if not np.isnan(rho[0]):
        test = permutation_test(
            (means[0],),
            lambda shuffled, axis: np.abs(_rho(others[0], shuffled)),  # noqa: ARG005
            permutation_type="pairings",
            alternative="greater",
            vectorized=True,
            n_resamples=permutations,
            random_state=np.random.default_rng(draws.seed),
        )
        n = factorial(len(rungs))
        row |= {"p": test.pvalue, "permutations": min(n, permutations), "exact": n <= permutations}
    of_rungs = (cells["depth"].isin(rungs) & np.isfinite(x[0] + y[0])).to_numpy()
    of_seeds = [of_rungs & (cells["seed"] == seed).to_numpy() for seed in ladder.seeds]
    seed_rhos = pd.Series([float(_rho(x[0, one], y[0, one])) for one in of_seeds]).dropna()
    row |= {"depths": len(rungs), "lowest_seed_rho": seed_rhos.min()}
    return row | {"seed_rhos": seed_rhos.tolist(), "ends": means[0, [0, -1]] if rungs else []}


def _rho(x: FloatArray, y: FloatArray) -> FloatArray:
    """Spearman's rho along the last axis; NaN where a row is constant, holds a NaN or is short."""
    if x.shape[-1] < _FEWEST_DEPTHS:
        return np.full(x.shape[:-1], np.nan)
    ranks: list[FloatArray] = [rankdata(values, axis=-1) for values in (x, y)]
    a, b = (rank - rank.mean(axis=-1, keepdims=True) for rank in ranks)
    return divide((a * b).sum(axis=-1), np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1)))

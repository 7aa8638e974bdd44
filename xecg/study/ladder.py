"""What the networks of several frozen depths say of the same windows, in numbers.

Each number is computed for each network and averaged over seeds. Its interval is of the cluster
bootstrap over persons (Davison and Hinkley 1997, section 3.8), with the same resamples for every
network, so that what they have in common (hard records) drops out of trends.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from math import factorial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import permutation_test

from xecg.errors import ConfigError, DataError
from xecg.explain.effects import TITLES, agreement
from xecg.explain.relevance import CLASSES, OWN_WAVE, WAVES, domain_specificity, enrichment_column
from xecg.files import REPORT, SUMS, check_sums, read_settings
from xecg.metrics.bootstrap import (
    FloatArray,
    divide,
    group_weights,
    percentile_interval,
    row_correlation,
)
from xecg.metrics.classification import ranked
from xecg.networks.xecgarch import FUSED
from xecg.study.run import Reference

SCRATCH = -1  # depth of training from random weights, which is no rung of the ladder
METRICS = {"accuracy": "accuracy", "f1": "F1 (AF)", "auroc": "AUROC"}
SPECIFICITY, AGREEMENT = "domain specificity", "agreement"
EFFECTS = ("effect", "flips")  # measures of what a branch uses, by change
KEY = ["measure", "part", "class", "wave"]
_BRANCH_OF = {"PWaveDetection": "morphology", "RRVariability": "rhythm"}
_NAMES = ["record", "group", "lead"]
_PLACE = [*_NAMES, "start_s", "af"]
_FEWEST_DEPTHS = 3
_CHUNK = 64  # resamples for which every window has its weight in memory

Key = tuple[str, str, str, str]


@dataclass(eq=False)
class Ladder:
    """What ``c`` networks say of the same ``n`` windows of a test set."""

    test_set: str
    cells: pd.DataFrame  # a row per network: folder, depth, seed
    windows: pd.DataFrame  # a row per window: record, group, lead, start_s, af
    columns: Mapping[str, FloatArray]  # further columns of the tables of windows, (c, n)

    def __post_init__(self) -> None:
        self.af: NDArray[np.bool_] = self.windows["af"].to_numpy() == 1
        self.branches = [name[5:] for name in self.columns if name.startswith("p_af_")]
        self.depths: list[int] = sorted(self.cells["depth"].unique().tolist())  # from scratch on
        self.seeds: list[int] = sorted(self.cells["seed"].unique().tolist())

    @property
    def title(self) -> str:
        """Test set, number of windows and groups, seeds: what a figure or a table is of."""
        windows = f"{self.af.size:,} windows ({self.af.sum():,} AF)"
        groups = f"{self.windows['group'].nunique():,} persons or records"
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) > 1)} ({str(self.seeds)[1:-1]})"
        return f"{self.test_set}: {windows} of {groups}; {seeds}"

    def p_af(self, part: str) -> FloatArray:
        """P(AF) by a branch or fused, ``(c, n)``."""
        return self.columns["p_af" if part == FUSED else f"p_af_{part}"]

    def right(self, part: str) -> NDArray[np.bool_]:
        """Where the more probable class is the true one, ``(c, n)``."""
        return np.asarray((self.p_af(part) > 0.5) == self.af)


def read_runs(folder: Path) -> tuple[pd.DataFrame, list[str]]:
    """Returns the finished runs of a folder, and a sentence for each that was left out.

    A row per run: ``folder``, ``branch`` (empty in fine-tuning), ``depth``, ``seed``, as its
    ``config.yaml`` says: a pre-training by its task, a depth by ``freezing.frozen_layers``,
    training from scratch by branches without weights. Raises DataError if there is no run, two have
    the same depth and seed, or a run's files have changed.
    """
    names = product(("*", "*/*"), ("config.yaml", REPORT))
    there = sorted({path.parent for name in names for path in folder.glob("/".join(name))})
    done = [run for run in there if (run / REPORT).exists() or (run / SUMS).exists()]
    runs = pd.DataFrame([_run(run) for run in done if run.parent.name != "work"])
    if runs.empty:
        wanted = f"a study or runs of xecg fit that are finished, with their {REPORT}"
        raise DataError(f"{folder}: expected {wanted}, found none; name another folder")
    key = ["branch", "depth", "seed"]
    rungs = runs["depth"].map(lambda depth: isinstance(depth, int))
    left_out = [f"{run} has a schedule of frozen blocks" for run in runs["folder"][~rungs]]
    runs = runs[rungs].astype({"depth": int}).sort_values(key)
    for run in runs["folder"][runs.duplicated(key)]:
        raise DataError(f"{run}: expected a run for each depth and seed, found two; move one away")
    return runs, left_out


def _run(run: Path) -> dict[str, Any]:
    check_sums(run)
    path = run / "config.yaml"
    try:
        config = read_settings(path)
        task, given = config["model"]["class_path"].rpartition(".")[2], config["model"]["init_args"]
        depth = config["freezing"]["frozen_layers"]
        return {
            "folder": run,
            "branch": _BRANCH_OF.get(task, "" if "branches" in given else task),
            "depth": depth if given.get("pretrained") else SCRATCH,
            "seed": int(config["seed_everything"]),
        }
    except (ConfigError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: expected the config of a run of xecg fit ({error!r})") from error


def read_ladders(runs: pd.DataFrame) -> Iterator[Ladder]:
    """Yields the fine-tuned networks of each test set.

    Raises DataError if there is no table of windows, or one cannot be used or is of others.
    """
    tuned = runs[runs["branch"] == ""]
    found = [path for run in tuned["folder"] for path in sorted(run.glob("windows/*.csv"))]
    if not found:
        raise DataError("no run is fine-tuned and has a table of windows: nothing to report")
    for name in dict.fromkeys(path.stem for path in found):
        tables = {path: _windows(path) for path in found if path.stem == name}
        (at, first), *_ = tables.items()
        for path, table in tables.items():
            if [*table] != [*first] or not table[_PLACE].equals(first[_PLACE]):
                wanted = f"the windows, groups, labels and columns of {at}, to compare networks"
                raise DataError(f"{path}: expected {wanted}; found others: run one of them again")
        cells = tuned[tuned["folder"].isin([path.parents[1] for path in tables])]
        others = first.columns.drop(_PLACE)
        columns = {key: np.stack([table[key] for table in tables.values()]) for key in others}
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
    """One number of each network."""

    values: FloatArray  # as they are, then under each resample, (1 + resamples, c)
    windows: NDArray[np.int64]  # number of windows that have a value, (c,)
    groups: NDArray[np.int64]  # number of persons or records that they come from, (c,)


@dataclass(frozen=True, eq=False)
class Analysis:
    """What was found on one test set: tables with a row per measure, part, class and wave."""

    ladder: Ladder
    means: pd.DataFrame  # over seeds at each depth: value, interval, counts, reference ("known")
    networks: pd.DataFrame  # value of each network
    trends: pd.DataFrame  # Spearman's rho with the depth


def analyse(
    ladder: Ladder, resamples: int, permutations: int, seed: int, reference: Reference | None = None
) -> Analysis:
    """Returns means, intervals and trends of all measures.

    ``resamples`` are of the bootstrap, ``permutations`` of a test that has more; ``seed`` is that
    of both, ``reference`` what others found.
    """
    draws = _Draws(ladder, resamples, seed)
    known = _known(reference) if reference and reference.test_set == ladder.test_set else {}
    means, networks, trends = [], [], []
    for key, measure in _measures(ladder, draws):
        named = {"test_set": ladder.test_set} | dict(zip(KEY, key, strict=True))
        means.append(_means(measure, ladder).assign(**named, known=known.get(key, np.nan)))
        networks.append(ladder.cells.assign(**named, value=measure.values[0]))
        trends.append(named | _trend(measure.values, draws, permutations))
    frames = pd.concat(means, ignore_index=True), pd.concat(networks, ignore_index=True)
    return Analysis(ladder, *frames, pd.DataFrame(trends))


def select(frame: pd.DataFrame, *key: str) -> pd.DataFrame:
    """Returns the rows of a measure, part, class and wave."""
    chosen: pd.DataFrame = frame[(frame[KEY] == list(key)).all(axis=1)]
    return chosen


def _known(reference: Reference) -> dict[Key, float]:
    known = {("accuracy", part, "", ""): value for part, value in reference.accuracy.items()}
    known |= {("f1", part, "", ""): value for part, value in reference.f1.items()}
    for branch, classes in reference.enrichment.items():
        for rhythm, waves in classes.items():
            known |= {("enrichment", branch, rhythm, wave): waves[wave] for wave in waves}
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

    def mean(self, values: NDArray[Any], weights: ArrayLike = 1.0) -> Measure:
        """Sum of ``(c, n)`` over windows divided by that of their weights; NaN counts nothing."""
        known = ~np.isnan(values)
        sums, total, counts = (
            np.stack([np.bincount(self.codes, row, self.groups.shape[1]) for row in rows])
            for rows in (np.nan_to_num(values), known * np.asarray(weights), known)
        )
        means = divide(self.groups @ sums.T, self.groups @ total.T)
        return Measure(means, known.sum(axis=1), (counts > 0).sum(axis=1))

    def of_weights(self, statistics: list[Callable[[FloatArray], FloatArray]]) -> FloatArray:
        """Statistics of the weights of windows, one of each network, ``(1 + resamples, c)``."""
        values = np.empty((len(self.groups), len(statistics)))
        for start in range(0, len(values), _CHUNK):
            weights = self.groups[start : start + _CHUNK, self.codes]
            for cell, statistic in enumerate(statistics):
                values[start : start + _CHUNK, cell] = statistic(weights)
        return values

    def auroc(self, p_af: FloatArray) -> Callable[[FloatArray], FloatArray]:
        """AUROC of one network ``(n,)`` as a function of the weights of windows."""
        order = np.argsort(-p_af, kind="stable")
        curves = ranked(p_af[order], self.ladder.af[order].astype(np.float64))
        return lambda weights: curves(weights[:, order])["auroc"]


def _measures(ladder: Ladder, draws: _Draws) -> Iterator[tuple[Key, Measure]]:
    af = ladder.af
    for part in (*ladder.branches, FUSED):
        right, true = ladder.right(part), 2.0 * ((ladder.p_af(part) > 0.5) & af)
        accuracy = draws.mean(right * 1.0)
        yield ("accuracy", part, "", ""), accuracy
        yield ("f1", part, "", ""), draws.mean(true, true + ~right)
        areas = draws.of_weights([draws.auroc(p_af) for p_af in ladder.p_af(part)])
        yield ("auroc", part, "", ""), accuracy._replace(values=areas)
    waves = {enrichment_column(wave): ("enrichment", wave) for wave in WAVES}
    waves |= {f"{kind}_{key}": (kind, TITLES[key]) for kind, key in product(EFFECTS, TITLES)}
    for branch, (code, rhythm) in product(ladder.branches, enumerate(CLASSES)):
        chosen = ladder.right(branch) & (af == bool(code))
        prefix = f"{branch}_"
        names = [name[len(prefix) :] for name in ladder.columns if name.startswith(prefix)]
        found: dict[Key, Measure] = {}
        of = {name: np.where(chosen, ladder.columns[prefix + name], np.nan) for name in names}
        for name in sorted(names, key=[*waves, *names].index):
            measure, wave = waves.get(name, (name, ""))
            found[measure, branch, rhythm, wave] = draws.mean(of[name])
        yield from found.items()
        if effects := found.get(("effect", branch, rhythm, "P")):
            tables = [pd.DataFrame({n: of[n][c] for n in names}) for c in range(len(chosen))]
            rhos = draws.of_weights([agreement(table) for table in tables])
            yield (AGREEMENT, branch, rhythm, ""), effects._replace(values=rhos)
        p, qrs = (found.get(("enrichment", branch, rhythm, wave)) for wave in ("P", "QRS"))
        if branch in OWN_WAVE and p and qrs:  # another branch has no wave of its own
            values = domain_specificity(p.values, qrs.values, branch)
            yield (SPECIFICITY, branch, rhythm, ""), p._replace(values=values)


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
    means = _over_seeds(measure.values, ladder, ladder.depths)
    ends = np.array([percentile_interval(column, 0.95) for column in means[1:].T])
    networks = pd.DataFrame(measure._asdict() | {"values": measure.values[0]})
    found = networks.groupby(ladder.cells["depth"]).agg(
        seeds=("values", "size"),
        seed_sd=("values", "std"),
        fewest_windows=("windows", "min"),
        most_windows=("windows", "max"),
        fewest_groups=("groups", "min"),
    )
    return found.assign(value=means[0], low=ends[:, 0], high=ends[:, 1]).reset_index()


def _trend(values: FloatArray, draws: _Draws, permutations: int) -> dict[str, Any]:
    """Spearman's rho over rungs between depth and mean over seeds of ``(1 + resamples, c)``.

    In its interval persons or records and, independently, seeds are resampled. Its p is that of
    the two-sided permutation test of the means.
    """
    ladder, cells = draws.ladder, draws.ladder.cells
    depths = [depth for depth in ladder.depths if depth != SCRATCH]
    known = np.isfinite(_over_seeds(values[:1], ladder, depths)[0])
    rungs = np.array(depths)[known].tolist()
    means = _over_seeds(values, ladder, rungs, draws.seeds)
    rho = _rho(np.array(rungs), means)
    low, high = percentile_interval(rho[1:], 0.95)
    row = {"rho": rho[0], "low": low, "high": high, "p": np.nan, "permutations": 0, "exact": False}
    if not np.isnan(rho[0]):
        test = permutation_test(
            (means[0],),
            lambda shuffled, axis: np.abs(_rho(np.array(rungs), shuffled)),  # noqa: ARG005
            permutation_type="pairings",
            alternative="greater",
            vectorized=True,
            n_resamples=permutations,
            random_state=np.random.default_rng(draws.seed),
        )
        n = factorial(len(rungs))
        row |= {"p": test.pvalue, "permutations": min(n, permutations), "exact": n <= permutations}
    of_rungs = cells[cells["depth"].isin(rungs) & np.isfinite(values[0])]
    of_seeds = of_rungs.groupby("seed")["depth"]
    rhos = [float(_rho(of.to_numpy(), values[0, of.index])) for _, of in of_seeds]
    seed_rhos = pd.Series(rhos, dtype=float).dropna()
    row |= {"depths": len(rungs), "lowest_seed_rho": seed_rhos.min()}
    return row | {"seed_rhos": seed_rhos.tolist(), "ends": means[0, [0, -1]] if rungs else []}


def _rho(depths: NDArray[np.int64], y: FloatArray) -> FloatArray:
    """Spearman's rho of each row of ``y (..., n)`` with depths ``(n,)``.

    NaN where a row is constant, holds a NaN or is short.
    """
    if len(depths) < _FEWEST_DEPTHS:
        return np.full(y.shape[:-1], np.nan)
    return row_correlation(depths.astype(float), y)

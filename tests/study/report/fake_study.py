"""Studies of known truth, without a network: what cells say of windows is drawn, not computed."""

import csv
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from xecg.study.report.settings import ReportSettings

QUICK = ReportSettings(resamples=200, permutations=499)
BRANCHES = ("morphology", "rhythm")
WAVES = ("p", "qrs", "st_t", "other")
Truth = Callable[[int | None, str], float]
"""A number for a depth (None: from scratch) and a branch."""


def rising_p(depth: int | None, branch: str) -> float:
    """Enrichment of P rises with depth in the morphology branch and falls in the other."""
    slope = 0.1 if branch == "morphology" else -0.05
    return 1.0 if depth is None else 1.2 + slope * depth


def falling_qrs(depth: int | None, branch: str) -> float:
    """Enrichment of QRS: the other way round."""
    slope = -0.08 if branch == "morphology" else 0.3
    return 1.2 if depth is None else 1.5 + slope * depth


def accuracy_peaks(depth: int | None, branch: str) -> float:
    """Best with three frozen blocks."""
    return 0.88 if depth is None else 0.95 - 0.01 * abs(depth - 3)


@dataclass(frozen=True)
class FakeStudy:
    """What a study is made to find.

    Args:
        depths: Frozen depths; None is training from scratch.
        seeds: Seeds.
        test_sets: Windows and groups of each test set.
        noise: Standard deviation of log enrichment between windows; between seeds a tenth of it.
    """

    depths: Iterable[int | None] = (None, *range(9))
    seeds: Iterable[int] = (0, 1, 2)
    test_sets: tuple[tuple[str, int, int], ...] = (("xfusemap", 200, 200),)
    enrichment_p: Truth = rising_p
    enrichment_qrs: Truth = falling_qrs
    accuracy: Truth = accuracy_peaks
    noise: float = 0.2

    def write(self, folder: Path) -> Path:
        """Write settings and cells."""
        write_settings(folder, self.depths, self.seeds)
        for branch in BRANCHES:
            cell = folder / "cells" / f"pretrain-{branch}-seed{min(self.seeds)}"
            write_cell(cell, kind="pretrain", branch=branch, seed=min(self.seeds))
            write_metrics(cell, branch)
        for seed in self.seeds:
            for depth in self.depths:
                name = "scratch" if depth is None else f"frozen{depth}"
                cell = folder / "cells" / f"{name}-seed{seed}"
                write_cell(cell, kind="finetune", frozen_layers=depth, seed=seed)
                for test_set in self.test_sets:
                    self._write_windows(cell, depth, seed, *test_set)
        return folder

    def _write_windows(
        self, cell: Path, depth: int | None, seed: int, name: str, n: int, n_groups: int
    ) -> None:
        shared = np.random.default_rng(n)  # windows are the same for every cell
        own = np.random.default_rng([seed, 99 if depth is None else depth, n])
        group = np.sort(np.arange(n) % n_groups)
        af = shared.random(n_groups)[group] < 0.35
        hardness = shared.random((n, len(BRANCHES)))
        columns: dict[str, Iterable[object]] = {
            "row": np.arange(n),
            "record": [f"A{g:05d}" for g in group],
            "group": [f"A{g:05d}" for g in group],
            "start_s": 10.0 * np.arange(n),
            "af": af.astype(int),
            "n_beats": np.full(n, 12),
        }
        heart = shared.normal(0, self.noise, (n, len(BRANCHES), len(WAVES)))
        p_af, enrichment = [], {}
        for b, branch in enumerate(BRANCHES):
            right = 0.8 * hardness[:, b] + 0.2 * own.random(n) < self.accuracy(depth, branch)
            margin = own.beta(4, 1.5, n) / 2
            p_af.append(np.where(right == af, 0.5 + margin, 0.5 - margin))
            means = [self.enrichment_p(depth, branch), self.enrichment_qrs(depth, branch), 0.6, 0.9]
            drawn = np.exp(heart[:, b] + own.normal(0, self.noise / 3, (n, len(WAVES))))
            drawn *= np.exp(own.normal(0, self.noise / 20, len(WAVES)))
            for wave, mean, values in zip(WAVES, means, drawn.T, strict=True):
                values = mean * values / np.exp(self.noise**2 / 2)
                enrichment[f"{branch}_enrichment_{wave}"] = np.where(
                    hardness[:, b] < 0.02, np.nan, values
                )
        columns["p_af"] = (p_af[0] + p_af[1]) / 2
        columns |= {f"p_af_{branch}": p for branch, p in zip(BRANCHES, p_af, strict=True)}
        write_columns(cell / "windows" / f"{name}.csv", columns | enrichment)


def write_settings(folder: Path, depths: Iterable[int | None], seeds: Iterable[int]) -> None:
    """A study's own ``study.yaml`` with the config that it names."""
    depths = list(depths)
    fit = {"configs": ["configs/fit.yaml"], "arguments": {}}
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "fit.yaml").write_text("seed_everything: 0\n")
    settings = {
        "folder": ".",
        "seeds": list(seeds),
        "frozen_layers": [depth for depth in depths if depth is not None],
        "scratch": None in depths,
        "pretraining": dict.fromkeys(BRANCHES, fit),
        "finetuning": fit,
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))


def write_cell(
    cell: Path,
    *,
    kind: str,
    seed: int,
    branch: str | None = None,
    frozen_layers: int | None = None,
) -> None:
    """A finished cell's ``cell.yaml``."""
    cell.mkdir(parents=True)
    facts = {"kind": kind, "branch": branch, "frozen_layers": frozen_layers, "seed": seed}
    (cell / "cell.yaml").write_text(yaml.safe_dump({**facts, "seconds": 1.0}))


def write_metrics(cell: Path, branch: str) -> None:
    """A pre-training's ``test_metrics.csv``."""
    metric = "f1_150ms" if branch == "morphology" else "mae_rmssd_ms"
    lines = ["test_set,part,metric,value,low,high,n,n_groups"]
    lines += [f"ludb,{branch},{metric},0.98,0.95,0.99,29,29", ""]
    (cell / "test_metrics.csv").write_text("\n".join(lines))


def write_columns(path: Path, columns: dict[str, Iterable[object]]) -> None:
    """A table with the given columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(columns)
        table.writerows(zip(*columns.values(), strict=True))

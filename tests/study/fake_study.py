"""Studies of known truth, without a network: what runs say of windows is drawn, not computed."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from xecg.files import write_sums

CONFIGS = Path(__file__).parents[2] / "configs"
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
        test_sets: Name, windows and groups of each test set.
        agreement: What the branches use: 1 what is relevant, -1 the opposite.
        noise: Standard deviation of log enrichment between windows; between seeds a tenth of it.
    """

    depths: Iterable[int | None] = (None, *range(9))
    seeds: Iterable[int] = (0, 1, 2)
    test_sets: tuple[tuple[str, int, int], ...] = (("xfusemap", 200, 200),)
    enrichment_p: Truth = rising_p
    enrichment_qrs: Truth = falling_qrs
    accuracy: Truth = accuracy_peaks
    agreement: Truth = lambda depth, branch: 1.0 if branch == "morphology" else -1.0
    noise: float = 0.2

    def write(self, folder: Path) -> Path:
        """Writes settings and cells."""
        folder.mkdir(parents=True)
        write_settings(folder, self.depths, self.seeds)
        for branch, task in zip(BRANCHES, ("PWaveDetection", "RRVariability"), strict=True):
            cell = folder / "cells" / f"pretrain-{branch}-seed{min(self.seeds)}"
            write_run(cell, task, min(self.seeds))
        for seed in self.seeds:
            for depth in self.depths:
                name = "scratch" if depth is None else f"frozen{depth}"
                cell = folder / "cells" / f"{name}-seed{seed}"
                write_run(cell, "AFClassifier", seed, depth)
                (cell / "windows").mkdir()
                for test_set in self.test_sets:
                    table = self._windows(depth, seed, *test_set[1:])
                    table.to_csv(cell / "windows" / f"{test_set[0]}.csv", index=False)
                write_sums(cell)
        return folder

    def _windows(self, depth: int | None, seed: int, n: int, n_groups: int) -> pd.DataFrame:
        shared = np.random.default_rng(n)  # windows are the same for every cell
        own = np.random.default_rng([seed, 99 if depth is None else depth, n])
        group = np.sort(np.arange(n) % n_groups)
        af = shared.random(n_groups)[group] < 0.35
        hardness = shared.random((n, len(BRANCHES)))
        columns = {
            "record": [f"A{g:05d}" for g in group],
            "group": [f"A{g:05d}" for g in group],
            "lead": ["I"] * n,
            "start_s": 10.0 * np.arange(n),
            "af": af.astype(int),
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
                values = np.where(hardness[:, b] < 0.02, np.nan, values)
                enrichment[f"{branch}_enrichment_{wave}"] = values
                effect = self.agreement(depth, branch) * values
                enrichment[f"{branch}_effect_{wave}"] = effect
                flips = np.where(np.isnan(effect), np.nan, effect > 1.0)
                enrichment[f"{branch}_flips_{wave}"] = flips
            enrichment[f"{branch}_effect_rr"] = effect
        columns["p_af"] = (p_af[0] + p_af[1]) / 2
        columns |= {f"p_af_{branch}": p for branch, p in zip(BRANCHES, p_af, strict=True)}
        return pd.DataFrame(columns | enrichment)


def write_settings(folder: Path, depths: Iterable[int | None], seeds: Iterable[int]) -> None:
    """A study's own ``study.yaml``, with the reference values of ``configs/study.yaml``."""
    fit = {"configs": ["fit.yaml"]}
    settings = {
        "folder": "ladder",
        "seeds": list(seeds),
        "frozen_layers": [depth for depth in depths if depth is not None],
        "scratch": None in depths,
        "pretraining": dict.fromkeys(BRANCHES, fit),
        "finetuning": fit,
        "reference": yaml.safe_load((CONFIGS / "study.yaml").read_text())["reference"],
    }
    (folder / "study.yaml").write_text(yaml.safe_dump(settings))
    write_sums(folder)


def write_run(run: Path, task: str, seed: int, depth: int | None = None) -> None:
    """What a run of ``xecg fit`` says of itself, and of its test if it is a pre-training."""
    run.mkdir(parents=True)
    model = {"class_path": f"xecg.tasks.{task}", "init_args": {"channels": 32}}
    if task == "AFClassifier":
        weights = None if depth is None else dict.fromkeys(BRANCHES, "some.safetensors")
        model["init_args"] |= {"branches": list(BRANCHES), "pretrained": weights}
    config = {"model": model, "seed_everything": seed, "freezing": {"frozen_layers": depth or 0}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    lines = ["test_set,part,metric,value,low,high,n,n_groups"]
    lines += ["ludb,morphology,f1_150ms,0.98,0.95,0.99,29,29", ""]
    (run / "test_metrics.csv").write_text("\n".join(lines))
    write_sums(run)

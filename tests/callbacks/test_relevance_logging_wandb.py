"""What an offline W&B run has in the end: read back from the file that it wrote."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from small_task import Data, able_task, fit
from test_relevance_logging import NAMES, Losses, rows_with
from wandb_file import read_history

from xecg.callbacks import RelevanceLogger
from xecg.explain.relevance import CLASSES

EPOCHS, STEPS = 4, 4  # steps an epoch
HISTOGRAMS = {f"{name}_histogram" for name in NAMES if "enrichment" in name}


class RandomStates(Callback):
    """Whether validation left the random state of torch alone."""

    def on_validation_start(self, trainer, pl_module):
        self.before = torch.get_rng_state()

    def on_validation_end(self, trainer, pl_module):
        assert torch.equal(self.before, torch.get_rng_state())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder and losses of a run that was logged offline."""
    import wandb

    folder, losses = tmp_path_factory.mktemp("run"), Losses()
    loggers = [
        CSVLogger(folder, name="", version=""),
        WandbLogger(project="xecg", save_dir=folder, offline=True),
    ]
    callback = RelevanceLogger(n_windows=8, n_pictures=2, show_every_n_epochs=2)
    task, data = able_task(), Data(shuffle=True)
    fit(callback, losses, RandomStates(), epochs=EPOCHS, task=task, data=data, logger=loggers)
    wandb.finish()
    return folder, losses.values


@pytest.fixture(scope="module")
def history(run):
    (path,) = run[0].glob("wandb/offline-run-*/*.wandb")
    return read_history(path)


def test_every_name_is_there_for_every_epoch(history):
    for name in NAMES:
        assert [row["epoch"] for row in history if name in row] == list(range(EPOCHS)), name
    for name in HISTOGRAMS:
        steps = [record["trainer/global_step"] for record in history if name in record]
        assert steps == [STEPS * (epoch + 1) for epoch in range(EPOCHS)], name
    for name in ("relevance/windows", "relevance/ecgs"):
        steps = [record["trainer/global_step"] for record in history if name in record]
        assert steps == [STEPS, 3 * STEPS, 4 * STEPS]
    assert {name for record in history for name in record if "relevance" in name} == {
        *NAMES, *HISTOGRAMS, "relevance/windows", "relevance/ecgs"
    }  # fmt: skip


def test_all_loggers_have_the_same_numbers(run, history):
    for name in NAMES:
        by_csv = [float(row[name]) for row in rows_with(name, run[0])]
        by_wandb = [float(record[name]) for record in history if name in record]
        assert np.array_equal(by_csv, by_wandb, equal_nan=True)


def test_histograms_are_of_the_windows_that_the_means_are_over(history):
    for name in NAMES:
        if name.endswith("/n"):
            histogram = name.removesuffix("n") + "enrichment_qrs_histogram"
            counts = [record[name] for record in history if name in record]
            binned = [record[histogram]["values"] for record in history if histogram in record]
            assert [sum(values) for values in binned] == counts


def test_the_table_has_a_row_for_each_window(run, history):
    (folder,) = (run[0] / "wandb").glob("offline-run-*/files")
    tables = [record["relevance/windows"] for record in history if "relevance/windows" in record]
    table = json.loads((folder / tables[-1]["path"]).read_text())
    columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    assert len(table["data"]) == 8
    assert sorted(columns["class"]) == ["AF"] * 4 + ["non-AF"] * 4
    assert columns["record"][0].startswith("record")
    for branch in ("morphology", "rhythm"):
        assert set(columns[f"{branch}_predicted"]) <= set(CLASSES)
        qrs = np.array(columns[f"{branch}_enrichment_qrs"], dtype=float)
        chosen = np.equal(columns["class"], "AF") & np.equal(columns[f"{branch}_predicted"], "AF")
        logged = [r[f"relevance/{branch}/af/enrichment_qrs"] for r in history if "epoch" in r
                  and f"relevance/{branch}/af/enrichment_qrs" in r]  # fmt: skip
        assert logged[-1] == pytest.approx(qrs[chosen].mean(), rel=1e-6)


def test_the_picture_shows_ecgs_of_both_classes(run, history):
    (folder,) = (run[0] / "wandb").glob("offline-run-*/files")
    first, _, second = (row["relevance/ecgs"] for row in history if "relevance/ecgs" in row)
    for one in (first, second):
        ecgs = r"record\d+ labelled {}, p\(AF\) by morphology [01]\.\d\d, rhythm [01]\.\d\d"
        assert re.fullmatch("; ".join(ecgs.format(label) for label in CLASSES), one["caption"])
    before, after = (np.asarray(Image.open(folder / one["path"])) for one in (first, second))
    assert before.shape == after.shape == (first["height"], first["width"], 3)
    changed = (before != after).any(axis=2).mean()
    assert 0 < changed < 0.1  # the relevance and what is predicted, not the ECGs


def test_logging_leaves_the_training_alone(run):
    losses = Losses()
    fit(losses, epochs=EPOCHS, task=able_task(), data=Data(shuffle=True))
    assert losses.values == run[1]


def test_without_a_wandb_logger_wandb_is_not_touched(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would raise
    fit(RelevanceLogger(n_windows=8), epochs=1, task=able_task())

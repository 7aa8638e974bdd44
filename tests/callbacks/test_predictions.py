from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from lightning import Trainer
from small_task import QUIET, able_task

from xecg.callbacks.predictions import WindowTables
from xecg.data import AFData
from xecg.errors import ConfigError
from xecg.networks.xecgarch import probabilities
from xecg.tasks import AFClassifier

WAVES = [f"enrichment_{wave}" for wave in ("p", "qrs", "st_t", "other")]


@pytest.fixture
def run(synthetic_store, tmp_path):
    """Tests a network on a part of the synthetic store; returns its table of windows."""

    def tested(task, **settings):
        trainer = Trainer(
            **QUIET, logger=False, default_root_dir=tmp_path, callbacks=[WindowTables(**settings)]
        )
        data = AFData(str(synthetic_store.path))
        trainer.test(task, data, verbose=False)
        return pd.read_csv(tmp_path / "windows" / f"{synthetic_store.path.name}.csv"), data

    return tested


def test_a_test_leaves_a_row_per_window_that_says_what_the_network_says(run):
    task = able_task()
    table, data = run(task, explain=None)
    (test_set,) = data.test_sets
    assert len(table) == len(test_set)
    for name in ("record", "group", "lead", "start_s"):
        assert table[name].tolist() == test_set.column(name).tolist()
    assert table["af"].tolist() == test_set.targets().tolist()
    with torch.no_grad():
        logits = task.eval()(test_set.__getitems__(range(len(test_set))).signal)
    np.testing.assert_allclose(table["p_af"], probabilities(logits)["fused"], atol=1e-5)
    for branch, z in logits.items():
        np.testing.assert_allclose(table[f"p_af_{branch}"], z.softmax(1)[:, 1], atol=1e-5)
        assert (table[f"{branch}_enrichment_qrs"].dropna() >= 0).all()
        assert {f"{branch}_{name}" for name in WAVES} <= {*table}
        assert table[f"{branch}_effect_qrs"].notna().equals(table[f"{branch}_conservation"].notna())


def test_the_same_windows_of_every_network_are_explained(run):
    first, _ = run(able_task(), explain=5)
    torch.manual_seed(7)
    second, _ = run(AFClassifier(channels=6), explain=5)
    everything, _ = run(able_task(), explain=None)
    explained = first["rhythm_enrichment_qrs"].notna()
    assert 0 < explained.sum() <= 5
    pd.testing.assert_frame_equal(first[explained], everything[explained], check_dtype=False)
    assert not (second["rhythm_enrichment_qrs"].notna() & ~explained).any()
    assert second["p_af"].notna().all()


def test_nothing_is_explained_unasked(run):
    table, _ = run(able_task())
    assert [*table] == [
        *("record", "group", "lead", "start_s"),
        *("p_af_morphology", "p_af_rhythm", "p_af", "af"),
    ]


@pytest.mark.parametrize(
    ("task", "settings", "named"),
    [
        (AFClassifier(channels=4), {"explain": 3, "sets": ["mitdb"]}, "mitdb"),
        (AFClassifier(channels=4), {"explain": 3, "attribution": "lrp"}, "lrp"),
    ],
)
def test_what_cannot_be_explained_is_refused_before_the_run(
    task, settings, named, synthetic_store, tmp_path
):
    trainer = Trainer(
        **QUIET, logger=False, default_root_dir=tmp_path, callbacks=[WindowTables(**settings)]
    )
    with pytest.raises(ConfigError, match=named):
        trainer.test(task, AFData(str(synthetic_store.path)), verbose=False)
    assert not (tmp_path / "windows").exists()


def test_several_processes_do_not_write_over_each_other():
    trainer = SimpleNamespace(world_size=2, datamodule=None)
    WindowTables().setup(trainer, AFClassifier(channels=4), "fit")
    with pytest.raises(ConfigError, match="found 2"):
        WindowTables().setup(trainer, AFClassifier(channels=4), "predict")

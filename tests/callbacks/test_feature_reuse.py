"""Reused features change the time of a run, and nothing else."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger

from xecg.callbacks import LayerFreezing, RelevanceLogger
from xecg.callbacks.feature_reuse import PooledFeatures
from xecg.callbacks.freezing import Stage
from xecg.data import AFData
from xecg.tasks import AFClassifier

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:Experiment logs directory"),
]

SCHEDULES = {
    "all frozen": [Stage(0, 8)],
    "one branch frozen": [Stage(0, {"rhythm": 8, "morphology": 2})],
    "trained between": [Stage(0, 8), Stage(1, {"rhythm": 6}), Stage(2, 8)],
}


def new_task(dropout=0.2):
    torch.manual_seed(0)
    return AFClassifier(channels=6, dropout=dropout)


def new_data(store, augmentation=None):
    return AFData(str(store.path), batch_size=16, windows_per_epoch=48, augmentation=augmentation)


def run(store, schedule, reuse, *callbacks, epochs=3, task=None, data=None, ckpt_path=None, **more):
    task, data = task or new_task(), data or new_data(store)
    settings = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "log_every_n_steps": 1,
        "max_epochs": epochs,
    }
    freezing = LayerFreezing(schedule=schedule, reuse_features=reuse)
    trainer = Trainer(callbacks=[freezing, *callbacks], **{**settings, **more})
    torch.manual_seed(0)
    trainer.fit(task, data, ckpt_path=ckpt_path)
    return trainer


def assert_same(one, other):
    weights, others = (trainer.lightning_module.state_dict() for trainer in (one, other))
    assert weights.keys() == others.keys()
    assert all(torch.equal(weights[key], others[key]) for key in weights)
    for name, value in one.callback_metrics.items():
        torch.testing.assert_close(
            value, other.callback_metrics[name], rtol=0, atol=0, equal_nan=True, msg=name
        )


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_run_is_the_same_to_the_bit(schedule, precision, synthetic_store):
    reusing, plain = (
        run(synthetic_store, schedule, reuse, precision=precision, val_check_interval=2)
        for reuse in (True, False)
    )
    assert len(plain.callback_metrics) > 10
    assert_same(reusing, plain)


def test_each_window_goes_through_a_frozen_branch_once(synthetic_store, monkeypatch):
    computed, compute = [], PooledFeatures._compute
    task, data = new_task(), new_data(synthetic_store, AFData().augmentation)

    def watched(features, name, windows):
        computed.extend((features.dataset.name, name, window) for window in windows.tolist())
        return compute(features, name, windows)

    monkeypatch.setattr(PooledFeatures, "_compute", watched)
    run(synthetic_store, SCHEDULES["one branch frozen"], True, epochs=4, task=task, data=data)
    assert {name for _, name, _ in computed} == {"rhythm"}
    assert len(set(computed)) == len(computed)
    assert sum(part == "validation" for part, _, _ in computed) == len(data.validation_set)
    assert sum(part == "train" for part, _, _ in computed) > 0.8 * len(data.train_set)


def test_averaged_weights_and_relevance_are_as_without(synthetic_store):
    def callbacks():
        return [EMAWeightAveraging(decay=0.5, use_buffers=True), RelevanceLogger(n_windows=8)]

    for schedule in (SCHEDULES["all frozen"], SCHEDULES["trained between"]):
        reusing, plain = (
            run(synthetic_store, schedule, reuse, *callbacks()) for reuse in (True, False)
        )
        assert any(name.startswith("relevance/") for name in plain.callback_metrics)
        assert_same(reusing, plain)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_two_epochs_and_one_more_are_three_with_augmentation(schedule, synthetic_store, tmp_path):
    def fit(*callbacks, **options):
        data = new_data(synthetic_store, AFData().augmentation)
        return run(synthetic_store, schedule, True, *callbacks, data=data, **options)

    fit(ModelCheckpoint(tmp_path, filename="two"), epochs=2, task=new_task(dropout=0.0))
    saved = tmp_path / "two.ckpt"
    resumed = fit(ckpt_path=saved, task=new_task(dropout=0.0))
    assert_same(resumed, fit(task=new_task(dropout=0.0)))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_resumed_inside_an_epoch_it_is_the_same_to_the_bit(schedule, synthetic_store, tmp_path):
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    run(synthetic_store, schedule, True, saving, epochs=2)
    reusing, plain = (
        run(synthetic_store, schedule, reuse, ckpt_path=tmp_path / "step=4.ckpt")
        for reuse in (True, False)
    )
    assert_same(reusing, plain)


def test_training_windows_are_augmented_once_each(synthetic_store):
    data = new_data(synthetic_store, AFData().augmentation)
    data.setup("fit")
    network = new_task().network.eval()
    positions = torch.arange(len(data.train_set))
    raw = data.train_set.__getitems__(positions.tolist()).signal
    features = PooledFeatures(network, data.train_set, data)
    features.keep(["rhythm"])
    found = features(positions)["rhythm"]
    with torch.no_grad():
        unchanged = network.pooled("rhythm", raw)
    changed = (found != unchanged).any(dim=1).float().mean()
    assert 0.25 < changed < 0.75  # half of them are to be
    assert torch.equal(features(positions.flip(0))["rhythm"].flip(0), found)
    again = PooledFeatures(network, data.train_set, data)
    again.keep(["rhythm"])
    in_threes = torch.cat([again(some)["rhythm"] for some in positions.flip(0).split(3)])
    assert torch.equal(in_threes.flip(0), found)


def test_features_of_other_weights_are_forgotten(synthetic_store):
    data = new_data(synthetic_store)
    data.setup("fit")
    network = new_task().network.eval()
    features = PooledFeatures(network, data.validation_set, None)
    windows = torch.tensor([3, 1])
    features.keep(["rhythm", "morphology"])
    before = features(windows)
    with torch.no_grad():
        network.branches["rhythm"].block8.norm.running_var.mul_(2)
    features.keep(["rhythm", "morphology"])
    after = features(windows)
    assert torch.equal(before["morphology"], after["morphology"])
    assert not torch.equal(before["rhythm"], after["rhythm"])
    features.keep([])
    assert features(windows) == {}


def test_it_leaves_task_and_data_as_they_were(synthetic_store):
    task, data = new_task(), new_data(synthetic_store, AFData().augmentation)
    run(synthetic_store, SCHEDULES["all frozen"], True, epochs=1, task=task, data=data)
    assert task.known_features is None
    assert data.augments_batches


def test_the_log_says_so_once(synthetic_store, tmp_path, caplog):
    with caplog.at_level("INFO"):
        run(synthetic_store, SCHEDULES["all frozen"], True, logger=CSVLogger(tmp_path))
        said = [record.message for record in caplog.records if "reused" in record.message]
        caplog.clear()
        run(synthetic_store, SCHEDULES["all frozen"], False, epochs=1)
    assert len(said) == 1
    assert "morphology and rhythm" in said[0]
    assert not any("reused" in record.message for record in caplog.records)

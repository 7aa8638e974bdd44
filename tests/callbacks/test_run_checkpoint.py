"""A run that goes on from its last checkpoint ends as if it had never stopped."""

import shutil

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from xecg.callbacks.run_checkpoint import RunCheckpoint

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* is not empty")
LOSSES = [3.0, 1.0, 2.0, 5.0, 4.0, 1.5]  # of validation: the second epoch is the best
EPOCHS = len(LOSSES)


class Drop(LightningModule):
    """A task with dropout and a learning rate that falls."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(3, 8), nn.Dropout(0.5), nn.Linear(8, 1))

    def training_step(self, batch, _):
        return self.network(batch[0]).square().mean()

    def validation_step(self, batch, _):
        self.log("validation/loss", LOSSES[self.current_epoch])

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]


class Stop(Callback):
    """Stops within an epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_batch_end(self, trainer, *_):
        if trainer.current_epoch == self.epoch:
            raise RuntimeError("stopped")


def fit(folder, *callbacks, epochs=EPOCHS, ckpt_path=None, save_last=True):
    checkpoint = RunCheckpoint(folder, "best", monitor="validation/loss", save_last=save_last)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        callbacks=[checkpoint, *callbacks],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    windows = TensorDataset(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    loaders = [DataLoader(windows, 4, generator=torch.Generator()) for _ in range(2)]
    trainer.fit(Drop(), *loaders, ckpt_path=ckpt_path)
    return checkpoint


def read(path):
    return torch.load(path, weights_only=True)


def same(one, other):
    states = [read(path)["state_dict"] for path in (one, other)]
    return all(torch.equal(value, states[1][key]) for key, value in states[0].items())


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    fit(folder)
    return folder


@pytest.mark.parametrize("epochs", range(1, EPOCHS))
def test_the_last_checkpoint_is_of_the_last_epoch(tmp_path, epochs):
    fit(tmp_path, epochs=epochs)
    assert {path.name for path in tmp_path.iterdir()} == {"best.ckpt", "last.ckpt"}
    assert read(tmp_path / "last.ckpt")["epoch"] == epochs - 1
    assert read(tmp_path / "best.ckpt")["epoch"] == LOSSES.index(min(LOSSES[:epochs]))


@pytest.mark.parametrize("epochs", range(1, EPOCHS))
def test_a_run_goes_on_in_another_folder_as_if_it_had_never_stopped(tmp_path, whole, epochs):
    fit(tmp_path / "part", epochs=epochs)
    resumed = fit(tmp_path / "rest", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert same(tmp_path / "rest" / "last.ckpt", whole / "last.ckpt")
    assert same(resumed.best_model_path, whole / "best.ckpt")
    assert resumed.best_model_path == str(tmp_path / "rest" / "best.ckpt")
    assert resumed.best_model_score == min(LOSSES)


def test_the_random_state_is_part_of_it(tmp_path, whole, monkeypatch):
    fit(tmp_path / "part", epochs=3)
    monkeypatch.setattr("xecg.callbacks.run_checkpoint._set_random_state", lambda state: None)
    fit(tmp_path / "rest", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert not same(tmp_path / "rest" / "last.ckpt", whole / "last.ckpt")


def test_a_run_that_was_stopped_within_an_epoch_loses_that_epoch_alone(tmp_path, whole, caplog):
    with caplog.at_level("INFO"), pytest.raises(RuntimeError, match="stopped"):
        fit(tmp_path / "part", Stop(epoch=4))
    last = tmp_path / "part" / "last.ckpt"
    assert f"--ckpt_path {last}" in caplog.text
    assert read(last)["epoch"] == 3
    fit(tmp_path / "rest", ckpt_path=last)
    assert same(tmp_path / "rest" / "last.ckpt", whole / "last.ckpt")


def test_a_run_goes_on_in_its_own_folder_and_after_that_was_moved(tmp_path, whole):
    fit(tmp_path / "run", epochs=2)
    fit(tmp_path / "run", epochs=3, ckpt_path=tmp_path / "run" / "last.ckpt")
    shutil.move(tmp_path / "run", tmp_path / "moved")
    fit(tmp_path / "moved", ckpt_path=tmp_path / "moved" / "last.ckpt")
    assert {path.name for path in (tmp_path / "moved").iterdir()} == {"best.ckpt", "last.ckpt"}
    for name in ("best.ckpt", "last.ckpt"):
        assert same(tmp_path / "moved" / name, whole / name)


def test_a_best_checkpoint_that_is_gone_is_told(tmp_path):
    fit(tmp_path / "part", epochs=3)
    (tmp_path / "part" / "best.ckpt").unlink()
    with pytest.warns(UserWarning, match="best.ckpt should lie beside"):
        resumed = fit(tmp_path / "rest", ckpt_path=tmp_path / "part" / "last.ckpt")
    assert resumed.best_model_score == min(LOSSES[3:])


def test_no_last_checkpoint_is_written_where_none_is_asked_for(tmp_path):
    fit(tmp_path, epochs=3, save_last=False)
    assert [path.name for path in tmp_path.iterdir()] == ["best.ckpt"]


def test_a_run_that_was_stopped_in_its_test_still_knows_its_best(tmp_path, whole):
    resumed = fit(tmp_path, ckpt_path=whole / "last.ckpt")
    assert resumed.best_model_path == str(tmp_path / "best.ckpt")
    assert same(resumed.best_model_path, whole / "best.ckpt")

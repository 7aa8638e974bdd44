"""The three tasks: they learn, they select by what they say, they refuse what does not fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch.utils.data import DataLoader

from xecg.data.datamodules import AFData, PWaveData, RRVariabilityData, WindowDataModule
from xecg.data.datasets import Batch
from xecg.data.store import Store
from xecg.errors import ConfigError, WeightsError
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.signal.waves import NOT_ANNOTATED
from xecg.tasks import AFClassifier, PWaveDetection, RRVariability, Task

CHANNELS = 8
PAIRS = [(AFClassifier, AFData), (PWaveDetection, PWaveData), (RRVariability, RRVariabilityData)]
IDS = ["af", "p_wave", "rr"]


def quiet_trainer(tmp_path: Path, **kwargs: object) -> Trainer:
    return Trainer(
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **kwargs,
    )


def new_task(task: Callable[..., Task], **kwargs: object) -> Task:
    torch.manual_seed(0)
    return task(channels=CHANNELS, dropout=0.0, **kwargs)


def fitted(task: Task, data: WindowDataModule, tmp_path: Path, epochs: int) -> Trainer:
    trainer = quiet_trainer(tmp_path, max_epochs=epochs, enable_checkpointing=False)
    trainer.fit(task, data)
    return trainer


@pytest.mark.parametrize(("task", "module"), PAIRS, ids=IDS)
def test_a_task_overfits_a_few_windows(
    task: type[Task], module: type[WindowDataModule], synthetic_store: Store, tmp_path: Path
) -> None:
    data = module(str(synthetic_store.path), batch_size=8, windows_per_epoch=8, augmentation=None)
    data.setup("fit")
    batch = data.train_set.__getitems__(range(0, len(data.train_set), 12))
    model = new_task(task, optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2))
    if isinstance(model, RRVariability):
        model.network.standardise_by(torch.as_tensor(data.train_set.targets()))
    model.log = lambda *args, **kwargs: None  # there is no trainer
    optimizer = model.configure_optimizers()
    losses = []
    for _ in range(50):
        loss = model.loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("task", "module"), PAIRS, ids=IDS)
def test_fit_and_test_report_every_part_with_intervals(
    task: type[Task], module: type[WindowDataModule], synthetic_store: Store, tmp_path: Path
) -> None:
    data = module(str(synthetic_store.path), batch_size=16, windows_per_epoch=32)
    model = new_task(task)
    trainer = fitted(model, data, tmp_path, epochs=1)
    assert "validation/loss" in trainer.callback_metrics
    trainer.test(model, data, verbose=False)
    (report,) = model.test_reports.values()
    parts = {
        AFClassifier: ["morphology", "rhythm", "fused"],
        PWaveDetection: ["morphology"],
        RRVariability: ["rmssd", "sdnn"],
    }
    assert list(report) == parts[task]
    for metrics in report.values():
        for interval in metrics.values():
            assert interval.n == len(data.test_sets[0])
            assert interval.n_groups == len(set(data.test_sets[0].column("person")))


@pytest.mark.parametrize(("task", "module"), PAIRS, ids=IDS)
def test_the_same_seed_gives_the_same_numbers(
    task: type[Task], module: type[WindowDataModule], synthetic_store: Store, tmp_path: Path
) -> None:
    def weights() -> torch.Tensor:
        data = module(str(synthetic_store.path), batch_size=16, windows_per_epoch=48)
        model = new_task(task)
        fitted(model, data, tmp_path, epochs=1)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(), weights())


def test_branches_train_as_if_alone(synthetic_store: Store, tmp_path: Path) -> None:
    def rhythm(branches: tuple[str, ...]) -> dict[str, torch.Tensor]:
        data = AFData(str(synthetic_store.path), batch_size=16, windows_per_epoch=48)
        model = new_task(AFClassifier, branches=branches)
        start = torch.Generator().manual_seed(5)
        for parameter in (
            *model.branches["rhythm"].parameters(),
            *model.network.heads["rhythm"].parameters(),
        ):
            parameter.data.copy_(torch.randn(parameter.shape, generator=start) * 0.1)
        fitted(model, data, tmp_path, epochs=1)
        return {k: v for k, v in model.network.state_dict().items() if "rhythm" in k}

    together, alone = rhythm(("morphology", "rhythm")), rhythm(("rhythm",))
    assert all(torch.equal(together[key], alone[key]) for key in alone)


def test_unannotated_samples_do_not_count() -> None:
    model = new_task(PWaveDetection)
    signal = torch.rand(2, 1, 1000)
    target = torch.zeros(2, 1000, dtype=torch.uint8)
    target[:, 300:340] = 1
    target[:, 600:] = NOT_ANNOTATED
    logits = torch.randn(2, 1000)
    elsewhere = logits.clone()
    elsewhere[:, 600:] = 50.0
    assert model._loss(logits, target) == model._loss(elsewhere, target)
    batch = Batch(signal, torch.full_like(target, NOT_ANNOTATED), torch.arange(2))
    assert model.loss(batch) == 0


def test_rr_scale_comes_from_the_training_split(synthetic_store: Store, tmp_path: Path) -> None:
    data = RRVariabilityData(str(synthetic_store.path), batch_size=16, windows_per_epoch=16)
    model = new_task(RRVariability)
    fitted(model, data, tmp_path, epochs=1)
    logs = np.log(data.train_set.targets())
    assert np.allclose(model.network.mean, logs.mean(axis=0), rtol=1e-4)
    assert np.allclose(model.network.std, logs.std(axis=0, ddof=1), rtol=1e-4)


def test_rr_without_targets_says_what_is_missing(tmp_path: Path) -> None:
    loader = DataLoader([Batch(torch.rand(1, 1, 500), torch.rand(1, 2), torch.arange(1))] * 4)
    with pytest.raises(ConfigError, match=r"needs a method targets\(\)"):
        quiet_trainer(tmp_path, max_epochs=1).fit(new_task(RRVariability), loader)


def test_pretrained_branches_are_taken_and_others_start_anew(tmp_path: Path) -> None:
    pretrained = new_task(PWaveDetection)
    path = tmp_path / "p.safetensors"
    info = WeightsInfo(describe_branches(pretrained.branches), {})
    save_weights(pretrained.network, path, info)
    model = new_task(AFClassifier, morphology_weights=str(path))
    x = torch.rand(2, 1, 1000)
    expected = pretrained.branches["morphology"].eval()(x)
    assert torch.equal(model.branches["morphology"].eval()(x), expected)
    assert list(model.pretrained) == ["morphology"]


def test_a_restored_classifier_needs_no_pretraining_file(
    synthetic_store: Store, tmp_path: Path
) -> None:
    pretrained = new_task(PWaveDetection)
    path = tmp_path / "p.safetensors"
    save_weights(pretrained.network, path, WeightsInfo(describe_branches(pretrained.branches), {}))
    model = new_task(AFClassifier, morphology_weights=str(path))
    data = AFData(str(synthetic_store.path), batch_size=16, windows_per_epoch=16)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, data)
    path.unlink()
    checkpoint = trainer.checkpoint_callback.best_model_path
    restored = AFClassifier.load_from_checkpoint(checkpoint, channels=CHANNELS, weights_only=True)
    x = torch.rand(2, 1, 2500)
    for name, logits in model.eval()(x).items():
        assert torch.equal(restored.eval()(x)[name], logits)
    with pytest.raises(WeightsError, match=r"rhythm of 8 channels; this model has .* of 16"):
        AFClassifier.load_from_checkpoint(checkpoint, channels=16)

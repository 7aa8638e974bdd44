"""The three tasks: they learn, they select by what they say, they refuse what does not fit."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Callback, Trainer
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader

from xecg.data.datamodules import AFData, PWaveData, RRVariabilityData, WindowDataModule
from xecg.data.datasets import Batch
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.networks.penalties import RelevanceGuidance
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.signal.waves import NOT_ANNOTATED
from xecg.tasks import AFClassifier, CosineToEnd, PWaveDetection, RRVariability, Task

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
def test_a_task_is_fitted_after_a_validation(
    task: type[Task], module: type[WindowDataModule], synthetic_store: Store, tmp_path: Path
) -> None:
    data = module(str(synthetic_store.path), batch_size=16, windows_per_epoch=16)
    model = new_task(task)
    trainer = quiet_trainer(tmp_path, max_epochs=1, enable_checkpointing=False)
    trainer.validate(model, data, verbose=False)
    trainer.fit(model, data)
    assert trainer.callback_metrics["validation/loss"].isfinite()


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
    whole = {"accuracy", "onset_error_mean_ms_at_40ms", "mae_ms"}
    for metrics in report.values():
        (interval,) = (metrics[name] for name in whole & metrics.keys())
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
    model = new_task(AFClassifier, pretrained={"morphology": str(path)})
    x = torch.rand(2, 1, 1000)
    expected = pretrained.branches["morphology"].eval()(x)
    assert torch.equal(model.branches["morphology"].eval()(x), expected)
    assert list(model.pretrained) == ["morphology"]


def test_a_restored_classifier_needs_no_pretraining_file(
    synthetic_store: Store, tmp_path: Path
) -> None:
    pretrained = new_task(PWaveDetection)
    path = tmp_path / "p.safetensors"
    info = WeightsInfo(
        describe_branches(pretrained.branches), synthetic_store.info.preprocessing.to_dict()
    )
    save_weights(pretrained.network, path, info)
    model = new_task(AFClassifier, pretrained={"morphology": str(path)})
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


FIRST_LOSS = """
import torch
from xecg.data.datasets import Batch
from xecg.tasks import AFClassifier
torch.manual_seed(0)
task = AFClassifier(channels=4, dropout=0.3, activity_weight=0.1)
task.log = lambda *args, **kwargs: None
batch = Batch(torch.rand(4, 1, 500), torch.tensor([0, 1, 0, 1]), torch.arange(4))
print(task.loss(batch).item().hex())
"""


def test_numbers_do_not_depend_on_the_hash_seed() -> None:
    losses = [
        subprocess.run(
            [sys.executable, "-c", FIRST_LOSS],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "4")
    ]
    assert losses[0] == losses[1]


class Windows(torch.utils.data.Dataset):
    """Random windows with labels; a data module's dataset without any method."""

    def __len__(self) -> int:
        return 8

    def __getitems__(self, positions: list[int]) -> Batch:
        rows = torch.as_tensor(positions)
        return Batch(torch.rand(len(rows), 1, 500), rows % 2, rows)


def loader() -> DataLoader:
    return DataLoader(Windows(), 4, collate_fn=lambda batch: batch)


def rates(
    task: Task, tmp_path: Path, epochs: int, ckpt_path: str | None = None, **options: object
) -> list[float]:
    """Learning rate of every epoch."""
    seen = []

    class Watch(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: Task) -> None:
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    trainer = quiet_trainer(
        tmp_path, max_epochs=epochs, enable_checkpointing=False, callbacks=[Watch()], **options
    )
    trainer.fit(task, loader(), loader(), ckpt_path=ckpt_path)
    return seen


@pytest.mark.parametrize("epochs", [2, 6])
def test_a_cosine_ends_with_the_run(epochs: int, tmp_path: Path) -> None:
    model = new_task(AFClassifier, lr_scheduler=lambda o: CosineToEnd(o, final_share=0.1))
    found = rates(model, tmp_path, epochs)
    expected = [0.1 + 0.9 * (1 + np.cos(np.pi * e / epochs)) / 2 for e in range(epochs)]
    assert found == pytest.approx(1e-3 * np.array(expected))
    with pytest.raises(ConfigError, match="CosineToEnd"):
        rates(new_task(AFClassifier, lr_scheduler=CosineToEnd), tmp_path, -1, max_steps=3)


def test_a_run_that_is_made_longer_takes_up_the_longer_cosine(tmp_path: Path) -> None:
    model = new_task(AFClassifier, lr_scheduler=CosineToEnd)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, loader(), loader())
    found = rates(model, tmp_path, 4, ckpt_path=trainer.checkpoint_callback.best_model_path)
    assert found == pytest.approx(1e-3 * (1 + np.cos(np.pi * np.array([2, 3]) / 4)) / 2)


def test_dropout_of_a_resumed_run_is_that_of_the_whole_run(
    synthetic_store: Store, tmp_path: Path
) -> None:
    data = AFData(str(synthetic_store.path), batch_size=4, windows_per_epoch=8)

    def fitted_to(epochs: int, ckpt_path: str | None = None) -> tuple[str, torch.Tensor]:
        torch.manual_seed(0)
        model = AFClassifier(channels=4, dropout=0.5)
        trainer = quiet_trainer(tmp_path, max_epochs=epochs)
        trainer.fit(model, data, ckpt_path=ckpt_path)
        weights = torch.cat([p.detach().flatten() for p in model.parameters()])
        return trainer.checkpoint_callback.best_model_path, weights

    stopped, _ = fitted_to(1)
    assert torch.equal(fitted_to(2, stopped)[1], fitted_to(2)[1])


def test_a_plateau_lowers_the_rate_and_needs_a_validation(tmp_path: Path) -> None:
    def plateau(optimizer: torch.optim.Optimizer) -> ReduceLROnPlateau:
        return ReduceLROnPlateau(optimizer, patience=0, threshold=1e9, factor=0.5)

    found = rates(new_task(AFClassifier, lr_scheduler=plateau), tmp_path, 3)
    assert found[-1] < found[0]
    with pytest.raises(ConfigError, match="limit_val_batches"):
        rates(new_task(AFClassifier, lr_scheduler=plateau), tmp_path, 3, limit_val_batches=0)


def test_the_sampling_rate_is_the_datas(synthetic_store: Store, tmp_path: Path) -> None:
    class Slower(PWaveData):
        sampling_rate = 125.0

        def setup(self, stage: str) -> None:
            super().setup(stage)
            self.__dict__["sampling_rate"] = 125.0

    data = Slower(str(synthetic_store.path), batch_size=8, windows_per_epoch=8)
    model = new_task(PWaveDetection, guidance=RelevanceGuidance())
    fitted(model, data, tmp_path, epochs=1)
    assert model.sampling_rate == model.validation_metrics.sampling_rate == 125.0
    with pytest.raises(ConfigError, match=r"250\.0.*125\.0"):
        fitted(new_task(PWaveDetection, sampling_rate=250.0), data, tmp_path, epochs=1)
    with pytest.raises(ConfigError, match="sampling_rate None"):
        quiet_trainer(tmp_path, max_epochs=1).fit(new_task(PWaveDetection), loader())


def test_evaluation_is_in_float32_whatever_the_precision(tmp_path: Path) -> None:
    seen = {}
    model = new_task(AFClassifier)

    def note(head: torch.nn.Module, inputs: object, logits: torch.Tensor) -> None:
        seen[model.training] = logits.dtype

    model.network.heads["rhythm"].register_forward_hook(note)
    trainer = quiet_trainer(
        tmp_path, max_epochs=1, enable_checkpointing=False, precision="bf16-mixed"
    )
    trainer.fit(model, loader(), loader())
    assert seen == {True: torch.bfloat16, False: torch.float32}


class CheckedData(AFData):
    """A data module that says whose weights it was asked about."""

    def check_weights(self, info: object, name: str) -> None:
        self.asked = [*getattr(self, "asked", []), (name, dict(info.preprocessing))]
        super().check_weights(info, name)


def test_weights_and_checkpoints_are_checked_against_the_data(
    synthetic_store: Store, tmp_path: Path
) -> None:
    pretrained, path = new_task(PWaveDetection), tmp_path / "p.safetensors"
    made = {"sampling_rate": 125.0}
    info = WeightsInfo(describe_branches(pretrained.branches), made)
    save_weights(pretrained.network, path, info)
    data = CheckedData(str(synthetic_store.path), batch_size=16, windows_per_epoch=16)
    model = new_task(AFClassifier, pretrained={"morphology": str(path)})
    with pytest.raises(WeightsError, match=r"sampling_rate 125\.0 .*250"):
        fitted(model, data, tmp_path, epochs=1)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(new_task(AFClassifier), data)
    checkpoint = trainer.checkpoint_callback.best_model_path
    state = torch.load(checkpoint, weights_only=True)
    assert torch.equal(state["learnt"], data.learnt())
    state["preprocessing"]["sampling_rate"] = 500.0
    torch.save(state, tmp_path / "other.ckpt")
    for stage in ("test", "validate", "predict"):
        run = getattr(quiet_trainer(tmp_path), stage)
        with pytest.raises(WeightsError, match=r"checkpoint.*sampling_rate 500\.0 .*250"):
            run(new_task(AFClassifier), data, ckpt_path=tmp_path / "other.ckpt")
    everybody = CheckedData(str(synthetic_store.path), test_stores=str(synthetic_store.path))
    everybody.setup = lambda stage: None
    everybody.test_sets = [data.train_set]
    with pytest.raises(StoreError, match="learnt from persons"):
        quiet_trainer(tmp_path).test(new_task(AFClassifier), everybody, ckpt_path=checkpoint)
    with pytest.raises(WeightsError, match="PositiveStepHead"):
        new_task(PWaveDetection).on_load_checkpoint(
            {"architecture": new_task(PWaveDetection, guidance=RelevanceGuidance())._architecture()}
        )


@pytest.mark.parametrize("kind", [torch.int32, torch.complex64])
def test_a_checkpoint_with_numbers_of_another_kind_is_refused(kind: torch.dtype) -> None:
    model = new_task(AFClassifier)
    name = "network.heads.rhythm.linear.weight"
    state = {**model.state_dict(), name: model.state_dict()[name].to(kind)}
    with pytest.raises(WeightsError, match=rf"{name} of torch\.float32, found {kind}"):
        model.on_load_checkpoint({"architecture": model._architecture(), "state_dict": state})


@pytest.mark.parametrize(
    ("name", "value"),
    [("label_smoothing", 2.0), ("activity_weight", -1.0), ("prevalence", 1.0), ("dropout", 1.5)],
)
def test_a_number_out_of_its_range_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        AFClassifier(channels=4, **{name: value})


def test_the_weight_of_rr_variabilitys_activity_is_not_negative() -> None:
    with pytest.raises(ConfigError, match="activity_weight"):
        RRVariability(channels=4, activity_weight=-1.0)

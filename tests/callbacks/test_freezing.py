"""Frozen means bit-identical: parameters and batch statistics, whatever happens to the run.

Run as a script by torchrun, this file is one process of the two of a distributed run.
"""

import hashlib
import json
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from xecg.callbacks.freezing import LayerFreezing, Progression
from xecg.errors import ConfigError
from xecg.networks.xecgarch import XECGArch

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*resuming from a checkpoint that ended before"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`"),
    pytest.mark.filterwarnings("ignore:LightningCLI's args parameter"),
    pytest.mark.filterwarnings("ignore::jsonargparse._deprecated.JsonargparseDeprecationWarning"),
]

N_BATCHES = 3


def stages(*of):
    """A schedule of somebody's own: depths from some epochs on, for all branches or by branch."""

    def depth(epoch, branch, n_blocks):
        found = 0
        for first, frozen in of:
            if first <= epoch:
                found = frozen.get(branch, found) if isinstance(frozen, dict) else frozen
        return found

    return depth


SCHEDULES = {
    "constant": stages((0, 3)),
    "unfreezing": stages((0, 8), (2, {"rhythm": 2}), (4, 0)),
    "freezing": stages((0, 0), (2, 4), (4, {"morphology": 8})),
    "one block more every epoch": Progression(start=8, change=-1),
}


class Task(LightningModule):
    """A task whose batches and dropout depend on nothing but the step."""

    def __init__(self, names=("morphology", "rhythm")):
        super().__init__()
        torch.manual_seed(0)
        self.network = XECGArch.build(names, channels=2, dropout=0.1)

    @property
    def branches(self):
        return self.network.branches

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-2, weight_decay=0.1)

    def training_step(self, batch, batch_idx):
        torch.manual_seed(1000 * self.global_step + self.global_rank)
        logits = self.network(torch.rand(4, 1, 96))
        target = torch.tensor([0, 1, 0, 1])
        return sum(nn.functional.cross_entropy(branch, target) for branch in logits.values())

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.network(torch.rand(2, 1, 96))[next(iter(self.branches))].mean())


def fit(task, *callbacks, epochs, ckpt_path=None, **options):
    loader = DataLoader(TensorDataset(torch.arange(2 * N_BATCHES)), batch_size=2)
    defaults = {
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": any(isinstance(one, ModelCheckpoint) for one in callbacks),
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "limit_train_batches": N_BATCHES,
        "limit_val_batches": 1,
        "num_sanity_val_steps": 1,
    }
    trainer = Trainer(max_epochs=epochs, callbacks=list(callbacks), **{**defaults, **options})
    trainer.fit(task, loader, loader, ckpt_path=ckpt_path)
    return trainer


def state(module):
    return {key: value.clone() for key, value in module.state_dict().items()}


def identical(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


class Watch(Callback):
    """State and depth of every block at the start and end of every epoch."""

    def __init__(self):
        self.starts, self.ends = [], []

    def on_train_epoch_start(self, trainer, pl_module):
        self.starts.append(self.blocks(pl_module))

    def on_train_epoch_end(self, trainer, pl_module):
        self.ends.append(self.blocks(pl_module))

    def blocks(self, task):
        return {
            name: [state(block) for block in branch.blocks]
            for name, branch in task.branches.items()
        }


def assert_frozen_to_depth(before, after, depth):
    for number, (one, other) in enumerate(zip(before, after, strict=True), start=1):
        if number <= depth:
            assert identical(one, other), f"block{number} is frozen but has changed"
        else:
            same = [key for key in one if torch.equal(one[key], other[key])]
            assert not same, f"block{number} is trained but {same} did not change"


@pytest.mark.parametrize("depth", range(9))
def test_frozen_blocks_stay_bit_identical_and_the_others_change(depth):
    task, watch = Task(), Watch()
    before = watch.blocks(task)
    trainer = fit(task, LayerFreezing({"morphology": depth, "rhythm": 8 - depth}), epochs=1,
                  val_check_interval=1)  # fmt: skip
    after = watch.blocks(task)
    assert_frozen_to_depth(before["morphology"], after["morphology"], depth)
    assert_frozen_to_depth(before["rhythm"], after["rhythm"], 8 - depth)
    assert trainer.callback_metrics["frozen_layers/morphology"] == depth


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedule_holds_in_every_epoch_even_with_momentum(schedule):
    watch, freezing = Watch(), LayerFreezing(schedule=schedule)
    fit(Task(), freezing, watch, epochs=6, val_check_interval=2)
    for epoch, (before, after) in enumerate(zip(watch.starts, watch.ends, strict=True)):
        for name, depth in freezing.depth_at(epoch).items():
            assert_frozen_to_depth(before[name], after[name], depth)


def optimizer_tensors(trainer):
    states = trainer.optimizers[0].state_dict()["state"]
    return {f"{i}/{key}": value for i, entry in states.items() for key, value in entry.items()}


def assert_same_run(one, other):
    assert identical(state(one.lightning_module), state(other.lightning_module))
    assert identical(optimizer_tensors(one), optimizer_tensors(other))


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_three_epochs_and_three_more_equal_six(schedule, tmp_path):
    whole = fit(Task(), LayerFreezing(schedule=schedule), epochs=6)
    saving = ModelCheckpoint(tmp_path, filename="three")
    fit(Task(), LayerFreezing(schedule=schedule), saving, epochs=3)
    resumed = fit(
        Task(), LayerFreezing(schedule=schedule), epochs=6, ckpt_path=tmp_path / "three.ckpt"
    )
    assert_same_run(resumed, whole)


class Kill(Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == self.step:
            raise ConnectionAbortedError


@pytest.mark.parametrize("step", [1, 2 * N_BATCHES + 1])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_a_run_killed_inside_an_epoch_goes_on_as_if_it_had_not(schedule, step, tmp_path):
    whole = fit(Task(), LayerFreezing(schedule=schedule), epochs=4)
    saving = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    with pytest.raises(ConnectionAbortedError):
        fit(Task(), LayerFreezing(schedule=schedule), Kill(step + 1), saving, epochs=4)
    saved = tmp_path / f"step={step}.ckpt"
    resumed = fit(Task(), LayerFreezing(schedule=schedule), epochs=4, ckpt_path=saved)
    assert resumed.global_step == whole.global_step
    assert_same_run(resumed, whole)


class Pretrained(Task):
    pretrained: typing.ClassVar = {"rhythm": "weights"}


@pytest.mark.parametrize("frozen", [3, {"morphology": 1}])
def test_random_blocks_are_frozen_only_when_asked(frozen):
    with pytest.raises(ConfigError, match="morphology"):
        fit(Pretrained(), LayerFreezing(frozen), epochs=1)
    fit(Pretrained(), LayerFreezing(frozen, allow_random=True), epochs=1)
    fit(Pretrained(), LayerFreezing({"rhythm": 3}), epochs=1)
    later = LayerFreezing(schedule=stages((0, 0), (1, frozen)))  # trained by then
    fit(Pretrained(), later, epochs=2)


def test_a_stale_gradient_is_cleared():
    task, freezing = Task(), LayerFreezing(2)
    for parameter in task.parameters():
        parameter.grad = torch.ones_like(parameter)
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    freezing.setup(trainer, task, "fit")
    freezing.on_train_start(trainer, task)
    blocks = task.branches["rhythm"].blocks
    assert all(parameter.grad is None for parameter in blocks[1].parameters())
    assert all(parameter.grad is not None for parameter in blocks[2].parameters())


def test_a_task_of_one_branch_can_be_frozen():
    task = Task(names=["rhythm"])
    before = state(task.branches["rhythm"].blocks[0])
    fit(task, LayerFreezing(1), epochs=1)
    assert identical(before, state(task.branches["rhythm"].blocks[0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frozen_layers": 9}, "from 0 .* to 8 .* found 9"),
        ({"frozen_layers": -1}, "from 0 .* to 8 .* found -1"),
        ({"frozen_layers": {"rythm": 2}}, "one of morphology, rhythm; found rythm"),
        ({"schedule": stages((0, 1), (4, 12))}, "epoch 4: .* found 12"),
        ({"schedule": Progression(start=9)}, "epoch 0: .* found 9"),
        ({"schedule": Progression({"rythm": 2})}, "one of morphology, rhythm; found rythm"),
        ({"schedule": lambda epoch, branch, n_blocks: n_blocks + epoch}, "epoch 1: .* found 9"),
    ],
)
def test_impossible_settings_fail_before_training(arguments, message):
    task = Task()
    before = state(task)
    with pytest.raises(ConfigError, match=message):
        fit(task, LayerFreezing(**arguments), epochs=5)
    assert identical(before, state(task))


def test_a_module_without_branches_is_refused():
    task = Task()
    task.__class__ = type("Unbranched", (Task,), {"branches": None})
    with pytest.raises(ConfigError, match=r"needs a task with `branches`.*Unbranched"):
        fit(task, LayerFreezing(1), epochs=1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LayerFreezing(3, Progression(3)), "exclude each other"),
        (lambda: Progression(8, every_n_epochs=0), "every_n_epochs: expected 1 or more, found 0"),
        (lambda: Progression(8, change=0), "change must not be 0"),
    ],
)
def test_a_schedule_that_contradicts_itself_is_refused(build, message):
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.parametrize(
    ("progression", "depths"),
    [
        (Progression(8, every_n_epochs=2), [8, 8, 7, 7, 6, 6]),
        (Progression(3, change=-2), [3, 1, 0, 0, 0, 0]),
        (Progression(0, change=3), [0, 3, 6, 8, 8, 8]),
        (Progression({"morphology": 2}), [2, 1, 0, 0, 0, 0]),
    ],
)
def test_a_progression_moves_until_it_stops(progression, depths):
    assert [progression(epoch, "morphology", 8) for epoch in range(6)] == depths


@pytest.mark.parametrize(
    "config",
    [
        {"frozen_layers": 3},
        {"frozen_layers": {"morphology": 3, "rhythm": 1}},
        {"schedule": {"start": 3, "every_n_epochs": 4, "change": -2}},
    ],
)
def test_every_form_is_read_from_a_config(config):
    callback = {"class_path": "xecg.callbacks.freezing.LayerFreezing", "init_args": config}
    trainer = {"accelerator": "cpu", "logger": False, "callbacks": [callback]}
    cli = LightningCLI(Task, run=False, args={"trainer": trainer}, seed_everything_default=False)
    freezing = next(one for one in cli.trainer.callbacks if isinstance(one, LayerFreezing))
    assert freezing.schedule(0, "morphology", 8) == 3
    if "schedule" in config:
        assert freezing.schedule(4, "morphology", 8) == 1


def test_two_processes_agree_bit_for_bit(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", __file__, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert "ddp_find_unused_parameters_true; found find_unused" in first["a change under plain ddp"]


def digest(module):
    parts = [value.detach().numpy().tobytes() for value in module.parameters()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def one_of_two_processes(folder):
    """Fit under two schedules, checking every epoch, and write what the other process must match.

    Buffers of trained blocks are left out: each process keeps statistics of its own batches.
    """
    changing, found = stages((0, 8), (1, {"rhythm": 0}), (2, 4)), {}
    for strategy, schedule in (
        ("ddp", stages((0, 3))),
        ("ddp_find_unused_parameters_true", changing),
    ):
        task, watch, freezing = Task(), Watch(), LayerFreezing(schedule=schedule)
        fit(task, freezing, watch, epochs=4, devices=2, strategy=strategy)
        for epoch, (before, after) in enumerate(zip(watch.starts, watch.ends, strict=True)):
            for branch, depth in freezing.depth_at(epoch).items():
                assert_frozen_to_depth(before[branch], after[branch], depth)
        found[strategy] = digest(task)
    try:
        fit(Task(), LayerFreezing(schedule=Progression(8)), epochs=2, devices=2, strategy="ddp")
    except ConfigError as error:
        found["a change under plain ddp"] = str(error)
    (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    one_of_two_processes(Path(sys.argv[1]))

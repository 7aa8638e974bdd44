"""The folder of a run: its name, whose it is, and its checkpoints."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonargparse import Namespace
from lightning.pytorch import LightningModule, Trainer
from torch import nn

from xecg.errors import ConfigError, UnwritableError
from xecg.run_folder import (
    WholeCheckpoints,
    _name,
    claimed,
    read_checkpoint,
    restoring,
    run_folder,
)

GOOD = {
    "state_dict": {"w": torch.ones(2)},
    "epoch": 3,
    "global_step": 40,
    "pytorch-lightning_version": "2.6.6",
}


def test_a_folder_is_held_by_one_run(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for resumed in (False, True):
        with claimed(folder, resumed=False):
            with pytest.raises(ConfigError, match="a/b"), claimed(folder, resumed):
                pass
            assert [path.name for path in folder.iterdir()] == [".running"]
        assert not any(folder.iterdir())


def test_the_folder_of_a_killed_run_is_free(tmp_path: Path) -> None:
    (tmp_path / ".running").touch()
    with claimed(tmp_path, resumed=False):
        pass


def test_a_folder_that_holds_something_is_refused_unless_its_run_is_resumed(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ConfigError, match=str(tmp_path)), claimed(tmp_path, resumed=False):
        pass
    with claimed(tmp_path, resumed=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("config", "name"),
    [
        ("configs/finetune_frozen3.yaml", "finetune_frozen3"),
        ("runs/finetune_frozen3/20261126-101500/config.yaml", "finetune_frozen3_test"),
        ("runs/p_wave/config.yaml", "p_wave_test"),
    ],
)
def test_a_run_is_named_after_its_config(config: str, name: str) -> None:
    assert _name(Namespace(config=[config]), "test") == name


def test_a_folder_that_lightning_takes_for_an_address_is_refused(tmp_path: Path) -> None:
    config = Namespace(ckpt_path=None, run_folder=str(tmp_path / "a::b"))
    with pytest.raises(ConfigError, match="a::b"):
        run_folder(config, "fit")


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.ckpt"
    WholeCheckpoints().save_checkpoint(GOOD, path)
    assert torch.equal(read_checkpoint(path)["state_dict"]["w"], torch.ones(2))
    assert [file.name for file in path.parent.iterdir()] == ["a.ckpt"]


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    WholeCheckpoints().save_checkpoint(GOOD, path)
    before = path.read_bytes()
    with pytest.raises(UnwritableError, match=r"b\.ckpt"):
        WholeCheckpoints().save_checkpoint(GOOD, Path("/proc/b.ckpt"))
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        {**GOOD, "evil": Evil()},
        {key: value for key, value in GOOD.items() if key != "state_dict"},
        {**GOOD, "epoch": "three"},
        {**GOOD, "state_dict": {"w": torch.tensor([1.0, float("nan")])}},
        {**GOOD, "state_dict": {"w": "text"}},
        [GOOD],
    ],
    ids=["pickle", "without weights", "epoch is text", "nan", "no tensor", "list"],
)
def test_another_content_is_refused(content: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(content, "a.ckpt")
    with pytest.raises(ConfigError, match=r"a\.ckpt"):
        read_checkpoint("a.ckpt")
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    "values",
    [
        torch.ones(2).to_sparse(),
        torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8),
        torch.ones(2, device="meta"),
    ],
    ids=["sparse", "quantized", "meta"],
)
def test_a_weight_that_is_no_dense_tensor_is_refused(values: torch.Tensor, tmp_path: Path) -> None:
    torch.save({**GOOD, "state_dict": {"network.w": values}}, tmp_path / "a.ckpt")
    with pytest.raises(ConfigError, match=r"a\.ckpt.*network\.w"):
        read_checkpoint(tmp_path / "a.ckpt")


def test_a_name_longer_than_any_file_s_is_refused() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        read_checkpoint("x" * 5000)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "empty", "text", "cut", "url"])
def test_another_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("epoch: 3\n")
    elif kind == "cut":
        torch.save(GOOD, path)
        path.write_bytes(path.read_bytes()[:-100])
    name = "https://127.0.0.1:9/a.ckpt" if kind == "url" else str(path)
    with pytest.raises(ConfigError, match=r"a\.ckpt"):
        read_checkpoint(name)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_a_changed_bit_changes_no_value(tmp_path: Path, place: int, bit: int) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(GOOD, path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = read_checkpoint(path)
    except ConfigError:
        return
    assert str(found) == str(GOOD)


class Tiny(LightningModule):
    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def test_step(self, batch: torch.Tensor) -> None:
        if not torch.isfinite(batch).all():
            raise ValueError("of the test itself")


def test_an_error_is_the_checkpoint_s_only_while_it_is_restored(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ckpt")
    trainer = Trainer(logger=False, barebones=True, accelerator="cpu")
    trainer.strategy.connect(Tiny(3))
    trainer.save_checkpoint(path)
    with pytest.raises(ConfigError, match=r"a\.ckpt"), restoring(trainer, path):
        trainer.test(Tiny(2), torch.ones(1, 1, 2), ckpt_path=path)
    nan = torch.full((1, 1, 3), torch.nan)
    with pytest.raises(ValueError, match="of the test itself"), restoring(trainer, path):
        trainer.test(Tiny(3), nan, ckpt_path=path)

"""Checkpoints of runs: written whole, read without pickles, refused in a sentence.

Lightning writes a checkpoint into the temporary folder and moves it, which from one file system to
another is a copy that a full disk cuts off, and it runs the pickle of a checkpoint behind an URL.
"""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer

from xecg.errors import ConfigError, XECGError
from xecg.files import write_whole

_KEYS = {"state_dict": dict, "epoch": int, "global_step": int, "pytorch-lightning_version": str}


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Reads a checkpoint of a run onto the CPU.

    Raises ConfigError if it is no local file, no checkpoint, or if a weight is not finite.
    """
    expected = f"ckpt_path {path}: expected a checkpoint of xecg fit, such as checkpoints/best.ckpt"
    if not Path(path).is_file():
        raise ConfigError(f"{expected}; found no such file on this machine")
    try:
        with zipfile.ZipFile(path) as members:  # whose checksums PyTorch does not compare
            if damaged := members.testzip():
                raise ValueError(f"{damaged} is damaged")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes bring the reader to raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConfigError(f"{expected}; it cannot be read ({reason})") from error
    wrong = [key for key, kind in _KEYS.items() if not isinstance(_item(found, key), kind)]
    if wrong:
        raise ConfigError(f"{expected}; found a file without {', '.join(wrong)}")
    for name, values in found["state_dict"].items():
        if not isinstance(values, torch.Tensor) or not torch.isfinite(values).all():
            raise ConfigError(f"{expected}; found {name} with values that are no finite numbers")
    return dict(found)


def _item(found: Any, key: str) -> Any:
    return found.get(key) if isinstance(found, dict) else None


class WholeCheckpoints(TorchCheckpointIO):
    """Reads and writes the checkpoints of a Trainer."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Writes a checkpoint under a temporary name beside its own, which it then takes."""
        del storage_options
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getvalue())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads a checkpoint as :func:`read_checkpoint` does."""
        del map_location, weights_only
        return read_checkpoint(path)


class _Started(Callback):
    """Knows whether a Trainer is past restoring."""

    yes = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        del trainer, pl_module
        self.yes = True

    on_validation_start = on_test_start = on_predict_start = on_train_start


@contextmanager
def restoring(trainer: Trainer, path: str | None) -> Iterator[None]:
    """Lets a Trainer restore a checkpoint in the block; raises ConfigError if that fails."""
    started, callbacks = _Started(), cast(Any, trainer).callbacks
    callbacks.append(started)
    try:
        yield
    except Exception as error:
        if path is None or started.yes or isinstance(error, XECGError):
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(
            f"ckpt_path {path}: it is of another network or run ({reason})"
        ) from error
    finally:
        callbacks.remove(started)

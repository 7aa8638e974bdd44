"""The folder of a run: its name, whose it is, how a stopped run continues, and its checkpoints.

Lightning writes a checkpoint into the temporary folder and moves it, which from one file system to
another is a copy that a full disk cuts off, and it runs the pickle of a checkpoint behind an URL.
Here they are written whole, read without pickles, and refused in a sentence.
"""

import io
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain, count
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.fabric.loggers.csv_logs import _ExperimentWriter
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from xecg.errors import ConfigError, XECGError
from xecg.files import write_whole

RUNS = Path("runs")
_FOLDER_OF_RANK_ZERO = "XECG_RUN_FOLDER"
_KEYS = {"state_dict": dict, "epoch": int, "global_step": int, "pytorch-lightning_version": str}


def run_folder(config: Namespace, verb: str) -> tuple[Path, bool]:
    """Returns the folder of a run, and whether a run continues in it: that of its checkpoint.

    A new run has the folder that was asked for, or one named by config and time.
    """
    resumed = Path(config.ckpt_path).parent.parent if verb == "fit" and config.ckpt_path else None
    if resumed and (resumed / "config.yaml").is_file():
        if config.run_folder and Path(config.run_folder).resolve() != resumed.resolve():
            raise ConfigError(
                f"run_folder {config.run_folder}: the run of {config.ckpt_path} continues in its "
                f"own folder {resumed}, where its best epoch is; leave run_folder out"
            )
        return resumed, True
    if rank() != 0:  # launched by rank zero, which made the folder
        return Path(os.environ[_FOLDER_OF_RANK_ZERO]), False
    folder = Path(config.run_folder) if config.run_folder else _new_folder(_name(config, verb))
    if "::" in str(folder.absolute()):  # for Lightning a chain of addresses
        raise ConfigError(f"run_folder {folder.absolute()}: expected a path without '::'")
    os.environ[_FOLDER_OF_RANK_ZERO] = str(folder)
    return folder, False


def _name(config: Namespace, verb: str) -> str:
    """Name of a run: of its config, or of the run whose ``config.yaml`` it is given."""
    if not config.config:
        return verb
    path = Path(str(config.config[0])).resolve()
    if path.stem != "config":
        return path.stem
    timed = re.fullmatch(r"\d{8}-\d{6}(-\d+)?", path.parent.name)
    return f"{path.parents[1].name if timed else path.parent.name}_{verb}"


def _new_folder(name: str) -> Path:
    folder = RUNS / name / datetime.now().strftime("%Y%m%d-%H%M%S")
    others = (folder.with_name(f"{folder.name}-{n}") for n in count(2))
    return next(place for place in chain([folder], others) if not place.exists())


@contextmanager
def claimed(folder: Path, resumed: bool) -> Iterator[None]:
    """Makes the folder of a run and holds it, so that no other run writes into it.

    Raises ConfigError if it is in use, cannot be made, or is not empty and not resumed.
    """
    running = folder / ".running"
    lock = FileLock(running)  # freed even if the process is killed
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"run_folder {folder} is in use by another run") from error
    except OSError as error:
        raise ConfigError(f"run_folder {folder} cannot be made ({error})") from error
    try:
        if not resumed and any(path != running for path in folder.iterdir()):
            last = folder / "checkpoints" / "last.ckpt"
            how = f". To continue the run in it, add --ckpt_path {last}" if last.is_file() else ""
            raise ConfigError(
                f"run_folder {folder} is not empty; name another, or move it away{how}"
            )
        yield
    finally:
        running.unlink(missing_ok=True)
        lock.release()


def remove(folder: Path) -> None:
    """Removes a run's folder, and those above it in ``runs`` that it leaves empty."""
    shutil.rmtree(folder)
    for above in folder.parents:
        if not above.is_relative_to(RUNS) or any(above.iterdir()):
            return
        above.rmdir()


def keep_metrics(trainer: Trainer, checkpoint: Path) -> None:
    """Lets ``metrics.csv`` keep its epochs up to the checkpoint, and go on behind them."""
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger) and Path(logger.experiment.metrics_file_path).is_file():
            _write_metrics(logger.experiment, [], read_checkpoint(checkpoint)["epoch"])


def _write_metrics(writer: Any, columns: list[str], last: int | None = None) -> None:
    """Writes ``metrics.csv`` with more columns, or up to an epoch; Lightning would empty it."""
    path = Path(writer.metrics_file_path)
    table = pd.read_csv(path, dtype=str, keep_default_na=False)  # as it was written
    if last is not None:
        table = table[pd.to_numeric(table["epoch"], errors="coerce") <= last]  # a kill may cut it
    writer.metrics_keys = sorted({*table, *columns})
    rows = table.reindex(columns=writer.metrics_keys, fill_value="")
    write_whole(path, rows.to_csv(index=False, lineterminator="\r\n"))


_ExperimentWriter._rewrite_with_new_header = _write_metrics  # type: ignore[assignment,method-assign]
_ExperimentWriter._check_log_dir_exists = lambda _: None  # type: ignore[assignment,method-assign]


def rank() -> int:
    """Returns the number of this process among those that train together."""
    return int(getattr(rank_zero_only, "rank", 0))


def read_checkpoint(path: Path | str) -> dict[str, Any]:
    """Reads a checkpoint of a run onto the CPU.

    Raises ConfigError if it is no local file, no checkpoint, or if a weight is no dense tensor of
    finite numbers.
    """
    expected = f"ckpt_path {path}: expected a checkpoint of xecg fit, such as checkpoints/best.ckpt"
    if not os.path.isfile(path):  # noqa: PTH113 (false, too, where the name is too long)
        raise ConfigError(f"{expected}; found no such file on this machine")
    try:
        with zipfile.ZipFile(path) as members:  # whose checksums PyTorch does not compare
            if damaged := members.testzip():
                raise ValueError(f"{damaged} is damaged")
        found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes bring the reader to raise anything
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise ConfigError(f"{expected}; it cannot be read ({reason})") from error
    content = found if isinstance(found, dict) else {}
    if wrong := [key for key, kind in _KEYS.items() if not isinstance(content.get(key), kind)]:
        raise ConfigError(f"{expected}; found a file without {', '.join(wrong)}")
    for name, values in content["state_dict"].items():
        dense = isinstance(values, torch.Tensor) and values.layout == torch.strided
        if not dense or values.is_meta or values.is_quantized or not values.isfinite().all():
            raise ConfigError(f"{expected}; found {name} that is no dense tensor of finite numbers")
    return content


class WholeCheckpoints(TorchCheckpointIO):
    """Reads and writes the checkpoints of a Trainer."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, *_: Any, **__: Any
    ) -> None:
        """Writes a checkpoint under a temporary name beside its own, which it then takes."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content.getvalue())

    def load_checkpoint(self, path: str | Path, *_: Any, **__: Any) -> dict[str, Any]:
        """Reads a checkpoint as :func:`read_checkpoint` does."""
        return read_checkpoint(path)


@contextmanager
def restoring(trainer: Trainer, path: str | None) -> Iterator[None]:
    """Lets a Trainer restore a checkpoint in the block; raises ConfigError if that fails."""
    try:
        yield
    except Exception as error:
        # Lightning holds what it loaded until all of it is restored.
        if isinstance(error, XECGError) or not trainer._checkpoint_connector._loaded_checkpoint:
            raise
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ConfigError(
            f"ckpt_path {path}: it is of another network or run ({reason})"
        ) from error

"""The folder of a run: its name, whose it is, and how a run that was stopped continues in it."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from xecg.checkpoints import read_checkpoint
from xecg.errors import ConfigError
from xecg.files import write_whole

RUNS = Path("runs")
_FOLDER_OF_RANK_ZERO = "XECG_RUN_FOLDER"


def resumed_folder(config: Namespace) -> Path | None:
    """The folder of the run that a fit continues: that of its checkpoint."""
    folder = Path(config.ckpt_path).parent.parent if config.ckpt_path else None
    if folder is None or not (folder / "config.yaml").is_file():
        return None
    if config.run_folder and Path(config.run_folder).resolve() != folder.resolve():
        raise ConfigError(
            f"run_folder {config.run_folder}: the run of {config.ckpt_path} continues in its own "
            f"folder {folder}, where its best epoch is; leave run_folder out"
        )
    return folder


def run_folder(config: Namespace, verb: str) -> Path:
    """Returns the folder of a new run: the one asked for, or one named by config and time."""
    if rank() != 0:  # launched by rank zero, which made the folder
        return Path(os.environ[_FOLDER_OF_RANK_ZERO])
    folder = Path(config.run_folder) if config.run_folder else _new_folder(_name(config, verb))
    os.environ[_FOLDER_OF_RANK_ZERO] = str(folder)
    return folder


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
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    for suffix in ("", *(f"-{number}" for number in range(2, 100))):
        if not (folder := RUNS / name / f"{stamp}{suffix}").exists():
            return folder
    raise ConfigError(f"{RUNS / name} holds a hundred runs of this second; set run_folder")


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
            raise ConfigError(
                f"run_folder {folder} is not empty; name another, or move it away. To continue the "
                f"run in it, add --ckpt_path {folder}/checkpoints/last.ckpt"
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


def keep_metrics(trainer: Trainer, folder: Path, checkpoint: Path) -> None:
    """Lets ``metrics.csv`` keep its epochs up to the checkpoint, and go on behind them."""
    path, aside = folder / "metrics.csv", folder / ".metrics.csv"
    if not path.is_file() and not aside.is_file():
        return
    epoch = read_checkpoint(checkpoint)["epoch"]
    for logger in trainer.loggers:
        if isinstance(logger, CSVLogger):
            if not aside.is_file():  # it is of a kill below
                path.rename(aside)
            table = pd.read_csv(aside, dtype=str, keep_default_na=False)  # as it was written
            writer = logger.experiment  # deletes the file at its place
            writer.metrics_keys = sorted(table.columns)
            epochs = pd.to_numeric(table["epoch"], errors="coerce")  # a kill may cut the last line
            kept = table.loc[epochs <= epoch, writer.metrics_keys]
            write_whole(path, kept.to_csv(index=False, lineterminator="\r\n"))
            aside.unlink()


def rank() -> int:
    """Returns the number of this process among those that train together."""
    return int(getattr(rank_zero_only, "rank", 0))

"""Loggers of a run: where they write, what they call it, and their pictures."""

import json
import os
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import Namespace
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger, WandbLogger
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from xecg.explain.figures import png
from xecg.files import write_whole

_SUBFOLDERS = {"TensorBoardLogger": "tensorboard", "MLFlowLogger": "mlruns"}
_NEED_A_FOLDER = re.compile(r"(--trainer\.logger\+?=)?([\w.]*\b(?:CSVLogger|TensorBoardLogger))")
_NO_BRACES = str.maketrans("", "", "{}'")
_KINDS = WandbLogger, TensorBoardLogger, MLFlowLogger, CSVLogger


def keeps_pictures(trainer: Trainer) -> bool:
    """Whether a logger of this process takes pictures; no process but the first has one."""
    return trainer.is_global_zero and any(isinstance(one, _KINDS) for one in trainer.loggers)


def log_figure(trainer: Trainer, name: str, figure: Figure, caption: str = "") -> None:
    """Logs a picture to W&B, TensorBoard and MLflow, and as a PNG beside a CSVLogger's table.

    It is drawn once for all of them; ``name`` is as a metric's, with ``/``.
    """
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    pixels, step = np.asarray(canvas.buffer_rgba()), trainer.global_step
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            from wandb import Image

            shown = {name: Image(pixels, caption=caption), "trainer/global_step": step}
            logger.experiment.log(shown)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, pixels, step, dataformats="HWC")
        elif isinstance(logger, MLFlowLogger):
            logger.experiment.log_image(logger.run_id, pixels, f"{name}/{step}.png")
        elif isinstance(logger, CSVLogger):
            path = Path(logger.log_dir, "pictures", f"{name}_{step}.png".replace("/", "_"))
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, png(pixels, figure.dpi))


def with_folders(arguments: Sequence[str]) -> list[str]:
    """Lets a logger be named alone although it asks for a folder, which the run sets."""
    flags = list(arguments)
    for number, (before, flag) in enumerate(pairwise(["", *arguments])):
        found = _NEED_A_FOLDER.fullmatch(flag)
        if found and (found[1] or before in ("--trainer.logger", "--trainer.logger+")):
            value = {"class_path": found[2], "init_args": {"save_dir": "."}}
            flags[number] = (found[1] or "") + json.dumps(value)
    return flags


def place_loggers(config: Namespace, verb: str, folder: Path) -> None:
    """Lets loggers write into the run's folder; W&B's is left out where it is switched off."""
    trainer, folder = config.trainer, folder.resolve()  # W&B has its own idea of "."
    name = "/".join(folder.parts[-2:])
    given = trainer.logger if isinstance(trainer.logger, list) else [trainer.logger]
    loggers = [logger for logger in given if isinstance(logger, Namespace)]
    for logger in loggers:
        kind, settings = logger.class_path.rpartition(".")[2], logger.init_args
        if "save_dir" in settings:
            settings.save_dir = str(folder / _SUBFOLDERS.get(kind, ""))
        if settings.get("name") == "lightning_logs" and settings.version is None:
            settings.name = settings.version = ""
        if kind == "MLFlowLogger":
            settings.run_name = settings.run_name or name
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # asks for it since 3.7
    ours = [logger for logger in loggers if logger.class_path.endswith("WandbLogger")]
    disabled = os.environ.get("WANDB_DISABLED", "false").lower() not in ("", "0", "false")
    if ours and (disabled or os.environ.get("WANDB_MODE") == "disabled"):
        trainer.logger = [logger for logger in given if logger not in ours] or False
        return
    for logger in ours:
        if logger.init_args.name is None and "WANDB_NAME" not in os.environ:
            logger.init_args.name = name
        for label, value in {"job_type": verb, "tags": _tags(config)}.items():
            if logger.init_args.get(label) is None and f"WANDB_{label.upper()}" not in os.environ:
                logger.init_args[label] = value
        online = os.environ.get("WANDB_MODE") == "online" or "WANDB_SWEEP_ID" in os.environ
        logger.init_args.offline = logger.init_args.offline and not online
        if logger.init_args.offline:
            os.environ.setdefault("WANDB_SILENT", "true")


def _tags(config: Namespace) -> list[str]:
    """Returns what runs are told apart by: task, frozen depth, seed and stores."""
    stores = config.data.init_args.get("stores") or []
    named = [stores] if isinstance(stores, str) else [source.store for source in stores]
    tags = [config.model.class_path.rpartition(".")[2], f"seed {config.seed_everything}"]
    depth = "by schedule" if config.freezing.schedule else config.freezing.frozen_layers or 0
    tags.append(f"frozen {depth}".translate(_NO_BRACES))
    return [tag[:64] for tag in [*tags, *(Path(store).name for store in named)]]

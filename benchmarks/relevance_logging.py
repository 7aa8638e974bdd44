"""Time of an epoch of training with the relevance logger beside the same epoch without it.

    python benchmarks/relevance_logging.py [--json FILE] [--windows 1000] [--repeats 5] [--busy]

One run of fine-tuning on the embedded synthetic ECGs, logged to W&B offline, in which epochs take
turns: with the logger as it is by default, without, with the logger but neither its table nor its
picture, without. Shown are medians after a warm-up of one turn. Training on fewer windows is
stretched to an epoch of 4,000; validation, on 270, is not. About two minutes on two idle cores; the
ECGs are prepared in ./stores if they are not there yet. On a busy machine ask for --busy: processor
seconds of one thread, which other processes do not lengthen as much.
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from lightning import Trainer, seed_everything
from lightning.pytorch import Callback
from lightning.pytorch.loggers import WandbLogger

from xecg.callbacks import RelevanceLogger
from xecg.data import AFData
from xecg.precision import default_precision
from xecg.tasks import AFClassifier

TURN = ("with", "without", "with, but no table or picture", "without")
EPOCH = 4000  # windows
GOAL = 5.0  # per cent


class Stopwatch(Callback):
    """Seconds of training and of validation in every epoch."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.training: list[float] = []
        self.validation: list[float] = []

    def on_train_epoch_start(self, *_: object) -> None:
        self.start = self.clock()

    def on_validation_start(self, *_: object) -> None:
        self.middle = self.clock()

    def on_validation_end(self, *_: object) -> None:
        self.training.append(self.middle - self.start)
        self.validation.append(self.clock() - self.middle)


def main() -> None:
    arguments = parse_arguments()
    os.environ["WANDB_SILENT"] = "true"
    if arguments.busy:
        torch.set_num_threads(1)
    stopwatch = Stopwatch(time.process_time if arguments.busy else time.perf_counter)
    run(stopwatch, arguments.windows, len(TURN) * (arguments.repeats + 1))
    rows = compare(stopwatch, EPOCH / arguments.windows)
    show(rows)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", help="write the table here, too")
    parser.add_argument("--windows", type=int, default=1000, help="that are trained on")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="processor time of one thread")
    return parser.parse_args()


def run(stopwatch: Stopwatch, windows: int, epochs: int) -> None:
    seed_everything(0, verbose=False)
    relevance = RelevanceLogger(every_n_epochs=2, show_every_n_epochs=len(TURN))
    with tempfile.TemporaryDirectory() as folder:
        logger = WandbLogger(project="xecg", save_dir=folder, offline=True)
        trainer = Trainer(
            max_epochs=epochs,
            precision=default_precision()[0],
            callbacks=[relevance, stopwatch],
            logger=logger,
            log_every_n_steps=10,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(AFClassifier(), AFData(windows_per_epoch=windows))
        logger.experiment.finish()


def compare(stopwatch: Stopwatch, stretch: float) -> list[dict[str, str | float]]:
    """Seconds of an epoch and what it costs more; the logger works within validation."""
    training = stretch * statistics.median(stopwatch.training[len(TURN) :])
    validation = {
        kind: statistics.median(
            [
                seconds
                for epoch, seconds in enumerate(stopwatch.validation)
                if epoch >= len(TURN) and TURN[epoch % len(TURN)] == kind
            ]
        )
        for kind in TURN
    }
    plain = training + validation["without"]
    return [
        {
            "epoch": kind,
            "seconds": training + seconds,
            "per_cent": 100 * (training + seconds) / plain - 100,
        }
        for kind, seconds in validation.items()
    ]


def show(rows: list[dict[str, str | float]]) -> None:
    print(f"{torch.get_num_threads()} threads, {default_precision()[0]}; goal: {GOAL:g} %")
    print(f"{'epoch of 4,000 windows':28} {'seconds':>8} {'% more':>8}")
    for row in rows:
        print(f"{row['epoch']:28} {row['seconds']:8.2f} {row['per_cent']:8.2f}")


if __name__ == "__main__":
    main()

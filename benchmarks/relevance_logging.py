"""Time of an epoch of training with the relevance logger beside the same epoch without it.

    python benchmarks/relevance_logging.py [--json FILE]

One run of fine-tuning on the embedded synthetic ECGs, logged to W&B offline, in which epochs take
turns: with the logger as it is by default, without, with the logger but neither its table nor its
picture, without. Training on fewer windows is stretched to an epoch of 4,000; validation, on 270,
is not. About two minutes on two idle cores.
"""

import os
import tempfile

from fitting import Epochs
from lightning import Trainer, seed_everything
from lightning.pytorch.loggers import WandbLogger
from side_by_side import REPEATS, Row, medians, run_alone

from xecg.callbacks import RelevanceLogger
from xecg.data import AFData
from xecg.tasks import AFClassifier

TURN = ("with", "without", "with, but no table or picture", "without")
EPOCH = 4000  # windows
WINDOWS = 1000  # that are trained on
GOAL = 1.05


def measure() -> list[Row]:
    os.environ["WANDB_SILENT"] = "true"
    epochs = Epochs()
    run(epochs, len(TURN) * (REPEATS + 1))
    warm = len(TURN)
    training = medians({"training": epochs.training[warm:]})["training"] * EPOCH / WINDOWS
    turns = list(zip(TURN * REPEATS, epochs.validation[warm:], strict=True))
    validation = medians(
        {kind: [seconds for turn, seconds in turns if turn == kind] for kind in dict.fromkeys(TURN)}
    )
    seconds = {kind: training + value for kind, value in validation.items()}
    return [
        Row(
            what=f"an epoch of {EPOCH:,} windows {kind}",
            against="without relevance logging",
            value=seconds[kind] / seconds["without"],
            goal=GOAL,
            better="at most",
            measured={case: f"{seconds[case]:.2f} s" for case in (kind, "without")},
        )
        for kind in dict.fromkeys(TURN)
        if kind != "without"
    ]


def run(epochs: Epochs, n_epochs: int) -> None:
    seed_everything(0, verbose=False)
    relevance = RelevanceLogger(every_n_epochs=2, show_every_n_epochs=len(TURN))
    with tempfile.TemporaryDirectory() as folder:
        logger = WandbLogger(project="xecg", save_dir=folder, offline=True)
        trainer = Trainer(
            max_epochs=n_epochs,
            callbacks=[relevance, epochs],
            logger=logger,
            log_every_n_steps=10,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
        )
        trainer.fit(AFClassifier(), AFData(windows_per_epoch=WINDOWS))
        logger.experiment.finish()


if __name__ == "__main__":
    run_alone(measure, __doc__)

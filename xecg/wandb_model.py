"""The weights of a run as a model of its W&B run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger


def log_model(loggers: Sequence[Logger], weights: Path, metadata: Mapping[str, Any]) -> None:
    """Log a weights file as an artifact of type ``model``, called ``model-<id of the run>``.

    An offline run notes where the file lies, and ``wandb sync`` uploads it from there.

    Args:
        loggers: Those for Weights & Biases get it.
        weights: The file.
        metadata: What W&B shows beside it.
    """
    for run in [logger.experiment for logger in loggers if isinstance(logger, WandbLogger)]:
        from wandb import Artifact

        artifact = Artifact(f"model-{run.id}", type="model", metadata=dict(metadata))
        # Not copied to W&B's cache: the run's folder keeps it.
        artifact.add_file(str(weights.resolve()), policy="immutable", skip_cache=True)
        run.log_artifact(artifact, aliases=["best"])

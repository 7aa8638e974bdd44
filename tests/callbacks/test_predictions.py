from types import SimpleNamespace

import pytest
from lightning.pytorch import LightningModule
from lightning.pytorch.trainer.states import TrainerFn

from xecg.callbacks.predictions import PredictionWriter
from xecg.errors import ConfigError


def test_several_processes_are_refused_rather_than_writing_over_each_other():
    trainer, task = SimpleNamespace(world_size=2), LightningModule()
    PredictionWriter().setup(trainer, task, TrainerFn.FITTING)
    with pytest.raises(ConfigError, match=r"found 2\. Set --trainer\.devices 1"):
        PredictionWriter().setup(trainer, task, TrainerFn.PREDICTING)

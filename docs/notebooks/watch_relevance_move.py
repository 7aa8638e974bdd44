# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Watch the relevance move
# The idea of the paper: teach a branch what a P wave is, then fine-tune it on AF while its first
# blocks stay frozen. Does it keep looking at P waves? Here it happens in a minute, on the
# synthetic ECGs that come with xecg. So short a training shows how it works, not how well.

# %%
# %matplotlib inline
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from lightning import Trainer, seed_everything

import xecg
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.signal.synthetic import synthesize

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
seed_everything(0, verbose=False)
temporary = TemporaryDirectory()  # is gone with the notebook
folder = Path(temporary.name)


# %% [markdown]
# `Watched` remembers, after each epoch, what `RelevanceLogger` has logged. Every logger of
# Lightning gets the same numbers. `save` writes weights with what made them, so that whatever
# loads them can check preprocessing and persons.


# %%
class Watched(xecg.RelevanceLogger):
    """A relevance logger that keeps what it logs."""

    def __init__(self):
        super().__init__(n_windows=32, effects=False)
        self.epochs = []

    def on_validation_epoch_end(self, trainer, pl_module):
        """Keeps the enrichment of P waves, in sinus rhythm."""
        super().on_validation_epoch_end(trainer, pl_module)
        logged = trainer.callback_metrics
        self.epochs.append(float(logged["relevance/morphology/non_af/enrichment_p"]))


def train(task, data, epochs, *callbacks):
    """Trains a task, and returns the enrichment of P waves before and after each epoch."""
    watched = Watched()
    trainer = Trainer(
        max_epochs=epochs,
        callbacks=[watched, *callbacks],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.validate(task, data, verbose=False)
    trainer.fit(task, data)
    return watched.epochs


def save(task, data, name):
    """Writes the weights of a task, and returns their file."""
    info = WeightsInfo(
        architecture=describe_branches(task.branches),
        preprocessing=data.preprocessing.to_dict(),
        learnt=data.learnt(),
    )
    save_weights(task.network, folder / f"{name}.safetensors", info)
    return folder / f"{name}.safetensors"


# %% [markdown]
# ## 1. Pre-train: where are the P waves?
# The target is a label per sample. The loss counts only samples that somebody has annotated.
# An enrichment is NaN as long as the branch finds no P wave that could be explained.

# %%
data = xecg.PWaveData(stores="synthetic", windows_per_epoch=960)
p_waves = xecg.PWaveDetection(channels=16)
found = train(p_waves, data, 4)
weights = save(p_waves, data, "p_waves")
pd.Series(found, name="enrichment of P waves").rename_axis("epoch").round(2)

# %% [markdown]
# ## 2. Fine-tune on AF: frozen, free, from scratch
# Three morphology branches learn AF against non-AF. The first keeps three of its eight blocks as
# pre-training left them, the second may change all of them, the third was never pre-trained.

# %%
af = xecg.AFData(stores="synthetic", windows_per_epoch=640)
runs, files = {}, {}
for name, pretrained, depth in [
    ("3 blocks frozen", weights, 3),
    ("nothing frozen", weights, 0),
    ("from scratch", None, 0),
]:
    seed_everything(0, verbose=False)
    task = xecg.AFClassifier(
        branches=("morphology",), channels=16, pretrained={"morphology": pretrained}
    )
    runs[name] = train(task, af, 3, xecg.LayerFreezing(frozen_layers=depth))
    files[name] = save(task, af, name.replace(" ", "_"))
table = pd.DataFrame(runs).rename_axis("epoch")
table.round(2)

# %% [markdown]
# ## 3. The move
# Enrichment of P waves is their share of relevance over their share of time: 1 is chance.
# Epoch 0 is before fine-tuning: its head is still random, so few windows are predicted rightly,
# and only those count. A pre-trained branch begins with more on P waves than a random one, and
# after so short a training it has kept some of that lead, with or without frozen blocks.

# %%
axes = table.plot(marker="o", ylabel="enrichment of P waves in sinus rhythm", xticks=table.index)
_ = axes.axhline(1, color="grey", linestyle=":")

# %% [markdown]
# ## 4. The same ECG, seen by each
# Red and thick is where the branch looked most.

# %%
ecg = synthesize("N", seed=11, person_seed=20_001).recording.samples[0]
xecg.load(files["3 blocks frozen"]).explain(ecg, sampling_rate=250).plot()

# %%
xecg.load(files["from scratch"]).explain(ecg, sampling_rate=250).plot()

# %% [markdown]
# ## Try it
# - Freeze deeper: 5 or 8 blocks. When does the branch no longer learn AF?
# - Thaw a block every epoch: `LayerFreezing(schedule=Progression(start=8))` of
#   `xecg.callbacks.freezing`.
# - With configs and a folder for each run: `xecg fit --config configs/pretrain_pwave.yaml`; with
#   all depths and seeds: `xecg study --config configs/study_demo.yaml`.

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
# # Bring your own data and branch
# From a folder of WFDB records to a trained network with a branch that xecg does not have.
# The records are synthetic here; put yours in their place.

# %%
# %matplotlib inline
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import wfdb
from lightning import Trainer, seed_everything

import xecg
from xecg.networks.branch import BRANCHES, BlockSpec, Branch
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.signal.synthetic import synthesize

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", module="lightning")
seed_everything(0, verbose=False)
temporary = TemporaryDirectory()  # is gone with the notebook
folder = Path(temporary.name)

# %% [markdown]
# ## 1. A folder of records and a table
# 60 records of 20 s, two of each of 30 persons. Half are in AF. The table `records.csv` says what a
# record shows and whose it is: xecg splits by person, so nobody is both trained and tested on.

# %%
ecgs = folder / "my_ecgs"
ecgs.mkdir(parents=True)
rows = []
for number in range(60):
    person, rhythm = number // 2, ("N", "AF")[number // 2 % 2]
    ecg = synthesize(rhythm, duration_s=20, sampling_rate=500, seed=number, person_seed=person)
    wfdb.wrsamp(
        f"ecg{number:02}",
        fs=500,
        units=["mV"],
        sig_name=["II"],
        p_signal=ecg.recording.samples.T.astype("float64"),
        fmt=["16"],
        write_dir=str(ecgs),
    )
    label = {"N": "normal", "AF": "AF"}[rhythm]
    rows.append({"record": f"ecg{number:02}", "label": label, "person": f"person{person}"})
table = pd.DataFrame(rows)
table.to_csv(ecgs / "records.csv", index=False)
table.head(4)

# %% [markdown]
# ## 2. A store
# `prepare` filters, resamples and cuts the records into windows of 10 s, once. The store is then
# read by any number of runs. Labels that xecg does not know are named by `af=[...]` and
# `not_af=[...]`.

# %%
store = xecg.prepare("folder", folder / "mine", root=ecgs)
store.index[["record", "start_s", "af", "n_beats", "rmssd_ms"]].head(4)

# %% [markdown]
# ## 3. A branch of your own
# A branch is a tuple of blocks, from the input on. `stride` makes it faster, `dilation` lets it see
# further, `width` is a share of the channels. With a name in the registry it is like any other.

# %%
wide = (BlockSpec(15, stride=4, width=0.5), *(BlockSpec(9, dilation=2) for _ in range(3)))
BRANCHES.register("wide", wide)
f"one step sees {Branch(wide).receptive_field / 250:.2f} s"

# %% [markdown]
# ## 4. Train and test
# `wide` trains beside *morphology*, which starts from released weights with three blocks frozen.
# The intervals are over persons; the test split has only a few, so they are wide.

# %%
data = xecg.AFData(stores=str(folder / "mine"), windows_per_epoch=320)
task = xecg.AFClassifier(
    branches=("morphology", "wide"), pretrained={"morphology": "pwave_morphology"}
)
trainer = Trainer(
    max_epochs=8,
    callbacks=[xecg.LayerFreezing(frozen_layers={"morphology": 3})],
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(task, data)
trainer.test(task, data, verbose=False)
report = task.test_reports["mine"]
found = {part: {key: str(one) for key, one in of.items()} for part, of in report.items()}
pd.DataFrame(found).loc[["sensitivity", "specificity", "auroc"]]

# %% [markdown]
# ## 5. Keep it and use it
# The weights carry preprocessing, architecture and who was learnt from.

# %%
info = WeightsInfo(
    architecture=describe_branches(task.branches),
    preprocessing=data.preprocessing.to_dict(),
    learnt=data.learnt(),
)
save_weights(task.network, folder / "mine.safetensors", info)
xecg.classify([ecgs], folder / "predictions.csv", weights=folder / "mine.safetensors", jobs=1)
pd.read_csv(folder / "predictions.csv").head(4).round(3)

# %% [markdown]
# ## 6. Where does your branch look?
# A person whom it never met.

# %%
model = xecg.load(folder / "mine.safetensors")
stranger = synthesize("AF", sampling_rate=500, seed=99).recording.samples[0]
model.explain(stranger, sampling_rate=500).plot()

# %% [markdown]
# ## Try it
# - In a package, an entry point or the class path does what `register` does here; a database, a
#   task, a freezing schedule or an attribution method of your own: see
#   docs/EXTENDING.md.
# - With a config: `xecg fit --config configs/finetune_scratch.yaml --data.stores stores/mine
#   --model.branches '[morphology, my_package.branches.wide]'`.

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
# # Explain an ECG
# A network says that an ECG shows atrial fibrillation (AF). Where did it look?
# This notebook makes two ECGs, lets the released weights classify them, and shows what each of
# the two branches looked at. It needs no data and no GPU. Not a medical device.

# %%
# %matplotlib inline
import pandas as pd

import xecg
from xecg.signal.synthetic import synthesize

# %% [markdown]
# ## Two ECGs
# Synthetic ECGs come with their truth: each wave is known because it was put there.
# The first is in sinus rhythm (a P wave before each QRS, regular beats), the second in AF
# (no P wave, irregular beats). Each has 10 s at 500 Hz, in mV.

# %%
sinus = synthesize("N", sampling_rate=500, seed=3)
af = synthesize("AF", sampling_rate=500, seed=5)
ecgs = [ecg.recording.samples[0] for ecg in (sinus, af)]
print(f"{len(ecgs)} ECGs of {len(ecgs[0])} samples")

# %% [markdown]
# ## What does the network say?
# `xecg.load` takes released weights, a weights file or the folder of a run. An ECG may have any
# sampling rate and unit: filter, resampling and scaling are stored with the weights.
# *morphology* sees about 0.6 s at a time, the shape of waves; *rhythm* sees the whole window.
# `p_af` is the probability of AF of both together.

# %%
model = xecg.load("xecgarch")
model.classify(ecgs, sampling_rate=500).round(3)

# %% [markdown]
# ## Where did it look?
# Deep Taylor decomposition passes the decision back through the network to the samples of the
# ECG. Each sample gets its share, the *relevance*: red and thick is most. Expect P waves in the
# morphology branch (in AF, which has none, QRS complexes) and R peaks in the rhythm branch.

# %%
maps = model.explain(ecgs, sampling_rate=500)
maps.plot()

# %% [markdown]
# ## In numbers
# Enrichment is the share of relevance that a wave has, divided by its share of time: 1 is chance,
# 3 means three times as much as chance. In AF there is no P wave; `p` is then where it would be.

# %%
waves = ["p", "qrs", "st_t", "other"]
branches = {
    name: maps.table[[f"{name}_enrichment_{wave}" for wave in waves]].set_axis(waves, axis=1)
    for name in maps.relevance
}
pd.concat(branches).set_axis(
    pd.MultiIndex.from_product([branches, ["sinus rhythm", "AF"]]), axis=0
).round(2)

# %% [markdown]
# ## Does it need what it looks at?
# A map says where a network looked, not what it used. So replace the waves by a line and see how
# much the margin of the decision falls (in logits: above 0, the decision rested on them). `other`
# replaces as much between the waves; `rr` makes the beats regular; `f_waves` adds what AF adds.

# %%
effects = model.explain(ecgs, sampling_rate=500, effects=True).table
effects.set_axis(["sinus rhythm", "AF"], axis=0).filter(like="_effect_").T.round(2)

# %% [markdown]
# ## An ECG that is no good
# Noise 30 times as large as usual. A network would always say something; xecg says that the
# window cannot be judged, and why.

# %%
noisy = synthesize("N", sampling_rate=500, seed=3, noise=30).recording.samples[0]
model.classify(noisy, sampling_rate=500)[["p_af", "quality", "predicted", "note"]]

# %% [markdown]
# ## Try it
# - Another ECG: change `seed`, or `synthesize("O", ...)` for ectopic beats.
# - Another method: `model.explain(ecgs, sampling_rate=500, attribution="integrated_gradients")`.
# - Files: `xecg explain my_ecgs --out explained` writes such pictures and tables of a folder.

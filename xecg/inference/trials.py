"""What a model does with a sample of windows: under noise, and with what it looks at and uses."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xecg.data.store import Store
from xecg.explain.attributions import BranchExplainer
from xecg.explain.effects import agreement, wave_effects
from xecg.explain.relevance import CLASSES, wave_relevance
from xecg.inference.model import NOT_JUDGED, Model
from xecg.metrics.bootstrap import Interval, intervals, mean
from xecg.signal.heartbeats import detect_r_peaks
from xecg.signal.preprocessing import limit_band
from xecg.signal.quality import JUDGED, window_quality

NOISES = {"electrode motion": (1.0, 8.0), "muscle": (5.0, 45.0)}  # bands in Hz
LEVELS = (np.inf, 24, 12, 6, 0)  # signal to noise in dB
_FULL = 8**-0.5  # deviation of noise as strong as QRS complexes that fill the range (0 dB)


def noise_trial(model: Model, store: Store, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yields, by noise, level and truth, which windows can be judged, and which are called AF.

    The power of the noise is relative to that of QRS complexes, peak-to-peak squared / 8, which
    are taken to fill the window's range. R peaks are detected anew.
    """
    rate, generator = model.preprocessing.sampling_rate, np.random.default_rng(0)
    signals = store.signals[rows]
    for noise, band in NOISES.items():
        white = generator.standard_normal(signals.shape)
        added = np.stack([limit_band(one, rate, *band) for one in white])
        added *= _FULL / added.std(axis=1, keepdims=True)
        for level in LEVELS:
            noisy = model.preprocessing.scale(signals + added * 10 ** (-level / 20))
            beats = [detect_r_peaks(one, rate) for one in noisy]
            pairs = zip(noisy, beats, strict=True)
            quality = np.array([window_quality(x, x, r, rate).value for x, r in pairs])
            classes, _ = model.calls(model.p_af(noisy))
            judged, called = (quality >= JUDGED) & (classes != NOT_JUDGED), classes == "AF"
            for truth, of_class, groups in _by_truth(store, rows):
                about = {"noise": noise, "level_db": level, "truth": truth}
                among = of_class & judged
                yield about | {"measure": "judged"} | vars(mean(judged[of_class], groups[of_class]))
                if among.any():
                    of_judged = vars(mean(called[among], groups[among]))
                    yield about | {"measure": "of these called AF"} | of_judged


def wave_trial(model: Model, store: Store, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yields where each branch looks and what it uses, in windows that it is right about.

    Enrichment of relevance by wave, share of decisions that flip when the wave is replaced
    (:func:`xecg.explain.wave_effects`), and the agreement of both.
    """
    rate, x = model.preprocessing.sampling_rate, torch.from_numpy(store.signals[rows]).unsqueeze(1)
    peaks, explainer = [store.r_peaks(row) for row in rows], BranchExplainer(model.network)
    effects = wave_effects(explainer, x, peaks, rate)
    for branch, (logits, maps) in explainer.explain(x).items():
        found = wave_relevance(maps.squeeze(1), peaks, rate, logits=logits.amax(dim=1))
        table = found.join(effects[branch])
        decided = logits.argmax(dim=1).numpy()
        for truth, of_class, groups in _by_truth(store, rows):
            right = of_class & (decided == CLASSES.index(truth))
            about, mine = {"branch": branch, "truth": truth}, table[right]
            for name in mine.filter(regex="^(enrichment|flips)_"):
                if len(values := mine[name].dropna()):
                    measured = vars(mean(values, groups[values.index]))
                    yield about | {"measure": name} | measured
            if len(mine):
                yield about | {"measure": "agreement"} | vars(_agreement(mine, groups[right]))


def _agreement(table: pd.DataFrame, groups: NDArray[Any]) -> Interval:
    of = agreement(table)
    return intervals(lambda weights: {"agreement": of(weights)}, groups)["agreement"]


def _by_truth(
    store: Store, rows: NDArray[np.int64]
) -> Iterator[tuple[str, NDArray[np.bool_], NDArray[Any]]]:
    """Classes that there are, the rows of each, and the groups of all."""
    index = store.index.take(rows)
    groups = index["group"].to_numpy(dtype=np.str_)
    for code, truth in enumerate(CLASSES):
        if (of_class := index["af"].to_numpy() == code).any():
            yield truth, of_class, groups

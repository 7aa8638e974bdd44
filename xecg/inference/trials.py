"""Windows of a store that weights may be tested on, and what a model says of them under noise."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.data.splits import seen
from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.explain.relevance import CLASSES
from xecg.inference.model import NOT_JUDGED, Model
from xecg.metrics.bootstrap import mean
from xecg.networks.weights import WeightsInfo
from xecg.signal.heartbeats import detect_r_peaks
from xecg.signal.preprocessing import limit_band
from xecg.signal.quality import JUDGED, window_quality

NOISES = {"electrode motion": (1.0, 8.0), "muscle": (5.0, 45.0)}  # bands in Hz
LEVELS = (np.inf, 24, 12, 6, 0)  # signal to noise in dB
_FULL = 8**-0.5  # deviation of noise as strong as QRS complexes that fill the range (0 dB)


def check_empty(out: Path) -> None:
    """Raises ConfigError if there is something at ``out`` that is no empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} is no empty folder; name another one")


def rows_to_test(
    store: Store, infos: Mapping[Path, WeightsInfo], split: str
) -> tuple[NDArray[np.int64], str]:
    """Returns rows of the store that may be tested on, and what kind of windows they are.

    Raises StoreError if there is none, or the windows are not such as the weights take, and
    WeightsError if unseen ones are asked for and weights do not say what they learnt from.
    """
    silent, learnt = [], np.zeros(len(store), bool)
    for path, info in infos.items():
        for name, value in store.info.preprocessing.to_dict().items():
            if (taken := info.preprocessing.get(name)) != value:
                raise StoreError(
                    f"{store.path}: expected windows as {path} takes them, {name} {taken}; found "
                    f"{name} {value}. Prepare the database again with that"
                )
        if info.learnt is None:
            silent.append(str(path))
        else:
            learnt |= seen(store.info.identity, store.index, info.learnt)
    if split == "all":
        origin = f"from all {len(store)} windows, {learnt.sum()} of them learnt from"
        if silent:
            origin = "from the whole store; whether the weights learnt from them is not known"
        return np.arange(len(store)), origin
    remedy = "pass --split all to draw from the whole store, seen or not"
    if silent:
        known = "expected weights that say what they learnt from, found older ones"
        raise WeightsError(f"{', '.join(silent)}: {known}; {remedy}")
    if learnt.all():
        unseen = "expected windows of persons that the weights did not learn from, found none"
        raise StoreError(f"{store.path}: {unseen}; {remedy}")
    return np.flatnonzero(~learnt), "of whom the weights learnt nothing"


def noise_trial(model: Model, store: Store, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yields, by noise, level and truth, which windows can be judged, and which are called AF.

    The power of the noise is relative to that of QRS complexes, peak-to-peak squared / 8, which
    are taken to fill the window's range. R peaks are detected anew.
    """
    rate, generator = model.preprocessing.sampling_rate, np.random.default_rng(0)
    signals, index = store.signals[rows], store.index.take(rows)
    groups, af = index["group"].to_numpy(dtype=np.str_), index["af"].to_numpy()
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
            for code in np.unique(af[af >= 0]):
                about = {"noise": noise, "level_db": level, "truth": CLASSES[code]}
                of_class, among = af == code, (af == code) & judged
                yield about | {"measure": "judged"} | vars(mean(judged[of_class], groups[of_class]))
                if among.any():
                    of_judged = vars(mean(called[among], groups[among]))
                    yield about | {"measure": "of these called AF"} | of_judged

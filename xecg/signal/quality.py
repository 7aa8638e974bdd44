"""Whether a window can be judged: its quality, from the signal alone.

Noise is what is left of the heartbeats without their median, the idea of the template matching of
Orphanidou et al., IEEE J Biomed Health Inform 19(3), 2015; flat and clipped stretches and missing
beats are those of Clifford et al., Physiol Meas 33(9), 2012.
"""

from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import median_filter

from xecg.signal.preprocessing import limit_band
from xecg.signal.waves import runs_of

JUDGED = 0.5  # lowest quality of a window that is judged
_FEWEST_BEATS = 4
_BEAT_S = (0.3, 0.4)  # before and after the R peak: P wave to most of the T wave
_QRS_S = 0.06
_PIECE_S = 0.2  # in which a signal that is there moves
_FLAT_S = 1.0  # flat for longer than a T-P segment of a slow heart without noise
_STILL = 0.005  # share of the QRS complexes by which a flat line moves
_HELD_S = 0.4  # for which neighbouring samples of a heart, once digitised, are hardly ever equal
_HELD = 0.8  # share of samples equal to the one before, above which they are held, not recorded
_STRAIGHT_S = 0.6  # for which a heart does not draw a straight line, to a step of its samples
_SPIKE_S = 0.01  # half of what the narrowest wave of a heart lasts
_SMALL = 0.2  # share of the QRS complexes below which a peak is no heartbeat
_CLIPPED = 0.1  # share of the swing by which an end lies off the baseline
_FAST_HZ = 12.0  # above the fibrillatory waves
_REGULAR = 0.1  # median change of RR intervals, over their median, below which there is no AF


class Quality(NamedTuple):
    """Quality of a window."""

    value: float  # 1 best, 0 worst; below JUDGED the window cannot be judged
    reason: str  # what spoils the window most; empty if it can be judged


# The size at which a window cannot be judged any more, and what is said then.
_MEASURES: dict[str, tuple[float, Callable[[float], str]]] = {
    "noise": (0.18, lambda x: f"noise of {x:.0%} of the QRS complexes"),
    "noise, no AF": (0.11, lambda x: f"noise of {x:.0%} of the QRS complexes"),
    "fast noise": (0.06, lambda x: f"noise above {_FAST_HZ:g} Hz, {x:.0%} of the QRS complexes"),
    "flat": (0.15, lambda x: f"flat for {x:.0%} of the time"),
    "held": (0.1, lambda x: f"samples that repeat the one before, {_HELD + x:.0%}"),
    "clipped": (0.05, lambda x: f"clipped for {x:.0%} of the time"),
    "spike": (4.0, lambda x: f"a swing {x:.1f} times as large as the QRS complexes"),
    "narrow spike": (1.5, lambda x: f"a spike {x:.1f} times as large as the QRS complexes"),
    "no peaks": (0.5, lambda x: f"waves without narrow peaks ({1 / x:.1f} as kurtosis)"),
    "pause_s": (4.0, lambda x: f"no heartbeat found for {x:.1f} s"),
}


def window_quality(
    raw: NDArray[np.floating],
    filtered: NDArray[np.floating],
    r_peaks: NDArray[np.integer],
    sampling_rate: float,
) -> Quality:
    """Returns the quality of a window.

    ``raw`` (raw time,) is the window as recorded, at any rate; ``filtered`` (time,) is in the
    network's band, not scaled, at ``sampling_rate`` (Hz); ``r_peaks`` are samples of it.
    """
    seconds = len(filtered) / sampling_rate
    sizes = _of_beats(np.asarray(filtered, dtype=np.float64), r_peaks, sampling_rate)
    swing = sizes.pop("qrs")
    step = max(2, round(_PIECE_S * (len(raw) / seconds)))
    still = np.ptp(raw[: len(raw) // step * step].reshape(-1, step), axis=1) <= _STILL * swing
    moves = np.diff(raw)
    held = moves == 0
    packets = _share_in_runs(held, round(_HELD_S * len(raw) / seconds))
    within = 1.5 * min(np.abs(moves).min(where=~held, initial=np.inf), _STILL * swing)
    straight = np.abs(np.diff(moves)) <= within  # as of lines across lost packets
    ramps = _share_in_runs(straight, round(_STRAIGHT_S * len(raw) / seconds))
    sizes["flat"] = max(_share_in_runs(still, round(_FLAT_S / _PIECE_S)), packets, ramps)
    sizes["held"] = max(0.0, float(held.mean()) - _HELD)
    middle, reach = np.median(raw), _CLIPPED * np.ptp(raw)
    ends = [end for end in (raw.min(), raw.max()) if abs(end - middle) > reach]
    sizes["clipped"] = sum(_share_in_runs(raw == end, 3) for end in ends)
    narrow = 2 * max(1, round(_SPIKE_S * len(raw) / seconds)) + 1
    sizes["narrow spike"] = float(np.abs(raw - median_filter(raw, narrow)).max() / swing)
    values = {name: 1 - (1 - JUDGED) * size / _MEASURES[name][0] for name, size in sizes.items()}
    worst = min(values, key=values.__getitem__)
    value = min(max(values[worst], 0.0), 1.0)
    return Quality(value, "" if value >= JUDGED else _MEASURES[worst][1](sizes[worst]))


def _of_beats(
    signal: NDArray[np.float64], r_peaks: NDArray[np.integer], rate: float
) -> dict[str, float]:
    """Measures the size of the heartbeats, the noise between them, and the longest pause."""
    before, after, half = (round(s * rate) for s in (*_BEAT_S, _QRS_S))
    pauses = np.diff(np.concatenate([[0], r_peaks, [len(signal)]]))
    pause_s = float(pauses.max() / rate)
    inner = r_peaks[(r_peaks >= before) & (r_peaks + after <= len(signal))]
    span = float(np.ptp(signal))
    if len(inner) < _FEWEST_BEATS:
        return {"qrs": max(span, 1e-300), "pause_s": max(pause_s, 2 * _MEASURES["pause_s"][0])}
    places = inner[:, None] + np.arange(-before, after)
    beats, complexes = signal[places], slice(before - half, before + half)
    heights = np.ptp(beats[:, complexes], axis=1)
    qrs = max(median(heights.tolist()), 1e-9 * span, np.finfo(float).tiny)
    seen = np.setdiff1d(r_peaks, inner[heights < _SMALL * qrs])
    pause_s = float(np.diff([0, *seen, len(signal)]).max() / rate)
    power = np.square(signal - signal.mean())
    noise = _rest(beats - np.median(beats, axis=1, keepdims=True)) / qrs
    fast = limit_band(signal, rate, _FAST_HZ, None)[places]
    changes = np.abs(np.diff(pauses[1:-1])).tolist()
    regular = median(changes) < _REGULAR * median(pauses[1:-1].tolist())
    return {
        "qrs": qrs,
        "noise": noise,
        "noise, no AF": noise if regular else 0.0,  # fibrillatory waves look like noise
        "fast noise": _rest(np.delete(fast, complexes, axis=1)) / qrs,
        "spike": span / qrs,
        "no peaks": float(power.mean() ** 2 / np.square(power).mean()),
        "pause_s": pause_s,
    }


def _rest(beats: NDArray[np.float64]) -> float:
    """Returns what is left of most beats ``(beats, time)`` when their median is taken away."""
    rest = beats - np.median(beats, axis=0)
    sizes: list[float] = np.sqrt(np.square(rest).mean(axis=1)).tolist()
    return median(sizes)  # half of them may be ectopic


def _share_in_runs(mask: NDArray[np.bool_], at_least: int) -> float:
    """Returns the share of ``mask`` that is true in runs of that length or longer."""
    lengths = (stop - start for start, stop in runs_of(mask))
    return sum(length for length in lengths if length >= at_least) / len(mask)

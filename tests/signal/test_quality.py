"""Quality of a window: what spoils it is found and named, what does not is left in peace."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import signal as dsp

from xecg.signal.preprocessing import Preprocessing, cut_windows
from xecg.signal.quality import JUDGED, Quality, window_quality
from xecg.signal.synthetic import synthesize
from xecg.signal.waves import detect_r_peaks
from xecg.signal.wfdb import read_recording

RATE = 500.0
UNSCALED = replace(Preprocessing(), scaling="none")


def quality_of(
    signal: np.ndarray, rate: float = RATE, beats_of: np.ndarray | None = None
) -> Quality:
    signal = signal.astype(np.float32)
    (filtered,) = cut_windows(signal, rate, UNSCALED).signals
    beats = signal if beats_of is None else beats_of.astype(np.float32)
    r_peaks = np.rint(detect_r_peaks(beats, rate) / rate * 250).astype(int)
    return window_quality(signal, filtered, r_peaks, 250.0)


def test_an_ecg_without_noise_is_not_clipped() -> None:
    time = np.arange(5000) / RATE
    beats = np.exp(-(((time % 0.8 - 0.4) / 0.02) ** 2)) * (np.abs(time % 0.8 - 0.4) < 0.06)
    assert "clipped" not in quality_of(beats).reason


def ecg(rhythm: str = "N", seed: int = 1) -> np.ndarray:
    return synthesize(rhythm, sampling_rate=RATE, seed=seed).recording.samples[0]


def band(low: float, high: float, n: int, rate: float = RATE) -> np.ndarray:
    noise = np.random.default_rng(0).standard_normal(n + 2000)
    sections = dsp.butter(3, [low, high], "bandpass", fs=rate, output="sos")
    filtered = dsp.sosfiltfilt(sections, noise)[1000:-1000]
    return filtered / filtered.std()


def spoilt(kind: str, signal: np.ndarray) -> np.ndarray:
    signal, n, size = signal.copy(), len(signal), float(np.ptp(signal))
    if kind == "long flat":
        signal[round(0.6 * n) :] = signal[round(0.6 * n)]
    elif kind == "clipped":
        signal = np.clip(signal, *np.quantile(signal, [0.15, 0.85]))
    elif kind == "one giant spike":
        signal[n // 3 : n // 3 + 5] += 20 * size
    elif kind == "a sample":
        signal[n // 3] += 5 * size
    elif kind == "noise for beats":
        signal[n // 2 :] = 0.02 * size * band(5, 45, n)[n // 2 :]
    elif kind == "pulse":
        phase = 2 * np.pi * 1.2 * np.arange(n) / RATE
        signal = np.sin(phase) + 0.4 * np.sin(2 * phase + 1)
    elif kind == "step":
        signal[n // 3 :] += 8 * size
    elif kind == "electrode motion":
        signal += 0.3 * size * band(1, 8, n)
    elif kind == "muscle":
        signal += 0.3 * size * band(5, 45, n)
    elif kind == "held":  # of each packet of 24 ms one sample came through
        signal = np.repeat(signal[::12], 12)[:n]
    elif kind == "lost packets":  # after every second beat a sample is held for 0.5 s
        for start in detect_r_peaks(signal, RATE)[::2] + round(0.3 * RATE):
            signal[start : start + round(0.5 * RATE)] = signal[start]
    elif kind == "bridged packets":  # a line is drawn across 0.9 s of every 1.9 s
        for start in range(0, n - round(0.9 * RATE), round(1.9 * RATE)):
            line = signal[start : start + round(0.9 * RATE)]
            line[:] = np.linspace(line[0], line[-1], len(line))
    elif kind == "no heartbeat":
        signal = 1e-3 * band(5, 45, n)
    return signal


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rhythm", ["N", "AF", "O"])
def test_a_clean_window_is_judged(rhythm: str, seed: int) -> None:
    assert quality_of(ecg(rhythm, seed)).value > JUDGED


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("long flat", "flat"),
        ("clipped", "clipped"),
        ("one giant spike", "spike"),
        ("a sample", "spike"),
        ("noise for beats", ""),
        ("pulse", "peaks"),
        ("step", "swing"),
        ("electrode motion", "noise"),
        ("muscle", "noise"),
        ("held", "repeat"),
        ("lost packets", "flat"),
        ("bridged packets", "flat"),
        ("no heartbeat", ""),
    ],
)
def test_a_spoilt_window_is_not_judged(kind: str, word: str) -> None:
    value, reason = quality_of(spoilt(kind, ecg()))
    assert value < JUDGED
    assert reason
    assert word in reason


@pytest.mark.parametrize("kind", ["baseline wander", "inverted", "in microvolts", "offset"])
def test_what_does_no_harm_is_judged(kind: str) -> None:
    signal = ecg()
    wander = np.sin(2 * np.pi * 0.2 * np.arange(len(signal)) / RATE)
    changed = {
        "baseline wander": signal + np.ptp(signal) * wander,
        "inverted": -signal,
        "in microvolts": 1000 * signal,
        "offset": signal + 100,
    }[kind]
    assert quality_of(changed).value > JUDGED


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e4), seed=st.integers(0, 50))
def test_quality_knows_no_unit(scale: float, seed: int) -> None:
    assert quality_of(scale * ecg(seed=seed)).value == pytest.approx(
        quality_of(ecg(seed=seed)).value, abs=0.02
    )


BEAT_IN_NOISE = (46, 50)  # the detector finds in noise a beat that it missed without


@pytest.mark.parametrize("seed", range(51))
def test_more_noise_is_never_better(seed: int) -> None:
    signal = ecg(seed=seed)
    noise = np.ptp(signal) * band(1, 8, len(signal))
    for beats_of in [signal] if seed in BEAT_IN_NOISE else [signal, None]:
        noisy = [signal + share * noise for share in (0, 0.05, 0.1, 0.3)]
        values = [quality_of(one, beats_of=beats_of).value for one in noisy]
        assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("signal", [np.zeros(5000), np.full(5000, 3.0), np.arange(5000.0)])
def test_what_is_no_ecg_at_all_is_not_judged(signal: np.ndarray) -> None:
    filtered = np.zeros(2500)
    assert window_quality(signal, filtered, np.array([], dtype=int), 250.0).value < JUDGED


def test_real_windows_are_judged_and_noisy_ones_are_not(xecg_data: Path) -> None:
    judged, noisy = [], []
    for path in sorted((xecg_data / "mitdb").rglob("1*.hea")):
        recording = read_recording(path.with_suffix(""))
        rate, lead = recording.sampling_rate, recording.samples[0]
        for start in (300, 900):
            signal = lead[int(start * rate) : int((start + 10) * rate)]
            judged.append(quality_of(signal, rate).value >= JUDGED)
            size = np.median(np.ptp(signal.reshape(10, -1), axis=1))
            motion = size * band(1, 8, len(signal), rate) / np.sqrt(8)  # 0 dB
            noisy.append(quality_of(signal + motion, rate).value >= JUDGED)
    assert np.mean(judged) >= 0.9
    assert np.mean(noisy) <= 0.05

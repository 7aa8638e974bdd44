"""Adds noise to windows of MIT-BIH and xfusemap and counts which are judged, and which called AF.

    XECG_DATA=FOLDER python tests/reliability/noise.py [--windows 250] [--weights xecgarch]

Noise is added to single windows of 10 s at a ratio to the power of the QRS complexes (their swing
squared, over 8). A window counts as non-AF or AF by its database's labels; mixed ones and flutter
are left out. About a minute.
"""

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import signal as dsp

import xecg
from xecg.data.databases import get_database
from xecg.signal.waves import detect_r_peaks

BANDS = {"electrode motion": (1.0, 8.0), "muscle": (5.0, 45.0)}
RATIOS_DB = (24, 12, 6, 0)
SOURCES = {"mitdb": ("mitdb", 16), "challenge": ("xfusemap", 1)}  # folder, windows of a record
Window = tuple[NDArray[np.float32], float, int]  # lead, sampling rate, AF or not


def windows_of(name: str, root: Path, rng: np.random.Generator) -> list[Window]:
    """Windows of one rhythm, some of every record."""
    folder, most = SOURCES[name]
    database = get_database(name, root / folder)
    found: list[Window] = []
    for record in database.records():
        labelled = database.read(record)
        lead, rate = labelled.recording.samples[0], labelled.recording.sampling_rate
        starts = rng.permutation(np.arange(0, int(labelled.recording.duration_s) - 9, 10))
        of_record: list[Window] = []
        for start in starts.tolist():
            spans = [s for s in labelled.rhythms if s.start_s < start + 10 and s.stop_s > start]
            if len(af := {span.af for span in spans}) == 1 and -1 not in af:
                a = round(start * rate)
                of_record.append((lead[a : a + round(10 * rate)], rate, af.pop()))
        found += of_record[:most]
    return found


def noisy(window: Window, kind: str, ratio_db: float, rng: np.random.Generator) -> Window:
    lead, rate, af = window
    half = round(0.06 * rate)
    peaks = detect_r_peaks(lead, rate)
    complexes = [np.ptp(lead[max(0, peak - half) : peak + half]) for peak in peaks]
    size = float(np.median(complexes)) if complexes else float(np.ptp(lead))
    low, high = BANDS[kind]
    edges = [low, min(high, 0.49 * rate)]
    sections = dsp.butter(3, edges, "bandpass", fs=rate, output="sos")
    margin = 2 * round(rate)
    noise = dsp.sosfiltfilt(sections, rng.standard_normal(len(lead) + 2 * margin))[margin:-margin]
    noise *= size / np.sqrt(8) / 10 ** (ratio_db / 20) / noise.std()
    return (lead + noise).astype(np.float32), rate, af


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--windows", type=int, default=250)
    parser.add_argument("--weights", default="xecgarch")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    root, rng = Path(os.environ["XECG_DATA"]), np.random.default_rng(given.seed)
    model = xecg.load(given.weights)
    rows = []
    for name, (folder, _) in SOURCES.items():
        every = windows_of(name, root, rng)
        windows = [every[i] for i in rng.permutation(len(every))[: given.windows]]
        cases = [("none", 0)] + [(kind, ratio) for kind in BANDS for ratio in RATIOS_DB]
        for kind, ratio in cases:
            added = windows if kind == "none" else [noisy(w, kind, ratio, rng) for w in windows]
            for lead, rate, af in added:
                ecg = 1000 * lead  # xfusemap is scaled to [0, 1], which is refused as it is
                (found,) = model.classify(ecg, rate).head(1).to_dict("records")
                judged = found["predicted"] in ("AF", "non-AF")
                called = found["predicted"] == "AF"
                rows.append((folder, kind, ratio, af, judged, called, found["p_af"] > 0.5))
    names = ["database", "noise", "dB", "af", "judged", "called AF", "p above 0.5"]
    table = pd.DataFrame(rows, columns=names)
    by = ["database", "noise", "dB"]
    shares = {}
    for af, title in ((0, "non-AF"), (1, "AF")):
        windows_of_class = table[table["af"] == af]
        shares[f"{title}: windows"] = windows_of_class.groupby(by, sort=False).size()
        shares[f"{title}: judged"] = windows_of_class.groupby(by, sort=False)["judged"].mean()
        judged = windows_of_class[windows_of_class["judged"]].groupby(by, sort=False)
        shares[f"{title}: judged called AF"] = judged["called AF"].mean()
        of_all = windows_of_class.groupby(by, sort=False)
        shares[f"{title}: called AF if all were judged"] = of_all["p above 0.5"].mean()
    print(pd.DataFrame(shares).round(3).to_string())


if __name__ == "__main__":
    main()

"""A database of made-up records, described by small JSON files, for tests of what uses one."""

import json
import os
import time
from pathlib import Path

import numpy as np

from xecg.data.databases.base import Database, LabelledRecording, RhythmSpan
from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.waves import NOT_ANNOTATED, QRS

RATE = 200.0


class FakeDatabase(Database):
    """Records of spikes on noise, read from `*.json` with what `describe` writes."""

    name = "fake"
    title = "Fake ECGs"
    version = "1"
    licence = "CC0"
    citation = "Nobody. Nowhere."
    markers = ("*.json",)

    def records(self) -> list[str]:
        return sorted(path.stem for path in self.folder.glob("*.json"))

    def read(self, record: str) -> LabelledRecording:
        text = (self.folder / f"{record}.json").read_text()
        if text.startswith("corrupt"):
            raise RecordError(f"{record}: expected JSON, found {text!r}")
        if text == "kill":
            os.kill(os.getpid(), 9)
        about = json.loads(text)
        time.sleep(about.get("delay_s", 0))
        return labelled_recording(record, **{k: v for k, v in about.items() if k != "delay_s"})


def labelled_recording(
    name="r",
    *,
    seed=0,
    duration_s=25.0,
    person="",
    rhythms=(("N", 0, 0.0, 1000.0),),
    rr_s=0.8,
    beats=True,
    waves=False,
    leads=("II",),
):
    """A recording; `rhythms` are (label, af, start_s, stop_s), cut to the record."""
    n_samples = round(duration_s * RATE)
    r_peaks = np.arange(round(0.5 * RATE), n_samples - 50, round(rr_s * RATE))
    samples = np.random.default_rng(seed).normal(0, 0.02, (len(leads), n_samples))
    for offset, height in ((-2, 0.4), (-1, 0.8), (0, 1.2), (1, 0.8), (2, 0.4)):
        samples[:, r_peaks + offset] += height
    codes = np.full(n_samples, NOT_ANNOTATED, np.uint8)
    codes[r_peaks[0] : r_peaks[:6][-1]] = 0
    codes[r_peaks[1] - 8 : r_peaks[1] + 8] = QRS
    return LabelledRecording(
        Recording(name, samples.astype(np.float32), RATE, tuple(leads), ("mV",) * len(leads)),
        person=person,
        rhythms=tuple(
            RhythmSpan(start, min(stop, duration_s), label, af)
            for label, af, start, stop in rhythms
        ),
        r_peaks=r_peaks.astype(np.int64) if beats else None,
        beat_symbols=("N",) * len(r_peaks) if beats else None,
        codes=dict.fromkeys(leads, codes) if waves else {},
    )


def describe(root: Path, **records) -> FakeDatabase:
    """Writes a database: record name to the keywords of `labelled_recording`, or a text."""
    root.mkdir(parents=True, exist_ok=True)
    for name, about in records.items():
        text = about if isinstance(about, str) else json.dumps(about)
        (root / f"{name}.json").write_text(text)
    return FakeDatabase(root)


def many(n: int, **about) -> dict[str, dict]:
    """`n` records of 10 persons or fewer, every fourth in AF."""
    return {
        f"r{i:03d}": {
            "seed": i,
            "person": f"fake-{i % 10}",
            "rhythms": [["AFIB", 1, 0, 1000] if i % 4 == 0 else ["N", 0, 0, 1000]],
            **about,
        }
        for i in range(n)
    }

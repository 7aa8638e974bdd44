"""Records and stores of any size, made for measuring."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xecg.data.databases.base import Database, LabelledRecording, RhythmSpan
from xecg.data.prepare import prepare
from xecg.data.store import Store
from xecg.signal.recording import Recording
from xecg.signal.wfdb import write_recording

if TYPE_CHECKING:
    from xecg.inference.model import Model

RATE = 300.0
DURATION_S = 30.0


def made_recording(name: str, duration_s: float = DURATION_S, rate: float = RATE) -> Recording:
    """Beats at random intervals in noise, a function of the name's digits."""
    rng = np.random.default_rng(int("".join(filter(str.isdigit, name))))
    time = np.arange(round(duration_s * rate)) / rate
    beats = np.cumsum(rng.uniform(0.5, 1.2, int(2.5 * duration_s)))
    samples = np.interp(time, np.add.outer(beats, [-0.03, 0, 0.03]).ravel(), [0, 1, 0] * len(beats))
    samples += rng.normal(0, 0.03, len(time))
    return Recording(name, samples[np.newaxis].astype(np.float32), rate, ("I",), ("mV",))


def made_windows(model: "Model", n: int) -> NDArray[np.float32]:
    """Noise as the network of ``model`` takes it, ``(n, window_samples)``."""
    shape = n, model.preprocessing.window_samples
    return model.preprocessing.scale(np.random.default_rng(0).random(shape, dtype=np.float32))


class MadeDatabase(Database):
    """Records that are drawn when they are read; of each there is an empty file."""

    name = "made"
    title = "Made ECGs"
    version = "1"
    licence = "CC0"
    citation = "Nobody."
    markers = ("*.made",)

    def records(self) -> list[str]:
        return sorted(path.stem for path in self.root.glob("*.made"))

    def read(self, record: str) -> LabelledRecording:
        return made_labelled(record)


def made_labelled(record: str) -> LabelledRecording:
    return LabelledRecording(made_recording(record), rhythms=made_rhythm(record))


def made_rhythm(record: str) -> tuple[RhythmSpan]:
    af = int(record[-1]) % 2
    return (RhythmSpan(0.0, DURATION_S, "AFIB" if af else "N", af),)


def made_database(folder: Path, n_records: int) -> MadeDatabase:
    folder.mkdir(parents=True)
    for number in range(n_records):
        (folder / f"m{number:06}.made").touch()
    return MadeDatabase(folder)


def wfdb_records(folder: Path, n_records: int, duration_s: float) -> list[Path]:
    """Records on disk, by their paths without suffix."""
    names = [f"m{number:06}" for number in range(n_records)]
    for name in names:
        write_recording(made_recording(name, duration_s), folder)
    return [folder / name for name in names]


def made_store(folder: Path, n_windows: int) -> Store:
    """A store of that many windows, about three of each record."""
    records = folder.with_name(f"{folder.name}-records")
    return prepare(made_database(records, -(-n_windows // 3)), folder)

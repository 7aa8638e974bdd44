"""Small WFDB databases for the tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xecg.signal.recording import Recording
from xecg.signal.wfdb import Annotations, write_annotations, write_recording

RATE = 250.0


def marks(*pairs: tuple[int, str], notes: Sequence[str] = ()) -> Annotations:
    """Annotations from (sample, symbol) pairs."""
    return Annotations(
        samples=np.array([sample for sample, _ in pairs], dtype=np.int64),
        symbols=tuple(symbol for _, symbol in pairs),
        notes=tuple(notes) or ("",) * len(pairs),
    )


def write_record(
    folder: Path,
    name: str,
    *,
    leads: Sequence[str] = ("II",),
    comments: Sequence[str] = (),
    seconds: float = 10.0,
    phase: float = 0.0,
    **annotations: Annotations,
) -> None:
    """A WFDB record with a sine in each lead, and annotation files by extension."""
    time = np.arange(round(seconds * RATE)) / RATE
    samples = np.stack([np.sin(2 * np.pi * (i + 1) * time + phase) for i in range(len(leads))])
    units = ("mV",) * len(leads)
    recording = Recording(name, samples, RATE, tuple(leads), units, tuple(comments))
    write_recording(recording, folder)
    for extension, written in annotations.items():
        letters = "".join(filter(str.isalpha, extension))  # wfdb writes no others
        write_annotations(folder / name, letters, written, RATE)
        (folder / f"{name}.{letters}").rename(folder / f"{name}.{extension}")

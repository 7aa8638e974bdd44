"""The most common kind of WFDB record, read directly: one segment, one file of 16-bit samples.

wfdb reads every kind, at about a millisecond a header: longer than a short record takes to filter.
What is not plainly of this kind is left to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_MISSING = -32768
_BYTES = 2

# name, signals, sampling rate, samples, and perhaps a time and a date
_RECORD_LINE = re.compile(
    r"[-\w]+[ \t]+(?P<n_signals>\d+)[ \t]+(?P<rate>\d+(?:\.\d{1,6})?)[ \t]+(?P<n_samples>\d+)"
    r"(?:[ \t]+\d{1,2}:\d{1,2}:\d{1,2}(?:\.\d{1,6})?(?:[ \t]+\d{1,2}/\d{1,2}/\d{4})?)?",
    re.ASCII,
)
# file, format, gain, resolution, zero, first value, checksum, block size, name
_SIGNAL_LINE = re.compile(
    r"(?P<file>[-\w]+\.\w+)[ \t]+16(?:\+(?P<offset>\d+))?"
    r"[ \t]+(?P<gain>\d+(?:\.\d+)?)(?:\((?P<baseline>-?\d+)\))?(?:/(?P<unit>[\w^%-]+))?"
    r"[ \t]+\d+[ \t]+(?P<zero>-?\d+)[ \t]+-?\d+[ \t]+-?\d+[ \t]+\d+[ \t]+(?P<name>\S[^\t]*)",
    re.ASCII,
)


@dataclass(frozen=True, eq=False)
class Format16:
    """What such a record holds.

    Args:
        samples: float32 (leads, time) in physical units, NaN where missing.
        sampling_rate: In Hz.
        names: Of the leads.
        units: Of the leads; None where the header gives none.
        comments: Of the header.
    """

    samples: NDArray[np.float32]
    sampling_rate: float
    names: tuple[str, ...]
    units: tuple[str | None, ...]
    comments: tuple[str, ...]


def read_format16(header: Path) -> Format16 | None:
    """Read a record of this kind, to the same bits as wfdb.

    Args:
        header: Path of its header.

    Returns:
        None for a record of any other kind, or of which samples are missing.

    Raises:
        OSError: The header cannot be read.
    """
    text = header.read_text(encoding="ascii", errors="ignore")
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    comments = tuple(line.strip(" \t#") for line in lines if line.startswith("#"))
    record_line, *signal_lines = [line for line in lines if not line.startswith("#")] or [""]
    record = _RECORD_LINE.fullmatch(record_line)
    signals = [_SIGNAL_LINE.fullmatch(line) for line in signal_lines]
    found = [signal for signal in signals if signal is not None]
    if record is None or not found or len(found) < len(signals):
        return None
    if len(found) != int(record["n_signals"]) or any(float(one["gain"]) == 0 for one in found):
        return None
    digital = _digital(header.parent, found, int(record["n_samples"]))
    if digital is None:
        return None
    return Format16(
        samples=_physical(digital, found),
        sampling_rate=float(record["rate"]),
        names=tuple(signal["name"] for signal in found),
        units=tuple(signal["unit"] for signal in found),
        comments=comments,
    )


def _digital(
    folder: Path, signals: list[re.Match[str]], n_samples: int
) -> NDArray[np.int16] | None:
    """Stored values (time, leads); None if they are not all in one file."""
    if len({(signal["file"], signal["offset"]) for signal in signals}) > 1 or n_samples == 0:
        return None
    file, offset, n_values = signals[0]["file"], int(signals[0]["offset"] or 0), len(signals)
    n_values *= n_samples
    try:
        with (folder / file).open("rb") as stored:
            stored.seek(offset)
            content = stored.read(_BYTES * n_values)
    except OSError:
        return None
    if len(content) < _BYTES * n_values:
        return None
    return np.frombuffer(content, dtype="<i2").reshape(n_samples, len(signals))


def _physical(digital: NDArray[np.int16], signals: list[re.Match[str]]) -> NDArray[np.float32]:
    baselines = [int(signal["baseline"] or signal["zero"]) for signal in signals]
    gains = [float(signal["gain"]) for signal in signals]
    physical = (digital.astype(np.float64) - baselines) / gains
    physical[digital == _MISSING] = np.nan
    return np.ascontiguousarray(physical.T, dtype=np.float32)

"""Headers of WFDB records: every field is checked, and sizes are compared with those of files.

The package ``wfdb`` drops what is not ASCII, shifts fields that it does not understand, and asks
for any memory that a header names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, count, takewhile
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xecg.errors import RecordError
from xecg.signal.recording import UNNAMED, ecg_lead

_LARGEST_HEADER = 2**22  # bytes
# Samples in twelve bytes, by signal format. A byte of the compressed ones (FLAC) is taken to hold
# no more than 64: so much a flat lead may take, and as much gaps and repeated samples may add.
SAMPLES_PER_BYTE = 64
_COMPRESSED = ("508", "516", "524")
_IN_TWELVE_BYTES = {
    "8": 12, "80": 12, "16": 6, "61": 6, "160": 6, "24": 4, "32": 3, "212": 8, "310": 9, "311": 9,
    **dict.fromkeys(_COMPRESSED, 12 * SAMPLES_PER_BYTE),
}  # fmt: skip

# What is expected of the words of a header's lines, in their order, and the fields in them.
_INTEGER = r"[-+]?\d{1,10}"
_NUMBER = r"[-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][-+]?\d{1,2})?"
_RECORD_LINE = {
    "the name of the record": r"[^/]+(?:/(?P<segments>\d{1,6}))?",
    "a number of signals up to 999": r"(?P<signals>\d{1,3})",
    "a sampling rate in Hz": rf"(?P<rate>{_NUMBER})(?:/\S*)?",
    "a number of samples": r"(?P<length>\d{1,15})",
}
_SEGMENT_LINE = {
    "the name of a segment in the same folder": r"(?P<name>[^/]+)",
    "its number of samples": r"(?P<length>\d{1,15})",
}
_SIGNAL_LINE = {
    "the name of a file in the same folder": r"(?P<file>[^/]+)",
    "a signal format": r"(?P<format>\d{1,3})(?:x(?P<per_frame>[1-9]\d{0,5}))?"
    r"(?::(?P<skew>\d{1,10}))?(?:\+(?P<offset>\d{1,15}))?",
    "a gain like 200(0)/mV": rf"(?P<gain>{_NUMBER})(?:\((?P<baseline>{_INTEGER})\))?"
    r"(?:/(?P<unit>[^\s()]*))?",
}


def header_lines(header: Path) -> tuple[list[str], list[str]]:
    """Returns the lines of a header in UTF-8 or Latin-1, and its comments."""
    if not is_file(header) or header.stat().st_size > _LARGEST_HEADER:
        raise unreadable(header, f"a file of at most {_LARGEST_HEADER} bytes", file_state(header))
    content = header.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    comments = [line.strip(" \t#") for line in lines if line.startswith("#")]
    return [line for line in lines if not line.startswith("#")], comments


def is_file(path: Path) -> bool:
    """Returns whether there is a regular file, no pipe, device or loop of links."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises where a name is too long)


def file_state(file: Path) -> str:
    """Returns the name of a file, and its size or what it is instead."""
    if is_file(file):
        return f"{file.name} ({file.stat().st_size} bytes)"
    return f"{file.name} ({'no regular file' if os.path.lexists(file) else 'missing'})"


def unreadable(file: Path, expected: str, found: object) -> RecordError:
    """Returns the error for a file of a record."""
    return RecordError(
        f"{file}: cannot be read as a WFDB record: expected {expected}, found {found}. "
        "Correct the header, or fetch the record again."
    )


class Signal(NamedTuple):
    """A signal as a line of a header describes it."""

    file: Path
    format: str
    per_frame: int  # samples in a frame
    skew: int
    offset: int  # bytes before the samples
    gain: float
    baseline: int
    first: int | None  # value of the first sample
    checksum: int  # 0 if there is none
    unit: str
    name: str


@dataclass(frozen=True)
class Header:
    """A header whose fields are understood; what they promise has not been compared with files."""

    path: Path
    frame_rate: float  # Hz
    frames: int  # 0 if not given
    comments: list[str]
    signals: dict[str, Signal]  # by unique name
    segments: list[tuple[Header | None, int]]  # with their frames; null is a gap

    @property
    def per_frame(self) -> int:
        """Samples that every lead gets in a frame: as many as the ECG that has most.

        Raises RecordError if they cannot be repeated or left out evenly in all leads.
        """
        numbers = {name: signal.per_frame for name, signal in self.signals.items()}
        ecg = [number for name, number in numbers.items() if ecg_lead(name)]
        most = max(ecg or numbers.values())
        if any(most % number and number % most for number in numbers.values()):
            raise unreadable(self.path, "samples per frame that are multiples", numbers)
        return most


def read_header(path: Path, *, is_segment: bool = False) -> Header:
    """Reads a header and those of its segments; raises RecordError if a field is not understood."""
    lines, comments = header_lines(path)
    first, *others = [line.split() for line in lines] or [[]]
    if len(first) < 2:
        raise unreadable(path, "a line with name and number of signals", lines[:1])
    record = _fields(path, first, _RECORD_LINE)
    rate, frames = float(record.get("rate", 250)), int(record.get("length", 0))
    if not 0 < rate < np.inf:
        raise unreadable(path, "a sampling rate above 0 Hz", record["rate"])
    if len(others) != int(n_lines := record.get("segments", record["signals"])):
        raise unreadable(path, f"{n_lines} lines after the first", len(others))
    if "segments" not in record:
        signals = [_read_signal(path, line) for line in lines[1:]]
        named = dict(zip(unique_names(s.name for s in signals), signals, strict=True))
        return Header(path, rate, frames, comments, named, [])
    segments: dict[object, tuple[Header | None, int]] = {}
    for number, words in enumerate(others):
        segment = _fields(path, words, _SEGMENT_LINE)
        part, length = None, int(segment.get("length", 0))
        if segment["name"] != "~":
            file = named_file(path, f"{segment['name']}.hea")
            if is_segment or file.resolve() in segments:
                raise unreadable(path, "each segment once, and none within a segment", file.name)
            part = read_header(file, is_segment=True)
            if part.frame_rate != rate:
                raise unreadable(file, f"{rate} Hz as in {path.name}", f"{part.frame_rate} Hz")
        segments[part.path.resolve() if part else number] = (part, length)
    lengths = [length for _, length in segments.values()]
    if frames not in (0, total := sum(lengths)):
        raise unreadable(path, f"{frames} samples in the segments", total)
    layout = next((part.signals for part, _ in segments.values() if part), {})
    is_variable = lengths[:1] == [0]  # the first one only lists the leads
    data = list(segments.values())[is_variable:]
    odd = [part.path.name for part, _ in data if part and part.signals.keys() != layout.keys()]
    if odd and not is_variable:
        raise unreadable(path, f"segments with the leads {', '.join(layout)}", odd[0])
    known = dict(layout)
    for part, _ in reversed(data):
        known |= part.signals if part else {}
    return Header(path, rate, total, comments, {name: known[name] for name in layout}, data)


def _fields(header: Path, words: list[str], line: Mapping[str, str]) -> dict[str, str]:
    """The fields of a line that are given; the first word that is not understood is refused."""
    found: dict[str, str] = {}
    for (expected, pattern), word in zip(line.items(), words, strict=False):
        if not (match := re.fullmatch(pattern, word)):
            raise unreadable(header, expected, repr(word))
        found |= {name: text for name, text in match.groupdict().items() if text}
    return found


def _read_signal(header: Path, line: str) -> Signal:
    words = line.split()
    given = _fields(header, words, _SIGNAL_LINE)
    numbers = [int(w) for w in takewhile(re.compile(rf"{_INTEGER}$").match, words[3:8])]
    name = " ".join(words[3 + len(numbers) :])
    if "format" not in given or (len(numbers) < 5 and re.search(r"\s[-+]?\d+(\s|$)", name)):
        raise unreadable(header, "file, format, gain, five whole numbers and a name", repr(line))
    _, zero, first, checksum, _ = [*numbers, *[None] * 5][:5]
    return Signal(
        file=header.parent / given["file"],
        format=given["format"],
        per_frame=int(given.get("per_frame", 1)),
        skew=int(given.get("skew", 0)),
        offset=int(given.get("offset", 0)),
        gain=float(given.get("gain", 0)) or 200.0,  # WFDB's default
        baseline=int(given.get("baseline", zero or 0)),
        first=first,
        checksum=checksum or 0,
        unit=given.get("unit", "mV"),
        name=name,
    )


def unique_names(names: Iterable[str]) -> list[str]:
    """Returns names of channels that are not empty, and with a number where one comes again."""
    unique: dict[str, None] = {}
    for position, given in enumerate(names, start=1):
        name = given or f"{UNNAMED} {position}"
        candidates = chain([name], (f"{name} {number}" for number in count(2)))
        unique[next(candidate for candidate in candidates if candidate not in unique)] = None
    return list(unique)


def named_file(header: Path, name: str) -> Path:
    """A file that a header names: a regular one in its folder, or in that of the header's link."""
    file = header.parent / name
    if not is_file(file):  # whatever is wrong with the name
        raise unreadable(header, "each file that it names", file_state(file))
    if file.is_symlink():
        place = file.resolve()
        if place.parent not in (header.parent.resolve(), header.resolve().parent):
            raise unreadable(header, "files in its folder", f"{name}, a link to {place}")
    return file


def frames_held(header: Header) -> int:
    """Checks the signal files of a header, and returns its number of frames."""
    files: dict[Path, list[Signal]] = {}
    for signal in header.signals.values():
        files.setdefault(signal.file, []).append(signal)
    frames = header.frames
    for file, signals in files.items():
        named_file(header.path, file.name)
        (form, offset), *others = {(signal.format, signal.offset) for signal in signals}
        if others or form not in _IN_TWELVE_BYTES or (form in _COMPRESSED and not header.frames):
            expected = f"one of the formats {', '.join(_IN_TWELVE_BYTES)} and one offset in a file"
            expected += ", and a length if it is FLAC"
            raise unreadable(header.path, expected, ", ".join(map(file_state, files)))
        per_frame = sum(signal.per_frame for signal in signals)
        n_bytes = max(0, file.stat().st_size - offset)
        held = n_bytes * _IN_TWELVE_BYTES[form] // (12 * per_frame)
        frames = frames or held
        if not 0 < frames <= held or max(signal.skew for signal in signals) >= frames:
            expected = f"{frames or 'some'} samples of each signal"
            raise unreadable(header.path, expected, ", ".join(map(file_state, files)))
    return frames

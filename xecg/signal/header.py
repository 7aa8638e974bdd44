"""Headers of WFDB records: every field is checked, and sizes are compared with those of files.

``wfdb`` drops what is not ASCII, shifts unknown fields, and takes any memory that a header names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from itertools import chain, count, groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xecg.errors import RecordError
from xecg.signal.recording import UNNAMED, ecg_lead

LARGEST = 2**22  # bytes of a header, or of annotations, of which 14 days of heartbeats take 2.8 MB
# Samples in twelve bytes, by signal format. A byte of the compressed ones (FLAC) is taken to hold
# no more than 64: so much a flat lead may take, and as much gaps and repeated samples may add.
SAMPLES_PER_BYTE = 64
_COMPRESSED = ("508", "516", "524")
_IN_TWELVE_BYTES = {
    "8": 12, "80": 12, "16": 6, "61": 6, "160": 6, "24": 4, "32": 3, "212": 8, "310": 9, "311": 9,
    **dict.fromkeys(_COMPRESSED, 12 * SAMPLES_PER_BYTE),
}  # fmt: skip

_INTEGER = r"[-+]?\d{1,10}"
_NUMBER = r"[-+]?(?:\d{1,30}\.?\d{0,30}|\.\d{1,30})(?:[eE][-+]?\d{1,2})?"
_RECORD_LINE = (  # 100 2 360 650000
    r"[^/\s]+(/(?P<segments>\d{1,6}))?\s+(?P<signals>\d{1,3})"
    rf"(\s+(?P<rate>{_NUMBER})(/\S*)?(\s+(?P<length>\d{{1,15}})(\s.*)?)?)?"
)
_SEGMENT_LINE = r"(?P<name>[^/\s]+)(\s+(?P<length>\d{1,15})(\s.*)?)?"  # 100_1 21600
_SIGNAL_LINE = (  # 100.dat 212 200(0)/mV 11 1024 995 -22131 0 MLII
    r"(?P<file>[^/\s]+)\s+(?P<format>\d{1,3})(x(?P<per_frame>[1-9]\d{0,5}))?"
    r"(:(?P<skew>\d{1,10}))?(\+(?P<offset>\d{1,15}))?"
    rf"(\s+(?P<gain>{_NUMBER})(\((?P<baseline>{_INTEGER})\))?(/(?P<unit>[^\s()]*))?"
    rf"(?P<numbers>(\s+{_INTEGER}(?!\S)){{0,5}})(\s+(?P<name>.*))?)?"
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


class Header(NamedTuple):
    """A header whose fields are understood, and whose signal files are as long as it says."""

    path: Path
    frame_rate: float  # Hz
    frames: int
    held: int  # frames that the signal files can hold, at most
    comments: tuple[str, ...]
    signals: dict[str, Signal]  # by unique name
    segments: list[tuple[Header | None, int]]  # with their frames; null is a gap

    @property
    def per_frame(self) -> int:
        """Samples that every lead gets in a frame: as many as the ECG that has most."""
        numbers = {name: signal.per_frame for name, signal in self.signals.items()}
        ecg = [s.per_frame for name, s in self.signals.items() if ecg_lead(name, s.unit)]
        most = max(ecg or numbers.values())
        if any(most % number and number % most for number in numbers.values()):
            raise unreadable(self.path, "samples per frame that are multiples", numbers)
        return most


def read_header(path: Path, *, is_segment: bool = False) -> Header:
    """Reads a header and those of its segments, and compares them with the sizes of their files.

    Raises RecordError if a field is not understood, or a file is none or too short.
    """
    lines, comments = header_lines(path)
    record = _fields(path, "".join(lines[:1]), _RECORD_LINE, "100 2 360 650000")
    rate, frames = float(record.get("rate", 250)), int(record.get("length", 0))
    if not 0 < rate < np.inf:
        raise unreadable(path, "a sampling rate above 0 Hz", record["rate"])
    if len(lines) - 1 != int(n_lines := record.get("segments", record["signals"])):
        raise unreadable(path, f"{n_lines} lines after the first", len(lines) - 1)
    if "segments" not in record:
        listed = [_read_signal(path, line) for line in lines[1:]]
        named = dict(zip(unique_names(s.name for s in listed), listed, strict=True))
        held = _frames_held(path, frames, listed)
        real = {name: s for name, s in named.items() if s.file.name != "~"}  # no null signals
        return Header(path, rate, frames or held, held, comments, real or named, [])
    segments: list[tuple[Header | None, int]] = []
    for line in lines[1:]:
        segment, part = _fields(path, line, _SEGMENT_LINE, "100_1 21600"), None
        length = int(segment.get("length", 0))
        if segment["name"] != "~":
            file = named_file(path, f"{segment['name']}.hea")
            if is_segment or file.resolve() in [one.path.resolve() for one, _ in segments if one]:
                raise unreadable(path, "each segment once, and none within a segment", file.name)
            part = read_header(file, is_segment=True)
            if part.frame_rate != rate:
                raise unreadable(file, f"{rate} Hz as in {path.name}", f"{part.frame_rate} Hz")
            if length > part.held:
                raise unreadable(path, "segments no longer than their files", file.name)
        segments.append((part, length))
    if frames not in (0, total := sum(length for _, length in segments)):
        raise unreadable(path, f"{frames} samples in the segments", total)
    parts = [part for part, _ in segments if part]
    odd = [part.path.name for part in parts if part.signals.keys() != parts[0].signals.keys()]
    if odd and segments[0][1] > 0:  # else the first one only lists the leads
        raise unreadable(path, f"segments with the leads {', '.join(parts[0].signals)}", odd[0])
    known = {name: s for part in parts[::-1] if part.held for name, s in part.signals.items()}
    signals = {name: known.get(name, s) for part in parts[:1] for name, s in part.signals.items()}
    return Header(path, rate, total, total, comments, signals, segments)


def _fields(header: Path, line: str, pattern: str, example: str) -> dict[str, str]:
    """The fields of a line that are given; a line that is not understood is refused."""
    if not (match := re.fullmatch(pattern, line)):
        raise unreadable(header, f"a line like {example!r}", repr(line))
    return {name: text for name, text in match.groupdict().items() if text}


def _read_signal(header: Path, line: str) -> Signal:
    example = "100.dat 212 200(0)/mV 11 1024 995 -22131 0 MLII"
    given = _fields(header, line, _SIGNAL_LINE, example)
    numbers, name = given.get("numbers", "").split(), given.get("name", "")
    if len(numbers) < 5 and re.search(r"\s[-+]?\d+(\s|$)", name):
        raise unreadable(header, f"five whole numbers and a name as in {example!r}", repr(line))
    _, zero, first, checksum, _ = [*map(int, numbers), *[None] * 5][:5]
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
        name=" ".join(name.split()),
    )


def _frames_held(header: Path, frames: int, signals: Sequence[Signal]) -> int:
    """Checks signal files against the frames in a header, if any; returns how many they hold."""
    held = []
    for file, of_file in groupby(sorted(signals, key=lambda s: s.file), lambda s: s.file):
        layout = [*of_file]
        if file.name == "~":  # a segment that only lists the leads
            continue
        named_file(header, file.name)
        (form, offset), *others = {(signal.format, signal.offset) for signal in layout}
        if others or form not in _IN_TWELVE_BYTES or (form in _COMPRESSED and not frames):
            expected = f"one of the formats {', '.join(_IN_TWELVE_BYTES)} and one offset in a file"
            raise unreadable(header, f"{expected}, and a length if it is FLAC", states([file]))
        n_bytes = max(0, file.stat().st_size - offset)
        samples = n_bytes * _IN_TWELVE_BYTES[form] // 12
        held.append(samples // sum(signal.per_frame for signal in layout))
        if not max(signal.skew for signal in layout) < (frames or held[0]) <= held[-1]:
            expected = f"{frames or held[0] or 'some'} samples of each signal"
            raise unreadable(header, expected, states([file]))
    return min(held, default=0)


def named_file(header: Path, name: str) -> Path:
    """A file that a header names: a regular one in its folder, or in that of the header's link."""
    file = header.parent / name
    if not is_file(file):  # whatever is wrong with the name
        raise unreadable(header, "each file that it names", states([file]))
    if file.is_symlink():
        place = file.resolve()
        if place.parent not in (header.parent.resolve(), header.resolve().parent):
            raise unreadable(header, "files in its folder", f"{name}, a link to {place}")
    return file


def header_lines(header: Path) -> tuple[list[str], tuple[str, ...]]:
    """Returns the lines of a header in UTF-8 or Latin-1, and its comments."""
    if not is_file(header) or header.stat().st_size > LARGEST:
        raise unreadable(header, f"a file of at most {LARGEST} bytes", states([header]))
    content = header.read_bytes()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [line.strip() for line in re.split(r"[\r\n]", text) if line.strip()]
    comments = tuple(line.strip(" \t#") for line in lines if line.startswith("#"))
    return [line for line in lines if not line.startswith("#")], comments


def is_file(path: Path | str) -> bool:
    """Returns whether there is a regular file, no pipe, device or loop of links."""
    return os.path.isfile(path)  # noqa: PTH113 (Path.is_file raises where a name is too long)


def unique_names(names: Iterable[str]) -> list[str]:
    """Returns names of channels that are not empty, and with a number where one comes again."""
    unique: dict[str, None] = {}
    for position, given in enumerate(names, start=1):
        name = given or f"{UNNAMED} {position}"
        candidates = chain([name], (f"{name} {number}" for number in count(2)))
        unique[next(candidate for candidate in candidates if candidate not in unique)] = None
    return list(unique)


def states(files: Iterable[Path]) -> str:
    """Returns the names of files, and their sizes or what they are instead."""
    found = []
    for file in dict.fromkeys(files):
        state = f"{file.stat().st_size} bytes" if is_file(file) else "no regular file"
        found.append(f"{file.name} ({state if os.path.lexists(file) else 'missing'})")
    return ", ".join(found)


def unreadable(file: Path, expected: str, found: object) -> RecordError:
    """Returns the error for a file of a record."""
    why = f"cannot be read as a WFDB record: expected {expected}, found {found}"
    return RecordError(f"{file}: {why}. Correct the header, or fetch the record again.")

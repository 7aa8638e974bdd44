"""What the text of WFDB headers says about files: which records there are, what belongs to them.

Reading thousands of headers for this takes wfdb seconds; their text is simple enough.
"""

from __future__ import annotations

import re
from pathlib import Path

from xecg.errors import RecordError

_SUFFIXES = (".hea", ".dat", ".mat")
_DEFAULT_RATE_HZ = 250.0  # WFDB's, for headers that give none


def record_stem(path: Path | str) -> Path:
    """Path of a record without the suffix of its header or signal file."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in _SUFFIXES else path


def beside(stem: Path, extension: str) -> Path:
    """The file of a record that has this extension."""
    return stem.with_name(f"{stem.name}.{extension}")


def find_records(path: Path | str) -> list[Path]:
    """All records in a folder and the folders below it.

    The segments of a record of several segments are part of it and not listed.

    Args:
        path: A folder; or a single record, with or without suffix.

    Returns:
        Paths without suffix, sorted.

    Raises:
        RecordError: There is no record.
    """
    path = Path(path)
    if not path.is_dir():
        header = beside(record_stem(path), "hea")
        if not header.is_file():
            raise RecordError(
                f"{path}: expected a folder of WFDB records or one record, but there is neither "
                f"such a folder nor a header {header}."
            )
        return [record_stem(path)]
    headers = sorted(path.rglob("*.hea"))
    segments = {segment for header in headers for segment in _segments(header)}
    records = [record_stem(header) for header in headers if header not in segments]
    if not records:
        raise RecordError(f"{path}: no WFDB header (*.hea) in this folder or below it.")
    return records


def named_files(header: Path) -> dict[Path, int | None]:
    """Signal files (or headers of segments) that a header names, with their sizes in bytes.

    The size of a file that does not exist is None.
    """
    segments = _segments(header)
    lines = [] if segments else _lines(header)[1:]
    files = segments or [header.parent / line[0] for line in lines]
    return {file: file.stat().st_size if file.is_file() else None for file in files}


def highest_rate(header: Path) -> float:
    """Sampling rate (Hz) of the leads with most samples per frame."""
    record_line = _lines(header)[0]
    # 250/360(0): rate, then rate and start of a counter that has nothing to do with the samples
    rate = float(re.split(r"[/(]", record_line[2])[0]) if len(record_line) > 2 else None
    return (rate or _DEFAULT_RATE_HZ) * samples_per_frame(header)


def samples_per_frame(header: Path) -> int:
    """Of the leads that have most."""
    lines = _lines(header)[1:]
    segments = [segment for segment in _segments(header) if segment.is_file()]
    if segments:
        lines = _lines(segments[0])[1:]
    # 212x4: format, samples per frame
    per_frame = [re.match(r"\d+x(\d+)", line[1]) for line in lines if len(line) > 1]
    return max((int(match[1]) for match in per_frame if match), default=1)


def _lines(header: Path) -> list[list[str]]:
    """Fields of the lines that are not comments; at least one line."""
    try:
        text = header.read_text(encoding="ascii", errors="ignore")
    except OSError:  # a dangling link among others; whoever reads the record is told
        text = ""
    lines = [line.split() for line in text.splitlines() if not line.lstrip().startswith("#")]
    return [line for line in lines if line] or [[""]]


def _segments(header: Path) -> list[Path]:
    """Headers of the segments of a record; none for a record of one piece."""
    record_line, *lines = _lines(header)
    if "/" not in record_line[0]:
        return []
    # "~" stands for a gap
    return [header.parent / f"{line[0]}.hea" for line in lines if line[0] != "~"]

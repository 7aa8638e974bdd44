"""WFDB files: finds records, reads and writes recordings and annotations.

The package ``wfdb`` parses and formats; this file checks what comes out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.recording import Recording

_SUFFIXES = (".hea", ".dat", ".mat")
_DEFAULT_UNIT = "mV"  # WFDB's, for signals without a unit


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labels at points in time.

    Args:
        samples: int64 (n,), ascending, at the rate at which ``read_recording`` gives the samples.
        symbols: (n,), WFDB's code of each, such as "N" for a normal beat.
        notes: (n,), free text of each, such as "(AFIB" at the start of a rhythm.
    """

    samples: NDArray[np.int64]
    symbols: tuple[str, ...]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)


def record_stem(path: Path | str) -> Path:
    """Returns the path of a record without the suffix of its header or signal file."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in _SUFFIXES else path


def beside(stem: Path, extension: str) -> Path:
    """Returns the file of a record that has this extension."""
    return stem.with_name(f"{stem.name}.{extension}")


def find_records(path: Path | str) -> list[Path]:
    """Finds all records in a folder and the folders below it, sorted, without suffix.

    Segments are not listed: they belong to the record that names them.

    Args:
        path: A folder, or a single record with or without suffix.

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
    segments = {file for header in headers for file in _named_files(header)}
    records = [record_stem(header) for header in headers if header not in segments]
    if not records:
        raise RecordError(f"{path}: no WFDB header (*.hea) in this folder or below it.")
    return records


def _named_files(header: Path) -> list[Path]:
    """The headers of the segments that a header names, else its signal files.

    wfdb is not asked, so that a header that it cannot parse does not hide other records.
    """
    try:
        text = header.read_text(encoding="ascii", errors="ignore")
    except OSError:  # a dangling link among others; reading the record names it
        return []
    lines = [line.split() for line in text.splitlines() if not line.lstrip().startswith("#")]
    record, *rest = [line for line in lines if line] or [[""]]
    if "/" in record[0]:
        return [header.parent / f"{line[0]}.hea" for line in rest if line[0] != "~"]  # ~: a gap
    return [header.parent / line[0] for line in rest]


def read_recording(path: Path | str) -> Recording:
    """Reads a WFDB record in any format that wfdb reads, of one or several segments.

    Leads stored with several samples per frame keep their own rate; the samples of leads stored
    with fewer are repeated to match (WFDB's high-resolution mode). Gaps and invalid samples are
    NaN. Leads without a name become "lead 1" by their position, and a name that comes again gets
    a number: "ECG", "ECG 2".

    Args:
        path: The record, with or without suffix.

    Raises:
        RecordError: A file is missing, shorter than its header says, or not WFDB.
    """
    import wfdb  # imports pandas

    stem = record_stem(path)
    header = _existing(beside(stem, "hea"))
    try:
        record = wfdb.rdrecord(str(stem), smooth_frames=False)
    except Exception as error:  # wfdb raises whatever its parsing happens to hit
        raise RecordError(
            f"{header}: cannot be read as a WFDB record ({type(error).__name__}: {error}). "
            f"{_state_of_files(header)} Fetch the record again if one is missing or too short."
        ) from error
    if not record.n_sig:
        raise RecordError(f"{header}: names no signals, so there is no ECG to read.")
    longest = max(len(signal) for signal in record.e_p_signal)
    return Recording(
        name=stem.name,
        samples=np.stack(
            [np.repeat(s, longest // len(s)).astype(np.float32) for s in record.e_p_signal]
        ),
        sampling_rate=float(record.fs) * max(record.samps_per_frame),
        leads=_unique_names(record.sig_name),
        units=tuple(unit or _DEFAULT_UNIT for unit in record.units),
        comments=tuple(record.comments or ()),
    )


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise RecordError(f"{file}: no such file. Expected a WFDB record with all its files there.")
    return file


def _state_of_files(header: Path) -> str:
    states = [
        f"{file.name} ({f'{file.stat().st_size} bytes' if file.is_file() else 'missing'})"
        for file in dict.fromkeys(_named_files(header))
    ]
    return f"It names {', '.join(states)}." if states else "It names no signals."


def _unique_names(names: Iterable[str | None]) -> tuple[str, ...]:
    unique: list[str] = []
    for position, given in enumerate(names, start=1):
        name = (given or "").strip() or f"lead {position}"
        candidates = (name if number == 1 else f"{name} {number}" for number in count(1))
        unique.append(next(candidate for candidate in candidates if candidate not in unique))
    return tuple(unique)


def read_annotations(path: Path | str, extension: str) -> Annotations:
    """Reads the annotation file of a record that has this extension, such as "atr".

    Raises:
        RecordError: The file is missing or is not a WFDB annotation file.
    """
    import wfdb

    stem = record_stem(path)
    file = _existing(beside(stem, extension))
    try:
        found = wfdb.rdann(str(stem), extension)
        samples = found.sample
        if beside(stem, "hea").is_file():  # whose rate wfdb takes if the annotations give none
            samples = np.rint(samples * (_highest_rate(stem) / found.fs)).astype(np.int64)
    except Exception as error:  # as above
        raise RecordError(
            f"{file}: cannot be read as WFDB annotations ({type(error).__name__}: {error}). "
            "Fetch it again, or name another extension."
        ) from error
    return Annotations(
        samples=samples,
        symbols=tuple(found.symbol),
        notes=tuple(note.rstrip("\x00") for note in found.aux_note),
    )


def _highest_rate(stem: Path) -> float:
    """Sampling rate (Hz) of the leads with most samples per frame."""
    import wfdb

    header = wfdb.rdheader(str(stem), rd_segments=True)
    first = next((piece for piece in getattr(header, "segments", [header]) if piece), header)
    return float(header.fs * max(getattr(first, "samps_per_frame", None) or [1]))


def write_recording(recording: Recording, folder: Path | str, *, fmt: str = "16") -> Path:
    """Writes a recording as a WFDB header and signal file, and returns the header's path.

    Each lead is scaled to use the whole range of the format.

    Args:
        recording: What to write; its name must be made of letters, digits, "-" and "_".
        folder: Made if it does not exist.
        fmt: WFDB's signal format, such as "16" or "212".
    """
    import wfdb

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        recording.name,
        fs=recording.sampling_rate,
        units=list(recording.units),
        sig_name=list(recording.leads),
        p_signal=recording.samples.T.astype(np.float64),
        fmt=[fmt] * len(recording.leads),
        comments=list(recording.comments),
        write_dir=str(folder),
    )
    return beside(folder / recording.name, "hea")


def write_annotations(
    path: Path | str, extension: str, annotations: Annotations, sampling_rate: float
) -> None:
    """Writes the annotation file of a record.

    Args:
        path: The record, without suffix.
        extension: Letters only.
        annotations: One at least.
        sampling_rate: Rate to which the samples refer (Hz).
    """
    import wfdb

    path = Path(path)
    wfdb.wrann(
        path.name,
        extension,
        np.asarray(annotations.samples, dtype=np.int64),
        symbol=list(annotations.symbols),
        aux_note=list(annotations.notes),
        fs=sampling_rate,
        write_dir=str(path.parent),
    )

"""Reading and writing WFDB files: recordings and annotations."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.wfdb_format16 import read_format16
from xecg.signal.wfdb_headers import (
    beside,
    find_records,
    highest_rate,
    named_files,
    record_stem,
    samples_per_frame,
)

__all__ = [
    "Annotations",
    "find_records",
    "read_annotations",
    "read_recording",
    "write_annotations",
    "write_recording",
]

_DEFAULT_UNIT = "mV"  # WFDB's, for signals without a unit


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labels at points in time, as WFDB keeps them.

    Args:
        samples: int64 (n,), ascending, at the rate at which `read_recording` gives the samples.
        symbols: (n,), WFDB's code of each, such as "N" for a normal beat.
        notes: (n,), free text of each, such as "(AFIB" at the start of a rhythm.
        numbers: int64 (n,), WFDB's `num` field.
    """

    samples: NDArray[np.int64]
    symbols: tuple[str, ...]
    notes: tuple[str, ...]
    numbers: NDArray[np.int64]

    def __post_init__(self) -> None:
        lengths = [len(self.samples), len(self.symbols), len(self.notes), len(self.numbers)]
        if len(set(lengths)) > 1:
            raise RecordError(
                "Annotations need a sample, a symbol, a note and a number each, found {} samples, "
                "{} symbols, {} notes and {} numbers.".format(*lengths)
            )

    def __len__(self) -> int:
        return len(self.samples)


def read_recording(path: Path | str) -> Recording:
    """Read a WFDB record in any format that wfdb reads, of one or several segments.

    Leads stored with several samples per frame keep their own rate; the samples of leads stored
    with fewer are repeated to match (WFDB's high-resolution mode). Gaps and invalid samples are
    NaN. Leads without a name become "lead 1" by their position, and a name that comes again gets
    a number: "ECG", "ECG 2".

    Args:
        path: The record, with or without the suffix of its header (`.hea`) or signal file.

    Raises:
        RecordError: A file is missing, shorter than its header says, or not WFDB.
    """
    stem = record_stem(path)
    header = _existing(beside(stem, "hea"))
    if (simple := read_format16(header)) is not None:
        return Recording(
            name=stem.name,
            samples=simple.samples,
            sampling_rate=simple.sampling_rate,
            leads=_unique_names(simple.names),
            units=tuple(unit or _DEFAULT_UNIT for unit in simple.units),
            comments=simple.comments,
        )
    return _read_with_wfdb(stem, header)


def _read_with_wfdb(stem: Path, header: Path) -> Recording:
    import wfdb  # imports pandas

    try:
        record = wfdb.rdrecord(str(stem), smooth_frames=False)
    except Exception as error:  # wfdb raises whatever its parsing happens to hit
        raise RecordError(
            f"{header}: cannot be read as a WFDB record ({type(error).__name__}: {error}). "
            f"{_state_of_files(header)} Fetch the record again if one is missing or too short."
        ) from error
    if not record.n_sig:
        raise RecordError(f"{header}: names no signals, so there is no ECG to read.")
    signals = record.e_p_signal
    return Recording(
        name=stem.name,
        samples=_stack(signals),
        sampling_rate=float(record.fs) * max(record.samps_per_frame),
        leads=_unique_names(record.sig_name),
        units=tuple(unit or _DEFAULT_UNIT for unit in record.units),
        comments=tuple(record.comments or ()),
    )


def read_annotations(path: Path | str, extension: str) -> Annotations:
    """Read the annotation file of a record.

    Args:
        path: The record, as for `read_recording`.
        extension: Of the annotation file, such as "atr".

    Raises:
        RecordError: The file is missing or is not a WFDB annotation file.
    """
    stem = record_stem(path)
    file = _existing(beside(stem, extension))
    try:
        annotation = _away_from_header(file, extension)
        samples = _at_rate_of_recording(annotation.sample, annotation.fs, beside(stem, "hea"))
    except Exception as error:  # as above
        raise RecordError(
            f"{file}: cannot be read as WFDB annotations ({type(error).__name__}: {error}). "
            "Fetch it again, or name another extension."
        ) from error
    return Annotations(
        samples=samples,
        symbols=_symbols(annotation),
        notes=tuple(note.rstrip("\x00") for note in annotation.aux_note),
        numbers=np.asarray(annotation.num, dtype=np.int64),
    )


def write_recording(recording: Recording, folder: Path | str, *, fmt: str = "16") -> Path:
    """Write a recording as a WFDB header and signal file.

    Each lead is scaled to use the whole range of the format.

    Args:
        recording: What to write; its name must be made of letters, digits, "-" and "_".
        folder: Made if it does not exist.
        fmt: WFDB's signal format, such as "16" or "212".

    Returns:
        Path of the header.

    Raises:
        RecordError: The files exist already, or wfdb cannot write the recording.
    """
    import wfdb

    stem = Path(folder) / recording.name
    header = beside(stem, "hea")
    with _new_files([beside(stem, "dat"), header]) as scratch:
        wfdb.wrsamp(
            recording.name,
            fs=recording.sampling_rate,
            units=list(recording.units),
            sig_name=list(recording.leads),
            p_signal=recording.samples.T.astype(np.float64),
            fmt=[fmt] * len(recording.leads),
            comments=list(recording.comments),
            write_dir=str(scratch),
        )
    return header


def write_annotations(
    folder: Path | str,
    record_name: str,
    extension: str,
    annotations: Annotations,
    sampling_rate: float,
) -> Path:
    """Write the annotation file of a record.

    Args:
        folder: Made if it does not exist.
        record_name: Name of the record.
        extension: Of the annotation file; letters only.
        annotations: What to write; at least one.
        sampling_rate: To which the samples refer (Hz).

    Returns:
        Path of the annotation file.

    Raises:
        RecordError: The file exists already, or wfdb cannot write the annotations.
    """
    import wfdb

    file = beside(Path(folder) / record_name, extension)
    with _new_files([file]) as scratch:
        wfdb.wrann(
            record_name,
            extension,
            np.asarray(annotations.samples, dtype=np.int64),
            symbol=list(annotations.symbols),
            aux_note=list(annotations.notes),
            num=np.asarray(annotations.numbers, dtype=np.int64),
            fs=sampling_rate,
            write_dir=str(scratch),
        )
        if not _same(read_annotations(scratch / record_name, extension), annotations):
            raise ValueError(
                "it would read back otherwise: samples must ascend, symbols be WFDB's, notes have "
                "at most 255 characters, numbers lie in -128 to 127, sample 0 hold no comment"
            )
    return file


@contextmanager
def _new_files(targets: Sequence[Path]) -> Iterator[Path]:
    """A scratch folder; what is written there under the targets' names moves to them at the end."""
    existing = [str(target) for target in targets if target.exists()]
    if existing:
        raise RecordError(f"{', '.join(existing)}: exists already. Remove it or write elsewhere.")
    folder = targets[0].parent
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as scratch:
        try:
            yield Path(scratch)
        except Exception as error:  # wfdb raises many kinds
            raise RecordError(
                f"{targets[-1]}: wfdb cannot write this ({type(error).__name__}: {error})."
            ) from error
        for target in targets:
            (Path(scratch) / target.name).rename(target)


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise RecordError(f"{file}: no such file. Expected a WFDB record with all its files there.")
    return file


def _state_of_files(header: Path) -> str:
    files = named_files(header)
    if not files:
        return "It names no signals."
    states = [
        f"{file.name} ({'missing' if size is None else f'{size} bytes'})"
        for file, size in files.items()
    ]
    return f"It names {', '.join(states)}."


def _stack(signals: Sequence[NDArray[np.float64]]) -> NDArray[np.float32]:
    """Leads of one length, (leads, time), the samples of slower ones repeated."""
    longest = max(len(signal) for signal in signals)
    return np.stack(
        [np.repeat(signal, longest // len(signal)).astype(np.float32) for signal in signals]
    )


def _unique_names(names: Sequence[str | None]) -> tuple[str, ...]:
    unique: list[str] = []
    for position, given in enumerate(names, start=1):
        name = candidate = (given or "").strip() or f"lead {position}"
        again = 1
        while candidate in unique:
            again += 1
            candidate = f"{name} {again}"
        unique.append(candidate)
    return tuple(unique)


def _same(first: Annotations, second: Annotations) -> bool:
    return (
        np.array_equal(first.samples, second.samples)
        and np.array_equal(first.numbers, second.numbers)
        and first.symbols == tuple(second.symbols)
        and first.notes == tuple(second.notes)
    )


def _away_from_header(file: Path, extension: str) -> Any:
    """What wfdb reads of a copy: beside the header it would parse that, too, which takes longer."""
    import wfdb

    with tempfile.TemporaryDirectory(prefix="xecg-") as scratch:
        copy = Path(scratch) / file.name
        copy.write_bytes(file.read_bytes())
        return wfdb.rdann(
            str(copy.with_suffix("")),
            extension,
            summarize_labels=False,
            return_label_elements=["label_store"],
        )


def _symbols(annotation: Any) -> tuple[str, ...]:
    """The code of each annotation; wfdb makes a table for each file to look them up in."""
    known = _standard_symbols()
    codes = np.asarray(annotation.label_store).tolist()
    if annotation.custom_labels is not None or not known.keys() >= set(codes):
        annotation.set_label_elements(["symbol"])
        return tuple(annotation.symbol)
    return tuple(known[code] for code in codes)


@cache
def _standard_symbols() -> dict[int, str]:
    from wfdb.io.annotation import ann_label_table

    table = ann_label_table
    return dict(zip(table["label_store"].tolist(), table["symbol"].tolist(), strict=True))


def _at_rate_of_recording(
    samples: NDArray[np.int64], rate: float | None, header: Path
) -> NDArray[np.int64]:
    """Annotation times in samples of the recording, which may have several per frame."""
    if not header.is_file():
        return samples
    # without a rate of their own they count frames
    factor = highest_rate(header) / rate if rate else samples_per_frame(header)
    times: NDArray[np.int64] = np.rint(samples * factor).astype(np.int64)
    return times

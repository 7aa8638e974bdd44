"""WFDB records: found, read and written by ``wfdb``, with headers that xecg checked before."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from xecg.errors import RecordError
from xecg.signal import header as headers
from xecg.signal.header import is_file, read_header, unreadable
from xecg.signal.recording import Recording, ecg_lead

_SUFFIXES = (".hea", ".dat", ".mat")
_IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
_NOTES = {
    "t": rb"## time resolution: \d.*",
    "d": rb"## annotation type definitions",
    "e": rb"## end of definitions",
}


@dataclass(frozen=True, eq=False)
class Annotations:
    """Labels at points in time."""

    samples: NDArray[np.int64]  # (n,), rising, at the rate at which ``read_recording`` gives them
    symbols: tuple[str, ...]  # WFDB's codes, such as "N" for a normal beat
    notes: tuple[str, ...]  # texts such as "(AFIB"


def record_stem(path: Path | str) -> Path:
    """Returns the path of a record without the suffix of its header or signal file."""
    path = Path(path)
    if path.suffix in _SUFFIXES and not is_file(beside(path, "hea")):
        return path.with_suffix("")
    return path  # a record may have a name that ends in .mat


def beside(stem: Path, extension: str) -> Path:
    """Returns the file of a record that has this extension."""
    return stem.parent / f"{stem.name}.{extension}"


def find_records(path: Path | str) -> list[Path]:
    """Finds all records in a folder and the folders below it, sorted, without suffix.

    Segments belong to the record that names them. A path may be a single record, with or without
    suffix. Raises RecordError if there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return [_existing(beside(record_stem(path), "hea")).with_suffix("")]
    headers = sorted(path.rglob("*.hea"))
    segments = {file for header in headers for file in _named_segments(header)}
    records = [header.with_suffix("") for header in headers if header not in segments]
    if not records:
        raise RecordError(f"{path}: no WFDB header (*.hea) in this folder or below it.")
    return records


def _named_segments(header: Path) -> list[Path]:
    """The headers of the segments that a header names, whatever else is wrong with it."""
    try:
        first, *lines = headers.header_lines(header)[0]
    except (RecordError, OSError, ValueError):  # reading the record gives the reason
        return []
    names = [line.split()[0] for line in lines] if "/" in first.split()[0] else []
    return [header.parent / f"{name}.hea" for name in names]


def read_recording(path: Path | str) -> Recording:
    """Reads a WFDB record in any format that wfdb reads, of one or several segments.

    The ECG with most samples per frame keeps its rate; those of other leads are repeated or left
    out to match. Gaps and invalid samples are NaN. Raises RecordError if a file is missing, holds
    less than its header says, or is not WFDB.
    """
    stem = record_stem(path)
    header = read_header(_existing(beside(stem, "hea")))
    leads = header.signals
    if all(signal.file.name == "~" for signal in leads.values()):
        raise RecordError(f"{header.path}: names no signals, so there is no ECG to read.")
    parts = header.segments or [(header, header.frames)]
    files = {s.file for part, n in parts if part and n for s in part.signals.values()}
    n_bytes, per_frame = sum(file.stat().st_size for file in files), header.per_frame
    n_samples = per_frame * header.frames
    if len(leads) * n_samples > headers.SAMPLES_PER_BYTE * n_bytes + 2**24:
        raise unreadable(header.path, f"what {n_bytes} bytes can hold", f"{n_samples} samples")
    samples = np.full((len(leads), n_samples), np.nan, dtype=np.float32)
    stop = 0
    for part, frames in parts:
        start, stop = stop, stop + frames * per_frame
        read = _read_signals(part, frames, leads) if part and frames else {}
        for row, name in zip(samples[:, start:stop], leads, strict=True):
            if (one := read.get(name)) is not None:
                if len(one) != len(row):
                    one = one[np.arange(len(row)) * len(one) // len(row)]
                with np.errstate(over="ignore"):  # infinite samples are refused
                    row[:] = one
    units = tuple(signal.unit for signal in leads.values())
    rate = header.frame_rate * per_frame
    return Recording(stem.name, samples, rate, tuple(leads), units, header.comments)


def _read_signals(
    header: headers.Header, frames: int, leads: Mapping[str, headers.Signal]
) -> dict[str, NDArray[np.float64]]:
    """Samples of the first of a header's frames, of each signal at its own rate."""
    import wfdb  # imports pandas

    # wfdb takes the signals of one file for neighbours.
    signals = dict(sorted(header.signals.items(), key=lambda item: item[1].file))
    columns = map(list, zip(*signals.values(), strict=True))
    paths, forms, per_frame, skews, offsets, gains, baselines, firsts, *_ = columns
    files, n = [str(path.absolute()) for path in paths], len(signals)
    try:
        with np.errstate(all="ignore"), ExitStack() as stack:
            if "::" in "".join(files):  # a chain of addresses for who opens wfdb's files
                opened = {path: stack.enter_context(path.open("rb")) for path in {*paths}}
                files = [f"/dev/fd/{opened[path].fileno()}" for path in paths]
            # what rdrecord does once it has parsed a header, which takes five times as long
            read = wfdb.io._signal._rd_segment(
                *(files, "", None, forms, n, header.frames, offsets, per_frame, skews),
                *([first or 0 for first in firsts], 0, frames, list(range(n)), False),
            )
            record = wfdb.Record(n_sig=n, fmt=forms, adc_gain=gains, baseline=baselines)
            record.e_d_signal = read
            physical = record.dac(expanded=True)
    except Exception as error:  # wfdb raises whatever its decoding happens to hit
        found = f"{type(error).__name__}: {error}; {headers.states(paths)}"
        raise unreadable(header.path, "samples for wfdb", found) from error
    for (name, s), digital, samples in zip(signals.items(), read, physical, strict=True):
        is_known = s.first is not None and s.checksum and frames == header.frames
        if is_known and (digital[0] != s.first or s.format == "8"):  # then the checksum tells
            # A missing sample counts as a number of its own, a multiple of 2**7.
            modulus = 2**7 if np.isnan(samples).any() else 2**16
            if (int(digital.sum()) - s.checksum) % modulus > 0:
                expected = f"the first value {s.first} or the checksum {s.checksum} of {name}"
                raise unreadable(header.path, expected, f"others in {headers.states([s.file])}")
    same = dict(zip(signals, physical, strict=True))
    for name, s in signals.items():
        known = leads.get(name, s)
        if (s.per_frame, s.unit) != (known.per_frame, known.unit):
            del same[name]  # a gap of a neighbour
            if ecg_lead(name, known.unit) or len(leads) == 1:
                found = f"{s.per_frame} and {s.unit} of {name}"
                raise unreadable(header.path, "samples per frame and units of its record", found)
    return same


def _existing(file: Path) -> Path:
    if not is_file(file):
        expected = "Expected a WFDB record with all its files."
        raise RecordError(f"{file}: no such file, or none of data. {expected}")
    return file


def read_annotations(path: Path | str, extension: str) -> Annotations:
    """Reads annotations of an extension, as "atr"; raises RecordError if they cannot be read."""
    import wfdb

    stem = record_stem(path)
    file, about = _existing(beside(stem, extension)), beside(stem, "hea")
    header = read_header(about) if is_file(about) else None
    headers.named_file(about, file.name)
    try:
        _check_notes(file)
        with TemporaryDirectory(prefix="xecg-", dir=_IN_MEMORY) as folder:
            if header:
                Path(folder, "r.hea").write_text(f"r 0 {header.frame_rate!r}", encoding="ascii")
            Path(folder, "r.atr").symlink_to(file.absolute())
            found = wfdb.rdann(f"{folder}/r", "atr")
        samples = found.sample
        if header:  # whose rate wfdb takes if the annotations give none
            ratio = header.frame_rate * header.per_frame / found.fs
            samples = np.rint(samples * ratio).astype(np.int64)
        if len({len(samples), len(found.symbol), len(found.aux_note)}) > 1:
            raise ValueError("more notes than annotations")
        end = header.frames * header.per_frame if header and header.frames else np.inf
        if (np.diff(samples, prepend=0, append=end) < 0).any():
            raise ValueError("not in order of time within the record")
    except Exception as error:  # wfdb raises whatever its parsing happens to hit
        why = f"cannot be read as WFDB annotations ({type(error).__name__}: {error})"
        cure = "Fetch it again, or name another extension."
        raise RecordError(f"{file}: {why}. {cure}") from error
    notes = tuple(note.rstrip("\x00") for note in found.aux_note)
    return Annotations(samples, tuple(found.symbol), notes)


def _check_notes(file: Path) -> None:
    """Refuses an annotation file that is too large or cut, or that wfdb would not end to read.

    It loops over a note that begins with "## " but neither gives the first time resolution nor
    belongs to a list of definitions. A note follows its length and a byte above 251.
    """
    if file.stat().st_size > headers.LARGEST:
        raise ValueError(f"more than {headers.LARGEST} bytes")
    content, kinds = file.read_bytes(), ""
    if content[-2:] != b"\0\0":
        raise ValueError("cut off: two zeros mark the end")
    for match in re.finditer(rb"(?s)(.)[\xfc-\xff](?=## )", content):
        note = content[match.end() : match.end() + match[1][0]]
        kinds += next((kind for kind, form in _NOTES.items() if re.fullmatch(form, note)), "?")
    if not re.fullmatch("(de)*t?(de)*", kinds):
        raise ValueError("a note that begins with ## and is no time resolution")


def write_recording(recording: Recording, folder: Path | str, *, fmt: str = "16") -> Path:
    """Writes a recording as a WFDB header and signal file, and returns the header's path.

    Each lead is scaled to the whole range of the format, such as "16" or "212". The name of the
    recording must be made of letters, digits, "-" and "_".
    """
    import wfdb

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    fmts, signals = [fmt] * len(recording.leads), recording.samples.T.astype(np.float64)
    gains, baselines = wfdb.Record(p_signal=signals, fmt=fmts, n_sig=len(fmts)).calc_adc_params()
    # wfdb's highest sample does not fit where the lowest is above zero by less than a step.
    low, high = np.fmin.reduce(signals), np.fmax.reduce(signals)
    near = (low < high) & (low > 0) & (low * gains < 1)
    gains = [*np.where(near, gains * (1 - low / np.where(near, high, 1.0)), gains)]
    scale = {"p_signal": signals, "fmt": fmts, "adc_gain": gains, "baseline": baselines}
    leads = {"units": [*recording.units], "sig_name": [*recording.leads]}
    about = {"comments": [*recording.comments], "write_dir": str(folder)}
    wfdb.wrsamp(recording.name, recording.sampling_rate, **leads, **scale, **about)
    return beside(folder / recording.name, "hea")


def write_annotations(
    path: Path | str, extension: str, annotations: Annotations, sampling_rate: float
) -> None:
    """Writes the annotation file of a record, of at least one annotation, at a rate in Hz."""
    import wfdb

    folder, name = os.path.split(path)
    samples = np.asarray(annotations.samples, dtype=np.int64)
    marks = {"symbol": [*annotations.symbols], "aux_note": [*annotations.notes]}
    wfdb.wrann(name, extension, samples, **marks, fs=sampling_rate, write_dir=folder)

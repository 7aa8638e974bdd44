"""ECG files of any kind: known by their first bytes, read into a :class:`Recording`.

The package ``ecgdatakit`` (extra ``formats``) decodes what is neither WFDB, CSV nor NPY. It rounds
sampling rates, only warns of damage, joins what has gaps, and takes any memory a file asks for.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from xecg.errors import RecordError
from xecg.signal.header import is_file, unique_names
from xecg.signal.recording import Recording, ecg_lead
from xecg.signal.wfdb import beside, find_records, read_recording, record_stem

# What there may be of some bytes in files that take many times their size in memory, or long.
_TAGS = (b"<", 2**17, "tags")
_PACKED = (b"1.2.840.10008.1.2.1.99", 0, "deflated data sets")  # by the name of their syntax
_NOTES = (b"EDF Annotations", 2**6, "channels of annotations")
_ANY = (b"", 0, "")
_KARDIA = rb'\s*\{.*"(recordedAt|algorithmDetermination|amplitudeResolution)"'
# Pattern of the first bytes, parser of ecgdatakit, most bytes, and one of the bounds above.
_KINDS = {
    "HL7 aECG": (rb".*<([\w.-]+:)?AnnotatedECG\b", "hl7_aecg.HL7aECGParser", 2**25, _TAGS),
    "GE MUSE XML": (rb".*<RestingECG[\s>]", "ge_muse_xml.GEMuseXMLParser", 2**25, _TAGS),
    "SCP-ECG": (rb".{8}\0\0.{12}\0\0.{4}\x07\0\0\0", "scp_ecg.SCPECGParser", 2**19, _ANY),
    "DICOM": (rb".{128}DICM", "dicom_waveform.DICOMWaveformParser", 2**40, _PACKED),
    "EDF": (rb"0 {7}.{176}\d{3,7} *[\0E ]", "edf.EDFParser", 2**40, _NOTES),
    "ISHNE": (rb"ISHNE1\.0", "ishne_holter.ISHNEHolterParser", 2**40, _ANY),
    "Kardia JSON": (_KARDIA, "alivecor_kardia.AliveCorKardiaParser", 2**23, _ANY),
}
_INSTALL = "Install what it takes: pip install 'xecg-lightning[formats]'"
_APPLE, _CSV, _NPY = "Apple Health CSV", "CSV", "NPY"
_NO_RATE = (_CSV, _NPY)
KNOWN = f"WFDB, {', '.join(_KINDS)}, {_APPLE}, and {_CSV} and {_NPY} with --sampling_rate"
_SUFFIXES = dict.fromkeys((".scp", ".dcm", ".dicom", ".edf", ".ecg"), True)  # of ECGs alone
_SUFFIXES |= dict.fromkeys((".xml", ".json", ".csv", ".npy"), False)
_RATE = re.compile(r"(\d[\d.,]*)\s*(?:hertz|hercios)\b", re.IGNORECASE)  # of Apple's files
_TO_MV = {"nv": 1e-6, "uv": 1e-3, "mv": 1.0, "v": 1e3}
# What ecgdatakit says in warnings of files that are damaged.
_DAMAGE = re.compile("mismatch|truncat|length is|header size|after the last|numLeads|gaps")


def find_ecgs(path: Path, sampling_rate: float | None = None) -> list[Path]:
    """Finds the ECGs in a folder and the folders below it, WFDB records (without suffix) first.

    A path may be a single ECG. CSV and NPY files in a folder are taken for ECGs if their sampling
    rate (Hz) is given. Raises RecordError if there is none, or the kind of the file is not known.
    """
    if path.is_dir():
        found = find_records(path) if any(path.rglob("*.hea")) else []
        found += sorted(file for file in path.rglob("*") if _is_ecg(file, sampling_rate))
        if not found:
            raise RecordError(f"{path}: no ECG in this folder or below it; known are {KNOWN}.")
        return found
    if _is_wfdb(path):
        return find_records(path)
    _kind(path)
    return [path]


def read_ecg(path: Path, sampling_rate: float | None = None) -> Recording:
    """Reads an ECG of any kind; known units become mV, missing samples NaN.

    Channels that do not run beside the ECG with most samples are left out. ``sampling_rate`` (Hz)
    is that of CSV and NPY files. Raises RecordError if the file is damaged, too large, has gaps,
    or is of no kind that is known.
    """
    if _is_wfdb(path):
        return read_recording(path)
    kind = _kind(path)
    if kind in _NO_RATE and sampling_rate is None:
        raise RecordError(f"{path}: {kind} says no sampling rate; give it in Hz: --sampling_rate.")
    try:
        if kind in _KINDS:
            return _decoded(path, kind)
        if kind != _NPY:
            return _read_csv(path, sampling_rate)
        array: Any = np.atleast_2d(np.load(path, mmap_mode="r", allow_pickle=False))
        if array.offset + array.nbytes < path.stat().st_size:
            raise ValueError("expected no bytes after its numbers")
        rows = array if len(array) < array.shape[1] else array.T  # the longer axis is time
        return _recording(path, rows, sampling_rate or 0, [""] * len(rows), [""] * len(rows))
    except Exception as error:  # a parser raises whatever its decoding happens to hit
        reason = " ".join(str(error).split())[:400].rstrip(".") or type(error).__name__
        cure = "Export it again" if not isinstance(error, ImportError) else _INSTALL
        raise RecordError(f"{path}: cannot be read as {kind}: {reason}. {cure}.") from error


def _is_wfdb(path: Path) -> bool:
    """Whether a path stands for a WFDB record, or for no file at all."""
    return is_file(beside(record_stem(path), "hea")) or not is_file(path)


def _is_ecg(file: Path, sampling_rate: float | None) -> bool:
    """Whether a file in a folder is to be read, if only to say why it cannot be."""
    of_ecgs = _SUFFIXES.get(file.suffix.lower())
    try:
        known = of_ecgs is not None and is_file(file) and _kind(file)
        return bool(known) and (known not in _NO_RATE or sampling_rate is not None)
    except (RecordError, OSError):
        return bool(of_ecgs)


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(2**12)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        head = head.decode("utf-16", errors="ignore").encode()
    for name, (start, *_) in _KINDS.items():
        if re.match(start, head, re.DOTALL):
            return name
    if head.startswith(b"\x93NUMPY"):
        return _NPY
    if path.suffix.lower() == ".csv" and (layout := _csv_layout(head)):
        return _APPLE if _RATE.search("\n".join(layout[0])) else _CSV
    raise RecordError(f"{path}: expected an ECG as {KNOWN}; found a file of no such kind.")


def _decoded(path: Path, kind: str) -> Recording:
    """A file as ecgdatakit reads it, with what it leaves to its caller."""
    size, (_, parser, most_bytes, (part, most, parts)) = path.stat().st_size, _KINDS[kind]
    if size > most_bytes or (part and path.read_bytes().count(part) > most):
        raise ValueError(f"expected at most {most_bytes} bytes and {most} {parts}")
    module, _, name = parser.partition(".")
    read = getattr(import_module(f"ecgdatakit.parsing.parsers.{module}"), name)().parse
    with warnings.catch_warnings(record=True) as caught, np.errstate(all="ignore"):
        warnings.simplefilter("always")
        record, ends = read(path), [size]
        if kind == "DICOM":
            read_partial = import_module("pydicom.filereader").read_partial
            with path.open("rb") as file:
                read_partial(file, lambda _tag, _kind, n: ends.append(file.tell() + n))
    about, leads = record.raw_metadata, record.leads
    ways = {_way(lead, about) for lead in leads}
    held, declared = about.get("samples_per_lead", 0), about.get("ecg_size", 0)  # of ISHNE
    pieces = about.get("num_records") if record.file_format.version == "EDF+D" else None
    bad = [str(one.message) for one in caught if _DAMAGE.search(str(one.message))]
    bad += ["bytes that are no element"] * (ends[-1] != size and ends[-1] < 2**32 - 1)  # unknown
    bad += ["other samples than its header says"] * (0 < declared not in (held, held * len(leads)))
    bad += ["pieces of unknown times"] * (pieces not in (None, len(about.get("record_onsets", ()))))
    bad += ["leads of unequal lengths"] * (len(ways) > len({rate for _, rate, _ in ways}))
    if bad and (kind, bad) != ("SCP-ECG", ["leads of unequal lengths"]):
        raise ValueError("; ".join(bad))
    ecgs = [x for x in leads if ecg_lead(x.label, x.resolution_unit or x.adc_resolution_unit)]
    best = max(_way(lead, about) for lead in ecgs or leads)
    leads = [lead for lead in leads if _way(lead, about) == best]
    rows = np.empty((len(leads), best[0]), dtype=np.float32)
    for row, lead in zip(rows, leads, strict=True):
        row[:] = lead.samples * lead.resolution + lead.offset if lead.is_raw else lead.samples
        if kind == "ISHNE":
            row[lead.samples == -(2**15)] = np.nan  # a fault, says the standard
            lead.label = re.sub(r"^Lead (\d+)$", r"ECG \1", lead.label)  # 2 is the second, not II
    units = [lead.resolution_unit or lead.adc_resolution_unit for lead in leads]
    return _recording(path, rows, best[1], [lead.label for lead in leads], units)


def _way(lead: Any, about: Mapping[str, Any]) -> tuple[int, float, str]:
    """Samples of a lead, its rate (exact, from where ecgdatakit keeps it), and where it starts."""
    rates = [
        about.get("rhythm_time", {}).get("sampling_rate_exact"),
        about.get("exact_sampling_rates", {}).get(lead.label),
        1e6 / about.get("rhythm_sample_interval_us", np.inf),
        about.get("raw", {}).get("frequency"),
        *(group["sampling_frequency"] for group in about.get("multiplex_groups", ())),
    ]
    exact = (float(rate) for rate in rates if rate and round(float(rate)) == lead.sampling_rate)
    start = str(lead.annotations.get("start_sample"))  # of SCP-ECG
    return len(lead.samples), next(exact, lead.sampling_rate), start


def _csv_layout(head: bytes) -> tuple[list[str], str, int] | None:
    """Lines before the numbers, delimiter, and number of columns; null if there are no numbers."""
    lines = head.decode("utf-8-sig", errors="replace").splitlines()[:64]
    for number, line in enumerate(lines):
        delimiter = max(",;\t", key=line.count)
        fields = [field.strip() for field in line.split(delimiter)]
        try:
            if [float(field) for field in fields if field]:
                return lines[:number], delimiter, len(fields)
        except ValueError:
            continue
    return None


def _read_csv(path: Path, sampling_rate: float | None) -> Recording:
    """A column per lead, with or without names; or Apple's, whose lines before say what it is."""
    import pandas as pd

    with path.open("rb") as file:
        before, delimiter, n = _csv_layout(file.read(2**20)) or ([], ",", 1)
    lines = [line.replace('"', "").split(delimiter) for line in before if line]
    how: dict[str, Any] = {"skip_blank_lines": False, "encoding_errors": "replace"}
    if rate := _RATE.search("\n".join(before)):  # two columns are one with decimal commas
        delimiter, how["decimal"], n = ";", "." if n == 1 else ",", 1
        about = {line[0].casefold(): line[1] for line in lines if line[1:]}
        parts = [(about.get("lead", ""), about.get("unit", ""))]
        sampling_rate = float(rate[1].replace(",", "."))
    else:
        fields = [field for line in lines for field in line] or [""] * n
        parts = [re.findall(r"([^(\[]*)[(\[]?([^)\]]*)", field)[0] for field in fields]  # II (mV)
    if len(parts) != n:
        raise ValueError(f"expected {n} names of leads before the numbers, found {len(parts)}")
    how |= {"sep": delimiter, "names": range(n), "skiprows": len(before), "dtype": np.float64}
    try:
        values = pd.read_csv(path, **how).to_numpy()
    except pd.errors.ParserError:  # whose reasons are clear
        raise
    except ValueError as error:
        raise ValueError(f"a sample that is text, or infinite ({error})") from error
    rows = values[: 1 + np.flatnonzero(~np.isnan(values).all(axis=1)).max(initial=0)].T
    names, units = [[part.strip() for part in column] for column in zip(*parts, strict=True)]
    return _recording(path, rows, sampling_rate or 0, names, units)


def _recording(
    path: Path, rows: Any, rate: float, names: Sequence[str], units: Sequence[str]
) -> Recording:
    """Rows in their units as a recording, in mV where the unit is known."""
    plain = [re.sub("[µμ]", "u", unit.strip()).casefold() for unit in units]
    factors = np.array([[_TO_MV.get(unit, 1.0)] for unit in plain], dtype=np.float32)
    mv = {unit: "mV" for one, unit in zip(plain, units, strict=True) if one in _TO_MV}
    named = [mv.get(unit, unit) or "unknown unit" for unit in units]
    return Recording(path.name, rows * factors, rate, tuple(unique_names(names)), tuple(named))

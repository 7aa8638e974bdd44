"""Writes minimal files of each kind that xecg reads, as their standards say."""

import base64
import binascii
import json
import struct
import zlib
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int16]  # (leads, time)
UV_PER_COUNT = 2.5
RATE = 500


def write_raw(
    folder: Path, header: str, digital: Any, dtype: str = "<i2", name: str = "r1"
) -> Path:
    """A WFDB record as another program would write it."""
    (folder / f"{name}.hea").write_text(header)
    np.asarray(digital).astype(dtype).tofile(folder / f"{name}.dat")
    return folder / name


def aecg(counts: Counts, leads: Sequence[str], step_s: float = 1 / RATE) -> bytes:
    sequences = "".join(
        f'<component><sequence><code code="MDC_ECG_LEAD_{lead.upper()}"/>'
        f'<value><origin value="0" unit="uV"/><scale value="{UV_PER_COUNT}" unit="uV"/>'
        f"<digits>{' '.join(map(str, row))}</digits></value></sequence></component>"
        for lead, row in zip(leads, counts, strict=True)
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><AnnotatedECG xmlns="urn:hl7-org:v3"><component>'
        '<series><code code="RHYTHM"/><component><sequenceSet><component><sequence>'
        '<code code="TIME_ABSOLUTE"/><value><head value="20200101120000"/>'
        f'<increment value="{step_s!r}" unit="s"/></value></sequence></component>{sequences}'
        "</sequenceSet></component></series></component></AnnotatedECG>"
    ).encode()


def muse(counts: Counts, leads: Sequence[str], crc: int = 0) -> bytes:
    data = "".join(
        f"<LeadData><LeadByteCountTotal>{len(row) * 2}</LeadByteCountTotal>"
        f"<LeadSampleCountTotal>{len(row)}</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>{UV_PER_COUNT}</LeadAmplitudeUnitsPerBit>"
        "<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits>"
        f"<LeadID>{lead}</LeadID><LeadSampleSize>2</LeadSampleSize>"
        f"<LeadDataCRC32>{zlib.crc32(row.astype('<i2').tobytes()) + crc}</LeadDataCRC32>"
        f"<WaveFormData>{base64.b64encode(row.astype('<i2').tobytes()).decode()}</WaveFormData>"
        "</LeadData>"
        for lead, row in zip(leads, counts, strict=True)
    )
    return (
        '<?xml version="1.0" encoding="ISO-8859-1"?><!DOCTYPE RestingECG SYSTEM "restecg.dtd">'
        "<RestingECG><Waveform><WaveformType>Rhythm</WaveformType>"
        f"<SampleBase>{RATE}</SampleBase><SampleExponent>0</SampleExponent>{data}"
        "</Waveform></RestingECG>"
    ).encode("latin-1")


def scp(
    counts: Counts,
    leads: Sequence[str],
    *,
    interval_us: int = 10**6 // RATE,
    starts: Sequence[int] = (),
    huffman: bool = False,
) -> bytes:
    codes = {"I": 1, "II": 2, "V1": 3, "V2": 4}
    starts = starts or [1] * len(leads)
    n = counts.shape[1]

    def section(number: int, body: bytes) -> bytes:
        body += b"\0" * (len(body) % 2)
        head = struct.pack("<HIBB6x", number, 16 + len(body), 20, 20) + body
        return struct.pack("<H", binascii.crc_hqx(head, 0xFFFF)) + head

    lines = b"".join(
        struct.pack("<IIB", start, start + n - 1, codes[lead])
        for start, lead in zip(starts, leads, strict=True)
    )
    data = [_packed(row) if huffman else row.astype("<i2").tobytes() for row in counts]
    sizes = b"".join(struct.pack("<H", len(one)) for one in data)
    rhythm = struct.pack("<HHBB", int(UV_PER_COUNT * 1000), interval_us, int(huffman), 0)
    bodies = {3: bytes([len(leads), (0x04 | len(leads) << 3) & 0xFF]) + lines}
    bodies[6] = rhythm + sizes + b"".join(data)
    if huffman:
        bodies[2] = struct.pack("<H", 19999)
    sections = {number: section(number, body) for number, body in sorted(bodies.items())}
    place = 6 + 16 + 10 * 12
    pointers = [(0, 16 + 10 * 12, 7)]
    for number in range(1, 12):
        one = sections.get(number, b"")
        pointers.append((number, len(one), place + 1 if one else 0))
        place += len(one)
    first = section(0, b"".join(struct.pack("<HII", *pointer) for pointer in pointers))
    content = first + b"".join(sections.values())
    content = struct.pack("<I", len(content) + 6) + content
    return struct.pack("<H", binascii.crc_hqx(content, 0xFFFF)) + content


def _packed(row: NDArray[np.int16]) -> bytes:
    """First differences in the standard's own Huffman table."""
    words = []
    for value in np.diff(row.astype(int), prepend=0).tolist():
        if value == 0:
            words.append("0")
        elif abs(value) <= 8:
            words.append("1" * abs(value) + "0" + str(int(value < 0)))
        elif -128 <= value < 128:
            words.append("1111111110" + f"{value & 0xFF:08b}")
        else:
            words.append("1111111111" + f"{value & 0xFFFF:016b}")
    bits = "".join(words)
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def dicom(
    counts: Counts, leads: Sequence[str], *, rate: float = RATE, deflated: bool = False
) -> bytes:
    import pydicom
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

    def code(value: str, scheme: str, meaning: str) -> list[Dataset]:
        one = Dataset()
        one.CodeValue, one.CodingSchemeDesignator, one.CodeMeaning = value, scheme, meaning
        return [one]

    channels = []
    for lead in leads:
        channel = Dataset()
        channel.ChannelSourceSequence = code(f"MDC_ECG_LEAD_{lead}", "MDC", f"Lead {lead}")
        channel.ChannelSensitivity = str(UV_PER_COUNT)
        channel.ChannelSensitivityUnitsSequence = code("uV", "UCUM", "microvolt")
        channel.ChannelSensitivityCorrectionFactor, channel.ChannelBaseline = "1", "0"
        channel.WaveformBitsStored = 16
        channels.append(channel)
    group = Dataset()
    group.WaveformOriginality, group.MultiplexGroupLabel = "ORIGINAL", "RHYTHM"
    group.NumberOfWaveformChannels, group.NumberOfWaveformSamples = counts.shape
    group.SamplingFrequency = str(rate)
    group.ChannelDefinitionSequence = channels
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.WaveformPaddingValue = struct.pack("<h", -32768)
    group.WaveformData = counts.T.astype("<i2").tobytes()
    ecg = Dataset()
    ecg.SOPClassUID, ecg.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", "1.2.3"
    ecg.Modality, ecg.WaveformSequence = "ECG", [group]
    ecg.file_meta = FileMetaDataset()
    ecg.file_meta.MediaStorageSOPClassUID = ecg.SOPClassUID
    ecg.file_meta.MediaStorageSOPInstanceUID = ecg.SOPInstanceUID
    syntax = DeflatedExplicitVRLittleEndian if deflated else ExplicitVRLittleEndian
    ecg.file_meta.TransferSyntaxUID = syntax
    file = BytesIO()
    pydicom.dcmwrite(file, ecg, enforce_file_format=True)
    return file.getvalue()


def edf(
    counts: Counts,
    leads: Sequence[str],
    *,
    unit: str = "uV",
    record_s: float = 1.0,
    onsets: Sequence[float] = (),
    slow: str = "",
) -> bytes:
    """With a channel named ``slow`` of one sample a record; in pieces at ``onsets`` (EDF+D)."""
    per_record = round(RATE * record_s)
    n = counts.shape[1] // per_record
    labels, numbers = list(leads), [per_record] * len(leads)
    if slow:
        labels, numbers = [*labels, slow], [*numbers, 1]
    if onsets:
        labels, numbers = [*labels, "EDF Annotations"], [*numbers, 15]
    low, high = -32768 * UV_PER_COUNT, 32767 * UV_PER_COUNT
    fields = [
        (16, labels),
        (80, [""] * len(labels)),
        (8, [unit] * len(labels)),
        (8, [f"{low:g}"] * len(labels)),
        (8, [f"{high:g}"] * len(labels)),
        (8, ["-32768"] * len(labels)),
        (8, ["32767"] * len(labels)),
        (80, [""] * len(labels)),
        (8, map(str, numbers)),
        (32, [""] * len(labels)),
    ]
    head = f"{'0':8}{'X X X X':80}{'Startdate X X X X':80}01.01.2012.00.00"
    head += f"{256 * (1 + len(labels)):<8}{'EDF+D' if onsets else '':44}{n:<8}"
    head += f"{record_s:<8g}{len(labels):<4}"
    head += "".join(f"{value:{size}}" for size, values in fields for value in values)
    parts = [head.encode("ascii")]
    for number, piece in enumerate(np.split(counts[:, : n * per_record], n, axis=1)):
        parts.append(piece.astype("<i2").tobytes() + b"\1\0" * bool(slow))
        if onsets:
            parts.append(f"+{onsets[number]:g}\x14\x14\0".encode().ljust(30, b"\0"))
    return b"".join(parts)


def ishne(counts: Counts, leads: Sequence[str], *, declared: int | None = None) -> bytes:
    codes = {"": 0, "I": 5, "II": 6, "V1": 11}
    resolution = int(UV_PER_COUNT * 1000)
    absent = [-9] * (12 - len(leads))
    block = struct.pack("<iiii", 0, counts.shape[1] if declared is None else declared, 522, 522)
    block += struct.pack("<h40s40s20s", 1, b"", b"", b"")
    block += struct.pack("<hh9h3h", 0, 0, *[1, 1, 1970, 1, 1, 2020, 1, 1, 2020], 12, 0, 0)
    block += struct.pack("<h", len(leads))
    for values in ([codes[lead] for lead in leads], [1] * len(leads), [resolution] * len(leads)):
        block += struct.pack("<12h", *values, *absent)
    block += struct.pack("<h40sh80s80s88s", 0, b"digital", RATE, b"", b"", b"")
    checksum = struct.pack("<H", binascii.crc_hqx(block, 0xFFFF))
    return b"ISHNE1.0" + checksum + block + counts.T.astype("<i2").tobytes()


def kardia(counts: Counts, leads: Sequence[str], *, rate: float = RATE) -> bytes:
    names = {"I": "leadI", "II": "leadII"}
    samples = {names[lead]: row.tolist() for lead, row in zip(leads, counts, strict=True)}
    raw = {"frequency": rate, "amplitudeResolution": UV_PER_COUNT * 1000, "samples": samples}
    about = {"id": "1", "recordedAt": "2020-01-01T12:00:00Z", "algorithmDetermination": "normal"}
    return json.dumps(about | {"data": {"raw": raw | {"numLeads": len(leads)}}}).encode()


def apple(
    counts: Counts, leads: Sequence[str], *, rate: float = RATE, comma: bool = False
) -> bytes:
    values = "\n".join(f"{value * UV_PER_COUNT:.3f}" for value in counts[0])
    return (
        "Name,A Person\nDate of Birth,01.01.1970\nRecorded Date,2020-01-01 12:00:00 +0100\n"
        "Classification,Sinus Rhythm\nSymptoms,\nSoftware Version,1.9\n"
        f'Device,"Watch6,1"\nSample Rate,{rate} hertz\n\n\nLead,Lead {leads[0]}\nUnit,µV\n\n'
        + (values.replace(".", ",") if comma else values)
        + "\n"
    ).encode()


def csv(counts: Counts, leads: Sequence[str], *, unit: str = "uV") -> bytes:
    head = ",".join(f"{lead} ({unit})" for lead in leads)
    rows = (",".join(f"{value * UV_PER_COUNT:.1f}" for value in row) for row in counts.T)
    return "\n".join([head, *rows, ""]).encode()


def npy(counts: Counts, leads: Sequence[str]) -> bytes:
    file = BytesIO()
    np.save(file, (counts * UV_PER_COUNT / 1000).astype(np.float32))
    return file.getvalue()


WRITERS: dict[str, Callable[..., bytes]] = {  # by the suffix of the file
    "aecg.xml": aecg,
    "muse.xml": muse,
    "scp": scp,
    "dcm": dicom,
    "edf": edf,
    "ecg": ishne,
    "json": kardia,
    "apple.csv": apple,
    "csv": csv,
    "npy": npy,
}


def write(
    folder: Path, suffix: str, counts: Counts, leads: Sequence[str], **options: object
) -> Path:
    path = folder / f"r.{suffix}"
    path.write_bytes(WRITERS[suffix](counts, leads, **options))
    return path

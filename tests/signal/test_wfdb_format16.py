"""Records of 16-bit samples are read to the same bits as wfdb reads them; others are left to it."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.wfdb import _read_with_wfdb, read_format16, read_recording, write_recording

RECORD = "r1 2 250 3 05:05:15 1/05/2000"
SIGNAL = "r1.dat 16 1000(5)/mV 16 0 -127 0 0 ECG"
STORED = np.array([[1, -2], [3, -32768], [5, 6]], dtype="<i2")


def write(folder, lines, stored=STORED, before=b""):
    (folder / "r1.hea").write_text("\n".join(lines) + "\n")
    (folder / "r1.dat").write_bytes(before + stored.tobytes())
    return folder / "r1.hea"


def assert_as_wfdb(header):
    assert read_format16(header) is not None
    stem = header.with_suffix("")
    ours, wfdb = read_recording(stem), _read_with_wfdb(stem, header)
    np.testing.assert_array_equal(ours.samples, wfdb.samples)
    assert ours.samples.dtype == wfdb.samples.dtype == np.float32
    for field in ("name", "sampling_rate", "leads", "units", "comments"):
        assert getattr(ours, field) == getattr(wfdb, field)


@settings(max_examples=30)
@given(
    stored=arrays("<i2", st.tuples(st.integers(1, 20), st.just(2))),
    gain=st.floats(0.001, 1e6).map(lambda gain: f"{gain:.6f}"),
    baseline=st.integers(-40000, 40000),
    zero=st.integers(-4096, 4096),
    rate=st.sampled_from(["100", "257.5", "333.333333", "1000"]),
    before=st.binary(max_size=30),
    comment=st.text(st.characters(codec="ascii", categories=("L", "N", "P")), max_size=9),
)
def test_it_is_what_wfdb_reads(
    tmp_path_factory, stored, gain, baseline, zero, rate, before, comment
):
    folder = tmp_path_factory.mktemp("record")
    lines = [
        f"# first {comment}",
        f"r1 2 {rate} {len(stored)}",
        f"r1.dat 16+{len(before)} {gain}({baseline})/uV 16 {zero} 0 -5 0 V1 to the left",
        f"r1.dat 16+{len(before)} {gain} 12 {zero} -9 0 0 \tV2  ",
        f"  #{comment}",
    ]
    assert_as_wfdb(write(folder, lines, stored, before))


@pytest.mark.parametrize("line", [RECORD, "r1 2 250 3 5:05:15.25", "r1\t2  250.0 3", "r1 2 250 2"])
@pytest.mark.parametrize("unit", ["", "/mV", "/%", "/m^2-s"])
def test_forms_of_a_header(tmp_path, line, unit):
    signal = f"r1.dat\t16 1000{unit} 16 0 -127 0 0 ECG"
    assert_as_wfdb(write(tmp_path, ["# Dx: 1", line, "", signal, signal, "#", "## two"]))


def test_a_written_recording(tmp_path):
    samples = np.sin(np.arange(600).reshape(2, 300) / 20)
    samples[0, 10:20] = np.nan
    recording = Recording("r1", samples, 250.0, ("I", "II"), ("mV", "mV"), ("Dx: 1",))
    assert_as_wfdb(write_recording(recording, tmp_path))


@pytest.mark.parametrize(
    "lines",
    [
        ["r1 2 250/360 3", SIGNAL, SIGNAL],
        ["r1 2 250", SIGNAL, SIGNAL],
        ["r1 2", SIGNAL, SIGNAL],
        ["r1/2 2 250 3", SIGNAL, SIGNAL],
        ["r1 2 250 3", SIGNAL],
        ["r1 2 250 0", SIGNAL, SIGNAL],
        ["r1 2 250 4", SIGNAL, SIGNAL],
        [RECORD, SIGNAL.replace(" 16 ", " 212 ", 1), SIGNAL],
        [RECORD, SIGNAL.replace(" 16 ", " 16x2 ", 1), SIGNAL],
        [RECORD, SIGNAL.replace(" 16 ", " 16:3 ", 1), SIGNAL],
        [RECORD, SIGNAL.replace("1000", "0"), SIGNAL],
        [RECORD, SIGNAL.replace("1000", "1e3"), SIGNAL],
        [RECORD, SIGNAL.removesuffix(" ECG"), SIGNAL],
        [RECORD, SIGNAL, SIGNAL.replace("r1.dat", "r2.dat")],
        [RECORD, SIGNAL, SIGNAL.replace(" 16 ", " 16+1 ", 1)],
        [RECORD, SIGNAL.replace("r1.dat", "r0.dat"), SIGNAL.replace("r1.dat", "r0.dat")],
        [],
    ],
)
def test_anything_else_is_left_to_wfdb(tmp_path, lines):
    assert read_format16(write(tmp_path, lines)) is None


def test_a_file_that_is_too_short_is_still_refused(tmp_path):
    with pytest.raises(RecordError, match=r"names r1\.dat \(12 bytes\)"):
        read_recording(write(tmp_path, ["r1 2 250 300", SIGNAL, SIGNAL]))


@pytest.mark.parametrize("name", ["cinc2017", "ludb", "xfusemap"])
def test_real_records(real_database, name):
    headers = sorted(real_database(name).rglob("*.hea"))
    for header in random.Random(0).sample(headers, 40):
        assert_as_wfdb(header)

"""WFDB files: what wfdb writes and reads, checked before and after."""

import numpy as np
import pytest
import wfdb
from ecg_files import write_raw
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xecg.errors import RecordError
from xecg.signal.recording import Recording
from xecg.signal.wfdb import (
    Annotations,
    find_records,
    read_annotations,
    read_recording,
    record_stem,
    write_annotations,
    write_recording,
)


def write(folder, name, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hea").write_text(text)
    return folder / f"{name}.hea"


@pytest.mark.parametrize("name", ["a01", "a01.hea", "a01.dat", "a01.mat"])
def test_a_record_goes_by_any_of_its_files(tmp_path, name):
    write(tmp_path, "a01", "a01 1 250\na01.dat 16\n")
    assert record_stem(tmp_path / name) == tmp_path / "a01"
    assert find_records(tmp_path / name) == [tmp_path / "a01"]


def test_records_are_found_below_a_folder_in_order_without_segments(tmp_path):
    write(
        tmp_path / "p1",
        "whole",
        "# two pieces and a gap\nwhole/3 1 250 300\ns1 100\n~ 100\ns2 100\n",
    )
    write(tmp_path / "p1", "s1", "s1 1 250 100\ns1.dat 16\n")
    write(tmp_path / "p1", "s2", "s2 1 250 100\ns2.dat 16\n")
    write(tmp_path, "alone", "alone 1 250 100\nalone.dat 16\n")
    # a segment's name elsewhere is another record
    write(tmp_path / "p2", "s1", "s1 1 250 100\ns1.dat 16\n")
    found = [record.relative_to(tmp_path).as_posix() for record in find_records(tmp_path)]
    assert found == ["alone", "p1/whole", "p2/s1"]


def test_folder_without_records_is_named(tmp_path):
    with pytest.raises(RecordError, match="no WFDB header"):
        find_records(tmp_path)


@pytest.mark.parametrize(
    "text", ["broken/2 1 250 9\n../up 4\n/ 5\n", "broken/2\n\0/\\ 1\n", "/a\n..\n", ""]
)
def test_a_broken_header_does_not_hide_the_other_records(tmp_path, text):
    write(tmp_path, "broken", text)
    write(tmp_path, "whole", "whole 1 250 100\nwhole.dat 16\n")
    (tmp_path / "dangling.hea").symlink_to(tmp_path / "nowhere")
    (tmp_path / "folder.hea").mkdir()
    found = [record.name for record in find_records(tmp_path)]
    assert found == ["broken", "dangling", "folder", "whole"]


def test_record_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"nowhere\.hea"):
        find_records(tmp_path / "nowhere")


MILLIVOLTS = st.integers(-5000, 5000).map(lambda microvolts: microvolts / 1000)
BITS = {"80": 8, "212": 12, "16": 16, "24": 24, "508": 8, "516": 16, "524": 24}


def make(samples, **changes):
    samples = np.atleast_2d(samples)
    values = {
        "name": "r1",
        "samples": samples,
        "sampling_rate": 250.0,
        "leads": tuple(f"V{i + 1}" for i in range(len(samples))),
        "units": ("mV",) * len(samples),
    }
    return Recording(**(values | changes))


def sines(n_leads=2, n_samples=600):
    return np.sin(np.arange(n_leads)[:, np.newaxis] + np.arange(n_samples) / 20)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 80)), elements=MILLIVOLTS),
    st.sampled_from(["80", "212", "16", "24"]),
)
@example(np.array([[4.08, 1.572, 0.009, 0.944]]), "80")  # the lowest is less than a step
def test_a_written_recording_reads_back_within_one_step(tmp_path_factory, samples, fmt):
    folder = tmp_path_factory.mktemp("record")
    write_recording(make(samples), folder, fmt=fmt)
    read = read_recording(folder / "r1")
    step = np.ptp(samples, axis=1, keepdims=True) / (2 ** BITS[fmt] - 3)
    assert (np.abs(read.samples - samples) <= step + 1e-6).all()


@pytest.mark.parametrize("fmt", [*BITS, "32"])
def test_description_reads_back_from_every_format(tmp_path, fmt):
    recording = make(
        sines(),
        leads=("MLII", "aVR"),
        units=("mV", "uV"),
        sampling_rate=257.5,
        comments=("69 M", "Dx: 426783006"),
    )
    header = write_recording(recording, tmp_path, fmt=fmt)
    read = read_recording(header)
    np.testing.assert_allclose(read.samples, recording.samples, atol=0.02)
    for field in ("name", "sampling_rate", "leads", "units", "comments"):
        assert getattr(read, field) == getattr(recording, field)


@pytest.mark.parametrize("fmt", ["16", "516"])
def test_colons_in_a_path_are_no_address(tmp_path, fmt):
    write_recording(make(sines()), tmp_path / "written", fmt=fmt)
    (tmp_path / "written" / "r1.hea").rename(tmp_path / "written" / "r::2.hea")
    folder = (tmp_path / "written").rename(tmp_path / "a::3")
    np.testing.assert_allclose(read_recording(folder / "r::2").samples, sines(), atol=0.02)


def test_missing_samples_read_back(tmp_path):
    samples = sines()
    samples[0, 10:20] = np.nan
    write_recording(make(samples), tmp_path)
    np.testing.assert_array_equal(
        np.isnan(read_recording(tmp_path / "r1").samples), np.isnan(samples)
    )


def test_format_310_by_hand(tmp_path):
    # three samples of 10 bits in four bytes: 7 + 3 bits, 7 + 3 bits, 5 + 5 bits
    first, second, third = 300, -200, -1
    a, b, c = (value & 0x3FF for value in (first, second, third))
    block = [
        (a & 0x7F) << 1,
        (a >> 7) | (c & 0x1F) << 3,
        (b & 0x7F) << 1,
        (b >> 7) | (c >> 5) << 3,
    ]
    path = write_raw(tmp_path, "r1 1 250 3\nr1.dat 310 100/mV 10 0\n", block, "u1")
    np.testing.assert_allclose(read_recording(path).samples, [[3, -2, -0.01]])


def test_mat_files_of_the_challenges(tmp_path):
    # signal file of MATLAB's version 4: a header of 24 bytes, then 16-bit samples
    (tmp_path / "A1.hea").write_text(
        "A1 1 300 4 05:05:15 1/05/2000\nA1.mat 16+24 1000/mV 16 0 -127 0 0 ECG\n"
    )
    digital = np.array([-127, 0, 500, 1000], dtype="<i2")
    (tmp_path / "A1.mat").write_bytes(bytes(24) + digital.tobytes())
    recording = read_recording(tmp_path / "A1.mat")
    np.testing.assert_allclose(recording.samples, [[-0.127, 0, 0.5, 1.0]])
    assert (recording.leads, recording.sampling_rate) == (("ECG",), 300.0)


def test_a_counter_beside_the_rate_is_not_the_rate(tmp_path):
    path = write_raw(tmp_path, "r1 1 250/360 4\nr1.dat 16 200 16 0 0 0 0 II\n", [0, 1, 2, 3])
    assert read_recording(path).sampling_rate == 250.0


def test_leads_with_more_samples_per_frame_keep_their_rate(tmp_path):
    # a frame: four samples of ECG, one of respiration
    frames = np.array([[1, 2, 3, 4, 10], [5, 6, 7, 8, 20]])
    header = "r1 2 62.5 2\nr1.dat 16x4 1/mV 16 0 0 0 0 II\nr1.dat 16 1/Ohm 16 0 0 0 0 RESP\n"
    path = write_raw(tmp_path, header, frames.ravel())
    recording = read_recording(path)
    assert recording.sampling_rate == 250.0
    np.testing.assert_array_equal(
        recording.samples[recording.choose_lead("II")], [1, 2, 3, 4, 5, 6, 7, 8]
    )
    np.testing.assert_array_equal(recording.samples[1], [10] * 4 + [20] * 4)
    wfdb.wrann("r1", "atr", np.array([1]), symbol=["N"], write_dir=str(tmp_path))
    np.testing.assert_array_equal(read_annotations(path, "atr").samples, [4])


def test_segments_become_one_recording(tmp_path):
    write_raw(tmp_path, "a 1 250 3\na.dat 16 1/mV 16 0 0 0 0 II\n", [1, 2, 3], name="a")
    write_raw(tmp_path, "b 1 250 2\nb.dat 16 1/mV 16 0 0 0 0 II\n", [4, 5], name="b")
    (tmp_path / "m.hea").write_text("m/2 1 250 5\na 3\nb 2\n")
    np.testing.assert_array_equal(read_recording(tmp_path / "m").samples, [[1, 2, 3, 4, 5]])
    assert find_records(tmp_path) == [tmp_path / "m"]


def test_annotations_of_segments_count_their_frames(tmp_path):
    write_raw(tmp_path, "a 1 125 2\na.dat 16x2 1/mV 16 0 0 0 0 II\n", [1, 2, 3, 4], name="a")
    (tmp_path / "m.hea").write_text("m/1 1 125 2\na 2\n")
    wfdb.wrann("m", "atr", np.array([1]), symbol=["N"], write_dir=str(tmp_path))
    assert read_recording(tmp_path / "m").sampling_rate == 250
    np.testing.assert_array_equal(read_annotations(tmp_path / "m", "atr").samples, [2])


def test_segments_with_gaps_and_other_leads_become_one_recording(tmp_path):
    layout = "~ 0 1/mV 16 0 0 0 0 II\n~ 0 1/mV 16 0 0 0 0 V5\n"
    (tmp_path / "layout.hea").write_text(f"layout 2 250 0\n{layout}")
    write_raw(tmp_path, "a 1 250 2\na.dat 16 1/mV 16 0 0 0 0 II\n", [1, 2], name="a")
    write_raw(tmp_path, "b 1 250 2\nb.dat 16 1/mV 16 0 0 0 0 V5\n", [3, 4], name="b")
    (tmp_path / "m.hea").write_text("m/4 2 250 6\nlayout 0\na 2\n~ 2\nb 2\n")
    recording = read_recording(tmp_path / "m")
    gap = np.nan
    assert recording.leads == ("II", "V5")
    np.testing.assert_array_equal(
        recording.samples, [[1, 2, gap, gap, gap, gap], [gap, gap, gap, gap, 3, 4]]
    )


def test_leads_without_a_name_of_their_own_get_one(tmp_path):
    lines = "".join(f"r1.dat 16 1/mV 16 0 0 0 0 {name}\n" for name in ("ECG", "", "ECG", "ECG"))
    path = write_raw(tmp_path, f"r1 4 250 1\n{lines}", [0, 1, 2, 3])
    assert read_recording(path).leads == ("ECG", "unnamed 2", "ECG 2", "ECG 3")


def damage_nothing_written(folder):
    (folder / "r1.dat").unlink(missing_ok=True)


def damage_truncated(folder):
    data = (folder / "r1.dat").read_bytes()
    (folder / "r1.dat").write_bytes(data[: len(data) // 2 + 1])


@pytest.mark.parametrize("fmt", ["16", "212", "24", "32", "80", "516"])
@pytest.mark.parametrize("n_leads", [1, 3])
@pytest.mark.parametrize(
    ("damage", "state"),
    [(damage_nothing_written, "missing"), (damage_truncated, r"\d+ bytes")],
)
def test_damaged_signal_files_are_named(tmp_path, fmt, n_leads, damage, state):
    write_recording(make(sines(n_leads)), tmp_path, fmt=fmt)
    damage(tmp_path)
    with pytest.raises(RecordError, match=rf"r1\.hea: cannot be read.*r1\.dat \({state}\)"):
        read_recording(tmp_path / "r1")


def test_missing_segment_is_named(tmp_path):
    (tmp_path / "m.hea").write_text("m/1 1 250 5\nlost 5\n")
    with pytest.raises(RecordError, match=r"lost\.hea \(missing\)"):
        read_recording(tmp_path / "m")


@pytest.mark.parametrize("header", ["", "\x00\x01", "<html>404</html>", "r1 one 250\n"])
def test_files_that_are_no_headers_are_named(tmp_path, header):
    path = write_raw(tmp_path, header, [0])
    with pytest.raises(RecordError, match=r"r1\.hea: cannot be read as a WFDB record"):
        read_recording(path)


@pytest.mark.parametrize("header", ["r1 0 250\n", "r1 0 250 100\n"])
def test_header_without_signals_is_named(tmp_path, header):
    (tmp_path / "r1.hea").write_text(header)
    with pytest.raises(RecordError, match=r"r1\.hea: .*names no signals"):
        read_recording(tmp_path / "r1")


def test_record_that_does_not_exist_is_named_of_wfdb_files(tmp_path):
    with pytest.raises(RecordError, match=r"r9\.hea: no such file"):
        read_recording(tmp_path / "r9")
    with pytest.raises(RecordError, match=r"r9\.atr: no such file"):
        read_annotations(tmp_path / "r9", "atr")


ANNOTATIONS = st.lists(
    st.tuples(
        st.integers(1, 2_000_000),  # at sample 0 wfdb keeps its own comments
        st.sampled_from(["N", "V", "A", "(", ")", "p", "t", "+", '"']),
        st.sampled_from(["", "(AFIB", "(N", "artefact near the end"]),
    ),
    min_size=1,
    max_size=30,
    unique_by=lambda annotation: annotation[0],
)


@settings(max_examples=40, deadline=None)
@given(ANNOTATIONS, st.sampled_from([250.0, 257.5, 360.0]))
def test_written_annotations_read_back(tmp_path_factory, annotations, rate):
    folder = tmp_path_factory.mktemp("annotations")
    samples, symbols, notes = zip(*sorted(annotations), strict=True)
    written = Annotations(np.array(samples), symbols, notes)
    write_annotations(folder / "r1", "atr", written, rate)
    read = read_annotations(folder / "r1", "atr")
    np.testing.assert_array_equal(read.samples, samples)
    assert read.symbols == symbols
    assert read.notes == notes


def test_annotations_at_another_rate_are_converted(tmp_path):
    write_recording(make(sines()), tmp_path)
    beats = Annotations(np.array([36, 360]), ("N", "N"), ("", ""))
    write_annotations(tmp_path / "r1", "atr", beats, 360.0)
    np.testing.assert_array_equal(read_annotations(tmp_path / "r1", "atr").samples, [25, 250])


@pytest.mark.parametrize("content", [b"", b"\x01\xe8\x03", b"\x10\x04", b"\x10\x04\x10"])
def test_a_file_that_holds_no_annotations_or_is_cut_off_is_named(tmp_path, content):
    (tmp_path / "r1.atr").write_bytes(content)
    with pytest.raises(RecordError, match=r"r1\.atr: cannot be read as WFDB annotations"):
        read_annotations(tmp_path / "r1", "atr")


def note(text):
    """A note at the time of the annotation before it, as the bytes of a file."""
    return bytes([len(text), 0xFC]) + text + bytes(len(text) % 2)


BEAT, NOTE = b"\x20\x04", b"\x00\x58"  # 32 samples on; at once
RATE = NOTE + note(b"## time resolution: 250")


@pytest.mark.parametrize(
    "content",
    [
        NOTE + note(b"## time resolutioo: 250"),
        NOTE + note(b"## time resolution: x"),
        RATE + RATE,
        NOTE + note(b"## end of definitions"),
        NOTE + note(b"## annotation type definitio"),
        RATE + NOTE + note(b"## anything"),
        b"\x00\x04" + note(b"## anything") + NOTE + note(b"x"),
        BEAT + note(b"one") + note(b"two"),
        BEAT * 20,
        BEAT + b"\x00\xec\xff\xff\x00\x00" + BEAT,
    ],
)
def test_annotations_that_wfdb_does_not_end_with_or_that_cannot_be(tmp_path, content):
    write_recording(make(sines()), tmp_path)
    (tmp_path / "r1.atr").write_bytes(content + bytes(2))
    with pytest.raises(RecordError, match=r"r1\.atr: cannot be read as WFDB annotations"):
        read_annotations(tmp_path / "r1", "atr")


def test_annotations_with_a_rate_are_read(tmp_path):
    write_recording(make(sines()), tmp_path)
    (tmp_path / "r1.atr").write_bytes(RATE + BEAT * 3 + note(b"# later") + bytes(2))
    read = read_annotations(tmp_path / "r1", "atr")
    assert (read.samples.tolist(), read.notes[2]) == ([32, 64, 96], "# later")


def test_a_file_of_more_annotations_than_a_record_can_have_is_not_read(tmp_path):
    with (tmp_path / "r1.atr").open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(RecordError, match="more than 4194304 bytes"):
        read_annotations(tmp_path / "r1", "atr")


@pytest.mark.parametrize(
    ("database", "record", "shape", "rate", "leads"),
    [
        ("cinc2017/training2017", "A00001", (1, 9000), 300, "ECG"),
        ("ludb/data", "1", (12, 5000), 500, "i ii iii avr avl avf v1 v2 v3 v4 v5 v6"),
        ("mitdb", "100", (2, 650_000), 360, "MLII V5"),
        ("qtdb", "sel100", (2, 225_000), 250, "MLII V5"),
        ("xfusemap/records", "E08462", (1, 5000), 500, "II"),
    ],
)
def test_a_real_record(real_database, database, record, shape, rate, leads):
    recording = read_recording(real_database(database) / record)
    assert recording.samples.shape == shape
    assert recording.sampling_rate == rate
    assert recording.leads == tuple(leads.split())
    assert np.isfinite(recording.samples).all()


@pytest.mark.parametrize(
    ("database", "record", "extension", "symbols", "count"),
    [
        ("ludb/data", "1", "ii", "()pNt", None),
        ("mitdb", "100", "atr", "+NAV", 2274),
        ("qtdb", "sel100", "q1c", "()pNtA", None),
    ],
)
def test_real_annotations(real_database, database, record, extension, symbols, count):
    annotations = read_annotations(real_database(database) / record, extension)
    assert set(annotations.symbols) <= set(symbols)
    assert (np.diff(annotations.samples) >= 0).all()
    assert count is None or len(annotations.samples) == count

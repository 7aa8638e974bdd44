"""Headers as people and damage write them: read as they are, or refused by name before wfdb."""

import os

import numpy as np
import pytest
from ecg_files import write_raw

from xecg.errors import RecordError
from xecg.signal.wfdb import find_records, read_annotations, read_recording

DIGITAL = np.arange(7, 2507, dtype="<i2")
SIGNAL = "r.dat 16 1000(0)/mV 16 0 0 0 0 II"


def write(folder, header, name="r", encoding="utf-8", digital=DIGITAL, file=None):
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.hea").write_bytes(header.encode(encoding))
    (folder / (file or f"{name}.dat")).write_bytes(digital.tobytes())
    return folder / name


@pytest.mark.parametrize(
    "first",
    [
        "r 1 250 0",
        "r 1 250",
        "r 1",
        "r.1 1 250 2500",
        "other 1 2.5e2 2500",
        "r 1 250/128(5) 2500 10:00:00.5 31/02/1999",
        "r 1 250 2500 2006",
        "r 1 250 2500 25/61/99 noon",
        "r\t1\t250\t2500\r",
        "\ufeffr 1 250 2500",
        "# a comment before\nr 1 250 2500",
    ],
)
def test_what_does_not_matter_does_not_block(tmp_path, first):
    recording = read_recording(write(tmp_path, f"{first}\n{SIGNAL}\n"))
    assert recording.sampling_rate == 250
    np.testing.assert_allclose(recording.samples, [DIGITAL / 1000], rtol=1e-6)


@pytest.mark.parametrize(
    ("line", "gain", "baseline", "unit", "name"),
    [
        ("r.dat 16", 200, 0, "mV", "unnamed 1"),
        ("r.dat 16 0 16 5", 200, 5, "mV", "unnamed 1"),
        ("r.dat 16 1E3/µV 16 0 0 0 0 MLII", 1000, 0, "µV", "MLII"),
        ("r.dat 16 -2.5(-7)/mV ECG", -2.5, -7, "mV", "ECG"),
        ("r.dat 16 100(3)/mmHg 12 9 0 0 0 Brust, II", 100, 3, "mmHg", "Brust, II"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_fields_are_read_as_they_are(tmp_path, line, gain, baseline, unit, name, encoding):
    recording = read_recording(write(tmp_path, f"r 1 250 2500\n{line}\n", encoding=encoding))
    assert (recording.units, recording.leads) == ((unit,), (name,))
    np.testing.assert_allclose(recording.samples, [(DIGITAL - baseline) / gain], rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "line", "message"),
    [
        ("r 1 fast 2500", SIGNAL, "found 'r 1 fast 2500'"),
        ("r 1 250Hz 2500", SIGNAL, "found 'r 1 250Hz 2500'"),
        ("r 1 250,5 2500", SIGNAL, "found 'r 1 250,5 2500'"),
        ("r 1 0 2500", SIGNAL, "above 0 Hz, found 0"),
        ("r 1 -250 2500", SIGNAL, "above 0 Hz, found -250"),
        ("r 1 nan 2500", SIGNAL, "found 'r 1 nan 2500'"),
        ("r 1 250 -5", SIGNAL, "found 'r 1 250 -5'"),
        ("r 1 250 1000000000000", SIGNAL, r"1000000000000 samples.* r.dat \(5000 bytes\)"),
        ("r 1 250 2501", SIGNAL, "2501 samples"),
        ("r 100000000 250 2500", SIGNAL, "found 'r 100000000 250 2500'"),
        ("r 2 250 2500", SIGNAL, "2 lines after the first, found 1"),
        ("r 1 250 2500", f"{SIGNAL}\n{SIGNAL}", "1 lines after the first, found 2"),
        ("r 1 250 2500", "r.dat 16 gain/mV 16 0 0 0 0 II", "found 'r.dat 16 gain/mV"),
        ("r 1 250 2500", "r.dat 16 1,5/mV", "found 'r.dat 16 1,5/mV'"),
        ("r 1 250 2500", "r.dat 16 1e999/mV", "found 'r.dat 16 1e999/mV'"),
        ("r 1 250 2500", "r.dat 16 200(x)/mV", r"found 'r.dat 16 200\(x\)/mV'"),
        ("r 1 250 2500", "r.dat 16 200/mV(5)", r"found 'r.dat 16 200/mV\(5\)'"),
        ("r 1 250 2500", "r.dat 16 200(99999999999)/mV", "found 'r.dat 16 200"),
        ("r 1 250 2500", "r.dat 16 200/mV 16 zero 0 0 0 II", "five whole numbers"),
        ("r 1 250 2500", "r.dat 17 200/mV", "one of the formats"),
        ("r 1 250 2500", "r.dat 16x0 200/mV", "found 'r.dat 16x0 200/mV'"),
        ("r 1 250 2500", "r.dat 16:99999999 200/mV", "2500 samples of each"),
        ("r 1 250", "r.dat 16x999999 200/mV", "some samples"),
        ("r 1 250", "r.dat 16+999999999 200/mV", "some samples"),
        ("r 2 250", f"{SIGNAL}\nr.dat 212 200/mV", "one offset in a file"),
        ("r 1 250 2500", "r.dat", "found 'r.dat'"),
        ("r 1 250 2500", "../secret/r.dat 16 200/mV", r"found '\.\./secret"),
        ("r 1 250 2500", "/etc/passwd 16 200/mV", "found '/etc/passwd"),
        ("r 1 250 2500", f"{'x' * 300}.dat 16 200/mV", "missing"),
        ("r 1 250 2500", "a\0b.dat 16 200/mV", "missing"),
        ("r 1 250 2500", "r.dat 16 200/mV 16 0 -9 777 0 II", "first value -9 or the checksum 777"),
        ("r 1 250 2500", "r.dat 61 200/mV 16 0 7 777 0 II", "first value 7"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_name(tmp_path, first, line, message):
    with pytest.raises(RecordError, match=rf"r\.hea: cannot be read.*{message}"):
        read_recording(write(tmp_path, f"{first}\n{line}\n"))


def test_records_of_any_script_read_their_own_samples(tmp_path):
    for name, value in (("心电1", 100), ("1", 200), ("é1", 300), ("٣", 400)):
        digital = np.full(10, value, dtype="<i2")
        write(tmp_path, f"{name} 1 250 10\n{name}.dat 16 1/mV\n", name, digital=digital)
    values = {path.name: read_recording(path).samples[0, 0] for path in find_records(tmp_path)}
    assert values == {"心电1": 100, "1": 200, "é1": 300, "٣": 400}


@pytest.mark.parametrize("suffix", ["mat", "dat", "hea", "x"])
def test_a_name_that_ends_like_a_file_reads_its_own_samples(tmp_path, suffix):
    write(tmp_path, "a 1 250 10\na.raw 16 1/mV\n", "a", digital=DIGITAL[:10], file="a.raw")
    header = f"a.{suffix} 1 250 10\nb.raw 16 1/mV\n"
    write(tmp_path, header, f"a.{suffix}", digital=DIGITAL[50:60], file="b.raw")
    values = {path.name: read_recording(path).samples[0, 0] for path in find_records(tmp_path)}
    assert values == {"a": 7, f"a.{suffix}": 57}


def pipe(file):
    os.mkfifo(file)


def loop(file):
    file.symlink_to(file)


def device(file):
    file.symlink_to("/dev/zero")


def elsewhere(file):
    file.parent.parent.joinpath("secret.dat").write_bytes(DIGITAL.tobytes())
    file.symlink_to("../secret.dat")


@pytest.mark.parametrize("place", [pipe, loop, device, elsewhere])
@pytest.mark.parametrize("suffix", ["dat", "atr", "hea"])
def test_what_is_no_data_file_of_the_folder_is_refused(tmp_path, place, suffix):
    path = write(tmp_path / "in", f"r 1 250 2500\n{SIGNAL}\n")
    file = tmp_path / "in" / f"r.{suffix}"
    file.unlink(missing_ok=True)
    place(file)
    if suffix == "hea" and place is not elsewhere:
        assert [found.name for found in find_records(tmp_path)] == ["r"]
    with pytest.raises(RecordError, match=rf"r\.{suffix}|in its folder"):
        read_annotations(path, "atr") if suffix == "atr" else read_recording(path)


def segments(folder, header, names=("s1", "s2"), leads=("II", "II")):
    for number, (name, lead) in enumerate(zip(names, leads, strict=True), start=1):
        text = f"{name} 1 250 100\n{name}.dat 16 1/mV 16 0 0 0 0 {lead}\n"
        write(folder, text, name, digital=np.full(100, number, dtype="<i2"))
    return write(folder, header, "m", digital=DIGITAL[:0], file="none")


@pytest.mark.parametrize("length", ["", " 0", " 250"])
@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("s1 100\n~ 50\ns2 100\n", [1] * 100 + [0] * 50 + [2] * 100),
        ("~ 50\ns1 100\ns2 100\n", [0] * 50 + [1] * 100 + [2] * 100),
        ("s2 100\ns1 100\n~ 50\n", [2] * 100 + [1] * 100 + [0] * 50),
    ],
)
def test_gaps_between_segments_are_missing_samples(tmp_path, lines, expected, length):
    samples = read_recording(segments(tmp_path, f"m/3 1 250{length}\n{lines}")).samples
    np.testing.assert_array_equal(np.nan_to_num(samples), [expected])
    assert np.isnan(samples).sum() == 50


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("m/2 1 250\ns1 100\n~ 9999999999999\n", "what 200 bytes can hold"),
        ("m/2 1 250\ns1 100\ns1 100\n", "each segment once"),
        ("m/2 1 250\ns1 100\nm 100\n", "each segment once"),
        ("m/2 1 250\ns1 100\ns2 101\n", "no longer than their files"),
        ("m/2 1 250 300\ns1 100\ns2 100\n", "300 samples in the segments, found 200"),
        ("m/2 1 360\ns1 100\ns2 100\n", "360.0 Hz as in m.hea, found 250.0 Hz"),
        ("m/2 1 250\ns1 100\n../s2 100\n", r"found '\.\./s2 100'"),
        ("m/3 1 250\ns1 100\ns2 100\n", "3 lines"),
        ("m/1 1 250\n~ 100\n", "names no signals"),
        ("m/0 1 250\n", "names no signals"),
    ],
)
def test_segments_that_cannot_be_are_refused(tmp_path, header, message):
    with pytest.raises(RecordError, match=message):
        read_recording(segments(tmp_path, header))


def test_segments_of_a_fixed_layout_have_the_same_leads(tmp_path):
    path = segments(tmp_path, "m/2 1 250\ns1 100\ns2 100\n", leads=("II", "V5"))
    with pytest.raises(RecordError, match=r"segments with the leads II, found s2\.hea"):
        read_recording(path)


@pytest.mark.parametrize(("others", "rate"), [((1, 4), 100), ((2, 8), 100), ((1, 1), 100)])
def test_neighbours_of_other_rates_do_not_change_an_ecg(tmp_path, others, rate):
    lines = "".join(
        f"r.dat 16x{n} 1/{unit} 16 0 0 0 0 {name}\n"
        for n, unit, name in [
            (4, "mV", "ECG II"), (others[0], "Ohm", "RESP"), (others[1], "V", "EEG")
        ]
    )  # fmt: skip
    frames = np.arange(20 * (4 + sum(others)), dtype="<i2").reshape(20, -1)
    recording = read_recording(write(tmp_path, f"r 3 25 20\n{lines}", digital=frames))
    assert recording.sampling_rate == rate
    np.testing.assert_array_equal(
        recording.samples[recording.choose_lead("ECG II")], frames[:, :4].ravel()
    )


def test_signals_of_a_file_need_not_be_neighbours(tmp_path):
    write(tmp_path, "", "a", digital=np.arange(20, dtype="<i2"))
    write(tmp_path, "", "b", digital=np.arange(90, 100, dtype="<i2"))
    lines = [f"{file}.dat 16 1/mV 16 0 0 0 0 lead {file}" for file in "aba"]
    path = write(tmp_path, "\n".join(["r 3 250 10", *lines]), digital=DIGITAL[:0])
    recording = read_recording(path)
    np.testing.assert_array_equal(recording.samples[1], np.arange(90, 100))
    np.testing.assert_array_equal(recording.samples[2], np.arange(1, 20, 2))


def test_a_neighbour_that_changes_its_unit_is_a_gap_and_an_ecg_that_does_is_refused(tmp_path):
    for name, unit in [("a", "Ohm"), ("b", "pm")]:
        lines = f"{name}.dat 16 1/mV 16 0 0 0 0 II\n{name}.dat 16 1/{unit} 16 0 0 0 0 RESP\n"
        write_raw(tmp_path, f"{name} 2 250 2\n{lines}", [1, 2, 3, 4], name=name)
    layout = "~ 0 1/mV 16 0 0 0 0 II\n~ 0 1/Ohm 16 0 0 0 0 RESP\n"
    (tmp_path / "layout.hea").write_text(f"layout 2 250 0\n{layout}")
    (tmp_path / "m.hea").write_text("m/3 2 250 4\nlayout 0\na 2\nb 2\n")
    read = read_recording(tmp_path / "m")
    assert (read.leads, read.units) == (("II", "RESP"), ("mV", "Ohm"))
    np.testing.assert_array_equal(read.samples, [[1, 3, 1, 3], [2, 4, np.nan, np.nan]])
    header = (tmp_path / "b.hea").read_text()
    (tmp_path / "b.hea").write_text(header.replace("1/mV", "1/uV"))
    with pytest.raises(RecordError, match=r"b\.hea.* units of its record, found 1 and uV of II"):
        read_recording(tmp_path / "m")


def test_null_signals_are_left_out(tmp_path):
    null = "~ 0 0 0 0 0 0 0 NULL\n"
    path = write_raw(tmp_path, f"r1 2 250 3\nr1.dat 16 1/mV 16 0 0 0 0 II\n{null}", [1, 2, 3])
    recording = read_recording(path)
    assert recording.leads == ("II",)
    np.testing.assert_array_equal(recording.samples, [[1, 2, 3]])
    (tmp_path / "r1.hea").write_text(f"r1 1 250 3\n{null}")
    with pytest.raises(RecordError, match=r"r1\.hea: names no signals"):
        read_recording(path)

import pickle
import re
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from ecg_files import RATE, UV_PER_COUNT, WRITERS, write
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import RecordError
from xecg.signal.formats import KNOWN, find_ecgs, read_ecg
from xecg.signal.recording import Recording
from xecg.signal.wfdb import write_recording

pytest.importorskip("ecgdatakit")
pydicom = pytest.importorskip("pydicom")

COUNTS = np.random.default_rng(0).integers(-400, 400, (2, 2000)).astype(np.int16)
LEADS = ("I", "II")
OWN_RATE = [suffix for suffix in WRITERS if suffix not in ("csv", "npy")]


def made(folder, suffix, **options):
    one = suffix == "apple.csv"
    return write(
        folder, suffix, COUNTS[:1] if one else COUNTS, LEADS[:1] if one else LEADS, **options
    )


@pytest.mark.parametrize("suffix", WRITERS)
def test_samples_units_leads_and_rate_are_those_that_were_written(tmp_path, suffix):
    recording = read_ecg(made(tmp_path, suffix), None if suffix in OWN_RATE else 500.0)
    leads = {"apple.csv": ("Lead I",), "npy": ("unnamed 1", "unnamed 2")}.get(suffix, LEADS)
    assert recording.leads == leads
    assert set(recording.units) == {"unknown unit" if suffix == "npy" else "mV"}
    assert recording.sampling_rate == RATE
    assert recording.name == f"r.{suffix}"
    expected = COUNTS[: len(leads)] * UV_PER_COUNT / 1000
    np.testing.assert_allclose(recording.samples, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("suffix", "options", "rate"),
    [
        ("aecg.xml", {"step_s": 1 / 256.41}, 256.41),
        ("dcm", {"rate": 499.6}, 499.6),
        ("edf", {"record_s": 0.25}, 500.0),
        ("scp", {"interval_us": 2001}, 1e6 / 2001),
        ("json", {"rate": 299.9}, 299.9),
        ("apple.csv", {"rate": 513.345}, 513.345),
    ],
)
def test_a_sampling_rate_is_not_rounded(tmp_path, suffix, options, rate):
    assert read_ecg(made(tmp_path, suffix, **options)).sampling_rate == pytest.approx(
        rate, rel=1e-9
    )


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=40))
@settings(deadline=None, max_examples=20)
def test_packed_scp_is_unpacked(tmp_path_factory, counts):
    counts = np.array([counts], np.int16)
    path = write(tmp_path_factory.mktemp("scp"), "scp", counts, ["II"], huffman=True)
    expected = counts * UV_PER_COUNT / 1000
    np.testing.assert_allclose(read_ecg(path).samples, expected, rtol=1e-6)


def test_missing_samples_are_nan(tmp_path):
    counts = COUNTS.copy()
    counts[1, 7] = -32768
    for suffix in ("ecg", "dcm"):
        samples = read_ecg(write(tmp_path, suffix, counts, LEADS)).samples
        np.testing.assert_array_equal(np.argwhere(np.isnan(samples)), [[1, 7]])
    path = write(tmp_path, "csv", COUNTS, LEADS)
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:3], ",1", "", *lines[5:], "", ""]))
    samples = read_ecg(path, 500).samples
    np.testing.assert_array_equal(np.argwhere(np.isnan(samples)), [[0, 2], [0, 3], [1, 3]])
    assert samples.shape == COUNTS.shape


def test_unknown_units_are_named_and_known_ones_become_mv(tmp_path):
    assert set(read_ecg(made(tmp_path, "edf", unit="mmHg")).units) == {"mmHg"}
    assert set(read_ecg(made(tmp_path, "edf", unit="")).units) == {"unknown unit"}
    in_volt = read_ecg(made(tmp_path, "edf", unit="V")).samples
    np.testing.assert_allclose(in_volt, COUNTS * UV_PER_COUNT * 1000, rtol=1e-6)
    path = made(tmp_path, "muse.xml")
    path.write_bytes(path.read_bytes().replace(b"MICROVOLTS", b"APPLES"))
    assert set(read_ecg(path).units) == {"APPLES"}


def test_leads_without_a_code_are_not_taken_for_others(tmp_path):
    path = write(tmp_path, "ecg", np.repeat(COUNTS, 2, axis=0)[:3], ["V1", "", ""])
    recording = read_ecg(path)
    assert recording.leads == ("V1", "ECG 2", "ECG 3")
    assert recording.choose_lead() == 0


def test_channels_that_run_beside_the_ecg_at_another_rate_are_left_out(tmp_path):
    assert read_ecg(made(tmp_path, "edf", slow="SpO2")).leads == LEADS
    scp = made(tmp_path, "scp", starts=[1, 2001])
    assert len(read_ecg(scp).leads) == 1


def test_a_table_of_numbers_may_have_names_of_leads_and_other_delimiters(tmp_path):
    path = tmp_path / "r.csv"
    for text, leads in [
        ("1\n2\n3\n", ("unnamed 1",)),
        ("\ufeffII;V1\r\n1;4\r\n2;5\r\n3;6\r\n", ("II", "V1")),
        ("1\t4\n2\t5\n3\t6\n", ("unnamed 1", "unnamed 2")),
    ]:
        path.write_text(text, encoding="utf-8")
        recording = read_ecg(path, 250)
        assert recording.leads == leads
        assert recording.samples.tolist() == [[1, 2, 3], [4, 5, 6]][: len(leads)]


def test_the_longer_axis_of_an_array_is_time(tmp_path):
    for array in (COUNTS, COUNTS.T, COUNTS[0], COUNTS.astype(">f8")):
        np.save(tmp_path / "r.npy", array)
        samples = read_ecg(tmp_path / "r.npy", 500).samples
        np.testing.assert_array_equal(samples, COUNTS[: len(samples)])


def test_exports_of_apple_may_have_decimal_commas(tmp_path):
    path = made(tmp_path, "apple.csv", comma=True)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("Sample Rate,500 h", 'Frecuencia,"499,5 h'), encoding="utf-8")
    recording = read_ecg(path)
    assert (recording.sampling_rate, recording.units) == (499.5, ("mV",))
    np.testing.assert_allclose(recording.samples, COUNTS[:1] * UV_PER_COUNT / 1000, atol=1e-6)


def test_an_ecg_of_a_cart_is_read():
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "waveform_ecg.dcm"
    recording = read_ecg(path)
    group = pydicom.dcmread(path).waveform_array(0)  # in the units of its channels, microvolts
    assert recording.leads[:4] == ("I", "II", "III", "aVR")
    assert (recording.sampling_rate, set(recording.units)) == (1000, {"mV"})
    np.testing.assert_allclose(recording.samples, group.T / 1000, atol=1e-5)


def test_text_in_other_encodings_is_read(tmp_path):
    path = made(tmp_path, "aecg.xml")
    text = path.read_text().replace('"UTF-8"', '"UTF-16"')
    path.write_bytes(text.encode("utf-16"))
    assert read_ecg(path).leads == LEADS


def refused(path, *words, rate=500.0):
    with pytest.raises(RecordError) as caught:
        read_ecg(path, rate)
    assert str(path) in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("suffix", [one for one in WRITERS if not one.endswith("csv")])
def test_a_file_that_is_cut_off_is_refused(tmp_path, suffix):
    path = made(tmp_path, suffix)
    content = path.read_bytes()
    for share in (0.999, 0.7, 0.3):  # nothing tells where a CSV ends
        path.write_bytes(content[: int(len(content) * share)])
        refused(path)


@pytest.mark.parametrize("suffix", WRITERS)
@given(st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=30)
def test_a_damaged_file_is_read_or_refused(tmp_path_factory, suffix, random):
    path = made(tmp_path_factory.mktemp("damaged"), suffix)
    content = bytearray(path.read_bytes())
    for _ in range(random.randint(1, 4)):
        place = random.randrange(min(len(content), 3000))
        content[place : place + random.randint(0, 4)] = random.randbytes(random.randint(0, 4))
    path.write_bytes(content)
    with suppress(RecordError):
        assert isinstance(read_ecg(path, 500), Recording)


@pytest.mark.parametrize("suffix", ["dcm", "edf", "ecg", "scp", "npy"])
@pytest.mark.parametrize("n", [1, 2, 4, 99])
def test_bytes_too_many_are_refused(tmp_path, suffix, n):
    path = made(tmp_path, suffix)
    content = path.read_bytes()
    for place in (len(content) - 2001, len(content))[: 1 if suffix == "scp" else 2]:
        path.write_bytes(content[:place] + content[:n] + content[place:])
        refused(path)


def test_what_ecgdatakit_only_warns_of_is_refused(tmp_path):
    refused(made(tmp_path, "muse.xml", crc=1), "CRC32")
    scp = made(tmp_path, "scp")
    scp.write_bytes(scp.read_bytes()[:-1] + b"\x55")
    refused(scp, "CRC")
    refused(made(tmp_path, "ecg", declared=2100), "samples")
    assert read_ecg(made(tmp_path, "ecg", declared=2 * COUNTS.shape[1])).n_samples == 2000
    refused(made(tmp_path, "edf", onsets=[0, 1, 2.5, 3.5]), "gaps")
    assert read_ecg(made(tmp_path, "edf", onsets=[0, 1, 2, 3])).n_samples == 2000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "r.xml",
            b'<!DOCTYPE a [<!ENTITY b "bb"><!ENTITY c "&b;&b;">]><AnnotatedECG>&c;</AnnotatedECG>',
            "entity",
        ),
        (
            "r.xml",
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><RestingECG>&b;</RestingECG>',
            "entity",
        ),
        ("r.xml", b"<AnnotatedECG>" + b"<a>" * 2**17, "tags"),
        ("r.xml", b"<AnnotatedECG>" + b"<a>" * 2**16, ""),
        ("r.json", b'{"recordedAt": ' + b"[" * 10**5, "Kardia"),
        ("r.json", b'{"recordedAt": ""' + b" " * 2**23, "bytes"),
        ("r.csv", b"a,b\nI,II\n1,2\n", "2 names"),
        ("r.csv", b"I,II\n1,2\n3,4,5\n", "CSV"),
        ("r.csv", b"I,II\n1,2\n3,x\n", "CSV"),
        ("r.csv", b"I\n1\n1e999\n", "infinite"),
        ("r.npy", b"\x93NUMPY\x01\0\x40\0{'descr': '<f4', 'fortran_order': False, "
         b"'shape': (999999999,)}", "NPY"),
    ],
)  # fmt: skip
def test_bombs_and_tables_that_do_not_fit_are_refused(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    refused(tmp_path / name, words)


def test_packed_dicom_pickles_and_other_arrays_are_refused(tmp_path):
    refused(made(tmp_path, "dcm", deflated=True), "deflated")
    path = tmp_path / "r.npy"
    for array in (np.array([{}], object), np.zeros((2, 3, 4)), np.zeros(3, "i4,f4"), np.array("a")):
        np.save(path, array, allow_pickle=True)
        refused(path, "NPY")
    path.write_bytes(pickle.dumps([1]))
    refused(path, KNOWN)


@pytest.mark.parametrize("rate", [-1.0, 0.0, float("nan"), float("inf")])
def test_impossible_sampling_rates_are_refused(tmp_path, rate):
    refused(made(tmp_path, "csv"), "rate", rate=rate)
    refused(made(tmp_path, "npy"), "rate", rate=rate)


def test_a_sampling_rate_that_no_file_says_is_asked_for(tmp_path):
    refused(made(tmp_path, "csv"), "--sampling_rate", rate=None)
    refused(made(tmp_path, "npy"), "--sampling_rate", rate=None)


def test_a_package_that_is_missing_is_named(tmp_path, monkeypatch):
    path = made(tmp_path, "edf")
    monkeypatch.setitem(sys.modules, "ecgdatakit.parsing.parsers.edf", None)
    refused(path, "xecg-lightning[formats]")
    assert find_ecgs(tmp_path) == [path]


def test_a_folder_may_mix_kinds(tmp_path):
    folder = tmp_path / "day"
    folder.mkdir()
    paths = [made(folder, suffix) for suffix in WRITERS]
    record = Recording("w", COUNTS.astype(np.float32), 500, LEADS, ("mV", "mV"))
    write_recording(record, folder)
    (folder / "records.csv").write_text("record,label\n100,AF\n")
    for name in ("about.xml", "about.json", "README.txt"):
        (folder / name).write_text("<a>1</a>")
    (folder / "broken.edf").write_bytes(b"")  # is reported, not passed over
    own = [folder / "w", *sorted([folder / "broken.edf", *paths[:-2]])]
    assert find_ecgs(tmp_path) == own
    assert find_ecgs(tmp_path, 500.0) == [own[0], *sorted([*own[1:], *paths[-2:]])]
    np.testing.assert_allclose(read_ecg(folder / "w").samples, COUNTS, atol=0.02)
    refused(folder / "broken.edf", KNOWN)


def test_a_file_of_an_unknown_kind_is_answered_with_the_known_ones(tmp_path):
    (tmp_path / "r.txt").write_text("not an ECG")
    with pytest.raises(RecordError, match=re.escape(KNOWN)):
        find_ecgs(tmp_path / "r.txt")
    with pytest.raises(RecordError, match=re.escape(KNOWN)):
        find_ecgs(tmp_path)
    with pytest.raises(RecordError, match="nowhere"):
        find_ecgs(tmp_path / "nowhere")

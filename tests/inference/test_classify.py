"""`xecg classify`: its table, what it says of bad records, and how it continues."""

import csv
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from xecg.cli import main
from xecg.networks.xecgarch import probabilities
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.wfdb import read_recording

P_AF = ["p_af", "p_af_morphology", "p_af_rhythm"]
HEADER = ["record", "lead", "start_s", *P_AF, "quality", "predicted", "note"]


@pytest.fixture
def classify(tmp_path, weights):
    """Runs `xecg classify` on records of the test's folder; gives the exit status and the rows."""
    out = tmp_path / "results" / "predictions.csv"

    def run(*arguments, paths=("records",)):
        given = [str(tmp_path / path) for path in paths]
        status = main(
            ["classify", *given, "--out", str(out), "--weights", str(weights), *arguments]
        )
        return status, read(out) if out.exists() else None

    run.out = out
    return run


def read(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def errors(out):
    return {
        row["record"]: row["reason"]
        for row in csv.DictReader(out.with_suffix(".errors.csv").open())
    }


def test_a_row_for_each_window_holds_what_the_network_says(classify, network, write_record):
    path = write_record("long", duration_s=24.0, sampling_rate=360.0, rhythm="AF")
    write_record("one")
    status, (header, *rows) = classify()
    assert status == 0
    assert header == HEADER
    assert [(row[0], row[1], float(row[2])) for row in rows] == [
        ("long", "II", 0),
        ("long", "II", 10),
        ("long", "II", 14),
        ("one", "II", 0),
    ]
    filtered = Preprocessing().filter_and_resample(read_recording(path).samples[0], 360.0)
    for _, _, start_s, *numbers, quality, predicted, note in rows[:3]:
        start = round(250 * float(start_s))
        x = Preprocessing().scale(filtered[start : start + 2500])
        with torch.no_grad():
            logits = network(torch.from_numpy(x)[None, None])
        said = probabilities(logits)
        p_af = [said[name].item() for name in ("fused", "morphology", "rhythm")]
        np.testing.assert_allclose([float(number) for number in numbers], p_af, rtol=1e-4)
        judged = float(quality) >= 0.5
        named = "AF" if p_af[0] > 0.5 else "non-AF"
        assert predicted == (named if judged else "cannot be judged")
        assert (note == "") == judged
    assert list(classify.out.parent.iterdir()) == [classify.out]


def test_neighbours_and_their_order_do_not_change_a_record(classify, write_record):
    for number, name in enumerate("abcdef"):
        write_record(name, duration_s=10.0 + 7 * number)
    _, (_, *together) = classify()
    _, (_, *backwards) = classify("--overwrite", paths=[f"records/{name}" for name in "fedcba"])
    assert sorted(together) == sorted(backwards)
    _, (_, *alone) = classify("--overwrite", paths=["records/c.hea"])
    assert alone == [row for row in together if row[0] == "c"]


def test_a_row_for_each_record_holds_the_means_of_its_windows(classify, write_record):
    write_record("long", duration_s=34.0)
    write_record("one")
    _, (_, *windows) = classify()
    status, (header, *rows) = classify("--per-record", "--overwrite")
    assert status == 0
    assert header == ["record", "lead", "windows", "judged", "af_share", *P_AF, "predicted"]
    assert [row[:4] for row in rows] == [["long", "II", "4", "4"], ["one", "II", "1", "1"]]
    for row in rows:
        own = [window for window in windows if window[0] == row[0]]
        means = np.mean([[float(number) for number in window[3:6]] for window in own], axis=0)
        np.testing.assert_allclose([float(number) for number in row[5:8]], means, rtol=1e-5)
        assert row[8] == ("AF" if means[0] > 0.5 else "non-AF")
        assert float(row[4]) == np.mean([window[7] == "AF" for window in own])


def test_windows_that_cannot_be_judged_are_no_prediction(classify, write_record):
    write_record("half", duration_s=30.0, flat_s=(13, 17))
    write_record("flat", flat_s=(0, 4))
    status, (_, *rows) = classify()
    assert status == 0
    assert [row[7] == "cannot be judged" for row in rows] == [True, False, True, False]
    assert all("flat" in row[8] and float(row[6]) < 0.5 for row in (rows[0], rows[2]))
    _, (_, *records) = classify("--per-record", "--overwrite")
    assert [row[2:4] for row in records] == [["1", "0"], ["3", "2"]]
    assert records[0][4:] == ["nan"] * 4 + ["cannot be judged"]
    judged = [rows[1], rows[3]]
    means = np.mean([[float(number) for number in row[3:6]] for row in judged], axis=0)
    np.testing.assert_allclose([float(number) for number in records[1][5:8]], means, rtol=1e-5)


def test_bad_records_are_named_and_stop_nobody(classify, write_record, tmp_path, capsys):
    write_record("good")
    write_record("last", duration_s=12.0)
    write_record("flat", flat_s=(0, 10))
    write_record("short", n_samples=2499)
    write_record("slow", sampling_rate=90.0, duration_s=20.0)
    write_record("cut", duration_s=20.0)
    records = tmp_path / "records"
    (records / "cut.dat").write_bytes((records / "cut.dat").read_bytes()[:-2000])
    write_record("lost")
    (records / "lost.dat").unlink()
    (records / "garbled.hea").write_bytes(bytes(set(range(256)) - set(b"/")))
    (records / "empty.hea").write_text("")

    status, (_, *rows) = classify(paths=["records", "nowhere"])
    assert status == 1
    assert [row[0] for row in rows] == ["good", "last", "last"]
    reasons = errors(classify.out)
    nowhere = str(tmp_path / "nowhere")
    bad = {"flat", "short", "slow", "cut", "lost", "garbled", "empty", nowhere}
    assert set(reasons) == bad
    told = capsys.readouterr().err
    assert "Traceback" not in told
    assert all(f"xecg: {name}: " in told for name in bad)
    for name, reason in {
        "flat": "flat line",
        "short": "9.996 s",
        "slow": "90",
        "lost": "lost.dat (missing)",
        nowhere: "no such file",
    }.items():
        assert reason in reasons[name]


def test_windows_left_out_are_named_though_the_record_is_classified(classify, write_record, capsys):
    write_record("r", duration_s=30.0, missing_s=(12, 13))
    status, (_, *rows) = classify()
    assert status == 0
    assert [row[2] for row in rows] == ["0", "20"]
    told = "1 of 3 windows cannot be used (1 missing samples), first at 10 s"
    assert errors(classify.out) == {"r": told}
    assert f"xecg: r: {told}" in capsys.readouterr().err


def test_files_of_other_kinds_are_classified_beside_wfdb(classify, write_record, tmp_path, capsys):
    path = write_record("r", sampling_rate=500.0)
    samples = read_recording(path).samples[0]
    with (path.parent / "r.csv").open("w") as file:
        np.savetxt(file, samples, header="II (mV)", comments="")
    (path.parent / "unknown.txt").write_text("no ECG")
    status, (_, *rows) = classify("--sampling_rate", "500")
    assert status == 0
    assert [row[:3] for row in rows] == [["r", "II", "0"], ["r.csv", "II", "0"]]
    np.testing.assert_allclose(float(rows[0][3]), float(rows[1][3]), atol=1e-4)
    unknown = path.parent / "unknown.txt"
    status, (_, *rows) = classify("--overwrite", paths=["records", "records/unknown.txt"])
    assert status == 1
    assert [row[0] for row in rows] == ["r"]
    assert "Apple Health" in errors(classify.out)[str(unknown)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["records/short"], "'short' lasts 8 s"),
        (["records", "--lead", "V9"], "no lead 'V9'; its leads are II."),
        (["nowhere"], "nowhere.hea: no such file"),
        (["empty"], "no ECG in"),
        (["records/r", "--weights", "nobody"], "found no file nobody"),
        (["records/r", "--jobs", "0"], "jobs: expected 1 or more, found 0"),
    ],
)
def test_a_refused_command_leaves_nothing_behind(
    tmp_path, weights, write_record, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    write_record("r")
    write_record("short", n_samples=2000)
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    asked = ["classify", "--weights", str(weights), "--out", "new/results/p.csv", *arguments]
    assert main(asked) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("xecg: ")
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


def test_the_named_lead_is_classified(classify, write_record):
    write_record("both", leads=("V1", "II"))
    write_record("only_ii")
    _, (_, preferred, _) = classify()
    _, (_, lead_ii, _) = classify("--overwrite", "--lead", "ii")
    status, (_, *lead_v1) = classify("--overwrite", "--lead", "V1")
    assert preferred == lead_ii
    assert len(lead_v1) == 1
    assert lead_v1[0] != lead_ii
    assert status == 1
    assert "no lead 'V1'" in errors(classify.out)["only_ii"]


def test_records_of_one_name_in_two_folders_keep_apart(classify, write_record):
    write_record("100", folder="records/home")
    write_record("100", folder="records/ward", rhythm="AF")
    _, (_, home, ward) = classify()
    assert [home[0], ward[0]] == ["home/100", "ward/100"]
    assert home[3] != ward[3]


@pytest.mark.parametrize("existing", ["predictions.csv", "predictions.errors.csv"])
def test_what_exists_is_replaced_only_if_asked(classify, write_record, existing, capsys):
    write_record("r")
    path = classify.out.parent / existing
    path.parent.mkdir()
    path.write_text("mine\n")
    assert classify()[0] == 1
    assert "--overwrite" in capsys.readouterr().err
    assert path.read_text() == "mine\n"
    assert classify("--overwrite")[0] == 0
    assert [path.name for path in classify.out.parent.iterdir()] == ["predictions.csv"]
    assert len(read(classify.out)) == 2


def test_two_tables_in_one_folder_have_errors_of_their_own(
    classify, tmp_path, weights, write_record
):
    write_record("r")
    write_record("short", n_samples=2000)
    assert classify()[0] == 1
    other = classify.out.with_name("other.csv")
    asked = [str(tmp_path / "records"), "--weights", str(weights), "--out", str(other)]
    assert main(["classify", *asked]) == 1
    assert errors(other) == errors(classify.out)


def test_processes_make_no_difference(classify, write_record):
    for number in range(5):
        write_record(f"r{number}", duration_s=10.0 + 5 * number)
    write_record("short", n_samples=2000)
    assert classify("--jobs", "1")[0] == 1
    one, told = classify.out.read_bytes(), errors(classify.out)
    torch.set_num_threads(3)
    assert classify("--overwrite")[0] == 1
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert classify.out.read_bytes() == one
    assert classify("--jobs", "2", "--overwrite")[0] == 1
    assert classify.out.read_bytes() == one
    assert errors(classify.out) == told


def test_a_command_that_was_killed_continues(classify, tmp_path, weights, write_record):
    for number in range(40):
        write_record(f"r{number:02}")
    _, (_, *whole) = classify()
    classify.out.unlink()
    asked = ["classify", str(tmp_path / "records"), "--out", str(classify.out)]
    asked += ["--weights", str(weights)]
    running = subprocess.Popen([sys.executable, "-m", "xecg.cli", *asked])
    while not list(classify.out.parent.glob("*.parts-*/*.part")):
        assert running.poll() is None
        time.sleep(0.005)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    (folder,) = classify.out.parent.iterdir()  # nothing but parts
    part = next(folder.glob("*.part"))
    table = pd.read_parquet(part)
    table.assign(predicted="kept").to_parquet(part, index=False)
    status, (_, *rows) = classify()
    assert status == 0
    kept = set(table["record"])
    assert {row[0] for row in rows if row[7] == "kept"} == kept
    assert [row for row in rows if row[0] not in kept] == [
        row for row in whole if row[0] not in kept
    ]
    assert list(classify.out.parent.iterdir()) == [classify.out]


@pytest.mark.parametrize("per_record", [[], ["--per-record"]])
def test_the_threshold_decides(classify, write_record, per_record):
    write_record("one")
    _, (header, row) = classify()
    p_af = float(row[header.index("p_af")])
    for threshold, called in ((p_af - 0.01, "AF"), (p_af + 0.01, "non-AF")):
        _, (header, row) = classify("--threshold", str(threshold), "--overwrite", *per_record)
        assert row[header.index("predicted")] == called


def test_parts_of_other_settings_are_not_used(classify, write_record, monkeypatch):
    write_record("r", leads=("V1", "II"))
    with monkeypatch.context() as patched:
        patched.setattr("xecg.inference.records.Made.write", interrupted)
        assert classify()[0] == 130
    (folder,) = classify.out.parent.iterdir()
    _, (_, lead_v1) = classify("--lead", "V1")
    assert not folder.exists()
    _, (_, preferred) = classify("--overwrite")
    assert lead_v1[2:] != preferred[2:]


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("out", ["records", "records/r.hea/p.csv"])
def test_an_out_that_cannot_be_written_is_told(tmp_path, write_record, weights, out, capsys):
    write_record("r")
    asked = ["classify", str(tmp_path / "records"), "--weights", str(weights)]
    assert main([*asked, "--out", str(tmp_path / out)]) == 1
    assert capsys.readouterr().err.startswith(f"xecg: --out {tmp_path / out}")


def test_real_records(xecg_data, classify, capsys):
    paths = [
        xecg_data / "cinc2017/training2017/A00001",
        xecg_data / "cinc2017/training2017/A00592",
        xecg_data / "ludb/data/1",
        xecg_data / "mitdb/201",
        xecg_data / "xfusemap/records/A0033.hea",
    ]
    status, (_, *rows) = classify(paths=paths)
    assert status == 1  # A00592 lasts 9.99 s
    counts = {name: sum(row[0] == name for row in rows) for name in ("A00001", "1", "201", "A0033")}
    assert counts == {"A00001": 3, "1": 1, "201": 181, "A0033": 1}
    assert [rows[-2][0], rows[-2][2]] == ["201", "1795.556"]
    assert set(errors(classify.out)) == {"A00592"}

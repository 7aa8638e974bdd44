import csv
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from xecg.cli import main
from xecg.explain.deep_taylor import DeepTaylor
from xecg.explain.relevance import WAVES, enrichment_column, wave_relevance
from xecg.inference.explain import spread
from xecg.signal.synthetic import synthesize

KEYS = {
    "signal",
    "sampling_rate",
    "start_s",
    "p_af",
    "p_af_morphology",
    "p_af_rhythm",
    "predicted",
    "r_peaks",
    "relevance_morphology",
    "relevance_rhythm",
}


@pytest.fixture
def explain(tmp_path, weights):
    """Runs `xecg explain` on the test's records; gives the exit status and the folder."""
    out = tmp_path / "explained"

    def run(*arguments, paths=("records",)):
        given = [str(tmp_path / path) for path in paths]
        asked = ["explain", *given, "--out", str(out), "--weights", str(weights), *arguments]
        return main(asked), out

    return run


def load(path):
    with np.load(path) as arrays:
        return dict(arrays)


def summary(folder):
    with (folder / "summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder):
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


class Reader(HTMLParser):
    """What a page shows, and what it would fetch."""

    def __init__(self, path):
        super().__init__()
        self.text, self.sources = "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.sources += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("rules", ["innvestigate", "zbox"])
def test_the_arrays_are_what_the_network_sees_says_and_looks_at(
    explain, write_record, network, rules
):
    write_record("r", duration_s=24.0, sampling_rate=500.0)
    status, folder = explain("--no-pictures", "--rules", rules)
    arrays = load(folder / "r.npz")
    assert status == 0
    assert set(arrays) == KEYS
    assert arrays["sampling_rate"] == 250
    assert arrays["start_s"].tolist() == [0, 10, 14]
    assert arrays["signal"].shape == (3, 2500)
    x = torch.from_numpy(arrays["signal"])[:, None]
    with torch.no_grad():
        p_af = {name: logits.softmax(1)[:, 1].numpy() for name, logits in network(x).items()}
    for branch, maps in DeepTaylor(network, rules).attribute(x).items():
        relevance = arrays[f"relevance_{branch}"]
        assert relevance.dtype == np.float32
        assert relevance.max() > 0
        np.testing.assert_allclose(relevance, maps[:, 0].numpy(), atol=1e-6 * relevance.max())
        np.testing.assert_allclose(arrays[f"p_af_{branch}"], p_af[branch], rtol=1e-5)
    np.testing.assert_allclose(arrays["p_af"], sum(p_af.values()) / 2, rtol=1e-5)
    assert arrays["predicted"].tolist() == (arrays["p_af"] > 0.5).astype(int).tolist()


def test_r_peaks_are_samples_of_each_window(explain, write_record):
    write_record("r", duration_s=24.0, sampling_rate=500.0, rhythm="AF")
    arrays = load(explain("--no-pictures")[1] / "r.npz")
    true_s = synthesize("AF", duration_s=24.0, sampling_rate=500.0, seed=7).r_peaks / 500
    assert arrays["r_peaks"].dtype == np.int64
    for start_s, row in zip(arrays["start_s"], arrays["r_peaks"], strict=True):
        peaks = row[row >= 0]
        assert len(peaks) > 5
        assert (row[len(peaks) :] == -1).all()
        found_s = start_s + peaks / 250
        assert np.abs(found_s[:, None] - true_s).min(axis=1).max() < 0.04


def test_the_summary_has_a_row_for_each_window(explain, write_record):
    write_record("long", duration_s=24.0)
    write_record("one", rhythm="AF")
    _, folder = explain("--no-pictures")
    rows = summary(folder)
    assert [(row["record"], row["start_s"]) for row in rows] == [
        ("long", "0"),
        ("long", "10"),
        ("long", "14"),
        ("one", "0"),
    ]
    arrays = load(folder / "long.npz")
    peaks = [row[row >= 0] for row in arrays["r_peaks"]]
    for branch in ("morphology", "rhythm"):
        measured = wave_relevance(arrays[f"relevance_{branch}"], peaks, 250.0)
        for wave in WAVES:
            listed = [float(row[f"enrichment_{branch}_{wave}"]) for row in rows[:3]]
            np.testing.assert_allclose(listed, measured[enrichment_column(wave)], rtol=1e-4)
        listed = [float(row[f"p_af_{branch}"]) for row in rows[:3]]
        np.testing.assert_allclose(listed, arrays[f"p_af_{branch}"], rtol=1e-4)
    words = ["AF" if predicted else "non-AF" for predicted in arrays["predicted"]]
    assert [row["predicted"] for row in rows[:3]] == words


def test_pictures_and_page_show_millivolts_only_where_there_are(explain, write_record):
    write_record("measured", duration_s=24.0)
    write_record("scaled", unit="NU")
    status, folder = explain("--format", "svg")
    assert status == 0
    assert names(folder) == [
        "index.html",
        "measured.npz",
        "measured.sheet2.svg",
        "measured.svg",
        "scaled.npz",
        "scaled.svg",
        "summary.csv",
    ]
    first, second = ((folder / f"measured{s}.svg").read_text() for s in ("", ".sheet2"))
    assert "0 to 10 s" in first
    assert "10 to 20 s" in first
    assert "14 to 24 s" in second
    assert "10 mm/mV" in first
    assert "not in mV" not in first
    assert "not in mV" in (folder / "scaled.svg").read_text()
    page = Reader(folder / "index.html")
    assert all(source.startswith(("data:image/svg", "#")) for source in page.sources)
    assert sum(source.startswith("data:") for source in page.sources) == 3
    assert "measured" in page.text
    assert "rules innvestigate" in page.text


def test_a_png_is_a_record_on_a4_across(explain, write_record):
    write_record("r")
    _, folder = explain()
    header = (folder / "r.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20]) == 2970
    assert "data:image/png" in (folder / "index.html").read_text()


def test_of_a_long_record_some_windows_are_drawn_and_the_page_says_so(explain, write_record):
    write_record("r", duration_s=70.0)
    _, folder = explain("--draw", "2", "--format", "svg")
    picture = (folder / "r.svg").read_text()
    assert "0 to 10 s" in picture
    assert "60 to 70 s" in picture
    assert not (folder / "r.sheet2.svg").exists()
    assert "2 windows, evenly spread, are drawn" in Reader(folder / "index.html").text
    assert len(summary(folder)) == 7


@pytest.mark.parametrize(
    ("n", "most", "rows"),
    [(1, 12, [0]), (3, 12, [0, 1, 2]), (7, 3, [0, 3, 6]), (180, 2, [0, 179]), (5, 0, [])],
)
def test_drawn_windows_are_spread_over_the_record(n, most, rows):
    assert spread(n, most) == rows


def test_a_bad_record_is_named_and_stops_nobody(explain, write_record, capsys):
    write_record("good")
    write_record("part", duration_s=30.0, flat_s=(9, 21))
    write_record("short", n_samples=2000)
    status, folder = explain("--no-pictures", paths=["records", "nowhere"])
    assert status == 1
    assert [row["record"] for row in summary(folder)] == ["good", "part", "part"]
    with (folder / "errors.csv").open(newline="") as file:
        reasons = {row["record"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"short", "part", "nowhere"}
    assert "10 to 20 s" in reasons["part"]
    told = capsys.readouterr().err
    assert "xecg: short: " in told
    assert "Traceback" not in told
    page = Reader(folder / "index.html")
    assert "2 not explained" in page.text
    assert reasons["short"] in page.text
    assert not (folder / "short.npz").exists()


def test_records_of_one_name_in_two_folders_keep_apart(explain, write_record):
    write_record("100", folder="records/home")
    write_record("100", folder="records/ward", rhythm="AF")
    status, folder = explain("--no-pictures")
    assert status == 0
    home, ward = (load(folder / place / "100.npz") for place in ("home", "ward"))
    assert not np.array_equal(home["signal"], ward["signal"])
    assert [row["record"] for row in summary(folder)] == ["home/100", "ward/100"]


def test_a_window_without_beats_has_no_enrichment(explain, write_record):
    write_record("r", duration_s=20.0, flat_s=(0.12, 10.4))
    _, folder = explain("--no-pictures")
    first, second = summary(folder)
    assert first["enrichment_rhythm_QRS"] == "nan"
    assert float(second["enrichment_rhythm_QRS"]) > 0


def test_a_folder_in_use_is_left_alone_unless_asked(explain, write_record, capsys):
    write_record("r")
    _, folder = explain("--no-pictures")
    (folder / "r.npz").write_bytes(b"mine")
    assert explain("--no-pictures")[0] == 1
    assert "is not empty" in capsys.readouterr().err
    assert (folder / "r.npz").read_bytes() == b"mine"
    assert explain("--no-pictures", "--overwrite")[0] == 0
    assert set(load(folder / "r.npz")) == KEYS


def test_a_place_that_is_no_folder_is_told(tmp_path, explain, write_record, capsys):
    write_record("r")
    (tmp_path / "explained").write_text("a file")
    assert explain()[0] == 1
    assert "cannot be made" in capsys.readouterr().err


def test_a_number_of_windows_below_none_is_refused(explain, write_record, capsys):
    write_record("r")
    assert explain("--draw", "-1")[0] == 1
    assert "0 or more windows" in capsys.readouterr().err


def test_real_records(xecg_data, explain):
    status, folder = explain(
        "--draw",
        "1",
        "--format",
        "svg",
        paths=[
            xecg_data / "cinc2017/training2017/A00004",
            xecg_data / "ludb/data/1",
            xecg_data / "xfusemap/records/A0033",
        ],
    )
    assert status == 0
    assert [len(load(folder / f"{r}.npz")["signal"]) for r in ("A00004", "1", "A0033")] == [3, 1, 1]
    assert "lead ii" in (folder / "1.svg").read_text()
    assert "not in mV" in (folder / "A0033.svg").read_text()

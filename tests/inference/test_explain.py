"""`xecg explain`: arrays, table, pictures, page."""

import csv
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from xecg.cli import main
from xecg.explain.deep_taylor import DeepTaylor
from xecg.explain.effects import wave_effects
from xecg.explain.figures import png as png_of
from xecg.explain.figures import save_svg
from xecg.explain.relevance import WAVES, enrichment_column, wave_relevance
from xecg.inference.explain import write_page
from xecg.signal.wfdb import read_recording

KEYS = {
    "signal",
    "sampling_rate",
    "start_s",
    "p_af",
    "p_af_morphology",
    "p_af_rhythm",
    "quality",
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
    """Tags with their attributes, the text of the page, and what it would fetch."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.open, self.cell_texts = [], "", [], []
        self.feed(path.read_text(encoding="utf-8"))

    @property
    def sources(self):
        return [
            value for _, tag in self.tags for key, value in tag.items() if key in ("src", "href")
        ]

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if "td" in self.open and data.strip():
            self.cell_texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def cells(self):
        return "|".join(self.cell_texts)


@pytest.mark.parametrize("attribution", ["innvestigate", "zbox"])
def test_the_arrays_are_what_the_network_sees_says_and_looks_at(
    explain, write_record, network, attribution
):
    write_record("r", duration_s=24.0, sampling_rate=500.0)
    status, folder = explain("--draw=0", "--attribution", attribution)
    arrays = load(folder / "r.npz")
    assert status == 0
    assert set(arrays) == KEYS
    assert arrays["sampling_rate"] == 250
    assert arrays["start_s"].tolist() == [0, 10, 14]
    assert arrays["signal"].shape == (3, 2500)
    x = torch.from_numpy(arrays["signal"])[:, None]
    with torch.no_grad():
        p_af = {name: logits.softmax(1)[:, 1].numpy() for name, logits in network(x).items()}
    for branch, maps in DeepTaylor(network, attribution).attribute(x).items():
        relevance = arrays[f"relevance_{branch}"]
        assert relevance.dtype == np.float32
        assert relevance.max() > 0
        np.testing.assert_allclose(relevance, maps[:, 0].numpy(), atol=1e-6 * relevance.max())
        np.testing.assert_allclose(arrays[f"p_af_{branch}"], p_af[branch], rtol=1e-5)
    np.testing.assert_allclose(arrays["p_af"], sum(p_af.values()) / 2, rtol=1e-5)
    assert arrays["predicted"].tolist() == (arrays["p_af"] > 0.5).astype(int).tolist()


def test_a_window_that_cannot_be_judged_says_so(explain, write_record):
    write_record("r", flat_s=(0, 4))
    _, folder = explain("--picture=svg")
    assert load(folder / "r.npz")["predicted"].tolist() == [-1]
    (row,) = summary(folder)
    assert row["predicted"] == "cannot be judged"
    assert "flat" in row["note"]
    drawn = (folder / "r.svg").read_text()
    assert "cannot be judged: flat" in drawn
    assert "cannot be judged" in (folder / "index.html").read_text()


def test_r_peaks_are_filled_up(explain, write_record):
    write_record("r", duration_s=24.0, sampling_rate=500.0, rhythm="AF")
    arrays = load(explain("--draw=0")[1] / "r.npz")
    assert arrays["r_peaks"].dtype == np.int64
    for row in arrays["r_peaks"]:
        peaks = row[row >= 0]
        assert len(peaks) > 5
        assert (row[len(peaks) :] == -1).all()


def test_the_summary_has_a_row_for_each_window(explain, write_record):
    write_record("long", duration_s=24.0)
    write_record("one", rhythm="AF")
    _, folder = explain("--draw=0")
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
        for column in measured.drop(columns="conservation"):
            listed = [float(row[f"{branch}_{column}"]) for row in rows[:3]]
            np.testing.assert_allclose(listed, measured[column], rtol=1e-4)
        listed = [float(row[f"p_af_{branch}"]) for row in rows[:3]]
        np.testing.assert_allclose(listed, arrays[f"p_af_{branch}"], rtol=1e-4)
    words = ["AF" if predicted else "non-AF" for predicted in arrays["predicted"]]
    assert [row["predicted"] for row in rows[:3]] == words


def test_effects_are_written_if_asked_for(explain, write_record, network):
    write_record("long", duration_s=24.0)
    _, folder = explain("--draw=0", "--effects")
    rows, arrays = summary(folder), load(folder / "long.npz")
    peaks = [row[row >= 0] for row in arrays["r_peaks"]]
    x = torch.from_numpy(arrays["signal"])[:, None]
    for branch, table in wave_effects(network, x, peaks, 250.0).items():
        for column in table.filter(like="effect_"):
            listed = [float(row[f"{branch}_{column}"] or "nan") for row in rows]
            np.testing.assert_allclose(listed, table[column], rtol=1e-3, atol=1e-4)


def test_pictures_and_page_show_millivolts_only_where_there_are(explain, write_record):
    write_record("measured", duration_s=24.0)
    write_record("scaled", unit="NU")
    status, folder = explain("--picture", "svg")
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
    assert "attribution innvestigate" in page.text


def test_a_png_is_a_record_on_a4_across(explain, write_record):
    write_record("r")
    _, folder = explain()
    header = (folder / "r.png").read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert int.from_bytes(header[16:20]) == 297 * 8
    assert "data:image/png" in (folder / "index.html").read_text()


def test_of_a_long_record_some_windows_are_drawn_and_the_page_says_so(explain, write_record):
    write_record("r", duration_s=70.0)
    _, folder = explain("--draw", "2", "--picture", "svg")
    picture = (folder / "r.svg").read_text()
    assert "0 to 10 s" in picture
    assert "60 to 70 s" in picture
    assert not (folder / "r.sheet2.svg").exists()
    assert "2 windows, evenly spread, are drawn" in Reader(folder / "index.html").text
    assert len(summary(folder)) == 7


def test_a_bad_record_is_named_and_stops_nobody(explain, write_record, capsys):
    write_record("good")
    write_record("part", duration_s=30.0, flat_s=(9, 21))
    write_record("short", n_samples=2000)
    write_record(long := "y" * 245)
    status, folder = explain("--draw=0", paths=["records", "nowhere"])
    assert status == 1
    assert [row["record"] for row in summary(folder)] == ["good", "part", "part"]
    with (folder / "errors.csv").open(newline="") as file:
        reasons = {row["record"].rpartition("/")[2]: row["reason"] for row in csv.DictReader(file)}
    assert set(reasons) == {"short", "part", "nowhere", long}
    assert "first at 10 s" in reasons["part"]
    told = capsys.readouterr().err
    assert "xecg: short: " in told
    assert "Traceback" not in told
    page = Reader(folder / "index.html")
    assert "3 not explained" in page.text
    assert reasons["short"] in page.text
    assert not (folder / "short.npz").exists()


def test_records_of_one_name_in_two_folders_keep_apart(explain, write_record):
    write_record("100", folder="records/home")
    write_record("100", folder="records/ward", rhythm="AF")
    status, folder = explain("--draw=0")
    assert status == 0
    home, ward = (load(folder / place / "100.npz") for place in ("home", "ward"))
    assert not np.array_equal(home["signal"], ward["signal"])
    assert [row["record"] for row in summary(folder)] == ["home/100", "ward/100"]


def test_a_window_without_beats_has_no_enrichment(explain, write_record, monkeypatch):
    write_record("r", duration_s=20.0)
    late = np.arange(2700, 5000, 200)
    monkeypatch.setattr("xecg.inference.records.detect_r_peaks", lambda *_: late)
    _, folder = explain("--draw=0")
    first, second = summary(folder)
    assert first["rhythm_enrichment_qrs"] == "nan"
    assert first["predicted"] == "cannot be judged"
    assert float(second["rhythm_enrichment_qrs"]) > 0


def test_a_folder_in_use_is_left_alone_unless_asked(explain, write_record, capsys):
    write_record("r")
    _, folder = explain("--draw=0")
    (folder / "r.npz").write_bytes(b"mine")
    assert explain("--draw=0")[0] == 1
    assert "is not empty" in capsys.readouterr().err
    assert (folder / "r.npz").read_bytes() == b"mine"
    assert explain("--draw=0", "--overwrite")[0] == 0
    assert set(load(folder / "r.npz")) == KEYS


def test_a_place_that_is_no_folder_is_told(tmp_path, explain, write_record, capsys):
    write_record("r")
    (tmp_path / "explained").write_text("a file")
    assert explain()[0] == 1
    assert "is a file" in capsys.readouterr().err


def test_real_records(xecg_data, explain):
    status, folder = explain(
        "--draw",
        "1",
        "--picture",
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


ENRICHMENTS = dict(zip(map(enrichment_column, WAVES), (1.514, 0.697, np.nan, 1.01), strict=True))


def entry(record="A0001", predicted=("non-AF",), start_s=0.0, pictures=(), shown=True):
    row = {"start_s": start_s, "p_af": 0.1234, "p_af_morphology": 0.2, "p_af_rhythm": 0.3}
    row |= {f"{b}_{name}": n for b in ("morphology", "rhythm") for name, n in ENRICHMENTS.items()}
    rows = [row | {"predicted": name} for name in predicted] if shown else []
    counts = {"windows": len(predicted), "af": predicted.count("AF")}
    return {"record": record, "pictures": list(pictures), "rows": rows} | counts


def page(folder, *entries, failures=None, weights="w.safetensors"):
    about = {"weights": weights, "attribution": "innvestigate", "draw": 12}
    return Reader(write_page(folder, entries, ("morphology", "rhythm"), failures or {}, **about))


def test_the_page_holds_all_it_shows(tmp_path):
    (tmp_path / "p.png").write_bytes(png_of(np.zeros((160, 400, 4), np.uint8), 203.2))
    save_svg(Figure(), tmp_path / "p.svg")
    found = page(tmp_path, entry(pictures=["p.png", "p.svg"]))
    assert not found.open
    assert not found.of("script")
    assert not found.of("link")
    png, svg = found.of("img")
    assert png["src"].startswith("data:image/png;base64,")
    assert png["style"] == "width:50.0mm"
    assert svg["src"].startswith("data:image/svg+xml;base64,")
    assert not svg["style"]  # it says so itself
    assert "A0001" in png["alt"]
    assert "url(" not in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_table_says_probabilities_and_enrichments(tmp_path):
    found = page(tmp_path, entry(start_s=30.0))
    assert found.cells() == "30|non-AF|0.123|0.200|0.300" + "|1.51|0.70|-|1.01" * 2
    assert "†" not in found.text


def test_in_af_p_is_marked_as_where_it_would_be(tmp_path):
    found = page(tmp_path, entry(predicted=("AF", "non-AF")))
    assert found.cells().count("1.51|†") == 2  # both branches of the first window only
    assert "† where P would be" in found.text


def test_records_are_listed_with_links(tmp_path):
    first = entry(predicted=("AF", "non-AF"))
    later = entry("ward/A 2", ("AF",) * 3, pictures=["ward/A 2.png"], shown=False)
    found = page(tmp_path, first, later, entry("A3", shown=False))
    assert [link["href"] for link in found.of("a")] == ["#record-0", "ward/A%202.png", "A3.npz"]
    assert [section["id"] for section in found.of("section")] == ["record-0"]
    assert found.cells().startswith("A0001|2|1|ward/A 2|3|3|A3|1|0|")


def test_names_are_text_and_never_markup(tmp_path):
    evil = '"><script>alert(1)</script>'
    entries = [entry(evil, (evil,)), entry(evil, shown=False)]
    found = page(tmp_path, *entries, weights=evil, failures={evil: evil})
    assert not found.of("script")
    assert found.text.count(evil) == 7


def test_failures_are_named_with_their_reason(tmp_path):
    found = page(tmp_path, entry(), failures={"A0009": "has no lead V9"})
    assert "A0009: has no lead V9" in found.text
    assert "1 not explained" in found.text


def test_only_the_first_records_are_inline(explain, write_record, monkeypatch):
    monkeypatch.setattr("xecg.inference.explain._SHOWN", 2)
    for name in "abc":
        write_record(name)
    _, folder = explain("--picture", "svg")
    found = Reader(folder / "index.html")
    assert len(found.of("img")) == 2
    assert [link["href"] for link in found.of("a")] == ["#record-0", "#record-1", "c.svg"]


def test_the_number_of_processes_makes_no_difference(explain, write_record, tmp_path):
    for name in ("a", "b", "c"):
        write_record(name, duration_s=24.0)
    assert explain("--draw=1", "--jobs=1")[0] == 0
    one = (tmp_path / "explained").rename(tmp_path / "one")
    assert explain("--draw=1", "--jobs=2")[0] == 0
    two = tmp_path / "explained"
    assert names(one) == names(two)
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names(one))


def test_a_command_that_was_interrupted_continues(explain, write_record, monkeypatch, tmp_path):
    for number in range(3):
        write_record(f"r{number}")
    with monkeypatch.context() as patched:
        patched.setattr("xecg.inference.explain.write_page", interrupted)
        assert explain("--draw=0")[0] == 130
    (folder,) = tmp_path.glob("explained*")
    made = {path: path.stat().st_mtime_ns for path in folder.glob("files/*.npz")}
    assert len(made) == 3
    assert explain("--draw=0")[0] == 0
    for path, at in made.items():
        assert (tmp_path / "explained" / path.name).stat().st_mtime_ns == at
    assert not folder.exists()


def interrupted(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lead", "V9"], "no lead 'V9'"),
        (["--attribution", "nobody"], "expected one of innvestigate"),
        (["--weights", "nobody"], "found no file nobody"),
        (["--draw", "-1"], "draw: expected 0 or more"),
    ],
)
def test_a_refused_command_leaves_nothing_behind(
    explain, write_record, tmp_path, capsys, arguments, message
):
    write_record("r")
    before = sorted(tmp_path.rglob("*"))
    assert explain(*arguments)[0] == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert sorted(tmp_path.rglob("*")) == before


def test_files_of_other_kinds_are_explained(explain, write_record):
    path = write_record("r", sampling_rate=500.0)
    np.save(path.parent / "r.npy", read_recording(path).samples)
    status, folder = explain("--sampling-rate", "500", "--draw", "1")
    assert status == 0
    assert {"r.npz", "r.png", "r.npy.npz", "r.npy.png"} <= set(names(folder))
    arrays = [load(folder / name)["relevance_rhythm"] for name in ("r.npz", "r.npy.npz")]
    np.testing.assert_allclose(*arrays, atol=1e-3)

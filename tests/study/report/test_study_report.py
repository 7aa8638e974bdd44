import csv
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_study import QUICK, FakeStudy

from xecg.cli import main
from xecg.errors import ConfigError
from xecg.study.report.report import write_report

TABLES = (
    "accuracy",
    "accuracy_range",
    "accuracy_specificity",
    "pretraining",
    "relevance",
    "specificity",
    "trend",
)
FIGURES = ("accuracy", "accuracy_specificity", "relevance", "specificity")


class Page(HTMLParser):
    """Tags and text of a page, which must close what it opens."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.text, self.open = [], "", []
        self.feed(path.read_text(encoding="utf-8"))
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_report_has_its_tables_figures_and_page(report):
    expected = {f"{name}.{ending}" for name in TABLES for ending in ("csv", "md")}
    expected |= {f"{name}_xfusemap.svg" for name in FIGURES}
    assert {path.name for path in report.iterdir()} == expected | {"report.html"}


def test_the_page_holds_all_it_shows(report):
    page = Page(report / "report.html")
    images = page.of("img")
    assert len(images) == len(FIGURES)
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in images)
    assert not page.of("script")
    assert not page.of("link")
    assert "http" not in page.text
    assert "not finished" not in page.text


def test_every_figure_and_table_says_n_seeds_and_test_set(report):
    page = Page(report / "report.html")
    what = "xfusemap: 240 windows"
    assert all(
        what in image["alt"] and "3 seeds (0, 1, 2)" in image["alt"] for image in page.of("img")
    )
    for name in FIGURES:
        drawn = (report / f"{name}_xfusemap.svg").read_text()
        assert what in drawn
        assert "of 120 persons or records; 3 seeds (0, 1, 2)" in drawn
    for name in TABLES:
        if name != "pretraining":
            assert what in (report / f"{name}.md").read_text()


def test_tables_hold_every_depth_with_interval_and_counts(report):
    accuracy = rows_of(report / "accuracy.csv")
    assert len(accuracy) == 3 * 3 * 10
    assert list(dict.fromkeys(row["frozen_layers"] for row in accuracy)) == [
        "scratch",
        *map(str, range(9)),
    ]
    for row in accuracy:
        assert float(row["low"]) <= float(row["value"]) <= float(row["high"])
        assert (row["seeds"], row["fewest_windows"], row["fewest_groups"]) == ("3", "240", "120")
    relevance = rows_of(report / "relevance.csv")
    assert len(relevance) == 2 * 2 * 4 * 10
    assert len(rows_of(report / "specificity.csv")) == 2 * 2 * 10


def test_the_trend_table_says_what_the_truth_was(report):
    trends = {
        (row["measure"], row["part"], row["class"], row["wave"]): row
        for row in rows_of(report / "trend.csv")
    }
    assert float(trends["domain specificity", "morphology", "non-AF", ""]["rho"]) == 1
    assert float(trends["enrichment", "morphology", "non-AF", "QRS"]["rho"]) == -1
    assert float(trends["enrichment", "rhythm", "AF", "QRS"]["rho"]) == 1
    assert trends["domain specificity", "rhythm", "AF", ""]["permutations"] == "499"
    shown = (report / "trend.md").read_text()
    assert shown.count("| yes |") == 4
    assert "| no |" not in shown


def test_lowest_and_highest_accuracy_are_of_the_rungs(report):
    ranges = {row["part"]: row for row in rows_of(report / "accuracy_range.csv")}
    accuracy = [
        (float(row["value"]), row["frozen_layers"])
        for row in rows_of(report / "accuracy.csv")
        if (row["metric"], row["part"]) == ("accuracy", "fused")
        and row["frozen_layers"] != "scratch"
    ]
    fused = ranges["fused"]
    assert (float(fused["lowest"]), fused["lowest_frozen_layers"]) == min(accuracy)
    assert float(fused["highest"]) == max(accuracy)[0]
    assert (fused["published_lowest"], fused["published_highest"]) == ("0.857", "0.9523")


def test_a_report_is_a_function_of_the_study(study, report, tmp_path):
    write_report(study, tmp_path / "again", QUICK)
    for path in report.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_unfinished_study_is_reported_and_replaced_when_it_went_on(tmp_path, capsys):
    study = FakeStudy(depths=(None, 0, 3, 8), seeds=(0,), test_sets=(("other", 40, 40),))
    folder = study.write(tmp_path / "study")
    later = tmp_path / "later"
    for name in ("frozen0-seed0", "scratch-seed0"):
        shutil.move(folder / "cells" / name, later / name)
    quick = ["--resamples", "50", "--permutations", "50", "--example_depths"]
    assert main(["study", "report", str(folder), *quick]) == 0
    told = capsys.readouterr().out
    assert "2 cells are not finished: frozen0-seed0, scratch-seed0" in told
    page = Page(folder / "report" / "report.html")
    assert "2 cells are not finished" in page.text
    assert "The same hearts" not in page.text
    assert "original xECGArch" not in (folder / "report" / "accuracy_other.svg").read_text()

    for name in ("frozen0-seed0", "scratch-seed0"):
        shutil.move(later / name, folder / "cells" / name)
    assert main(["study", "report", str(folder), *quick]) == 0
    assert "not finished" not in Page(folder / "report" / "report.html").text
    depths = [row["frozen_layers"] for row in rows_of(folder / "report" / "specificity.csv")]
    assert set(depths) == {"scratch", "0", "3", "8"}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_single_network_has_no_trend_but_a_report(tmp_path):
    study = FakeStudy(depths=(3,), seeds=(7,), test_sets=(("xfusemap", 20, 1),))
    folder = study.write(tmp_path / "study")
    text = write_report(folder, tmp_path / "out", QUICK)
    assert "1 seed (7)" in text
    assert "nan" not in text
    rows = rows_of(tmp_path / "out" / "trend.csv")
    assert all(np.isnan(float(row["rho"])) for row in rows)
    assert "networks could not be applied again" in (tmp_path / "out" / "report.html").read_text()


def test_a_folder_of_something_else_is_left_alone(study, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something that is no report"):
        write_report(study, tmp_path, QUICK)
    with pytest.raises(ConfigError, match="found a file"):
        write_report(study, tmp_path / "notes.txt", QUICK)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert main(["study", "report", str(tmp_path)]) == 1
    assert "expected the folder of a study" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        (("--resamples", "0"), "--resamples of at least 1"),
        (("--permutations", "-1"), "--permutations of at least 1"),
        (("--example_depths", "-2"), "0 or more blocks"),
    ],
)
def test_settings_out_of_range_are_refused(study, flag, complaint, capsys):
    assert main(["study", "report", str(study), *flag]) == 1
    assert complaint in capsys.readouterr().err

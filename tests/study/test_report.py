import shutil
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from fake_study import FakeStudy

from xecg.cli import main
from xecg.errors import ConfigError, DataError
from xecg.files import write_sums
from xecg.study.report import write_report

FIGURES = ("accuracy", "effects", "relevance", "specificity")
TABLES = (*FIGURES, "accuracy_range", "pretraining", "trend")
QUICK = {"resamples": 50, "permutations": 50}


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


def table(report, name):
    return pd.read_csv(report / f"{name}.csv", keep_default_na=False, na_values=["nan"])


def test_a_report_has_its_tables_figures_and_page(report):
    expected = {f"{name}.csv" for name in TABLES} | {f"{name}_xfusemap.svg" for name in FIGURES}
    assert {path.name for path in report.iterdir()} == expected | {"report.html"}


def test_the_page_holds_all_it_shows_and_says_what_it_is_of(report):
    page = Page(report / "report.html")
    images = page.of("img")
    assert len(images) == len(FIGURES)
    assert all(image["src"].startswith("data:image/svg+xml;base64,") for image in images)
    assert all("xfusemap: 240 windows" in image["alt"] for image in images)
    assert all("3 seeds (0, 1, 2)" in image["alt"] for image in images)
    assert not page.of("script")
    assert not page.of("link")
    assert "not finished" not in page.text
    for name in FIGURES:
        drawn = (report / f"{name}_xfusemap.svg").read_text()
        assert "of 120 persons or records; 3 seeds (0, 1, 2)" in drawn
    assert "original xECGArch" in page.text
    assert "Published: 0.857 and 0.952" in page.text


def test_tables_hold_every_depth_with_interval_and_counts(report):
    accuracy = table(report, "accuracy")
    assert len(accuracy) == 3 * 3 * 10
    assert [*accuracy["frozen_layers"].unique()] == ["scratch", *map(str, range(9))]
    assert accuracy["value"].between(accuracy["low"], accuracy["high"]).all()
    assert (accuracy[["seeds", "fewest_windows", "fewest_groups"]] == [3, 240, 120]).all(axis=None)
    assert len(table(report, "relevance")) == 2 * 2 * 4 * 10
    assert len(table(report, "specificity")) == 2 * 2 * 10
    assert table(report, "pretraining")["branch"].tolist() == ["morphology", "rhythm"]
    trends = table(report, "trend")
    assert (trends["permutations"][trends["rho"].notna()] == 499).all()


def test_effects_stand_beside_enrichments(report):
    effects = table(report, "effects")
    kinds = effects.groupby("measure")["wave"].unique()
    waves = ["P", "QRS", "ST-T", "other"]
    assert {kind: list(found) for kind, found in kinds.items()} == {
        "effect": [*waves, "equal RR"],
        "flips": waves,
        "agreement": [""],
    }
    agreement = effects[effects["measure"] == "agreement"]
    truth = agreement["part"].map({"morphology": 1.0, "rhythm": -1.0})
    np.testing.assert_allclose(agreement["value"], truth)
    page = Page(report / "report.html")
    assert "What the branches use" in page.text
    assert "share of decisions that flip" in page.text.lower()


def test_the_claim_is_told(report):
    page = Page(report / "report.html")
    claim = page.text[page.text.index("rho >= 0.9, interval > 0") :][:2000]
    assert claim.count("yes") == 4


def test_lowest_and_highest_accuracy_are_of_the_rungs(report):
    fused = table(report, "accuracy_range").set_index("part").loc["fused"]
    accuracy = table(report, "accuracy")
    rungs = accuracy[(accuracy["metric"] == "accuracy") & (accuracy["part"] == "fused")].iloc[1:]
    lowest = rungs.sort_values("value").iloc[0]
    assert fused["lowest"] == lowest["value"]
    assert fused["lowest_frozen_layers"] == int(lowest["frozen_layers"])
    assert fused["highest"] == rungs["value"].max()
    assert (fused["published_lowest"], fused["published_highest"]) == (0.857, 0.9523)


def test_a_report_is_a_function_of_the_runs(study, report, tmp_path):
    write_report(study, out=tmp_path / "again", resamples=200, permutations=499)
    for path in report.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_an_unfinished_study_is_reported_and_replaced_when_it_is(tmp_path, capsys):
    study = FakeStudy(depths=(None, 0, 3, 8), seeds=(0,), test_sets=(("other", 40, 40),))
    folder = study.write(tmp_path / "study")
    for name in ("frozen0-seed0", "scratch-seed0"):
        shutil.move(folder / "cells" / name, tmp_path / "later" / name)
    (folder / "failed").mkdir()
    (folder / "failed" / "scratch-seed0.txt").write_text("out of <memory>")
    quick = ["--resamples", "50", "--permutations", "50"]
    assert main(["study", "report", str(folder), *quick]) == 0
    page = Page(folder / "report" / "report.html")
    assert "2 cells are not finished" in page.text
    assert "scratch-seed0 (failed: out of <memory>)" in page.text
    assert "cannot be told" in page.text  # two depths
    assert "original xECGArch" not in (folder / "report" / "accuracy_other.svg").read_text()
    for name in ("frozen0-seed0", "scratch-seed0"):
        shutil.move(tmp_path / "later" / name, folder / "cells" / name)
    assert main(["study", "report", str(folder), *quick]) == 0
    assert "report.html" in capsys.readouterr().out
    assert "not finished" not in Page(folder / "report" / "report.html").text
    depths = table(folder / "report", "specificity")["frozen_layers"].unique()
    assert {*depths} == {"scratch", "0", "3", "8"}
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_runs_of_agents_have_the_reference_of_a_study_that_is_named(study, tmp_path):
    shutil.copytree(study / "cells", tmp_path / "runs" / "finetune_frozen0")
    page = write_report(tmp_path / "runs", config=study / "study.yaml", **QUICK)
    assert "original xECGArch" in page.read_text()
    page = write_report(tmp_path / "runs", **QUICK)
    assert "original" not in Page(page).text
    assert "not finished" not in page.read_text()


def test_a_changed_config_of_the_study_is_refused(study, tmp_path):
    shutil.copytree(study, tmp_path / "study")
    path = tmp_path / "study" / "study.yaml"
    path.write_text(path.read_text().replace("0.9", "0.8"))
    for _ in range(2):
        with pytest.raises(DataError, match=r"study\.yaml"):
            write_report(tmp_path / "study", **QUICK)
        path.unlink(missing_ok=True)


def test_a_single_network_without_explanations_has_a_report(tmp_path):
    study = FakeStudy(depths=(3,), seeds=(7,), test_sets=(("xfusemap", 20, 1),))
    folder = study.write(tmp_path / "study")
    path = folder / "cells" / "frozen3-seed7" / "windows" / "xfusemap.csv"
    windows = pd.read_csv(path)
    windows[[name for name in windows if "enrichment" not in name]].to_csv(path, index=False)
    write_sums(path.parents[1])
    page = Page(write_report(folder, **QUICK))
    assert "1 seed (7)" in page.text
    assert "nan" not in page.text
    assert table(folder / "report", "trend")["rho"].isna().all()
    assert not (folder / "report" / "relevance.csv").exists()


def test_a_folder_of_something_else_is_left_alone(study, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ConfigError, match=str(out)):
            write_report(study, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["resamples", "permutations"])
def test_settings_out_of_range_are_refused(study, name):
    with pytest.raises(ConfigError, match=name):
        write_report(study, **{name: 0})

"""A ladder of known truth, and the report of its study."""

from pathlib import Path

import pytest
from fake_study import QUICK, FakeStudy

from xecg.study.report.cells import read_cells
from xecg.study.report.ladder import Ladder, read_ladders
from xecg.study.report.report import write_report


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seeds at nine depths and from scratch; 240 windows of 120 persons."""
    folder = tmp_path_factory.mktemp("ladder") / "study"
    return FakeStudy(test_sets=(("xfusemap", 240, 120),)).write(folder)


@pytest.fixture(scope="session")
def ladder(study: Path) -> Ladder:
    """The cells of the study on its test set."""
    return read_ladders(read_cells(study))[0]


@pytest.fixture(scope="session")
def report(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the study's report."""
    out = tmp_path_factory.mktemp("reported") / "report"
    write_report(study, out, QUICK)
    return out

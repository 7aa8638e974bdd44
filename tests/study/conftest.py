"""A ladder of known truth, and the report of its study."""

import pytest
from fake_study import FakeStudy

from xecg.study.ladder import read_ladders, read_runs
from xecg.study.report import write_report


@pytest.fixture(scope="session")
def study(tmp_path_factory):
    """Three seeds at nine depths and from scratch; 240 windows of 120 persons."""
    folder = tmp_path_factory.mktemp("ladder") / "study"
    return FakeStudy(test_sets=(("xfusemap", 240, 120),)).write(folder)


@pytest.fixture(scope="session")
def ladder(study):
    """The networks of the study on its test set."""
    return next(read_ladders(read_runs(study)[0]))


@pytest.fixture(scope="session")
def report(study, tmp_path_factory):
    """The folder of the study's report."""
    out = tmp_path_factory.mktemp("reported") / "report"
    write_report(study, out=out, resamples=200, permutations=499)
    return out

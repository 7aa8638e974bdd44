import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_study import FakeStudy, write_run
from scipy.stats import spearmanr

from xecg.errors import DataError
from xecg.files import SUMS, write_sums
from xecg.metrics.classification import classification_report
from xecg.study.ladder import (
    METRICS,
    SCRATCH,
    SPECIFICITY,
    analyse,
    read_ladders,
    read_runs,
    select,
)

QUICK = {"resamples": 200, "permutations": 499, "seed": 0}


@pytest.fixture
def small(tmp_path):
    study = FakeStudy(depths=(None, 0, 3), seeds=(0, 1), test_sets=(("fake", 12, 12),))
    return study.write(tmp_path / "study")


def test_finished_runs_are_read_by_branch_depth_and_seed(small):
    for name in ("test_metrics.csv", SUMS):  # still running
        (small / "cells" / "frozen3-seed1" / name).unlink()
    shutil.copytree(small / "cells" / "frozen0-seed0", small / "work" / "frozen0-seed0")
    runs, left_out = read_runs(small)
    tuned = runs[runs["branch"] == ""]
    assert tuned[["depth", "seed"]].to_numpy().tolist() == [
        *([SCRATCH, 0], [SCRATCH, 1], [0, 0], [0, 1], [3, 0]),
    ]
    assert [*runs["branch"][5:]] == ["morphology", "rhythm"]
    assert left_out == []


def test_runs_of_agents_are_read_like_cells(small):
    runs, _ = read_runs(small)
    moved = small.parent / "runs" / "finetune_frozen0"
    shutil.move(small / "cells", moved)
    for folder in (moved, moved.parent):
        same, _ = read_runs(folder)
        assert same.drop(columns="folder").equals(runs.drop(columns="folder"))


def test_a_schedule_is_no_rung(small):
    path = small / "cells" / "frozen3-seed1" / "config.yaml"
    config = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump(config | {"freezing": {"frozen_layers": {"rhythm": 3}}}))
    write_sums(path.parent)
    runs, (reason,) = read_runs(small)
    assert "frozen3-seed1" in reason
    assert len(runs) == 7


@pytest.mark.parametrize("text", ["kind: [", "- 1", "model: {}", "seed_everything: 3"])
def test_a_damaged_config_is_named(small, text):
    path = small / "cells" / "frozen0-seed0" / "config.yaml"
    path.write_text(text)
    write_sums(path.parent)
    with pytest.raises(DataError, match=str(path)):
        read_runs(small)


@pytest.mark.parametrize("name", ["config.yaml", "test_metrics.csv", "windows/fake.csv", SUMS])
@pytest.mark.parametrize("damage", ["digit", "gone", "folder"])
def test_a_run_whose_files_changed_is_refused(small, name, damage):
    run = small / "cells" / "frozen3-seed1"
    text = (run / name).read_text()
    (run / name).unlink()
    if damage == "digit":
        (run / name).write_text(text.replace("1", "7", 1))
    elif damage == "folder":
        (run / name).mkdir()
    with pytest.raises(DataError, match=str(run)):
        read_runs(small)


def test_two_runs_of_one_depth_and_seed_are_refused(small):
    write_run(small / "cells" / "zagain", "AFClassifier", 1, 3)
    with pytest.raises(DataError, match="zagain"):
        read_runs(small)


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(DataError, match=str(tmp_path)):
        read_runs(tmp_path)


def test_networks_stand_side_by_side(ladder):
    assert ladder.branches == ["morphology", "rhythm"]
    assert ladder.depths == [SCRATCH, *range(9)]
    assert ladder.seeds == [0, 1, 2]
    assert ladder.p_af("fused").shape == (30, 240)
    right = (ladder.p_af("rhythm") > 0.5) == (ladder.windows["af"] == 1).to_numpy()
    assert np.array_equal(ladder.right("rhythm"), right)
    assert ladder.title.startswith("xfusemap: 240 windows")
    assert ladder.title.endswith("of 120 persons or records; 3 seeds (0, 1, 2)")


@pytest.mark.parametrize(
    ("column", "values", "named"),
    [
        ("start_s", 7.0, "frozen3-seed1"),
        ("group", "other", "frozen3-seed1"),
        ("p_af_rhythm", 1.5, "p_af_rhythm"),
        ("af", 2, "af"),
        ("p_af", "high", "p_af"),
        ("p_af", None, "p_af"),
        ("p_af_third", 0.5, "frozen3-seed1"),
    ],
)
def test_tables_that_do_not_go_together_are_named(small, column, values, named):
    path = small / "cells" / "frozen3-seed1" / "windows" / "fake.csv"
    table = pd.read_csv(path)
    table = table.drop(columns=column) if values is None else table.assign(**{column: values})
    table.to_csv(path, index=False)
    write_sums(path.parents[1])
    with pytest.raises(DataError, match=named):
        list(read_ladders(read_runs(small)[0]))


def test_runs_without_tables_of_windows_are_refused(small):
    for folder in small.glob("cells/*/windows"):
        shutil.rmtree(folder)
        write_sums(folder.parent)
    with pytest.raises(DataError, match="windows"):
        list(read_ladders(read_runs(small)[0]))


@pytest.fixture(scope="module")
def analysis(ladder):
    return analyse(ladder, **QUICK)


def analysed(folder, **truth):
    truth = {"test_sets": (("fake", 100, 100),), **truth}
    study = FakeStudy(**truth).write(folder)
    return analyse(next(read_ladders(read_runs(study)[0])), **QUICK)


def trend(analysis, *key):
    return select(analysis.trends, *key).iloc[0]


def test_metrics_are_those_of_a_run_with_its_intervals(ladder):
    cell = 4
    alone = replace(
        ladder,
        cells=ladder.cells.iloc[[cell]].reset_index(drop=True),
        columns={name: values[[cell]] for name, values in ladder.columns.items()},
    )
    means = analyse(alone, resamples=1000, permutations=1, seed=0).means
    for part in (*ladder.branches, "fused"):
        p_af = alone.p_af(part)[0]
        report = classification_report(p_af, alone.windows["af"], alone.windows["group"])
        for metric in METRICS:
            ours, theirs = select(means, metric, part, "", "").iloc[0], report[metric]
            assert ours["value"] == pytest.approx(theirs.value)
            ends = [theirs.low, theirs.high]
            np.testing.assert_allclose(ours[["low", "high"]].astype(float), ends, atol=0.012)
            assert ours["most_windows"] == len(alone.windows)
            assert ours["fewest_groups"] == alone.windows["group"].nunique()


def test_means_are_of_windows_that_the_branch_predicts_rightly(analysis, ladder):
    cell = 7
    chosen = ladder.right("rhythm")[cell] & ladder.af
    values = ladder.columns["rhythm_enrichment_qrs"][cell, chosen]
    networks = select(analysis.networks, "enrichment", "rhythm", "AF", "QRS")
    assert networks["value"].iloc[cell] == pytest.approx(np.nanmean(values))
    depth = ladder.cells["depth"].iloc[cell]
    mean = select(analysis.means, "enrichment", "rhythm", "AF", "QRS").set_index("depth").loc[depth]
    by_seed = networks[networks["depth"] == depth]["value"]
    assert mean["value"] == pytest.approx(by_seed.mean())
    assert mean["seed_sd"] == pytest.approx(by_seed.std())


def test_intervals_hold_the_truth(analysis):
    means = select(analysis.means, "enrichment", "rhythm", "non-AF", "QRS").iloc[1:]
    truth = 1.5 + 0.3 * means["depth"]
    np.testing.assert_allclose(means["value"], truth, rtol=0.05)
    misses = ~truth.between(means["low"], means["high"])
    assert misses.sum() <= 4  # of 9 that are hardly independent, since all are on the same windows


def test_a_rising_truth_has_rho_1(analysis, ladder):
    for branch in ladder.branches:
        found = trend(analysis, SPECIFICITY, branch, "non-AF", "")
        assert (found["rho"], found["lowest_seed_rho"]) == (1, 1)
        assert found["low"] > 0.9
        assert found["p"] < 0.01
        assert (found["permutations"], found["exact"]) == (499, False)
        assert found["depths"] == 9
    falling = trend(analysis, "enrichment", "rhythm", "non-AF", "P")
    assert falling["rho"] == -1
    assert falling["high"] < 0


def test_rho_and_p_are_those_of_spearmans_test_of_the_means(tmp_path):
    depths = (0, 1, 2, 3, 4, 5)
    analysis = analysed(tmp_path / "study", depths=depths, enrichment_p=lambda d, b: 1.2)
    means = select(analysis.means, "enrichment", "rhythm", "AF", "P")["value"].to_numpy()
    found = trend(analysis, "enrichment", "rhythm", "AF", "P")
    assert found["rho"] == pytest.approx(spearmanr(depths, means).statistic)
    assert not found["exact"]  # 720 permutations
    few = analysed(tmp_path / "few", depths=(0, 3, 8))
    found = trend(few, SPECIFICITY, "rhythm", "AF", "")
    assert (found["rho"], found["permutations"], found["exact"]) == (1, 6, True)
    assert found["p"] == pytest.approx(1 / 3)  # of six orders two are as monotone


def test_without_a_trend_there_is_none(tmp_path):
    analysis = analysed(
        tmp_path / "flat", enrichment_p=lambda d, b: 1.2, enrichment_qrs=lambda d, b: 1.0
    )
    for branch in analysis.ladder.branches:
        found = trend(analysis, SPECIFICITY, branch, "non-AF", "")
        assert found["p"] > 0.02
        assert found["low"] < found["rho"] < found["high"]


def test_training_from_scratch_is_no_rung(tmp_path):
    def extreme(depth, branch):
        return 1e-3 if depth is None else 1.0 + 0.1 * depth

    analysis = analysed(tmp_path / "scratch", enrichment_p=extreme, seeds=(0,))
    assert trend(analysis, "enrichment", "morphology", "non-AF", "P")["rho"] == 1


def test_two_depths_are_no_trend(tmp_path):
    analysis = analysed(tmp_path / "two", depths=(None, 0, 8))
    found = trend(analysis, "accuracy", "fused", "", "")
    assert np.isnan([found["rho"], found["low"], found["p"]]).all()


def test_a_new_statistic_and_a_third_branch_are_read_without_a_word(ladder):
    n = ladder.p_af("fused").shape
    columns = dict(ladder.columns) | {
        "rhythm_gini": np.full(n, 0.25),
        "p_af_shape": ladder.p_af("rhythm"),
        "shape_enrichment_p": np.ones(n),
    }
    found = analyse(replace(ladder, columns=columns), resamples=5, permutations=5, seed=0)
    assert (select(found.means, "gini", "rhythm", "AF", "")["value"] == 0.25).all()
    assert len(select(found.means, "accuracy", "shape", "", "")) == len(ladder.depths)
    assert select(found.means, SPECIFICITY, "shape", "AF", "").empty


def test_a_single_person_has_no_interval(ladder):
    windows = ladder.windows.assign(group="everybody")
    means = analyse(replace(ladder, windows=windows), resamples=5, permutations=5, seed=0).means
    assert means[["low", "high"]].isna().all(axis=None)
    assert means["value"].notna().all()


def test_numbers_are_a_function_of_the_seed(ladder, analysis):
    again, other = analyse(ladder, **QUICK), analyse(ladder, **{**QUICK, "seed": 1})
    pd.testing.assert_frame_equal(again.means, analysis.means)
    pd.testing.assert_frame_equal(again.trends, analysis.trends)
    assert not other.means["low"].equals(analysis.means["low"])
    assert other.means["value"].equals(analysis.means["value"])


def test_a_trend_that_hangs_on_one_seed_has_a_wide_interval(ladder):
    slopes = ladder.cells["seed"].map({0: 1.0, 1: -1.6, 2: 1.0}) * ladder.cells["depth"]
    values = np.tile(50 + slopes.to_numpy()[:, None], (1, len(ladder.windows)))
    columns = dict(ladder.columns) | {"rhythm_enrichment_p": values}
    found = trend(
        analyse(replace(ladder, columns=columns), **QUICK), "enrichment", "rhythm", "AF", "P"
    )
    assert (found["rho"], found["low"], found["high"]) == (1, -1, 1)
    assert found["lowest_seed_rho"] == -1

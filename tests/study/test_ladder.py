import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_study import FakeStudy, write_run

from xecg.errors import DataError
from xecg.study.ladder import SCRATCH, depth_title, read_ladders, read_runs


@pytest.fixture
def small(tmp_path):
    study = FakeStudy(depths=(None, 0, 3), seeds=(0, 1), test_sets=(("fake", 12, 12),))
    return study.write(tmp_path / "study")


def test_finished_runs_are_read_by_branch_depth_and_seed(small):
    (small / "cells" / "frozen3-seed1" / "test_metrics.csv").unlink()  # still running
    shutil.copytree(small / "cells" / "frozen0-seed0", small / "work" / "frozen0-seed0")
    runs, left_out = read_runs(small)
    tuned = runs[runs["branch"] == ""]
    assert tuned[["depth", "seed"]].to_numpy().tolist() == [
        *([SCRATCH, 0], [SCRATCH, 1], [0, 0], [0, 1], [3, 0]),
    ]
    assert [*runs["branch"][5:]] == ["morphology", "rhythm"]
    assert left_out == []
    assert depth_title(SCRATCH) == "scratch"


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
    runs, (reason,) = read_runs(small)
    assert "frozen3-seed1" in reason
    assert len(runs) == 7


@pytest.mark.parametrize("text", ["kind: [", "- 1", "model: {}", "seed_everything: 3"])
def test_a_damaged_config_is_named(small, text):
    path = small / "cells" / "frozen0-seed0" / "config.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=str(path)):
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
    with pytest.raises(DataError, match=named):
        list(read_ladders(read_runs(small)[0]))


def test_runs_without_tables_of_windows_are_refused(small):
    for folder in small.glob("cells/*/windows"):
        shutil.rmtree(folder)
    with pytest.raises(DataError, match="windows"):
        list(read_ladders(read_runs(small)[0]))

import shutil

import pytest
from fake_study import FakeStudy, write_cell

from xecg.errors import ConfigError, DataError
from xecg.study.report.cells import SCRATCH, depth_title, missing_cells, read_cells

SMALL = FakeStudy(depths=(None, 0, 3), seeds=(0, 1), test_sets=(("fake", 12, 12),))


@pytest.fixture
def small(tmp_path):
    return SMALL.write(tmp_path / "study")


def test_finished_cells_are_read_by_kind_depth_and_seed(small):
    cells = read_cells(small)
    assert [(cell.kind, cell.depth, cell.seed) for cell in cells] == [
        *[("finetune", depth, seed) for depth in (SCRATCH, 0, 3) for seed in (0, 1)],
        *[("pretrain", SCRATCH, 0)] * 2,
    ]
    assert {cell.branch for cell in cells[-2:]} == {"morphology", "rhythm"}
    assert cells[0].test_sets() == ["fake"]
    assert depth_title(cells[0].depth) == "scratch"
    assert missing_cells(small) == []


def test_what_is_not_finished_is_named_with_its_failure(small):
    shutil.rmtree(small / "cells" / "frozen3-seed1")
    shutil.rmtree(small / "cells" / "scratch-seed0")
    (small / "failed" / "scratch-seed0").mkdir(parents=True)
    (small / "failed" / "scratch-seed0" / "reason.txt").write_text("out of memory\n")
    assert sorted(missing_cells(small)) == [
        "frozen3-seed1",
        "scratch-seed0 (failed: out of memory)",
    ]


def test_a_folder_that_is_no_study_is_refused(tmp_path):
    with pytest.raises(DataError, match="expected the folder of a study"):
        read_cells(tmp_path)
    (tmp_path / "cells").mkdir()
    with pytest.raises(DataError, match="no cell is finished yet"):
        read_cells(tmp_path)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        missing_cells(tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("kind: other\nseed: 0\n", "expected kind pretrain or finetune, found 'other'"),
        ("kind: finetune\nseed: 0\n", "expected frozen_layers .* found 'nothing'"),
        ("kind: pretrain\nseed: first\n", "expected seed .* found 'first'"),
        ("- 1\n", "expected keys such as kind and seed"),
        ("kind: [\n", "cannot be read"),
    ],
)
def test_a_damaged_cell_is_named(small, content, complaint):
    path = small / "cells" / "frozen0-seed0" / "cell.yaml"
    path.write_text(content)
    with pytest.raises(DataError, match=complaint) as error:
        read_cells(small)
    assert str(path) in str(error.value)


def test_two_cells_of_one_depth_and_seed_are_refused(small):
    write_cell(small / "cells" / "again", kind="finetune", frozen_layers=3, seed=1)
    with pytest.raises(DataError, match="one cell for each depth and seed"):
        read_cells(small)

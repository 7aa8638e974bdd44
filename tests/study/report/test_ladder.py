import csv

import numpy as np
import pytest
from fake_study import FakeStudy, write_columns

from xecg.errors import DataError
from xecg.study.report.cells import SCRATCH, read_cells
from xecg.study.report.ladder import read_ladders
from xecg.study.report.window_table import read_window_table

SETS = (("one", 30, 10), ("two", 12, 12))


@pytest.fixture
def small(tmp_path):
    return FakeStudy(depths=(None, 0, 3), seeds=(0, 1), test_sets=SETS).write(tmp_path / "study")


def change(path, **columns):
    """Replace columns of a table; None takes one out."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = {name: [row[name] for row in rows] for name in rows[0]} | columns
    write_columns(path, {name: values for name, values in kept.items() if values is not None})


def test_a_ladder_holds_the_cells_of_a_test_set_side_by_side(small):
    ladders = read_ladders(read_cells(small))
    assert [ladder.test_set for ladder in ladders] == ["one", "two"]
    ladder = ladders[0]
    assert ladder.depths == [SCRATCH, 0, 3]
    assert ladder.rungs == [0, 3]
    assert ladder.seeds == [0, 1]
    assert ladder.branches == ["morphology", "rhythm"]
    assert ladder.outputs == ["morphology", "rhythm", "fused"]
    assert (ladder.af.size, ladder.n_groups) == (30, 10)
    assert ladder.p_af("fused").shape == (6, 30)
    right = (ladder.p_af("rhythm") > 0.5) == (ladder.af == 1)
    np.testing.assert_array_equal(ladder.right("rhythm"), right)
    table = read_window_table(small / "cells" / "frozen0-seed1" / "windows" / "one.csv")
    np.testing.assert_array_equal(
        ladder.enrichment("rhythm", "ST-T")[3], table.enrichment["rhythm"]["ST-T"]
    )


def test_cells_of_other_windows_are_refused(small):
    change(small / "cells" / "frozen3-seed1" / "windows" / "one.csv", row=range(1, 31))
    with pytest.raises(DataError, match=r"frozen3-seed1.*one\.csv: expected the windows"):
        read_ladders(read_cells(small))


def test_a_test_set_that_not_every_cell_has_is_reported_of_the_others(small):
    (small / "cells" / "frozen3-seed1" / "windows" / "two.csv").unlink()
    one, two = read_ladders(read_cells(small))
    assert (len(one.cells), len(two.cells)) == (6, 5)


def test_without_a_tested_cell_there_is_nothing(small):
    pretrained = [cell for cell in read_cells(small) if cell.kind == "pretrain"]
    with pytest.raises(DataError, match="no cell of the study is fine-tuned"):
        read_ladders(pretrained)


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"rhythm_enrichment_st_t": None}, r"\['rhythm_enrichment_st_t'\] are missing"),
        ({"af": [2] * 30}, "expected af 0 or 1, found 2"),
        ({"p_af": [1.5] * 30}, "expected P.AF. of fused between 0 and 1, found 1.5"),
        ({"p_af_rhythm": ["nan"] * 30}, "expected P.AF. of rhythm between 0 and 1, found nan"),
        ({"start_s": ["?"] * 30}, "expected numbers in column start_s"),
    ],
)
def test_a_table_that_is_not_as_expected_is_named(small, columns, complaint):
    path = small / "cells" / "frozen0-seed0" / "windows" / "one.csv"
    change(path, **columns)
    with pytest.raises(DataError, match=complaint) as error:
        read_window_table(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "row,record\n1\n"])
def test_half_a_table_is_refused(small, text):
    path = small / "cells" / "frozen0-seed0" / "windows" / "one.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=r"expected a table with a row per window|are missing"):
        read_window_table(path)

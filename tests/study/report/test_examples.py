import csv
import shutil

import numpy as np
import pytest
import yaml
from fake_study import QUICK, FakeStudy, write_columns

from xecg.errors import DataError
from xecg.explain.pictures import save_figure
from xecg.networks.weights import find_weights, load_xecgarch
from xecg.networks.xecgarch import fuse
from xecg.study.report.cells import read_cells
from xecg.study.report.example_figure import draw_example
from xecg.study.report.examples import examples
from xecg.study.report.ladder import read_ladders
from xecg.study.report.report import write_report
from xecg.study.window_tables import test_data as data_of

DEPTHS = (0, 3, 8)


@pytest.fixture(scope="module")
def explained(synthetic_store, tmp_path_factory):
    """A study whose cells all have the released weights, with tables of the synthetic store."""
    folder = tmp_path_factory.mktemp("explained") / "study"
    study = FakeStudy(depths=(0, 3), seeds=(4, 5), test_sets=(("store", 16, 16),))
    study.write(folder)
    data = {"stores": str(synthetic_store.path), "augmentation": None}
    config = {"data": {"class_path": "xecg.data.AFData", "init_args": data}}
    shutil.rmtree(folder / "cells" / "frozen3-seed4")
    for cell in sorted((folder / "cells").glob("frozen*")):
        (cell / "config.yaml").write_text(yaml.safe_dump(config))
        shutil.copy(find_weights("xecgarch"), cell / "weights.safetensors")
        describe_windows(cell)
    return folder


def describe_windows(cell):
    """What the cell's network really says of the test set, in place of what was made up."""
    test_set = data_of(cell).test_sets[0]
    path = cell / "windows" / "store.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))[: len(test_set)]
    network, _ = load_xecgarch(cell / "weights.safetensors")
    logits = network(test_set.__getitems__(range(len(rows))).signal)
    p_af = {f"p_af_{name}": z.softmax(dim=1)[:, 1].tolist() for name, z in logits.items()}
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    columns |= {"p_af": fuse(logits)[:, 1].tolist(), **p_af}
    index = {name: test_set.column(name)[: len(rows)] for name in ("record", "start_s")}
    columns |= {**index, "af": test_set.targets()[: len(rows)]}
    columns |= {name: [1.0] * len(rows) for name in columns if "enrichment" in name}
    write_columns(path, columns)


def test_examples_are_windows_that_all_networks_predict_rightly(explained):
    ladder = read_ladders(read_cells(explained))[0]
    found = examples(ladder, DEPTHS, "innvestigate", seed=0)
    assert [example.rhythm for example in found] == ["non-AF", "AF"]
    for example in found:
        assert example.seed == 5  # seed 4 has no depth 3
        assert list(example.looks) == [0, 3]
        table = ladder.tables[0]
        row = np.flatnonzero((table.record == example.record) & (table.start_s == example.start_s))
        for looks in example.looks.values():
            assert list(looks) == ["morphology", "rhythm"]
            for branch, look in looks.items():
                assert (look.p_af > 0.5) == (example.rhythm == "AF")
                assert look.relevance.shape == example.signal.shape
                assert look.relevance.min() >= 0
                assert look.enrichment["QRS"] > 0
                np.testing.assert_allclose(look.p_af, table.p_af[branch][row], atol=1e-4)


def test_the_draw_is_a_function_of_the_seed(explained):
    ladder = read_ladders(read_cells(explained))[0]
    one, same = (examples(ladder, DEPTHS, "innvestigate", seed=1) for _ in range(2))
    assert [(e.record, e.start_s) for e in one] == [(e.record, e.start_s) for e in same]


def test_an_example_is_drawn_with_a_panel_for_each_depth_and_branch(explained, tmp_path):
    ladder = read_ladders(read_cells(explained))[0]
    example = examples(ladder, DEPTHS, "innvestigate", seed=0)[1]
    drawn = save_figure(draw_example(example), tmp_path / "example.svg").read_text()
    assert drawn.count("p(AF)") == 2 * 2
    assert drawn.count("where P would be") == 2 * 2
    assert example.record in drawn
    assert "networks of seed 5" in drawn


def test_the_page_shows_examples(explained, tmp_path):
    write_report(explained, tmp_path / "out", QUICK)
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The same hearts at several depths" in page
    assert "n = 1 window, AF, of record" in page
    assert (tmp_path / "out" / "example_non-AF_store.svg").exists()


def test_a_store_of_other_windows_is_refused(explained, tmp_path):
    shutil.copytree(explained, tmp_path / "study")
    for path in (tmp_path / "study" / "cells").glob("frozen*/windows/store.csv"):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        write_columns(path, columns | {"record": ["somebody else"] * len(rows)})
    ladder = read_ladders(read_cells(tmp_path / "study"))[0]
    with pytest.raises(DataError, match="was prepared again since"):
        examples(ladder, DEPTHS, "innvestigate", seed=0)


def test_without_a_depth_there_is_no_example(explained):
    ladder = read_ladders(read_cells(explained))[0]
    assert examples(ladder, (7,), "innvestigate", seed=0) == []

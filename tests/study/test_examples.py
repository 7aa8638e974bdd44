import shutil

import numpy as np
import pandas as pd
import pytest
import yaml
from fake_study import FakeStudy

from xecg.errors import DataError
from xecg.networks.weights import find_weights, load_xecgarch
from xecg.networks.xecgarch import fuse
from xecg.study.ladder import read_ladders, read_runs
from xecg.study.report import examples, test_data, write_report

DEPTHS = (0, 3, 8)
test_data.__test__ = False


@pytest.fixture(scope="module")
def explained(synthetic_store, tmp_path_factory):
    """A study whose networks all have the released weights, with tables of the synthetic store."""
    folder = tmp_path_factory.mktemp("explained") / "study"
    FakeStudy(depths=(0, 3), seeds=(4, 5), test_sets=(("store", 16, 16),)).write(folder)
    shutil.rmtree(folder / "cells" / "frozen3-seed4")
    data = {"stores": str(synthetic_store.path), "augmentation": None}
    for cell in sorted((folder / "cells").glob("frozen*")):
        config = yaml.safe_load((cell / "config.yaml").read_text())
        config["data"] = {"class_path": "xecg.data.AFData", "init_args": data}
        (cell / "config.yaml").write_text(yaml.safe_dump(config))
        shutil.copy(find_weights("xecgarch"), cell / "weights.safetensors")
        describe_windows(cell)
    return folder


def describe_windows(cell):
    """What the network really says of the test set, in place of what was made up."""
    (test_set,) = test_data(cell).test_sets
    path = cell / "windows" / "store.csv"
    n = min(16, len(test_set))
    table = pd.read_csv(path).iloc[:n]
    network, _ = load_xecgarch(cell / "weights.safetensors")
    logits = network(test_set.__getitems__(range(n)).signal)
    for name in ("record", "group", "lead", "start_s"):
        table[name] = test_set.column(name)[:n]
    table["af"] = test_set.targets()[:n]
    table["p_af"] = fuse(logits)[:, 1].detach().numpy()
    for branch, z in logits.items():
        table[f"p_af_{branch}"] = z.softmax(dim=1)[:, 1].detach().numpy()
        table[f"{branch}_enrichment_p"] = 1.0
    table.to_csv(path, index=False)


@pytest.fixture
def ladder(explained):
    return next(read_ladders(read_runs(explained)[0]))


def test_examples_are_windows_that_all_networks_predict_rightly(ladder):
    found = list(examples(ladder, DEPTHS, "innvestigate", seed=0))
    assert [rhythm for rhythm, _, _ in found] == ["non-AF", "AF"]
    for rhythm, seed, window in found:
        assert seed == 5  # seed 4 has no depth 3
        depths = ("0 blocks frozen", "3 blocks frozen")
        names = [f"{depth}, {branch}" for depth in depths for branch in ("morphology", "rhythm")]
        assert [*window.relevance] == names
        windows = ladder.windows
        same = (windows["record"] == window.record) & (windows["start_s"] == window.start_s)
        at = np.flatnonzero(same)
        for name in names:
            assert window.predicted[name] == rhythm
            assert window.relevance[name].shape == window.signal.shape
            said = ladder.p_af(name.rpartition(" ")[2])[0, at]
            np.testing.assert_allclose(window.p_af[name], said, atol=1e-4)


def test_the_draw_is_a_function_of_the_seed(ladder):
    one, same = (list(examples(ladder, DEPTHS, "innvestigate", seed=1)) for _ in range(2))
    assert [e[2].start_s for e in one] == [e[2].start_s for e in same]


def test_the_page_shows_examples(explained, tmp_path):
    page = write_report(explained, out=tmp_path / "out", resamples=20, permutations=20)
    text = page.read_text()
    assert "The same hearts at several depths" in text
    assert "n = 1 window, AF, of record" in text
    drawn = (tmp_path / "out" / "example_non-AF_store.svg").read_text()
    assert drawn.count("blocks frozen") == 4


def test_a_store_of_other_windows_is_refused(explained, ladder):
    ladder.windows["record"] = "other"
    with pytest.raises(DataError, match="prepared again"):
        list(examples(ladder, DEPTHS, "innvestigate", seed=0))


def test_without_a_depth_there_is_no_example(ladder):
    assert list(examples(ladder, (7,), "innvestigate", seed=0)) == []

"""What docs/EXTENDING.md says of methods and statistics, done from a package of somebody's own."""

import re
from importlib import import_module
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from small_task import RATE, Data, able_task, fit

from xecg.callbacks import RelevanceLogger
from xecg.explain import ATTRIBUTIONS, STATISTICS, BranchExplainer, wave_relevance

GUIDE = Path(__file__).parents[2] / "docs/EXTENDING.md"


@pytest.fixture
def my_package(tmp_path, monkeypatch):
    """The package that the guide's blocks are the files of, and their entry points."""
    (tmp_path / "my_package").mkdir()
    for name, code in re.findall(
        r"```python\n# (my_package/\w+\.py)\n(.*?)```", GUIDE.read_text(), re.S
    ):
        if name in ("my_package/attributions.py", "my_package/statistics.py"):
            (tmp_path / name).write_text(code)
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n")
    (entry,) = re.findall(r"\nocclusion = \"(.*)\"", GUIDE.read_text())
    (info / "entry_points.txt").write_text(
        f"[xecg.attributions]\nocclusion = {entry}\n"
        "[xecg.statistics]\npeak_share = my_package.statistics:peak_share\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registries = ATTRIBUTIONS, STATISTICS
    for registry in registries:
        registry.__dict__.pop("_installed", None)  # as in a new process
    yield import_module("my_package")
    for registry in registries:
        registry.__dict__.pop("_installed", None)


class Monitored(Callback):
    def on_validation_end(self, trainer, pl_module):
        self.metrics = dict(trainer.callback_metrics)


@pytest.mark.parametrize("name", ["occlusion", "my_package.attributions.Occlusion"])
def test_a_method_explains_and_is_logged(my_package, name):
    monitored, data, task = Monitored(), Data(), able_task()
    fit(RelevanceLogger(8, name), monitored, epochs=1, task=task, data=data)
    assert monitored.metrics["relevance/rhythm/af/enrichment_qrs"] > 0
    x = data.validation_set.signals[:4]
    logits, relevance = BranchExplainer(task.network, name).explain(x)["rhythm"]
    flat = x.clone()
    flat[..., :25] = x.mean(dim=-1, keepdim=True)
    predicted = logits.argmax(dim=1, keepdim=True)
    change = (logits - task.network.eval()(flat)["rhythm"]).gather(1, predicted)
    torch.testing.assert_close(relevance[:, :, 0], change.abs(), atol=1e-5, rtol=1e-4)


def test_a_statistic_is_a_column_and_is_logged(my_package):
    monitored = Monitored()
    fit(RelevanceLogger(8), monitored, epochs=1, task=able_task())
    assert 0 < monitored.metrics["relevance/morphology/non_af/peak_share"] < 1
    relevance, peaks = torch.ones(1, 500), [[50, 150, 250, 350]]
    assert wave_relevance(relevance, peaks, RATE).peak_share[0] == pytest.approx(1 / 500)
    path = "my_package.statistics.peak_share"
    assert list(wave_relevance(relevance, peaks, RATE, statistics=[path])) == ["peak_share"]

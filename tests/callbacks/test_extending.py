"""What docs/EXTENDING.md says of methods and statistics, done from a package of somebody's own."""

import pytest
import torch
from lightning.pytorch import Callback
from small_task import RATE, Data, able_task, fit

from xecg.callbacks import RelevanceLogger
from xecg.explain import BranchExplainer, wave_relevance


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
    flat = x.index_fill(-1, torch.arange(25), 0.0)
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

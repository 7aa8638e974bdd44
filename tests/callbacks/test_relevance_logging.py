"""Relevance is logged in every epoch, is what it says, and leaves the training alone."""

import copy
import csv
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from small_task import QUIET, RATE, Data, able_task, fit, new_task

from xecg.callbacks import RelevanceLogger
from xecg.callbacks.relevance import take_probe
from xecg.errors import ConfigError
from xecg.explain import DeepTaylor, domain_specificity, relevance_statistics
from xecg.tasks import PWaveDetection

WAVES = {
    "non_af": ("p", "qrs", "st_t", "other"),
    "af": ("where_p_would_be", "qrs", "st_t", "other"),
}
MEASURES = ("domain_specificity", "conservation", "gini", "map_correlation")
COUNTS = ("n", "n_right", "n_windows")
NAMES = {
    f"relevance/{branch}/{rhythm}/{measure}"
    for branch in ("morphology", "rhythm")
    for rhythm, waves in WAVES.items()
    for measure in (*(f"enrichment_{wave}" for wave in waves), *MEASURES, *COUNTS)
}


class Losses(Callback):
    """The loss of every step."""

    def __init__(self):
        self.values = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.values.append(outputs["loss"].item())


class SeededSteps(Callback):
    """Dropout as a function of the step, which Lightning does not resume by itself."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        torch.manual_seed(trainer.global_step)


class Networks(Callback):
    """The network at the end of every validation."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append(copy.deepcopy(pl_module.network).float())


class Relevance(Callback):
    """What is there to be monitored at the end of every validation."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        metrics = trainer.callback_metrics
        self.seen.append({key: float(metrics[key]) for key in metrics if "relevance" in key})


def same(one, other):
    return np.array_equal(list(one.values()), list(other.values()), equal_nan=True)


def rows_with(name: str, folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get(name)]


def test_every_name_is_logged_in_every_epoch(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    fit(RelevanceLogger(n_windows=8), epochs=3, logger=logger)
    for name in NAMES:
        assert [row["epoch"] for row in rows_with(name, tmp_path)] == ["0", "1", "2"]


def test_epochs_in_between_are_left_out(tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    fit(RelevanceLogger(n_windows=8, every_n_epochs=2), epochs=4, logger=logger)
    rows = rows_with("relevance/rhythm/af/n_windows", tmp_path)
    assert [row["epoch"] for row in rows] == ["0", "2"]


@pytest.mark.parametrize("rules", ["innvestigate", "zbox"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_logged_values_are_those_of_the_network(rules, precision):
    networks, relevance = Networks(), Relevance()
    logger = RelevanceLogger(n_windows=16, rules=rules, seed=4)
    fit(logger, networks, relevance, task=able_task(), precision=precision)
    probe = take_probe(Data().validation_set, 16, RATE, seed=4)
    network = networks.seen[1].eval()
    maps = DeepTaylor(network, rules).attribute(probe.signals)
    for branch, logits in network(probe.signals).items():
        right = (logits.argmax(dim=1) == torch.from_numpy(probe.classes)).numpy()
        statistics = relevance_statistics(
            maps[branch].numpy(), probe.r_peaks, RATE, logits=logits.detach().amax(dim=1)
        )
        for code, (rhythm, waves) in enumerate(WAVES.items()):
            chosen = right & (probe.classes == code) & statistics.valid
            assert chosen.sum() >= 4
            enrichment = [statistics.enrichment[w][chosen].mean() for w in statistics.enrichment]
            expected = {f"enrichment_{w}": v for w, v in zip(waves, enrichment, strict=True)}
            expected |= {
                "domain_specificity": domain_specificity(*enrichment[:2], branch),
                "conservation": statistics.conservation[chosen].mean(),
                "gini": statistics.gini[chosen].mean(),
                "n": chosen.sum(),
            }
            for measure, value in expected.items():
                logged = relevance.seen[1][f"relevance/{branch}/{rhythm}/{measure}"]
                assert logged == pytest.approx(value, rel=0.02 if "bf16" in precision else 1e-5)


def test_training_and_random_state_are_as_without_it():
    def run(*callbacks):
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 (the state that must not change)
        task, losses, data = new_task(), Losses(), Data(shuffle=True)
        fit(losses, *callbacks, epochs=3, task=task, data=data)
        states = (random.getstate(), *np.random.get_state()[1], torch.get_rng_state().tolist())  # noqa: NPY002
        return losses.values, states, task.state_dict()

    losses, states, weights = run()
    losses_with, states_with, weights_with = run(RelevanceLogger(n_windows=16))
    assert losses == losses_with
    assert states == states_with
    assert all(torch.equal(weights[key], weights_with[key]) for key in weights)


def test_two_epochs_and_two_more_equal_four(tmp_path):
    whole, first, second = Relevance(), Relevance(), Relevance()
    fit(RelevanceLogger(n_windows=8), SeededSteps(), whole, epochs=4, task=able_task())
    saving = ModelCheckpoint(tmp_path, filename="two")
    half = [RelevanceLogger(n_windows=8), SeededSteps(), saving, first]
    fit(*half, task=able_task(), enable_checkpointing=True)
    saved = tmp_path / "two.ckpt"
    torch.load(saved, weights_only=True)
    fit(RelevanceLogger(n_windows=8), SeededSteps(), second, epochs=4, ckpt_path=saved)
    resumed = first.seen + second.seen
    assert len(resumed) == 4
    for one, other in zip(whole.seen, resumed, strict=True):
        assert one.keys() == other.keys() == NAMES
        assert same(one, other)
    correlation = "relevance/rhythm/af/map_correlation"
    assert np.isnan(whole.seen[0][correlation])
    assert not np.isnan(resumed[2][correlation])


def test_maps_of_another_probe_are_not_compared(tmp_path):
    saving, relevance = ModelCheckpoint(tmp_path, filename="one"), Relevance()
    first = [RelevanceLogger(n_windows=8), saving]
    fit(*first, task=able_task(), epochs=2, enable_checkpointing=True)
    other = RelevanceLogger(n_windows=8, seed=1)
    with pytest.warns(UserWarning, match="map_correlation starts anew"):
        fit(other, relevance, epochs=4, ckpt_path=tmp_path / "one.ckpt")
    name = "relevance/rhythm/af/map_correlation"
    assert [np.isnan(metrics[name]) for metrics in relevance.seen] == [True, False]


def test_the_sanity_check_is_not_the_first_epoch():
    relevance = Relevance()
    fit(RelevanceLogger(n_windows=8), relevance, epochs=1, num_sanity_val_steps=1)
    assert np.isnan(relevance.seen[-1]["relevance/rhythm/af/map_correlation"])


def test_a_fast_dev_run_explains_too():
    relevance = Relevance()
    fit(RelevanceLogger(n_windows=8), relevance, fast_dev_run=True)
    assert [metrics.keys() for metrics in relevance.seen] == [NAMES]


def test_a_trained_network_is_explained_by_validate():
    trainer = Trainer(callbacks=[RelevanceLogger(n_windows=8)], logger=False, **QUIET)
    (metrics,) = trainer.validate(new_task(), Data(), verbose=False)
    assert metrics.keys() >= NAMES


def test_scalars_are_monitored(tmp_path):
    name = "relevance/rhythm/af/enrichment_qrs"
    best = ModelCheckpoint(tmp_path, filename="best", monitor=name, mode="max")
    stop = EarlyStopping(name, mode="max", patience=9, check_finite=False)
    relevance = Relevance()
    callbacks = [RelevanceLogger(n_windows=8), best, stop, relevance]
    fit(*callbacks, epochs=4, task=able_task(), enable_checkpointing=True)
    values = [metrics[name] for metrics in relevance.seen]
    assert len(values) == 4
    assert best.best_model_score == max(values)


def test_a_class_without_right_prediction_is_nan_and_can_be_monitored(tmp_path):
    name = "relevance/rhythm/af/enrichment_qrs"
    task, relevance = new_task(), Relevance()
    task.network.heads["rhythm"][-1].bias.data = torch.tensor([50.0, 0.0])
    best = ModelCheckpoint(tmp_path, monitor=name, mode="max")
    stop = EarlyStopping(name, mode="max", check_finite=False)
    callbacks = [RelevanceLogger(n_windows=8), best, stop, relevance]
    fit(*callbacks, epochs=2, task=task, enable_checkpointing=True)
    for metrics in relevance.seen:
        assert metrics.keys() == NAMES
        assert np.isnan(metrics[name])
        assert metrics["relevance/rhythm/af/n_right"] == 0
        assert metrics["relevance/rhythm/af/n_windows"] == 4


class MediaLogger(WandbLogger):
    """Keeps what is logged beside the scalars, in place of a run."""

    def __init__(self):
        super().__init__(offline=True)
        self.media = []

    @property
    def experiment(self):
        return self

    def log(self, media):
        self.media.append(media)

    def log_metrics(self, metrics, step=None):
        pass


def test_diverged_weights_are_logged_as_nan_and_stop_nothing():
    task, relevance, logger = able_task(), Relevance(), MediaLogger()
    task.branches["rhythm"].block8[0].weight.data[0, 0, 0] = torch.nan
    fit(RelevanceLogger(n_windows=8), relevance, task=task, logger=logger)
    assert len(relevance.seen) == 2
    for metrics in relevance.seen:
        assert metrics.keys() == NAMES
        for name, value in metrics.items():
            if name.split("/")[-1] not in COUNTS:
                assert np.isnan(value)
            else:
                assert value == (4 if name.endswith("n_windows") else 0)
    names = [name for media in logger.media for name in media]
    assert names.count("relevance/windows") == 2  # in the first epoch and in the end
    assert "relevance/ecgs" not in names


def test_two_rule_sets_are_logged_side_by_side(tmp_path):
    saving, relevance = ModelCheckpoint(tmp_path, filename="one"), Relevance()
    both = [RelevanceLogger(8), RelevanceLogger(8, "zbox", name="relevance_zbox")]
    fit(*both, saving, relevance, epochs=1, enable_checkpointing=True)
    assert relevance.seen[0].keys() == NAMES | {
        name.replace("relevance/", "relevance_zbox/") for name in NAMES
    }
    states = torch.load(tmp_path / "one.ckpt", weights_only=True)["callbacks"]
    assert len([key for key in states if "RelevanceLogger" in key]) == 2


def test_tasks_without_the_two_branch_network_are_refused():
    with pytest.raises(ConfigError, match=r"found PWaveDetection\. Remove it from"):
        fit(RelevanceLogger(), task=PWaveDetection(channels=4))


def test_data_that_does_not_fit_is_refused_before_training():
    losses, data = Losses(), Data()
    data.validation_set = torch.utils.data.TensorDataset(torch.rand(4))
    with pytest.raises(ConfigError, match="found TensorDataset without targets"):
        fit(RelevanceLogger(), losses, data=data)
    loaders = Data().train_dataloader(), Data().val_dataloader()
    trainer = Trainer(callbacks=[RelevanceLogger(), losses], logger=False, **QUIET)
    with pytest.raises(ConfigError, match="a data module with `sampling_rate`"):
        trainer.fit(new_task(), *loaders)
    assert not losses.values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_windows": 1}, "n_windows must be at least 2; found 1"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1; found 0"),
        ({"n_pictures": -1}, "n_pictures must be at least 0; found -1"),
        ({"show_every_n_epochs": 0}, "show_every_n_epochs must be at least 1"),
        ({"seed": -1}, "seed must be at least 0"),
    ],
)
def test_impossible_numbers_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RelevanceLogger(**arguments)


def test_unknown_rules_are_refused_before_training():
    with pytest.raises(ConfigError, match="rules must be"):
        fit(RelevanceLogger(rules="epsilon"))

"""Relevance is logged in every epoch, is what it says, and leaves the training alone."""

import copy
import csv
import json
import random
import re
import sys

import numpy as np
import pytest
import torch
from lightning import Trainer
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from PIL import Image
from small_task import QUIET, RATE, TIME, Data, Heartbeats, able_task, fit, new_task
from torch.utils.data import TensorDataset
from wandb_file import read_history

from xecg.callbacks import RelevanceLogger
from xecg.callbacks.relevance import watch
from xecg.errors import ConfigError
from xecg.explain import DeepTaylor, domain_specificity, wave_relevance
from xecg.explain.effects import TITLES
from xecg.explain.relevance import CLASSES, STATISTICS
from xecg.tasks import PWaveDetection, RRVariability

COUNTS = ("n", "n_right", "n_windows")
EFFECTS = ("agreement", *(f"{kind}_{name}" for name in TITLES for kind in ("effect", "flips")))


def names_of(
    branches=("morphology", "rhythm"), classes=("non_af", "af"), statistics=(*STATISTICS, *EFFECTS)
):
    in_af = {"enrichment_p": "enrichment_where_p_would_be"}
    return {
        f"relevance/{branch}/{rhythm}/{in_af.get(name, name) if rhythm == 'af' else name}"
        for branch in branches
        for rhythm in classes
        for name in (*statistics, "domain_specificity", *COUNTS)
    }


NAMES = names_of()


# What a fit logs.


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
        self.seen.append({key: float(metrics[key]) for key in metrics if "relevance/" in key})


def same(one, other):
    return np.array_equal(list(one.values()), list(other.values()), equal_nan=True)


def rows_with(name, folder):
    with (folder / "metrics.csv").open() as file:
        return [row for row in csv.DictReader(file) if row.get(name)]


def test_every_name_is_logged_in_every_epoch_that_is_due(tmp_path):
    for every, epochs in ((1, ["0", "1", "2"]), (2, ["0", "2"])):
        folder = tmp_path / str(every)
        logger = CSVLogger(folder, name="", version="")
        fit(RelevanceLogger(8, every_n_epochs=every), epochs=3, logger=logger)
        for name in NAMES:
            assert [row["epoch"] for row in rows_with(name, folder)] == epochs


@pytest.mark.parametrize("rules", ["innvestigate", "zbox"])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_logged_values_are_those_of_the_network(rules, precision):
    networks, relevance = Networks(), Relevance()
    logger = RelevanceLogger(n_windows=16, attribution=rules, seed=4)
    fit(logger, networks, relevance, task=able_task(), precision=precision)
    windows = watch(Data().validation_set, 16, RATE, seed=4)
    network, af = networks.seen[1].eval(), windows.index["af"].to_numpy()
    maps = DeepTaylor(network, rules)(windows.signals)
    for branch, logits in network(windows.signals).items():
        right = (logits.argmax(dim=1) == torch.from_numpy(af)).numpy()
        table = wave_relevance(
            maps[branch], windows.r_peaks, RATE, logits=logits.detach().amax(dim=1)
        )
        for code, rhythm in enumerate(("non_af", "af")):
            chosen = table[right & (af == code)]
            assert len(chosen) >= 4
            expected = chosen.mean().to_dict() | {"n": len(chosen)}
            p, qrs = expected["enrichment_p"], expected["enrichment_qrs"]
            expected["domain_specificity"] = domain_specificity(p, qrs, branch)
            for column, value in expected.items():
                if column == "enrichment_p" and code:
                    column = "enrichment_where_p_would_be"
                logged = relevance.seen[1][f"relevance/{branch}/{rhythm}/{column}"]
                tolerance = {"rel": 0.02, "abs": 0.02} if "bf16" in precision else {"rel": 1e-5}
                assert logged == pytest.approx(value, **tolerance)


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


@pytest.mark.parametrize("options", [{"fast_dev_run": True}, {"num_sanity_val_steps": 1}])
def test_the_first_epoch_is_the_first_after_training(options):
    relevance = Relevance()
    fit(RelevanceLogger(n_windows=8), relevance, epochs=1, **options)
    assert relevance.seen[-1].keys() == NAMES


def test_a_trained_network_is_explained_by_validate():
    trainer = Trainer(callbacks=[RelevanceLogger(n_windows=8)], logger=False, **QUIET)
    (metrics,) = trainer.validate(new_task(), Data(), verbose=False)
    assert metrics.keys() >= NAMES


def test_scalars_are_monitored_also_where_a_class_is_never_predicted(tmp_path):
    name = "relevance/rhythm/af/enrichment_qrs"
    for able in (True, False):
        task, relevance = able_task(), Relevance()
        if not able:
            task.network.heads["rhythm"][-1].bias.data = torch.tensor([50.0, 0.0])
        best = ModelCheckpoint(tmp_path, filename=f"best{able}", monitor=name, mode="max")
        stop = EarlyStopping(name, mode="max", patience=9, check_finite=False)
        callbacks = [RelevanceLogger(n_windows=8), best, stop, relevance]
        fit(*callbacks, epochs=3, task=task, enable_checkpointing=True)
        values = [metrics[name] for metrics in relevance.seen]
        assert len(values) == 3
        if able:
            assert best.best_model_score == max(values)
        else:
            assert np.isnan(values).all()
            assert relevance.seen[0]["relevance/rhythm/af/n_right"] == 0
            assert relevance.seen[0]["relevance/rhythm/af/n_windows"] == 4


def early(maps):
    """A statistic of somebody's own: share of the relevance in the first half."""
    half = maps.relevance.shape[1] // 2
    return maps.relevance[:, :half].sum(axis=1) / maps.relevance.sum(axis=1)


class Saliency:
    """An attribution method of somebody's own."""

    def __init__(self, network):
        self.network = network

    def __call__(self, x, target):
        return x + 1.0


def test_attribution_and_statistics_may_be_ones_own():
    relevance = Relevance()
    statistics = ["enrichment_p", "enrichment_qrs", f"{__name__}.early"]
    logger = RelevanceLogger(8, f"{__name__}.Saliency", statistics, effects=False)
    fit(logger, relevance, epochs=1, task=able_task())
    (seen,) = relevance.seen
    assert seen.keys() == names_of(statistics=("enrichment_p", "enrichment_qrs", "early"))
    assert seen["relevance/rhythm/af/early"] == pytest.approx(0.5, abs=0.05)


def test_two_attributions_are_logged_side_by_side():
    relevance = Relevance()
    both = [RelevanceLogger(8), RelevanceLogger(8, "zbox", name="zbox_relevance")]
    fit(*both, relevance, epochs=1)
    assert relevance.seen[0].keys() == NAMES | {f"zbox_{name}" for name in NAMES}


class PreTraining(Heartbeats):
    """The same heartbeats with the targets of a pre-training."""

    def __init__(self, n, seed, target):
        super().__init__(n, seed)
        self.of_windows = target(self)
        self.labels = np.full(n, -1)  # their rhythm is not known

    def targets(self):
        return self.of_windows.numpy()

    def __getitems__(self, positions):
        batch = super().__getitems__(positions)
        return batch._replace(target=self.of_windows[torch.as_tensor(positions)])


def p_waves(windows):
    marked = torch.zeros(len(windows), TIME, dtype=torch.uint8)
    for row, peaks in enumerate(windows.peaks):
        marked[row, peaks - 7] = 1
    return marked


def variability(windows):
    return torch.rand(len(windows), 2, generator=torch.Generator().manual_seed(0)) * 50 + 20


@pytest.mark.parametrize(
    ("task", "target", "branch"),
    [(PWaveDetection, p_waves, "morphology"), (RRVariability, variability, "rhythm")],
)
def test_a_pre_training_is_watched_too(task, target, branch):
    torch.manual_seed(0)
    data, relevance = Data(), Relevance()
    data.train_set, data.validation_set = (PreTraining(n, n, target) for n in (32, 20))
    task = task(channels=4)
    if branch == "morphology":
        torch.nn.init.uniform_(task.network.head.conv.weight, 0, 1)  # detects something
        torch.nn.init.constant_(task.network.head.conv.bias, 0.1)
    fit(RelevanceLogger(8), relevance, task=task, data=data)
    assert relevance.seen[-1].keys() == names_of([branch], ["unlabelled"])
    assert relevance.seen[-1][f"relevance/{branch}/unlabelled/n_right"] == 8
    assert relevance.seen[-1][f"relevance/{branch}/unlabelled/enrichment_qrs"] > 0


def test_what_does_not_fit_is_refused_before_training():
    losses, data = Losses(), Data()
    data.validation_set = TensorDataset(torch.rand(4))
    with pytest.raises(ConfigError, match="TensorDataset without"):
        fit(RelevanceLogger(), losses, data=data)
    loaders = Data().train_dataloader(), Data().val_dataloader()
    trainer = Trainer(callbacks=[RelevanceLogger(), losses], logger=False, **QUIET)
    with pytest.raises(ConfigError, match="sampling_rate"):
        trainer.fit(new_task(), *loaders)
    task = new_task()
    task.network = torch.nn.Linear(1, 1)
    with pytest.raises(ConfigError, match="AFClassifier"):
        fit(RelevanceLogger(), losses, task=task)
    assert not losses.values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_windows": 1}, "n_windows: expected 2 or more, found 1"),
        ({"every_n_epochs": 0}, "every_n_epochs"),
        ({"n_pictures": -1}, "n_pictures"),
        ({"show_every_n_epochs": 0}, "show_every_n_epochs"),
        ({"seed": -1}, "seed"),
        ({"attribution": "epsilon"}, "epsilon"),
        ({"statistics": ["entropy"]}, "entropy"),
    ],
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        RelevanceLogger(**arguments)


# What W&B has in the end: an offline run, read back from the file that it wrote.

EPOCHS, STEPS = 4, 4  # steps an epoch


class RandomStates(Callback):
    """Whether validation left the random state of torch alone."""

    def on_validation_start(self, trainer, pl_module):
        self.before = torch.get_rng_state()

    def on_validation_end(self, trainer, pl_module):
        assert torch.equal(self.before, torch.get_rng_state())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder and losses of a run that was logged offline."""
    import wandb

    folder, losses = tmp_path_factory.mktemp("run"), Losses()
    loggers = [
        CSVLogger(folder, name="", version=""),
        WandbLogger(project="xecg", save_dir=folder, offline=True),
    ]
    callback = RelevanceLogger(n_windows=8, n_pictures=2, show_every_n_epochs=2)
    task, data = able_task(), Data(shuffle=True)
    fit(callback, losses, RandomStates(), epochs=EPOCHS, task=task, data=data, logger=loggers)
    wandb.finish()
    return folder, losses.values


@pytest.fixture(scope="module")
def history(run):
    (path,) = run[0].glob("wandb/offline-run-*/*.wandb")
    return read_history(path)


def test_every_name_is_there_for_every_epoch(history):
    for name in NAMES:
        assert [row["epoch"] for row in history if name in row] == list(range(EPOCHS)), name
    for name in ("relevance/windows", "relevance/ecgs"):
        steps = [record["trainer/global_step"] for record in history if name in record]
        assert steps == [STEPS, 3 * STEPS, 4 * STEPS]
    assert {name for record in history for name in record if "relevance" in name} == {
        *NAMES, "relevance/windows", "relevance/ecgs"
    }  # fmt: skip


def test_all_loggers_have_the_same_numbers(run, history):
    for name in NAMES:
        by_csv = [float(row[name]) for row in rows_with(name, run[0])]
        by_wandb = [float(record[name]) for record in history if name in record]
        assert np.array_equal(by_csv, by_wandb, equal_nan=True)


def test_the_table_has_a_row_for_each_window(run, history):
    (folder,) = (run[0] / "wandb").glob("offline-run-*/files")
    tables = [record["relevance/windows"] for record in history if "relevance/windows" in record]
    table = json.loads((folder / tables[-1]["path"]).read_text())
    columns = dict(zip(table["columns"], zip(*table["data"], strict=True), strict=True))
    assert len(table["data"]) == 8
    assert sorted(columns["class"]) == ["AF"] * 4 + ["non-AF"] * 4
    assert columns["record"][0].startswith("record")
    for branch in ("morphology", "rhythm"):
        assert {f"{branch}_{name}" for name in STATISTICS} <= columns.keys()
        qrs = np.array(columns[f"{branch}_enrichment_qrs"], dtype=float)
        p_af = np.array(columns[f"{branch}_p_af"], dtype=float)
        chosen = np.equal(columns["class"], "AF") & (p_af > 0.5)
        name = f"relevance/{branch}/af/enrichment_qrs"
        logged = [record[name] for record in history if name in record]
        assert logged[-1] == pytest.approx(qrs[chosen].mean(), rel=1e-6)


def test_the_picture_shows_ecgs_of_both_classes(run, history):
    (folder,) = (run[0] / "wandb").glob("offline-run-*/files")
    first, _, second = (row["relevance/ecgs"] for row in history if "relevance/ecgs" in row)
    for one in (first, second):
        ecgs = r"record\d+ labelled {}, p\(AF\) by morphology [01]\.\d\d, rhythm [01]\.\d\d"
        assert re.fullmatch("; ".join(ecgs.format(label) for label in CLASSES), one["caption"])
    before, after = (np.asarray(Image.open(folder / one["path"])) for one in (first, second))
    assert before.shape[:2] == after.shape[:2] == (first["height"], first["width"])
    changed = (before != after).any(axis=2).mean()
    assert 0 < changed < 0.1  # the relevance and what is predicted, not the ECGs


def test_logging_leaves_the_training_alone(run):
    losses = Losses()
    fit(losses, epochs=EPOCHS, task=able_task(), data=Data(shuffle=True))
    assert losses.values == run[1]


def test_without_a_wandb_logger_wandb_is_not_touched(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it would raise
    fit(RelevanceLogger(n_windows=8), epochs=1, task=able_task())


@pytest.mark.parametrize("diverged", ["conv.weight", "norm.running_var"])
def test_nothing_is_logged_of_diverged_weights_and_nothing_stopped(diverged):
    task, relevance = able_task(), Relevance()
    task.branches["rhythm"].block8.state_dict()[diverged].view(-1)[0] = torch.nan
    fit(RelevanceLogger(n_windows=8), relevance, task=task)
    assert relevance.seen == [{}, {}]

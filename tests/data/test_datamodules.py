"""Data modules: who trains, who tests, what is drawn, which weights fit."""

import sys
from dataclasses import replace
from functools import partial
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_database import describe, many

from xecg.data.augmentation import Augmentation
from xecg.data.databases import get_database
from xecg.data.databases.synthetic import (
    EMBEDDED,
    SyntheticSettings,
    embedded_store,
    synthetic_records,
)
from xecg.data.datamodules import AFData, PWaveData, RRVariabilityData, WindowDataModule
from xecg.data.datasets import Source
from xecg.data.prepare import prepare
from xecg.data.splits import Split, keys
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError, StoreError, WeightsError
from xecg.signal.preprocessing import Preprocessing

MODULES = [AFData, PWaveData, RRVariabilityData]


@pytest.fixture(scope="module")
def half(synthetic_store: Store, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A second store of half of the persons."""
    database = get_database("synthetic", synthetic_store.path.parent / "records")
    out = tmp_path_factory.mktemp("half") / "half"
    return str(prepare(database, out, limit=20).path)


@pytest.fixture
def path(synthetic_store: Store) -> str:
    return str(synthetic_store.path)


def ready(module: WindowDataModule) -> WindowDataModule:
    module.prepare_data()
    module.setup("fit")
    return module


@pytest.mark.parametrize("module", MODULES)
def test_no_person_is_in_two_parts(module: type[WindowDataModule], path: str) -> None:
    data = ready(module(path))
    parts = [data.train_set, data.validation_set, *data.test_sets]
    persons = [set(part.column("person")) for part in parts]
    assert all(persons)
    assert sum(map(len, persons)) == len(set.union(*persons))


@pytest.mark.parametrize("module", MODULES)
def test_an_epoch_has_the_windows_that_were_asked_for(
    module: type[WindowDataModule], path: str
) -> None:
    data = ready(module(path, batch_size=16, windows_per_epoch=96))
    batches = list(data.train_dataloader())
    assert [len(batch.window) for batch in batches] == [16] * 6
    assert batches[0].signal.dtype == torch.float32


def test_an_epoch_of_af_data_is_balanced(path: str) -> None:
    data = ready(AFData(path, batch_size=10, windows_per_epoch=60))
    labels = torch.cat([batch.target for batch in data.train_dataloader()])
    assert labels.sum() == 30


def test_training_on_one_class_is_refused(path: str) -> None:
    class OnlyNonAF(AFData):
        @staticmethod
        def eligible(store: Store) -> np.ndarray:
            return store.index["af"] == 0

    with pytest.raises(DataError, match="no AF window"):
        ready(OnlyNonAF(path)).train_dataloader()


@pytest.mark.parametrize("module", MODULES)
def test_weights_of_sources_are_the_shares_drawn(module: type[WindowDataModule], path: str) -> None:
    sources = [Source(path, weight=3, name="a"), Source(path, weight=1, name="b")]
    data = ready(module(sources, batch_size=10, windows_per_epoch=80))
    windows = torch.cat([batch.window for batch in data.train_dataloader()]).numpy()
    assert (windows < data.train_set.ends[0]).sum() == 60


def test_weights_of_sources_hold_within_a_class(path: str) -> None:
    class TwoKinds(AFData):
        """AF in both sources, other rhythms in the first alone."""

        def _dataset(self, name, chosen):  # type: ignore[no-untyped-def]
            if name == "train":
                source, rows = chosen[1]
                chosen = [chosen[0], (source, rows[source.opened.index.af[rows] == 1])]
            return super()._dataset(name, chosen)

    sources = [Source(path, weight=1, name="a"), Source(path, weight=4, name="b")]
    data = ready(TwoKinds(sources, batch_size=10, windows_per_epoch=100))
    windows = torch.cat([batch.window for batch in data.train_dataloader()]).numpy()
    in_af, first = data.train_set.targets()[windows] == 1, windows < data.train_set.ends[0]
    assert in_af.sum() == 50
    assert (in_af & first).sum() == 10
    assert (~in_af & first).sum() == 50


def test_external_test_set_is_used_whole(path: str, synthetic_store: Store) -> None:
    split = Split(train=0.5, validation=0.5, test=0.0)
    data = AFData(path, test_stores=[Source(path, name="external")], split=split)
    with pytest.raises(StoreError, match=r"both hold synthetic-.*exclude_persons_of"):
        ready(data)
    data.sources = [Source(path)]
    data.exclude_persons_of = [path]
    with pytest.raises(DataError, match="train: no window"):  # everybody is in the test set
        ready(data)


def test_persons_of_a_named_store_stay_out(path: str, half: str) -> None:
    data = ready(AFData(path, exclude_persons_of=[half]))
    excluded = set(Store.open(half).index.person)
    assert excluded
    for part in (data.train_set, data.validation_set):
        assert not excluded & set(part.column("person"))


def persons_of(data: WindowDataModule) -> list[set[str]]:
    parts = [[data.train_set], [data.validation_set], data.test_sets]
    return [{str(who) for one in part for who in one.column("person")} for part in parts]


@pytest.mark.parametrize("split", [None, Split(0.3, 0.3, 0.4, seed=7)])
def test_a_person_of_two_stores_is_in_one_part(path: str, half: str, split: Split | None) -> None:
    alone = ready(AFData(path))
    data = ready(AFData([Source(path), Source(half, split=split)]))
    assert all(persons_of(data))
    for part, other in combinations(persons_of(data), 2):
        assert not part & other
    assert set(data.train_set.parts[0][1]) == set(alone.train_set.parts[0][1])


def test_a_person_in_training_and_validation_is_refused(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    everyone = {part: np.arange(80) for part in ("train", "validation", "test")}
    monkeypatch.setattr("xecg.data.datamodules.split_stores", lambda *_: [everyone])
    with pytest.raises(StoreError, match=r"training.*validation.*both hold synthetic-0"):
        ready(AFData(path))


@pytest.mark.parametrize("external", [False, True])
def test_opposite_labels_of_one_signal_in_two_stores_are_left_out_and_named(
    external: bool, tmp_path: Path
) -> None:
    stores = []
    for name, of_twin in {"clinic": ("N", 0), "home": ("AFIB", 1)}.items():
        records = many(12) | {"twin": {"seed": 99, "rhythms": [[*of_twin, 0, 1000]]}}
        records = {f"{name}{key}": {"duration_s": 12, **about} for key, about in records.items()}
        for number, about in enumerate(records.values()):
            about["seed"] += 100 * (number < 12 and name == "home")
            about["person"] = f"{name}-{number}" if number < 12 else ""
        store = prepare(describe(tmp_path / f"{name}-records", **records), tmp_path / name)
        stores.append(Source(str(store.path)))
    split = Split(0.5, 0.25, 0.25)
    both = (EMBEDDED, stores) if external else (stores, None)
    with pytest.warns(match=r"1 signals.*: fake/clinictwin, fake/hometwin"):
        data = ready(AFData(both[0], both[1], split=split))
    parts = [data.train_set, data.validation_set, *data.test_sets]
    assert not any("twin" in record for part in parts for record in part.column("record"))
    assert external or sum(map(len, parts)) == 24


def test_normal_beats_restrict_a_source(path: str, synthetic_store: Store) -> None:
    source = Source(path, windows="normal_beats")
    normal = synthetic_store.index.normal_beats.to_numpy()
    np.testing.assert_array_equal(source.chosen, normal)
    sinus = ready(RRVariabilityData([source], split=Split(0.4, 0.2, 0.4)))
    assert normal[sinus.train_set.rows].all()


def test_rr_data_hold_positive_measures(path: str) -> None:
    data = ready(RRVariabilityData(path))
    targets = data.train_set.targets()
    assert np.isfinite(targets).all()
    assert (targets > 0).all()


def test_stores_of_different_preprocessing_do_not_mix(
    path: str, tmp_path: Path, synthetic_store: Store
) -> None:
    records = synthetic_store.path.parent / "records"
    other = prepare(
        get_database("synthetic", records),
        tmp_path / "other",
        preprocessing=Preprocessing(high_hz=30.0),
        limit=2,
    )
    with pytest.raises(DataError, match="same preprocessing"):
        ready(AFData([Source(path), Source(str(other.path))]))


def test_records_without_a_known_person_are_not_tested_on_either(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Store.open(path)
    nobody = opened.index.assign(person="")
    monkeypatch.setattr(Store, "open", lambda _: replace(opened, index=nobody))
    ready(AFData(path))
    with pytest.raises(StoreError, match="must not share people; both hold synthetic/"):
        ready(AFData(path, test_stores=[Source(path, name="external")]))


def test_a_source_has_its_own_split_and_its_test_split_stays_a_test_set(path: str) -> None:
    own = Source(path, name="own", split=Split(0.2, 0.2, 0.6))
    alone = ready(AFData([own], split=Split(0.6, 0.2, 0.2)))
    assert len(alone.test_sets[0]) > len(alone.train_set)
    both = AFData([own], test_stores=[own], test_splits=True)
    with pytest.raises(ConfigError, match="different names; found own, own"):
        ready(both)
    both.test_sources = [replace(own, name="whole")]
    with pytest.raises(StoreError, match="must not share people"):
        ready(both)


def test_test_sets_of_one_name_are_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="different names; found store, store"):
        ready(AFData(path, test_stores=[Source(path), Source(path)]))


class Trainer:
    """As much of a Trainer as augmentation looks at."""

    training, global_rank, current_epoch = True, 0, 0

    def __init__(self, step: int) -> None:
        self.fit_loop = type("Loop", (), {"total_batch_idx": step})()


def test_augmentation_is_a_function_of_seed_and_step(path: str) -> None:
    def augmented(seed: int, step: int) -> torch.Tensor:
        data = ready(AFData(path, seed=seed))
        data.trainer = Trainer(step)
        return data.on_after_batch_transfer(data.train_set.__getitems__([0, 1]), 0).signal

    assert torch.equal(augmented(0, 5), augmented(0, 5))
    assert not torch.equal(augmented(0, 5), augmented(0, 6))
    assert not torch.equal(augmented(0, 5), augmented(1, 5))


def test_validation_batches_are_not_augmented(path: str) -> None:
    data = ready(AFData(path))
    data.trainer = Trainer(0)
    data.trainer.training = False
    batch = data.validation_set.__getitems__([0])
    assert data.on_after_batch_transfer(batch, 0) is batch


def test_loading_leaves_the_random_state_that_dropout_draws_from_alone(path: str) -> None:
    data, state = ready(AFData(path)), torch.get_rng_state()
    for loader in (data.train_dataloader(), data.val_dataloader(), *data.test_dataloader()):
        next(iter(loader))
    assert torch.equal(torch.get_rng_state(), state)


SHIFT = Augmentation(1.0, 0, 0, 0, 0, 0, 0, time_shift_s=0.5)


def test_labels_per_sample_are_augmented_along(path: str) -> None:
    data = ready(PWaveData(path, augmentation=SHIFT))
    data.trainer = Trainer(0)
    batch = data.train_set.__getitems__([0, 1, 2, 3])
    assert not torch.equal(data.on_after_batch_transfer(batch, 0).target, batch.target)


def test_rr_windows_are_not_shifted_since_their_label_would_not_move(path: str) -> None:
    for module, shifted in ((RRVariabilityData, False), (AFData, True)):
        data = ready(module(path, augmentation=SHIFT))
        data.trainer = Trainer(0)
        batch = data.train_set.__getitems__([0, 1, 2, 3])
        augmented = data.on_after_batch_transfer(batch, 0).signal
        assert torch.equal(augmented, batch.signal) is not shifted
    data = ready(RRVariabilityData(path))
    data.trainer = Trainer(0)
    assert not torch.equal(data.on_after_batch_transfer(batch, 0).signal, batch.signal)


def weights(data: WindowDataModule, **changed: object) -> SimpleNamespace:
    """What weights that were trained on ``data`` say of themselves."""
    settings = data.preprocessing.to_dict() | changed
    return SimpleNamespace(preprocessing=settings, learnt=data.learnt())


def test_learnt_are_persons_and_signals_of_training_and_validation(path: str) -> None:
    data = ready(AFData(path))
    learnt = data.learnt().numpy()
    for dataset, known in ((data.train_set, 1), (data.validation_set, 1), (data.test_sets[0], 0)):
        assert (np.isin(keys(*dataset.tables()[0]), learnt) == known).all()


def test_weights_for_other_windows_are_refused_with_both_values(path: str) -> None:
    data = ready(AFData(path))
    data.check_weights(weights(data), "mine")
    for wrong in ({"sampling_rate": 125.0}, {"sampling_rate": None}):
        with pytest.raises(WeightsError, match=r"mine.*sampling_rate (125.0|None) \(.*250.0\)"):
            data.check_weights(weights(data, **wrong), "mine")
    with pytest.raises(WeightsError, match=r"high_hz None .*40"):
        data.check_weights(SimpleNamespace(preprocessing={}, learnt=None), "mine")


def test_weights_that_learnt_from_the_test_set_are_refused(path: str, half: str) -> None:
    data = ready(AFData(path))
    other = ready(AFData(path, split=Split(seed=5)))
    shared = set(other.train_set.column("person")) | set(other.validation_set.column("person"))
    shared &= set(data.test_sets[0].column("person"))
    assert shared
    with pytest.raises(StoreError, match=rf"mine.*{min(shared)}.*\({len(shared)} in all\)"):
        data.check_weights(weights(other), "mine")
    external = ready(AFData(path, test_stores=half, exclude_persons_of=[half]))
    external.check_weights(weights(external), "mine")
    with pytest.raises(StoreError, match="learnt from"):
        external.check_weights(weights(data), "mine")
    unknown = weights(other)
    unknown.learnt = None  # released before weights said so
    data.check_weights(unknown, "mine")


def test_provenance_is_what_decides_about_the_windows(path: str) -> None:
    split = Split(0.5, 0.3, 0.2, seed=4)
    first, second = AFData([Source(path), Source(path, split=split)]).provenance()["data"]
    assert first["split"] == vars(Split())
    assert second["split"] == vars(split)
    assert first["fingerprint"] == Store.open(path).info.fingerprint


def test_the_sampling_rate_is_that_of_the_stores(synthetic_store: Store, tmp_path: Path) -> None:
    database = get_database("synthetic", synthetic_store.path.parent / "records")
    slow = Preprocessing(sampling_rate=125.0)
    out = prepare(database, tmp_path / "slow", preprocessing=slow, limit=2)
    assert AFData(str(out.path)).sampling_rate == 125.0


def test_synthetic_ecgs_leave_the_working_directory_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work, cache = tmp_path / "work", tmp_path / "cache"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XECG_CACHE", str(cache))
    few = partial(synthetic_records, settings=SyntheticSettings(persons=20, duration_s=10.0))
    monkeypatch.setattr("xecg.data.databases.synthetic.synthetic_records", few)
    embedded_store.cache_clear()
    try:
        data = ready(AFData("synthetic"))
        assert len(data.train_set) + len(data.validation_set) + len(data.test_sets[0]) == 80
    finally:
        embedded_store.cache_clear()
    assert not list(work.iterdir())
    assert list(cache.rglob("store.json"))


OUTSIDE = """
import numpy as np
from xecg.data.datamodules import WindowDataModule

class NoiseData(WindowDataModule):
    @staticmethod
    def target(store, rows):
        return store.signals[rows].std(axis=1)

    @staticmethod
    def eligible(store):
        return store.index["af"] == 0
"""


def test_a_data_module_of_another_package_says_target_and_eligible(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jsonargparse import ArgumentParser

    (tmp_path / "outside.py").write_text(OUTSIDE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "outside", raising=False)
    parser = ArgumentParser()
    parser.add_subclass_arguments(WindowDataModule, "data")
    flags = ["--data=outside.NoiseData", f"--data.stores={path}", "--data.windows_per_epoch=20"]
    data = ready(parser.instantiate(parser.parse_args(flags)).data)
    batch = next(iter(data.train_dataloader()))
    assert batch.target.shape == (20,)
    assert torch.allclose(batch.target, batch.signal[:, 0].std(dim=1, correction=0))
    assert not (data.train_set.column("af") == 1).any()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", 0),
        ("windows_per_epoch", 0),
        ("seed", -1),
        ("num_workers", -1),
        ("stores", []),
    ],
)
def test_a_setting_out_of_its_range_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        AFData(**{name: value})

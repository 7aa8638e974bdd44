"""Data modules: who trains, who tests, what is drawn."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xecg.data.augmentation import Augmentation
from xecg.data.databases import get_database
from xecg.data.datamodules import (
    AFData,
    PWaveData,
    RRVariabilityData,
    Source,
    WindowDataModule,
)
from xecg.data.prepare import prepare
from xecg.data.splits import Split
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError, StoreError
from xecg.signal.preprocessing import Preprocessing

MODULES = [AFData, PWaveData, RRVariabilityData]


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
            return store.index.af == 0

    with pytest.raises(DataError, match="no AF window"):
        ready(OnlyNonAF(path)).train_dataloader()


def test_weights_of_sources_hold(path: str) -> None:
    sources = [Source(path, weight=3, name="a"), Source(path, weight=1, name="b")]
    data = ready(PWaveData(sources, batch_size=10, windows_per_epoch=80))
    windows = torch.cat([batch.window for batch in data.train_dataloader()]).numpy()
    assert (windows < data.train_set.ends[0]).sum() == 60


def test_external_test_set_is_used_whole(path: str, synthetic_store: Store) -> None:
    split = Split(train=0.5, validation=0.5, test=0.0)
    data = AFData(path, test_stores=[Source(path, name="external")], split=split)
    with pytest.raises(StoreError, match=r"both hold synthetic-.*exclude_persons_of"):
        ready(data)
    data.sources = [Source(path)]
    data.exclude_persons_of = [path]
    with pytest.raises(DataError, match="train: no window"):  # everybody is in the test set
        ready(data)


def test_persons_of_a_named_store_stay_out(
    path: str, tmp_path: Path, synthetic_store: Store
) -> None:
    records = synthetic_store.path.parent / "records"
    few = prepare(
        get_database("synthetic", records), tmp_path / "few", limit=6, progress=False, workers=1
    )
    data = ready(AFData(path, exclude_persons_of=[str(few.path)]))
    excluded = set(few.index.person)
    assert excluded
    for part in (data.train_set, data.validation_set):
        assert not excluded & set(part.column("person"))


def test_leads_and_normal_beats_restrict_a_source(path: str, synthetic_store: Store) -> None:
    data = ready(AFData(path, evaluation_leads=["ii"]))
    assert set(data.test_sets[0].column("lead")) == {"II"}
    with pytest.raises(DataError, match="no window"):
        ready(AFData(path, evaluation_leads=["V6"]))
    sinus = ready(AFData(path, test_stores=None, split=Split(0.4, 0.2, 0.4)))
    source = Source(path, windows="normal_beats")
    rows = source.choose(np.arange(len(synthetic_store)))
    assert synthetic_store.index.normal_beats[rows].all()
    assert len(rows) == synthetic_store.index.normal_beats.sum() > 0
    assert len(sinus.test_sets) == 1


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
        progress=False,
        workers=1,
    )
    with pytest.raises(DataError, match="same preprocessing"):
        ready(AFData([Source(path), Source(str(other.path))]))


def test_records_without_a_known_person_are_not_tested_on_either(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Store.open(path)
    nobody = replace(opened.index, person=np.full_like(opened.index.person, ""))
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


def test_labels_per_sample_are_augmented_along(path: str) -> None:
    data = ready(PWaveData(path, augmentation=Augmentation(time_shift_s=0.5)))
    data.trainer = Trainer(0)
    batch = data.train_set.__getitems__([0, 1, 2, 3])
    assert not torch.equal(data.on_after_batch_transfer(batch, 0).target, batch.target)

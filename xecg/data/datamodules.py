"""Data modules: which windows of which stores train, select and test, one class per task."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from lightning.pytorch.utilities import rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from xecg.data.augmentation import Augmentation
from xecg.data.databases.synthetic import EMBEDDED
from xecg.data.datasets import Batch, MixtureSampler, Source, WindowDataset
from xecg.data.splits import (
    Ints,
    Split,
    Table,
    assert_disjoint,
    keys,
    opposed,
    people,
    split_stores,
)
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError, StoreError, WeightsError, check_ranges
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.waves import NOT_ANNOTATED, OTHER, P


class WindowDataModule(LightningDataModule, ABC):
    """Splits, mixtures, loaders, augmentation.

    A subclass, in any package, says what is predicted (``target``) of which windows (``eligible``).
    Raises ConfigError if a number is out of its range.

    Args:
        stores: Folder of a prepared store, or sources with weights; ``synthetic`` comes with xecg.
        test_stores: External test sets, used whole. Without them the test splits of ``stores`` are
            the test sets; with them those are not touched, but for ``test_splits``.
        test_splits: Test on the test splits of ``stores`` as well as on ``test_stores``.
        split: Shares of the persons (or records) of ``stores``. A person of several stores is in
            the part that the first of them gives.
        batch_size: Number of windows a step.
        windows_per_epoch: Number of windows drawn an epoch; all of the training split if null.
        augmentation: Changes of the training windows; null for none.
        exclude_persons_of: Stores whose persons are kept out of training and validation.
        seed: Random seed of the order of windows and of the augmentation.
        num_workers: Number of processes that load batches; 0 is fastest for memory-mapped stores.
    """

    shifts = True  # whether a window may be shifted: its label stays true, or is one of samples

    def __init__(
        self,
        stores: str | list[Source] = EMBEDDED,
        test_stores: str | list[Source] | None = None,
        test_splits: bool = False,
        split: Split = Split(),  # noqa: B008 (frozen; jsonargparse shows it as the default)
        batch_size: int = 64,
        windows_per_epoch: int | None = 4000,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008
        exclude_persons_of: list[str] | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        check_ranges(
            batch_size=(batch_size, 1),
            windows_per_epoch=(1 if windows_per_epoch is None else windows_per_epoch, 1),
            seed=(seed, 0),
            num_workers=(num_workers, 0),
        )
        self.sources = _sources(stores)
        if not self.sources:
            raise ConfigError("data.stores: expected one or more, found none")
        self.test_sources = _sources(test_stores or [])
        self.test_splits = test_splits or not self.test_sources
        self.split, self.exclude_persons_of = split, exclude_persons_of or []
        self.batch_size, self.windows_per_epoch = batch_size, windows_per_epoch
        self.augmentation, self.seed, self.num_workers = augmentation, seed, num_workers

    @staticmethod
    @abstractmethod
    def target(store: Store, rows: Ints) -> NDArray[np.generic]:
        """Returns what the task is to predict of rows of a store, one entry a row."""

    @staticmethod
    @abstractmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether the task can use each window of a store: ``(n,)``."""

    def pools(self, dataset: WindowDataset) -> tuple[list[Ints], list[float]]:
        """Returns pools of positions and the share that is drawn of each: here one per source."""
        pools = np.split(np.arange(len(dataset)), dataset.ends[:-1])
        return pools, [source.weight for source in self.sources]

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing of every store; raises DataError if the stores differ in it."""
        sources = [*self.sources, *self.test_sources]
        settings = {source.opened.info.preprocessing: source.store for source in sources}
        if len(settings) > 1:
            found = ", ".join(f"{store} has {settings}" for settings, store in settings.items())
            raise DataError(
                f"stores used together need the same preprocessing; {found}. Prepare them again "
                "with the same settings"
            )
        return next(iter(settings))

    @property
    def sampling_rate(self) -> float:
        """Sampling rate of the stores' windows in Hz."""
        return self.preprocessing.sampling_rate

    def setup(self, stage: str) -> None:
        """Makes the datasets of all parts; raises StoreError if they share a person or a signal."""
        del stage  # all splits are made together, so that their disjointness is always checked
        _ = self.preprocessing  # is one for all stores
        tables = [source.table for source in self.sources]
        shares = [source.split or self.split for source in self.sources]
        kept_out = [keys(*Source(store).table) for store in self.exclude_persons_of]
        rows_of = split_stores(tables, shares, kept_out)
        self._opposed = opposed([*tables, *(source.table for source in self.test_sources)])
        if n := len(self._opposed):
            records = "; ".join(self._opposed[:5])
            rank_zero_warn(f"{n} signals left out, AF in one record and not in another: {records}")
        splits = list(zip(self.sources, rows_of, strict=True))
        tested = [(source, rows["test"]) for source, rows in splits if self.test_splits]
        tested += [(source, np.arange(len(source.opened))) for source in self.test_sources]
        names = [source.label for source, _ in tested]
        if len(set(names)) < len(names):
            raise ConfigError(f"test sets need different names; found {', '.join(names)}")
        self.test_sets = [self._dataset(source.label, [(source, rows)]) for source, rows in tested]
        self.train_set, self.validation_set = (
            self._dataset(part, [(source, rows[part]) for source, rows in splits])
            for part in ("train", "validation")
        )
        parts = {"training": self.train_set.tables(), "validation": self.validation_set.tables()}
        assert_disjoint(parts | {"held-out": self._tested()})

    def _dataset(self, name: str, chosen: Sequence[tuple[Source, Ints]]) -> WindowDataset:
        usable = []
        for source, rows in chosen:
            store, index = source.opened, source.opened.index
            some = source.chosen & ~index["digest"].isin(self._opposed.index).to_numpy()
            usable.append((store, rows[(self.eligible(store) & some)[rows]]))
        return WindowDataset(usable, self.target, name)

    def _tested(self) -> list[Table]:
        return [table for test_set in self.test_sets for table in test_set.tables()]

    def learnt(self) -> Tensor:
        """Returns the keys of who and what is trained and selected on: int64, rising."""
        tables = [*self.train_set.tables(), *self.validation_set.tables()]
        return torch.from_numpy(np.unique(np.concatenate([keys(*table) for table in tables])))

    def provenance(self) -> dict[str, Any]:
        """Returns the sources with their splits and fingerprints, for a weights file."""
        data = []
        for source in self.sources:
            said = {"store": source.label, "fingerprint": source.opened.info.fingerprint}
            data.append(asdict(replace(source, split=source.split or self.split)) | said)
        return {"data": data, "exclude_persons_of": self.exclude_persons_of}

    def check_weights(self, info: Any, name: str) -> None:
        """Raises WeightsError if weights take other windows, StoreError if they learnt test data.

        ``info`` has their ``preprocessing``, and ``learnt``, which is null if unknown.
        """
        found, expected = dict(info.preprocessing), self.preprocessing.to_dict()
        both = {key: (found.get(key), expected.get(key)) for key in expected | found}
        if wrong := [f"{k} {a} (stores: {b})" for k, (a, b) in both.items() if a != b]:
            raise WeightsError(
                f"{name}: expected weights for windows like those of the stores; found weights for "
                f"{', '.join(wrong)}. Prepare the stores so, or choose other weights"
            )
        if info.learnt is not None and (who := people(self._tested(), info.learnt)):
            raise StoreError(
                f"{name}: the weights learnt from persons or records of the test sets: {who}. "
                "Split the stores as for the weights, or train these with exclude_persons_of set "
                "to the test stores"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns batches in an order that is a function of seed and epoch."""
        pools, shares = self.pools(self.train_set)
        size = self.windows_per_epoch or len(self.train_set)

        def epoch() -> int:
            return self.trainer.current_epoch if self.trainer else 0

        sampler: Any = MixtureSampler(pools, shares, size, self.seed, epoch)
        if self.trainer is not None and self.trainer.world_size > 1:
            n, rank = self.trainer.world_size, self.trainer.global_rank  # draw what one would draw
            sampler = DistributedSamplerWrapper(sampler, num_replicas=n, rank=rank, shuffle=False)
        return self._loader(self.train_set, sampler)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns the validation split, in order."""
        return self._loader(self.validation_set)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Returns one loader per test set, in order."""
        return [self._loader(test) for test in self.test_sets]

    predict_dataloader = test_dataloader

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments training batches, seeded by the step: a resumed run draws the same."""
        del dataloader_idx
        if self.augmentation is None or self.trainer is None or not self.trainer.training:
            return batch
        step = self.trainer.fit_loop.total_batch_idx + 1  # it is -1 at the first batch
        seeds = np.random.SeedSequence((self.seed, step, self.trainer.global_rank))
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1, np.uint64)[0]) >> 1)
        shift = self.augmentation.time_shift_s if self.shifts else 0.0
        augment = replace(self.augmentation, time_shift_s=shift)
        codes = batch.target if batch.target.dtype == torch.uint8 else None
        signal, codes = augment(batch.signal, codes, self.sampling_rate, generator)
        return Batch(signal, batch.target if codes is None else codes, batch.window)

    def _loader(self, dataset: WindowDataset, sampler: Any = None) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=sampler is not None and len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            collate_fn=Batch._make,  # the dataset makes whole batches
            generator=torch.Generator(),  # else each pass moves the state that dropout draws from
        )


class AFData(WindowDataModule):
    """Windows labelled AF or not; half of an epoch's windows are in AF."""

    @staticmethod
    def target(store: Store, rows: Ints) -> Ints:
        """Returns 1 for AF, 0 for anything else: ``(n,)``."""
        return store.index["af"].to_numpy()[rows].astype(np.int64)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether each window has one known rhythm throughout."""
        return np.asarray(store.index["af"] >= 0)

    def pools(self, dataset: WindowDataset) -> tuple[list[Ints], list[float]]:
        """Returns a pool per source and class, or raises DataError if there is only one class."""
        sources, weights = super().pools(dataset)
        labels = dataset.targets()
        pools: list[Ints] = []
        shares: list[float] = []
        for af, name in enumerate(("non-AF", "AF")):
            chosen = [pool[labels[pool] == af] for pool in sources]
            present = [weight for pool, weight in zip(chosen, weights, strict=True) if len(pool)]
            if not present:
                raise DataError(f"the training split has no {name} window; add a source that has")
            pools += filter(len, chosen)
            shares += [weight / sum(present) for weight in present]
        return pools, shares


class PWaveData(WindowDataModule):
    """Windows with annotated P waves, and windows in AF, which have none."""

    @staticmethod
    def target(store: Store, rows: Ints) -> NDArray[np.uint8]:
        """Returns 1 in a P wave, 0 outside, 255 if not annotated: ``(n, time)``; 0 in AF.

        Raises DataError if a P wave is annotated in AF.
        """
        target = np.full((len(rows), store.signals.shape[1]), NOT_ANNOTATED, dtype=np.uint8)
        wave_row = store.index["wave_row"].to_numpy()[rows]
        codes = store.waves[wave_row[wave_row >= 0]]
        target[wave_row >= 0] = np.where(codes == NOT_ANNOTATED, NOT_ANNOTATED, codes == P)
        in_af = store.index["af"].to_numpy()[rows] == 1
        if len(labelled := rows[in_af & (target == P).any(axis=1)]):
            records = ", ".join(sorted(set(store.index["record"].iloc[labelled])))
            raise DataError(f"{store.path}: P waves are annotated in AF, in record {records}")
        target[in_af] = OTHER
        return target

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether each window has annotations or is in AF."""
        return np.asarray((store.index["af"] == 1) | (store.index["wave_row"] >= 0))


class RRVariabilityData(WindowDataModule):
    """Windows whose RR intervals are known: five beats or more, and a rhythm label.

    Without a rhythm label (the noisy records of CinC 2017) only annotated beats count, since a
    detector cannot be trusted there. Windows are never shifted, as beats would leave them.
    """

    shifts = False

    @staticmethod
    def target(store: Store, rows: Ints) -> NDArray[np.float32]:
        """Returns RMSSD and SDNN in ms: ``(n, 2)``."""
        measures = [store.index[name].to_numpy()[rows] for name in ("rmssd_ms", "sdnn_ms")]
        return np.stack(measures, axis=1).astype(np.float32)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether each window has measures that can be trusted."""
        trusted = (store.index["af"] >= 0) | store.index["reference_beats"]
        return np.asarray(trusted & (store.index["rmssd_ms"] > 0) & (store.index["sdnn_ms"] > 0))


def _sources(stores: str | list[Source]) -> list[Source]:
    return [Source(stores)] if isinstance(stores, str) else list(stores)

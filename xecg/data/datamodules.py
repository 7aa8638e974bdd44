"""Data modules: which windows of which stores train, select and test, one class per task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from xecg.data.augmentation import Augmentation, step_generator
from xecg.data.datasets import (
    Batch,
    MixtureSampler,
    Part,
    WindowDataset,
    af_target,
    p_wave_target,
    rr_target,
)
from xecg.data.embedded import EMBEDDED, embedded_store
from xecg.data.splits import Part as PartName
from xecg.data.splits import Split, Table, assert_disjoint, keys, people, seen, split_stores
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError, StoreError, WeightsError
from xecg.signal.preprocessing import Preprocessing


class Learnt(Protocol):
    """What is asked of weights that this data is to train on or to test."""

    @property
    def preprocessing(self) -> Mapping[str, Any]:
        """Settings that made the windows."""

    @property
    def learnt(self) -> ArrayLike | None:
        """Keys of the windows that were trained and selected on; None where they are unknown."""


@dataclass(frozen=True)
class Source:
    """One prepared store in a mixture.

    Args:
        store: Folder of the store, or ``synthetic``: the ECGs that come with xecg.
        weight: Share of an epoch's windows, relative to the other sources.
        name: Name in results; the folder's name by default.
        leads: Leads to use; all by default.
        windows: ``normal_beats`` takes only windows in which every beat is annotated as a sinus
            beat in sinus rhythm.
        split: Shares of this store's persons (or records), if other than the data module's.
    """

    store: str
    weight: float = 1.0
    name: str | None = None
    leads: list[str] | None = None
    windows: Literal["all", "normal_beats"] = "all"
    split: Split | None = None

    @property
    def label(self) -> str:
        """Name in results."""
        return self.name or Path(self.store).name

    @cached_property
    def opened(self) -> Store:
        """The store itself."""
        return embedded_store() if self.store == EMBEDDED else Store.open(Path(self.store))

    def choose(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Returns those of ``rows`` that have this source's leads and kind of windows."""
        index = self.opened.index
        keep = np.ones(len(rows), dtype=bool)
        if self.leads is not None:
            leads = np.char.upper(np.asarray(index.lead, dtype=np.str_)[rows])
            keep &= np.isin(leads, [lead.upper() for lead in self.leads])
        if self.windows == "normal_beats":
            keep &= np.asarray(index.normal_beats)[rows]
        return rows[keep]


class WindowDataModule(LightningDataModule, ABC):
    """Base of the data modules: splits, mixtures, loaders, augmentation.

    A subclass says what is predicted (``target``) and which windows it can use (``eligible``); it
    may live in any package.

    Args:
        stores: One folder of a prepared store, or several sources with weights. ``synthetic``
            stands for the ECGs that come with xecg.
        test_stores: External test sets, used whole. Without them the test splits of ``stores`` are
            the test sets; with them those are not touched, but for ``test_splits``.
        test_splits: Test on the test splits of ``stores`` as well as on ``test_stores``.
        split: Shares of the persons (or records) of ``stores``. A person of several stores is in
            the part that the first of them gives.
        batch_size: Number of windows a step.
        windows_per_epoch: Number of windows drawn an epoch; all of the training split if null.
        evaluation_leads: Leads to validate and test on; all by default.
        augmentation: Changes of the training windows; null for none.
        exclude_persons_of: Stores whose persons are kept out of training and validation, for a
            store that is to be an external test set, now or later.
        seed: Random seed of the order of windows and of the augmentation.
        num_workers: Number of processes that load batches; 0 is fastest for memory-mapped stores.
    """

    shifts = True
    """Whether a window may be shifted in time: the label stays true, or is one of samples."""

    def __init__(
        self,
        stores: str | list[Source] = EMBEDDED,
        test_stores: str | list[Source] | None = None,
        test_splits: bool = False,
        split: Split = Split(),  # noqa: B008 (frozen; jsonargparse shows it as the default)
        batch_size: int = 64,
        windows_per_epoch: int | None = 4000,
        evaluation_leads: list[str] | None = None,
        augmentation: Augmentation | None = Augmentation(),  # noqa: B008
        exclude_persons_of: list[str] | None = None,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        self.sources = _sources(stores)
        self.test_sources = _sources(test_stores or [])
        self.test_splits = test_splits or not self.test_sources
        self.split = split
        self.batch_size = batch_size
        self.windows_per_epoch = windows_per_epoch
        self.evaluation_leads = evaluation_leads
        self.augmentation = augmentation
        self.exclude_persons_of = exclude_persons_of or []
        self.seed = seed
        self.num_workers = num_workers

    @staticmethod
    @abstractmethod
    def target(store: Store, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """Returns what the task is to predict of rows of a store, one entry a row."""

    @staticmethod
    @abstractmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether the task can use each window of a store: ``(n,)``."""

    def pools(self, dataset: WindowDataset) -> tuple[list[NDArray[np.int64]], list[float]]:
        """Returns pools of positions and the share that is drawn of each: here one per source."""
        starts = [0, *dataset.ends[:-1]]
        pools = [np.arange(start, end) for start, end in zip(starts, dataset.ends, strict=True)]
        return pools, [source.weight for source in self.sources]

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that every store was prepared with.

        Raises:
            DataError: If the stores differ in it.
        """
        sources = [*self.sources, *self.test_sources]
        first = sources[0].opened.info.preprocessing
        for source in sources[1:]:
            if source.opened.info.preprocessing != first:
                raise DataError(
                    f"stores used together need the same preprocessing; {sources[0].store} has "
                    f"{first}, {source.store} has {source.opened.info.preprocessing}. "
                    f"Prepare one of them again with the other's settings"
                )
        return first

    @property
    def sampling_rate(self) -> float:
        """Sampling rate of the stores' windows in Hz."""
        return self.preprocessing.sampling_rate

    def prepare_data(self) -> None:
        """Makes the embedded store in one process, before the others open it."""
        if any(source.store == EMBEDDED for source in (*self.sources, *self.test_sources)):
            embedded_store()

    def setup(self, stage: str) -> None:
        """Opens the stores, splits them by person or record, builds the datasets.

        Raises:
            StoreError: If a person or a signal would be in two of training, validation and test.
        """
        del stage  # all splits are made together, so that their disjointness is always checked
        _ = self.preprocessing  # the same for all stores
        splits = self._splits()
        self.test_sets = self._test_sets(splits)
        train = [rows["train"] for rows in splits]
        self.train_set = self._dataset(self.sources, train, "train")
        evaluated = [self._evaluated(source) for source in self.sources]
        validation = [rows["validation"] for rows in splits]
        self.validation_set = self._dataset(evaluated, validation, "validation")
        tested = [table for test_set in self.test_sets for table in test_set.tables()]
        learnt_from = {"training": self.train_set, "validation": self.validation_set}
        assert_disjoint({n: d.tables() for n, d in learnt_from.items()} | {"held-out": tested})

    def learnt(self) -> Tensor:
        """Returns the keys of who and what is trained and selected on: int64, rising."""
        tables = [*self.train_set.tables(), *self.validation_set.tables()]
        return torch.from_numpy(np.unique(np.concatenate([keys(*table) for table in tables])))

    def provenance(self) -> dict[str, Any]:
        """Returns what decides about the windows that are learnt from, for a weights file."""
        data = [
            {
                "store": source.label,
                "database": source.opened.info.database,
                "fingerprint": source.opened.info.fingerprint,
                "weight": source.weight,
                "leads": source.leads,
                "windows": source.windows,
                "split": asdict(source.split or self.split),
            }
            for source in self.sources
        ]
        return {"data": data, "exclude_persons_of": self.exclude_persons_of}

    def check_weights(self, info: Learnt, name: str) -> None:
        """Checks that weights fit the windows, and did not learn from who they are tested on.

        Args:
            info: What weights (or a checkpoint) say of themselves.
            name: Name of the weights in errors.

        Raises:
            WeightsError: If their windows were made by other settings.
            StoreError: If they learnt from persons or signals of the test sets.
        """
        found, expected = dict(info.preprocessing), self.preprocessing.to_dict()
        wrong = [
            f"{key} {found.get(key)} (stores: {expected.get(key)})"
            for key in {**expected, **found}
            if found.get(key) != expected.get(key)
        ]
        if wrong:
            raise WeightsError(
                f"{name}: expected weights for windows like those of the stores; found weights for "
                f"{', '.join(wrong)}. Prepare the stores with these settings, or choose other "
                "weights"
            )
        tables = [table for test_set in self.test_sets for table in test_set.tables()]
        if info.learnt is not None and (who := people(tables, info.learnt)):
            raise StoreError(
                f"{name}: the weights learnt from persons or records of the test sets: {who}. "
                "Split the stores as for the weights, or train these with exclude_persons_of set "
                "to the test stores"
            )

    def train_dataloader(self) -> DataLoader[Batch]:
        """Returns batches in an order that is a function of seed and epoch."""
        pools, shares = self.pools(self.train_set)
        size = self.windows_per_epoch or len(self.train_set)
        sampler = MixtureSampler(pools, shares, size, self.seed, self._epoch)
        return self._loader(self.train_set, self._share(sampler))

    def val_dataloader(self) -> DataLoader[Batch]:
        """Returns the validation split, in order."""
        return self._loader(self.validation_set)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """Returns one loader per test set, in order."""
        return [self._loader(test) for test in self.test_sets]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """Returns the test sets."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augments training batches, seeded by the step: a resumed run draws the same."""
        del dataloader_idx
        if self.augmentation is None or self.trainer is None or not self.trainer.training:
            return batch
        step = self.trainer.fit_loop.total_batch_idx + 1  # it is -1 at the first batch
        generator = step_generator(self.seed, step, self.trainer.global_rank)
        shift = self.augmentation.time_shift_s if self.shifts else 0.0
        augment = replace(self.augmentation, time_shift_s=shift)
        codes = batch.target if batch.target.dtype == torch.uint8 else None
        signal, moved = augment(batch.signal, codes, self.sampling_rate, generator)
        return batch._replace(signal=signal, target=batch.target if moved is None else moved)

    def _epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    def _share(self, sampler: MixtureSampler) -> MixtureSampler | DistributedSamplerWrapper:
        """This process's part: the batches of all are together the batches that one would draw."""
        if self.trainer is None or self.trainer.world_size == 1:
            return sampler
        n, rank = self.trainer.world_size, self.trainer.global_rank
        return DistributedSamplerWrapper(sampler, num_replicas=n, rank=rank, shuffle=False)

    def _loader(
        self,
        dataset: WindowDataset,
        sampler: MixtureSampler | DistributedSamplerWrapper | None = None,
    ) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            drop_last=sampler is not None and len(sampler) >= self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_as_is,  # the dataset makes whole batches
            generator=torch.Generator(),  # else each pass moves the state that dropout draws from
        )

    def _dataset(
        self, sources: Sequence[Source], rows: Sequence[NDArray[np.int64]], name: str
    ) -> WindowDataset:
        parts = [
            Part(
                source.opened,
                source.choose(chosen[np.asarray(self.eligible(source.opened))[chosen]]),
            )
            for source, chosen in zip(sources, rows, strict=True)
        ]
        return WindowDataset(parts, self.target, name)

    def _evaluated(self, source: Source) -> Source:
        return replace(source, leads=self.evaluation_leads) if self.evaluation_leads else source

    def _test_sets(
        self, splits: Sequence[Mapping[PartName, NDArray[np.int64]]]
    ) -> list[WindowDataset]:
        own = self.sources if self.test_splits else []
        sources = [*own, *self.test_sources]
        names = [source.label for source in sources]
        if len(set(names)) < len(names):
            raise ConfigError(f"test sets need different names; found {', '.join(names)}")
        rows = [
            *(splits[number]["test"] for number in range(len(own))),
            *(np.arange(len(source.opened)) for source in self.test_sources),
        ]
        return [
            self._dataset([self._evaluated(source)], [chosen], source.label)
            for source, chosen in zip(sources, rows, strict=True)
        ]

    def _splits(self) -> list[dict[PartName, NDArray[np.int64]]]:
        """Rows of each part of each source, without the persons that are to be kept out."""
        tables = [_table(source.opened) for source in self.sources]
        splits = split_stores(tables, [source.split or self.split for source in self.sources])
        kept_out = [keys(*_table(Store.open(path))) for path in self.exclude_persons_of]
        if kept_out:
            for table, rows in zip(tables, splits, strict=True):
                out = seen(*table, np.concatenate(kept_out))
                rows["train"], rows["validation"] = (
                    rows[part][~out[rows[part]]] for part in ("train", "validation")
                )
        return splits


class AFData(WindowDataModule):
    """Windows labelled AF or not; half of an epoch's windows are in AF."""

    target = staticmethod(af_target)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether each window has one known rhythm throughout."""
        return np.asarray(store.index.af) >= 0

    def pools(self, dataset: WindowDataset) -> tuple[list[NDArray[np.int64]], list[float]]:
        """Returns a pool per source and class; the sources' weights hold within a class.

        Raises:
            DataError: If the training split has only one class.
        """
        sources, weights = super().pools(dataset)
        labels = dataset.targets()
        pools: list[NDArray[np.int64]] = []
        shares: list[float] = []
        for af, name in enumerate(("non-AF", "AF")):
            chosen = [pool[labels[pool] == af] for pool in sources]
            present = [weight for pool, weight in zip(chosen, weights, strict=True) if len(pool)]
            if not present:
                raise DataError(f"the training split has no {name} window; add a source that has")
            pools += [pool for pool in chosen if len(pool)]
            shares += [weight / sum(present) for weight in present]
        return pools, shares


class PWaveData(WindowDataModule):
    """Windows with annotated P waves, and windows in AF, which have none."""

    target = staticmethod(p_wave_target)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether each window has annotations or is in AF."""
        index = store.index
        in_af: NDArray[np.bool_] = np.asarray(index.af) == 1
        return in_af | (np.asarray(index.wave_row) >= 0)


class RRVariabilityData(WindowDataModule):
    """Windows whose RR intervals are known: five beats or more, and a rhythm label.

    Without a rhythm label (the noisy records of CinC 2017) only annotated beats count, since a
    detector cannot be trusted there. Windows are not shifted by the augmentation: a shift moves
    beats out of the window, the measures would no longer be its own.
    """

    shifts = False
    target = staticmethod(rr_target)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Returns whether each window has measures that can be trusted."""
        index = store.index
        rmssd, sdnn = (np.asarray(c) for c in (index.rmssd_ms, index.sdnn_ms))
        trusted = (np.asarray(index.af) >= 0) | np.asarray(index.reference_beats)
        return np.logical_and(np.isfinite(rmssd) & (rmssd > 0) & (sdnn > 0), trusted)


def _sources(stores: str | list[Source]) -> list[Source]:
    return [Source(stores)] if isinstance(stores, str) else list(stores)


def _table(store: Store) -> Table:
    return store.info.database, store.index


def _as_is(batch: Any) -> Any:
    return batch

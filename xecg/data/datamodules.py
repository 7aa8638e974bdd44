"""Data modules: which windows of which stores train, select and test, one class per task."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning import LightningDataModule
from lightning.fabric.utilities.distributed import DistributedSamplerWrapper
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader

from xecg.data.augmentation import Augmentation, BatchAugmentation
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
from xecg.data.splits import Split, assert_disjoint, split_rows
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError
from xecg.signal.preprocessing import Preprocessing


@dataclass(frozen=True)
class Source:
    """One prepared store in a mixture.

    Args:
        store: Folder of the store, or ``synthetic``: the ECGs that come with xecg.
        weight: Share of an epoch's windows, relative to the other sources.
        name: What results call it; the folder's name if not given.
        leads: Only windows of these leads, if given.
        windows: ``normal_beats``: only windows in which every beat is annotated as a sinus beat
            in sinus rhythm.
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
        """The name in results."""
        return self.name or Path(self.store).name

    @cached_property
    def opened(self) -> Store:
        """The store itself."""
        return embedded_store() if self.store == EMBEDDED else Store.open(Path(self.store))

    def choose(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of ``rows`` that this source's leads and windows let through."""
        index = self.opened.index
        keep = np.ones(len(rows), dtype=bool)
        if self.leads is not None:
            wanted = [lead.upper() for lead in self.leads]
            keep &= np.isin(np.char.upper(index.lead[rows]), wanted)
        if self.windows == "normal_beats":
            keep &= index.normal_beats[rows]
        return rows[keep]


class WindowDataModule(LightningDataModule, ABC):
    """Base of the data modules: splits, mixtures, loaders, augmentation.

    Args:
        stores: One folder of a prepared store, or several sources with weights. ``synthetic``
            stands for the ECGs that come with xecg.
        test_stores: External test sets, used whole. Without them the test splits of ``stores`` are
            the test sets; with them those are not touched, but for ``test_splits``.
        test_splits: Test on the test splits of ``stores`` as well as on ``test_stores``.
        split: Shares of the persons (or records) of ``stores``.
        batch_size: Windows a step.
        windows_per_epoch: Windows drawn an epoch; all windows of the training split if null.
        evaluation_leads: Validate and test on these leads only.
        augmentation: What is varied in training; null for nothing.
        exclude_persons_of: Stores whose persons are kept out of training and validation, for a
            store that is to be an external test set, now or later.
        seed: Of the order of windows and of the augmentation.
        num_workers: Processes that load batches; 0 is fastest for memory-mapped stores.
    """

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
        self.augments_batches = True  # unless nobody reads their signals

    @staticmethod
    @abstractmethod
    def target(store: Store, rows: NDArray[np.int64]) -> NDArray[np.generic]:
        """What the task is to say of rows of a store."""

    @staticmethod
    @abstractmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Which windows of a store this task can use: ``(n,)``."""

    def pools(self, dataset: WindowDataset) -> tuple[list[NDArray[np.int64]], list[float]]:
        """Positions that are drawn with one share each: here one pool per source."""
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

    def prepare_data(self) -> None:
        """Make the embedded store in one process, before the others open it."""
        if any(source.store == EMBEDDED for source in (*self.sources, *self.test_sources)):
            embedded_store()

    def setup(self, stage: str) -> None:
        """Open the stores, split them by person or record, build the datasets."""
        del stage  # all splits are made together, so that their disjointness is always checked
        self.sampling_rate = self.preprocessing.sampling_rate
        splits = [self._split(source) for source in self.sources]
        self.test_sets = self._test_sets(splits)
        train = [rows["train"] for rows in splits]
        self.train_set = self._dataset(self.sources, train, "train")
        evaluated = [self._evaluated(source) for source in self.sources]
        validation = [rows["validation"] for rows in splits]
        self.validation_set = self._dataset(evaluated, validation, "validation")
        for learnt_from in (self.train_set, self.validation_set):
            assert_disjoint(learnt_from.indices(), [i for t in self.test_sets for i in t.indices()])

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches in an order that is a function of seed and epoch."""
        pools, shares = self.pools(self.train_set)
        size = self.windows_per_epoch or len(self.train_set)
        sampler = MixtureSampler(pools, shares, size, self.seed, self._epoch)
        return self._loader(self.train_set, self._share(sampler))

    def val_dataloader(self) -> DataLoader[Batch]:
        """The validation split, in order."""
        return self._loader(self.validation_set)

    def test_dataloader(self) -> list[DataLoader[Batch]]:
        """One loader per test set, in order."""
        return [self._loader(test) for test in self.test_sets]

    def predict_dataloader(self) -> list[DataLoader[Batch]]:
        """The test sets."""
        return self.test_dataloader()

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Augment training batches, seeded by the step so that a resumed run goes on alike."""
        del dataloader_idx
        if self.augmentation is None or not self.augments_batches:
            return batch
        if self.trainer is None or not self.trainer.training:
            return batch
        step = self.trainer.fit_loop.total_batch_idx + 1  # it is -1 at the first batch
        codes = batch.target if batch.target.dtype == torch.uint8 else None
        augment = BatchAugmentation(self.augmentation, self.sampling_rate, self.seed)
        signal, moved = augment.of_step(batch.signal, codes, step, self.trainer.global_rank)
        return batch._replace(signal=signal, target=batch.target if moved is None else moved)

    def varied_once(self, signals: Tensor, windows: Tensor) -> Tensor:
        """Training windows ``(batch, 1, time)``, augmented by seed and position ``(batch,)`` alone.

        For features that are computed once per window: labels do not move along.
        """
        if self.augmentation is None:
            return signals
        augment = BatchAugmentation(self.augmentation, self.sampling_rate, self.seed)
        return augment.of_windows(signals, windows)

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
            Part(source.opened, source.choose(chosen[self.eligible(source.opened)[chosen]]))
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

    def _split(self, source: Source) -> dict[PartName, NDArray[np.int64]]:
        store = source.opened
        rows = split_rows(store.index, source.split or self.split)
        persons = [Store.open(path).index.person for path in self.exclude_persons_of]
        excluded = np.unique(np.concatenate([*persons, np.array([""])]))[1:]
        for part in ("train", "validation"):
            rows[part] = rows[part][~np.isin(store.index.person[rows[part]], excluded)]
        return rows


class AFData(WindowDataModule):
    """Windows labelled AF or not; an epoch holds as many of either, as far as they go."""

    target = staticmethod(af_target)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Windows whose rhythm is known and one throughout."""
        return store.index.af >= 0

    def pools(self, dataset: WindowDataset) -> tuple[list[NDArray[np.int64]], list[float]]:
        """A pool per source and class; the sources' weights hold within a class.

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
    """Windows in which somebody annotated P waves, and windows in AF, which have none."""

    target = staticmethod(p_wave_target)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Windows with annotations, and those in AF."""
        usable: NDArray[np.bool_] = (store.index.wave_row >= 0) | (store.index.af == 1)
        return usable


class RRVariabilityData(WindowDataModule):
    """Windows whose RR intervals are known: five beats or more, and a rhythm label.

    Without a rhythm label (the noisy records of CinC 2017) only annotated beats count, since
    a detector cannot be trusted there.
    """

    target = staticmethod(rr_target)

    @staticmethod
    def eligible(store: Store) -> NDArray[np.bool_]:
        """Windows with measures that can be trusted."""
        index = store.index
        known = np.isfinite(index.rmssd_ms) & (index.rmssd_ms > 0) & (index.sdnn_ms > 0)
        trusted = (index.af >= 0) | index.reference_beats
        return np.logical_and(known, trusted)


def _sources(stores: str | list[Source]) -> list[Source]:
    if isinstance(stores, str):
        return [Source(stores)]
    return list(stores)


def _as_is(batch: Any) -> Any:
    return batch

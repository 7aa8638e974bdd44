"""Stores as sources of windows, a dataset of them, and the sampler that draws an epoch."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from sys import float_info
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from xecg.data.databases.synthetic import EMBEDDED, embedded_store
from xecg.data.splits import Ints, Split, Table, persons
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError, check_ranges


class Batch(NamedTuple):
    """What a task's step receives."""

    signal: Tensor  # (batch, 1, time) float32 in [0, 1]
    target: Tensor  # what the task is to predict
    window: Tensor  # (batch,) int64, position in the dataset


Target = Callable[[Store, Ints], NDArray[np.generic]]


@dataclass(frozen=True)
class Source:
    """One prepared store in a mixture; ConfigError if its weight is not positive.

    Args:
        store: Folder of the store, or ``synthetic``: the ECGs that come with xecg.
        weight: Share of an epoch's windows, relative to the other sources.
        name: Name in results; the folder's name by default.
        windows: ``normal_beats`` takes only windows in which every beat is annotated as a sinus
            beat in sinus rhythm.
        split: Shares of this store's persons (or records), if other than the data module's.
    """

    store: str
    weight: float = 1.0
    name: str | None = None
    windows: Literal["all", "normal_beats"] = "all"
    split: Split | None = None

    def __post_init__(self) -> None:
        check_ranges(weight=(self.weight, float_info.min))

    @property
    def label(self) -> str:
        """Name in results."""
        return self.name or Path(self.store).name

    @cached_property
    def opened(self) -> Store:
        """The store itself."""
        return embedded_store() if self.store == EMBEDDED else Store.open(Path(self.store))

    @property
    def table(self) -> Table:
        """Identity of the database, and the index of all windows."""
        return self.opened.info.identity, self.opened.index

    @property
    def chosen(self) -> NDArray[np.bool_]:
        """Whether each window of the store is one of ``windows``."""
        return self.opened.index["normal_beats"].to_numpy() | (self.windows == "all")


class WindowDataset(Dataset[Batch]):
    """Windows of rows of one or several stores, in their order, fetched a batch at a time.

    Raises DataError if there is no window at all.
    """

    def __init__(self, parts: Sequence[tuple[Store, Ints]], target: Target, name: str) -> None:
        self.parts, self.target, self.name = tuple(parts), target, name
        self.rows = np.concatenate([rows for _, rows in parts])
        self.ends = np.cumsum([len(rows) for _, rows in parts])
        if not len(self):
            stores = ", ".join(str(store.path) for store, _ in parts)
            raise DataError(f"{name}: no window of {stores} can be used for this task and split")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, position: int) -> Batch:
        return self.__getitems__([position])

    def __getitems__(self, positions: Sequence[int]) -> Batch:
        """Returns one batch of the windows at ``positions``, in that order."""
        asked = np.asarray(positions, dtype=np.int64)
        number_of = np.searchsorted(self.ends, asked, side="right")
        batches = []
        for number in np.unique(number_of):
            at = np.flatnonzero(number_of == number)
            store, rows = self.parts[number][0], self.rows[asked[at]]
            batches.append((at, store.signals[rows][:, None], self.target(store, rows)))
        at, *found = (np.concatenate(column) for column in zip(*batches, strict=True))
        signal, target = (torch.from_numpy(values[np.argsort(at)]) for values in found)
        return Batch(signal, target, torch.from_numpy(asked))

    def targets(self) -> NDArray[np.generic]:
        """Returns the target of every window, in order."""
        return np.concatenate([self.target(store, rows) for store, rows in self.parts])

    def column(self, name: str) -> NDArray[np.generic]:
        """Returns a column of the stores' index for every window, in order."""
        values = np.concatenate([store.index[name].to_numpy()[rows] for store, rows in self.parts])
        return values.astype(np.str_) if values.dtype == object else values

    def tables(self) -> list[Table]:
        """Returns the database and the index of the windows, part by part."""
        return [(store.info.identity, store.index.take(rows)) for store, rows in self.parts]

    def groups(self) -> Ints:
        """Returns a number per window, the same for windows of one person: ``(n,)``."""
        return persons(self.tables())

    def r_peaks(self, position: int) -> NDArray[np.int32]:
        """Returns the R peaks of a window, in samples from its start."""
        store, _ = self.parts[np.searchsorted(self.ends, position, side="right")]
        return store.r_peaks(int(self.rows[position]))


class MixtureSampler(Sampler[int]):
    """Draws positions from several pools, each with its relative share of the epoch.

    No position comes again before its pool is drawn whole. The order is a function of seed and
    epoch alone, so that a resumed run, and every process of a distributed one, draws the same.
    Raises ConfigError if a pool is empty or a share not positive.
    """

    def __init__(
        self, pools: list[Ints], shares: list[float], size: int, seed: int, epoch: Callable[[], int]
    ) -> None:
        if not all(len(pool) for pool in pools):
            raise ConfigError("a source or class of the training data has no window to draw")
        if min(shares) <= 0:
            raise ConfigError(f"shares of pools must be positive; found {shares}")
        self.pools, self.size, self.seed, self.epoch = tuple(pools), size, seed, epoch
        ends = np.cumsum([0.0, *shares]) / sum(shares) * size
        self.counts = np.diff(np.round(ends).astype(int))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng([self.seed, self.epoch()])
        drawn = []
        for pool, n in zip(self.pools, self.counts, strict=True):
            rounds = [rng.permutation(pool) for _ in range(-(-n // len(pool)))]
            drawn.append(np.concatenate([pool[:0], *rounds])[:n])
        yield from rng.permutation(np.concatenate(drawn)).tolist()

"""Which windows train, validate and test: by person over all stores, stratified, seeded."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from xecg.errors import ConfigError, StoreError, check_ranges

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, Part, Part] = ("train", "validation", "test")
Ints = NDArray[np.int64]  # rows, positions, numbers, keys
Table = tuple[str, pd.DataFrame]  # identity of a database, index of windows of it
_BITS = 2**48 - 1


@dataclass(frozen=True)
class Split:
    """Shares of the persons (records, where persons are unknown) that go to each part.

    Raises ConfigError if a share is negative, the shares do not sum to 1, or the seed is negative.

    Args:
        train: Share that the network learns from.
        validation: Share that selects the epoch.
        test: Share that is tested on.
        seed: Random seed of the draw.
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.shares) < 0 or not np.isclose(sum(self.shares), 1, atol=1e-6):
            wanted = "shares of at least 0 that sum to 1"
            raise ConfigError(f"split: expected {wanted}, found {self.shares}")
        check_ranges("split.", seed=(self.seed, 0))

    @property
    def shares(self) -> tuple[float, float, float]:
        """Shares of train, validation and test."""
        return self.train, self.validation, self.test


def split_stores(
    tables: Sequence[Table], splits: Sequence[Split], kept_out: Sequence[Ints] = ()
) -> list[dict[Part, Ints]]:
    """Returns the rows of each part, store by store, rising; each person is in one part.

    Each store is split alone: within a stratum (groups with any AF; the others by their most
    frequent rhythm) the parts get their shares of the groups, within two groups. A person of
    several stores is in the part that the first of them gives, and left out of a later store that
    has no share for it. Persons of windows with a key in ``kept_out`` are only tested on. Split
    whole indices, choose windows after.
    """
    alone = [_split_alone(index, split) for (_, index), split in zip(tables, splits, strict=True)]
    given = pd.Series(np.concatenate(alone)).groupby(persons(tables)).transform("first").to_numpy()
    if kept_out:
        out = np.concatenate([seen(*table, np.concatenate(kept_out)) for table in tables])
        given = np.where(out & (given != PARTS.index("test")), len(PARTS), given)
    rows_of: list[dict[Part, Ints]] = []
    parts = np.split(given, np.cumsum([len(a) for a in alone])[:-1])
    for number, split in zip(parts, splits, strict=True):
        used = np.append(split.shares, 0)[number] > 0
        rows_of.append({part: np.flatnonzero(used & (number == i)) for i, part in enumerate(PARTS)})
    return rows_of


def _split_alone(index: pd.DataFrame, split: Split) -> Ints:
    """Returns the number of the part of each window of one store: ``(windows,)``."""
    group_of, _ = pd.factorize(index["group"].to_numpy(dtype=object), sort=True)
    rhythm_of, _ = pd.factorize(index["rhythm"].to_numpy(dtype=object), sort=True)
    windows = pd.Series(rhythm_of).groupby([group_of, rhythm_of]).size()
    most_frequent = windows.groupby(level=0).idxmax()  # (group, rhythm) of each group
    strata = np.array([1 + rhythm for _, rhythm in most_frequent], dtype=np.int64)
    strata[group_of[index["af"].to_numpy() == 1]] = 0
    shuffled = np.random.default_rng(split.seed).permutation(len(strata))
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    wanted, dealt = np.asarray(split.shares) / sum(split.shares), np.zeros(len(PARTS))
    part_of_group = np.empty(len(strata), dtype=np.int64)
    for i, number in enumerate(order, 1):  # the part that is short of most is next
        part = np.where(wanted > 0, wanted * i - dealt, -np.inf).argmax()
        part_of_group[number] = part
        dealt[part] += 1
    return part_of_group[group_of]


def opposed(tables: Sequence[Table]) -> pd.Series:
    """Returns the records of each signal that is AF in one window and not in another, by digest."""
    named = (t.assign(record=t["record"].map(f"{at}/{{}}".lstrip("/").format)) for at, t in tables)
    known = pd.concat([t.loc[t["af"] >= 0, ["record", "af", "digest"]] for t in named])
    classes = known.groupby("digest")["af"].transform("nunique")
    return known[classes > 1].groupby("digest")["record"].agg(lambda r: ", ".join(sorted({*r})))


def persons(tables: Sequence[Table]) -> Ints:
    """Returns a number per window of all tables, ``(windows,)``: the same for one person.

    Windows of one person share identity, signal or group, directly or by way of other windows.
    """
    named = [
        np.column_stack([keys(*table), _hashed(table[1]["group"], f"{number} ")])
        for number, table in enumerate(tables)
    ]
    return _connected(np.concatenate(named))


def merge_groups(groups: NDArray[Any], digests: NDArray[np.uint64]) -> NDArray[Any]:
    """Gives groups that share a signal, directly or by way of others, the first of their names."""
    names = np.column_stack([pd.factorize(groups)[0], -1 - pd.factorize(digests)[0]])
    merged: NDArray[Any] = pd.Series(groups).groupby(_connected(names)).transform("min").to_numpy()
    return merged


def _connected(names: Ints) -> Ints:
    """Returns a number per row of ``(rows, names)``: equal for rows that names connect."""
    n_rows, n_names = names.shape
    known, name_of = np.unique(names, return_inverse=True)
    nodes = np.repeat(np.arange(n_rows), n_names), n_rows + name_of.ravel()
    shape = (n_rows + len(known),) * 2
    edges = coo_array((np.ones(names.size, np.int8), nodes), shape)
    component: Ints = connected_components(edges, directed=False)[1]
    return component[:n_rows]


def identities(database: str, index: pd.DataFrame) -> NDArray[np.str_]:
    """Returns the person of each window, else ``database/record``: ``(windows,)``."""
    person, record = (index[c].to_numpy(dtype=object) for c in ("person", "record"))
    return np.where(person == "", f"{database}/" + record, person).astype(np.str_)


def keys(database: str, index: pd.DataFrame) -> Ints:
    """Returns hashes of 48 bits of each window's identity and signal: ``(windows, 2)``."""
    signal = index["digest"].to_numpy().view(np.int64) & _BITS
    return np.column_stack([_hashed(identities(database, index)), signal])


def _hashed(names: ArrayLike, prefix: str = "") -> Ints:
    name_of, found = pd.factorize(np.asarray(names, dtype=object))
    digests = [hashlib.blake2b(f"{prefix}{n}".encode(), digest_size=6).digest() for n in found]
    return np.array([int.from_bytes(d, "little") for d in digests], dtype=np.int64)[name_of]


def seen(database: str, index: pd.DataFrame, learnt: ArrayLike) -> NDArray[np.bool_]:
    """Returns whether any window of each window's group has a key in ``learnt``: ``(windows,)``."""
    hit = np.flatnonzero(np.isin(keys(database, index), np.asarray(learnt)).any(axis=1))
    return index["group"].isin(index["group"].iloc[hit]).to_numpy()


def people(tables: Sequence[Table], learnt: ArrayLike) -> str:
    """Returns who of the tables was learnt from, and how many, in words; empty if there is none."""
    found = sorted({name for t in tables for name in identities(*t)[seen(*t, learnt)].tolist()})
    shown = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
    return f"{shown} ({len(found)} in all)" if found else ""


def assert_disjoint(parts: Mapping[str, Sequence[Table]]) -> None:
    """Raises StoreError if two parts of a run share a person or a signal."""
    for (name, tables), (other, others) in combinations(parts.items(), 2):
        if shared := people(others, np.concatenate([keys(*table) for table in tables])):
            raise StoreError(
                f"{name} data and {other} data must not share people; both hold {shared}. Keep the "
                "persons of a store out of training and validation by exclude_persons_of"
            )

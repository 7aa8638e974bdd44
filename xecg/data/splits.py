"""Which windows train, validate and test: by person, stratified, seeded, disjoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xecg.data.store import Index
from xecg.errors import ConfigError, StoreError

Part = Literal["train", "validation", "test"]
PARTS: tuple[Part, Part, Part] = ("train", "validation", "test")


@dataclass(frozen=True)
class Split:
    """Shares of the groups (persons, else records) that go to each part.

    `Split(train=0, validation=0, test=1)` makes a store an external test set.

    Args:
        train: Share that the network learns from.
        validation: Share that chooses the epoch.
        test: Share that is looked at once.
        seed: Another seed draws other groups.

    Raises:
        ConfigError: If a share is negative, the shares do not sum to 1, or the seed is negative.
    """

    train: float = 0.7
    validation: float = 0.15
    test: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        shares = self.shares
        if not all(share >= 0 for share in shares) or not np.isclose(sum(shares), 1, atol=1e-6):
            found = ", ".join(f"{p} {s:g}" for p, s in zip(PARTS, shares, strict=True))
            raise ConfigError(
                f"split: expected shares of at least 0 that sum to 1, found {found} "
                f"(sum {sum(shares):g})"
            )
        if self.seed < 0:
            raise ConfigError(f"split: expected a seed of at least 0, found {self.seed}")

    @property
    def shares(self) -> tuple[float, float, float]:
        """Train, validation, test."""
        return self.train, self.validation, self.test


def split_rows(index: Index, split: Split) -> dict[Part, NDArray[np.int64]]:
    """Rows of each part. No group is in two parts, every row is in one.

    Within each stratum (groups with any AF; the others by their most frequent rhythm) the parts
    get their share of the groups, within two groups. The result depends on the groups and their
    rhythms alone, not on the order of rows: split the whole index first, choose windows after. A
    small store may leave a part empty.

    Args:
        index: The whole index of a store.
        split: Shares and seed.

    Returns:
        `{"train": rows, "validation": rows, "test": rows}`, each rising.

    Raises:
        StoreError: If a group got into two parts.
    """
    names, group_of = np.unique(index.group, return_inverse=True)
    order = _shuffled_by_stratum(_strata(index, group_of), split.seed)
    part_of_group = np.empty(len(names), dtype=np.int64)
    part_of_group[order] = _parts_in_turn(len(names), split.shares)
    part_of_row = part_of_group[group_of]
    rows = {part: np.flatnonzero(part_of_row == i) for i, part in enumerate(PARTS)}
    _assert_groups_disjoint(index, rows)
    return rows


def assert_disjoint(train: Sequence[tuple[str, Index]], test: Sequence[tuple[str, Index]]) -> None:
    """Asserts that nobody is learnt from and held out, over any databases.

    Databases share people (15 records of `qtdb` come from people of `mitdb`); their `person` is
    the same name in both. Where the person is unknown, the group within its database counts.

    Args:
        train: The windows learnt from, with their database: `("qtdb", store.index.take(rows))`.
        test: The windows held out, with their database.

    Raises:
        StoreError: If a person, or a group of records without a known person, is in both.
    """
    shared = sorted(_identities(train) & _identities(test))
    if shared:
        shown = ", ".join(shared[:5]) + (", ..." if len(shared) > 5 else "")
        learnt, held_out = (", ".join(dict.fromkeys(name for name, _ in p)) for p in (train, test))
        raise StoreError(
            f"training data ({learnt}) and held-out data ({held_out}) must not share people; both "
            f"hold {shown} ({len(shared)} in all). Leave those out of one of them: where persons "
            "are known, name the test set's store in exclude_persons_of"
        )


def _strata(index: Index, group_of: NDArray[np.intp]) -> NDArray[np.int64]:
    """`(groups,)` 0 where a group has any AF, else 1 + the number of its main rhythm."""
    rhythms, rhythm_of = np.unique(index.rhythm, return_inverse=True)
    pairs, windows = np.unique(group_of * len(rhythms) + rhythm_of, return_counts=True)
    group, rhythm = np.divmod(pairs, max(len(rhythms), 1))
    by_count = np.lexsort((rhythm, -windows, group))
    _, first = np.unique(group[by_count], return_index=True)
    strata: NDArray[np.int64] = 1 + rhythm[by_count][first]
    strata[group_of[index.af == 1]] = 0
    return strata


def _shuffled_by_stratum(strata: NDArray[np.int64], seed: int) -> NDArray[np.intp]:
    """An order of the groups: stratum after stratum, shuffled within each."""
    shuffled = np.random.default_rng(seed).permutation(len(strata))
    return shuffled[np.argsort(strata[shuffled], kind="stable")]


def _parts_in_turn(n_groups: int, shares: tuple[float, float, float]) -> NDArray[np.int64]:
    """Deals parts out so that every run of groups gets its shares: the neediest part is next."""
    wanted = np.asarray(shares) / sum(shares)
    dealt = np.zeros(len(shares))
    parts = np.empty(n_groups, dtype=np.int64)
    for i in range(n_groups):
        need = np.where(wanted > 0, wanted * (i + 1) - dealt, -np.inf)
        parts[i] = need.argmax()
        dealt[parts[i]] += 1
    return parts


def _assert_groups_disjoint(index: Index, rows: dict[Part, NDArray[np.int64]]) -> None:
    groups = {part: set(index.group[chosen].tolist()) for part, chosen in rows.items()}
    for i, part in enumerate(PARTS):
        for other in PARTS[i + 1 :]:
            if shared := groups[part] & groups[other]:
                raise StoreError(f"split: {part} and {other} share the group {min(shared)!r}")


def _identities(indices: Sequence[tuple[str, Index]]) -> set[str]:
    return {
        person or f"{database}/{group}"
        for database, index in indices
        for person, group in set(zip(index.person.tolist(), index.group.tolist(), strict=True))
    }

"""Rows of different length in two flat arrays, as the R peaks of windows are kept."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xecg.errors import StoreError


@dataclass(frozen=True)
class Ragged:
    """Row `i` is `values[offsets[i]:offsets[i + 1]]`.

    Args:
        values: `(total,)` int32, the rows one after the other.
        offsets: `(rows + 1,)` int64, from 0 to `total`, never falling.

    Raises:
        StoreError: If the offsets do not fit the values.
    """

    values: NDArray[np.int32]
    offsets: NDArray[np.int64]

    def __post_init__(self) -> None:
        ends_fit = (
            len(self.offsets) > 0
            and self.offsets[0] == 0
            and self.offsets[-1] == len(self.values)
            and bool(np.all(np.diff(self.offsets) >= 0))
        )
        if not ends_fit:
            raise StoreError(
                f"ragged array: offsets must rise from 0 to {len(self.values)}, the number of "
                f"values; found {len(self.offsets)} offsets that do not"
            )

    @classmethod
    def of(cls, rows: Sequence[NDArray[np.int32]]) -> Ragged:
        """The given rows, in their order."""
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        values = np.concatenate([np.zeros(0, dtype=np.int32), *rows])
        return cls(values.astype(np.int32, copy=False), offsets)

    @classmethod
    def concatenate(cls, parts: Iterable[Ragged]) -> Ragged:
        """All rows of `parts`, in their order."""
        parts = list(parts)
        lengths = [np.diff(part.offsets) for part in parts]
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), *lengths]).cumsum()
        values = np.concatenate([np.zeros(0, dtype=np.int32), *(part.values for part in parts)])
        return cls(values.astype(np.int32, copy=False), offsets.astype(np.int64, copy=False))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> NDArray[np.int32]:
        row = range(len(self))[row]  # negative rows count from the end, others raise IndexError
        return self.values[self.offsets[row] : self.offsets[row + 1]]

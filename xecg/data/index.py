"""The table of a store: one line per window, one array per column."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.errors import StoreError


@dataclass(frozen=True)
class Index:
    """What is known about each window. All columns have the shape `(windows,)`.

    Args:
        record: Name of the record.
        person: Who was recorded; empty if unknown.
        group: What a split keeps together: the person, else the record, and one common name for
            groups that hold an identical signal.
        source: The collection the record came from, where the database is a mixture; else empty.
        lead: Name of the lead.
        start_s: Where the window begins in its record, in seconds.
        rhythm: The database's word for the rhythm; several are joined by `+` in order of time.
        af: 1 AF, 0 not AF, -1 to be left out of AF classification.
        n_beats: Heartbeats within the window.
        rmssd_ms: RMSSD in ms; NaN below five beats.
        sdnn_ms: SDNN in ms; NaN below five beats.
        reference_beats: Whether the heartbeats come from annotations, not from the detector.
        normal_beats: Whether the rhythm is annotated as sinus and so is every beat.
        wave_row: Row of the store's `waves`; -1 where no sample has a wave annotation.
        annotated_share: Share of the samples that have a wave annotation.

    Raises:
        StoreError: If columns differ in length or hold another kind of value.
    """

    record: NDArray[np.str_]
    person: NDArray[np.str_]
    group: NDArray[np.str_]
    source: NDArray[np.str_]
    lead: NDArray[np.str_]
    start_s: NDArray[np.float64]
    rhythm: NDArray[np.str_]
    af: NDArray[np.int8]
    n_beats: NDArray[np.int32]
    rmssd_ms: NDArray[np.float32]
    sdnn_ms: NDArray[np.float32]
    reference_beats: NDArray[np.bool_]
    normal_beats: NDArray[np.bool_]
    wave_row: NDArray[np.int32]
    annotated_share: NDArray[np.float32]

    def __post_init__(self) -> None:
        for name, kind in DTYPES.items():
            column = getattr(self, name)
            fits = column.dtype.kind == "U" if kind == "U" else column.dtype == np.dtype(kind)
            if column.ndim != 1 or not fits:
                raise StoreError(
                    f"index column {name!r}: expected one dimension of type {kind}, "
                    f"found shape {column.shape} of type {column.dtype}"
                )
            if len(column) != len(self.record):
                raise StoreError(
                    f"index column {name!r}: expected {len(self.record)} windows as in 'record', "
                    f"found {len(column)}"
                )

    def __len__(self) -> int:
        return len(self.record)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The columns by name, not copied."""
        return {name: getattr(self, name) for name in DTYPES}

    def take(self, rows: NDArray[np.int64] | Sequence[int]) -> Index:
        """The table of the given rows, in their order."""
        rows = np.asarray(rows, dtype=np.int64)
        return index_of({name: column[rows] for name, column in self.columns().items()})

    def shifted_waves(self, first: int) -> Index:
        """The table where the rows of `waves` are counted from `first` on."""
        return replace(
            self, wave_row=np.where(self.wave_row < 0, -1, self.wave_row + first).astype(np.int32)
        )


DTYPES: dict[str, str] = {
    field.name: {
        "NDArray[np.str_]": "U",
        "NDArray[np.float64]": "f8",
        "NDArray[np.float32]": "f4",
        "NDArray[np.int32]": "i4",
        "NDArray[np.int8]": "i1",
        "NDArray[np.bool_]": "?",
    }[str(field.type)]
    for field in fields(Index)
}
"""NumPy type of each column, in the order of `Index`."""


def index_of(columns: dict[str, NDArray[Any]]) -> Index:
    """An index out of columns by name.

    Raises:
        StoreError: If columns are missing or do not fit.
    """
    missing = [name for name in DTYPES if name not in columns]
    if missing:
        raise StoreError(f"index: the columns {', '.join(missing)} are missing")
    return Index(**{name: columns[name] for name in DTYPES})


def concatenate(parts: Sequence[Index]) -> Index:
    """All lines of `parts`, in their order."""
    return index_of(
        {
            name: np.concatenate(
                [np.zeros(0, dtype=kind), *(getattr(part, name) for part in parts)]
            )
            for name, kind in DTYPES.items()
        }
    )

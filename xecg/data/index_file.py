"""The file `index.npz`: the index and the R peaks of a store."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.data.index import DTYPES, Index, index_of
from xecg.data.ragged import Ragged
from xecg.errors import StoreError

INDEX_FILE = "index.npz"
_R_PEAKS, _OFFSETS = "r_peaks", "r_peak_offsets"


def write_index(folder: Path, index: Index, r_peaks: Ragged) -> None:
    """Writes the index and the R peaks, one array per column."""
    arrays: dict[str, NDArray[Any]] = {_R_PEAKS: r_peaks.values, _OFFSETS: r_peaks.offsets}
    np.savez(folder / INDEX_FILE, allow_pickle=False, **arrays, **index.columns())


def read_index(folder: Path, n_windows: int) -> tuple[Index, Ragged]:
    """Reads what `write_index` wrote.

    Args:
        folder: The store.
        n_windows: How many windows it must have.

    Raises:
        StoreError: If the file is missing, damaged, or has another number of windows.
    """
    path = folder / INDEX_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            index = index_of({name: arrays[name] for name in DTYPES if name in arrays})
            r_peaks = Ragged(arrays[_R_PEAKS], arrays[_OFFSETS])
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, StoreError) as error:
        raise damaged(path, error) from error
    if len(index) != n_windows or len(r_peaks) != n_windows:
        found = f"{len(index)} and R peaks of {len(r_peaks)}"
        raise damaged(path, f"expected {n_windows} windows, found {found}")
    return index, r_peaks


def damaged(path: Path, why: object) -> StoreError:
    """The error for a file of a store that is not as it was written."""
    return StoreError(
        f"{path}: missing or damaged ({why}); prepare the store again with --overwrite"
    )

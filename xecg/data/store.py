"""Prepared windows on disk: memory-mapped arrays and an index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xecg.data.index import Index
from xecg.data.index_file import damaged, read_index
from xecg.data.ragged import Ragged
from xecg.data.store_info import StoreInfo

SIGNALS_FILE = "signals.npy"
WAVES_FILE = "waves.npy"


@dataclass(frozen=True, eq=False)
class Store:
    """Windows of one database, ready for training.

    Opening reads the index only; signals and waves stay on disk until they are used. A store that
    is sent to another process is opened there anew.

    Args:
        path: The folder.
        signals: `(windows, window_samples)` float32, scaled as `info.preprocessing` says.
        waves: `(annotated windows, window_samples)` uint8 wave codes; `index.wave_row` points here.
        index: One line per window.
        info: Where the windows come from and how they were made.
        ragged_r_peaks: R peaks of all windows; see `r_peaks`.
    """

    path: Path
    signals: NDArray[np.float32]
    waves: NDArray[np.uint8]
    index: Index
    info: StoreInfo
    ragged_r_peaks: Ragged

    @classmethod
    def open(cls, path: Path | str) -> Store:
        """Opens a prepared store.

        Args:
            path: Its folder.

        Raises:
            StoreError: If it is missing, incomplete, damaged, or of another format.
        """
        path = Path(path)
        info = StoreInfo.read(path)
        window = info.preprocessing.window_samples
        signals = _open_array(path / SIGNALS_FILE, (info.n_windows, window), np.dtype("f4"))
        waves = _open_array(path / WAVES_FILE, (info.n_annotated, window), np.dtype("u1"))
        index, r_peaks = read_index(path, info.n_windows)
        return cls(path, signals, waves, index, info, r_peaks)

    def __len__(self) -> int:
        return len(self.index)

    def __reduce__(self) -> tuple[Any, ...]:
        return Store.open, (self.path,)

    def r_peaks(self, row: int) -> NDArray[np.int32]:
        """`(beats,)` R peaks of a window, in samples from its start."""
        return self.ragged_r_peaks[row]


def _open_array(path: Path, shape: tuple[int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Maps a `.npy` file of which shape and type are known."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged(path, error) from error
    if array.shape != shape or array.dtype != dtype:
        raise damaged(
            path, f"expected shape {shape} of {dtype}, found {array.shape} of {array.dtype}"
        )
    return array  # type: ignore[no-any-return]

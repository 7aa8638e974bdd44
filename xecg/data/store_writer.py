"""Writes a store window by window, so that memory does not grow with the number of records."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from xecg.data import index as indices
from xecg.data.growing_array import GrowingArray
from xecg.data.identical import merge_groups
from xecg.data.index import Index
from xecg.data.index_file import write_index
from xecg.data.ragged import Ragged
from xecg.data.store import SIGNALS_FILE, WAVES_FILE
from xecg.data.windowing import LabelledWindows


class StoreWriter:
    """Fills a new folder with the arrays and the index of a store.

    Signals and waves go to disk as they come; what stays in memory is the index.

    Args:
        folder: A folder that does not exist yet.
        window_samples: Length of a window.
    """

    def __init__(self, folder: Path, window_samples: int) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.left_out: Counter[str] = Counter()
        self._indices: list[Index] = []
        self._r_peaks: list[Ragged] = []
        self._digests: list[NDArray[np.uint64]] = []
        self._files = ExitStack()
        row = (window_samples,)
        self._signals = self._files.enter_context(
            GrowingArray(folder / SIGNALS_FILE, row, np.float32)
        )
        self._waves = self._files.enter_context(GrowingArray(folder / WAVES_FILE, row, np.uint8))

    @property
    def n_windows(self) -> int:
        """Windows written so far."""
        return self._signals.n_rows

    @property
    def n_annotated(self) -> int:
        """Windows with wave annotations written so far."""
        return self._waves.n_rows

    def append(self, windows: LabelledWindows) -> None:
        """Adds windows at the end."""
        self._indices.append(windows.index.shifted_waves(self._waves.n_rows))
        self._signals.append(windows.signals)
        self._waves.append(windows.waves)
        self._r_peaks.append(windows.r_peaks)
        self._digests.append(windows.digests)
        self.left_out.update(windows.left_out)

    def write_index(self) -> None:
        """Joins the groups of identical signals and writes the index."""
        index = indices.concatenate(self._indices)
        r_peaks = Ragged.concatenate(self._r_peaks)
        if len(index):
            index = replace(index, group=merge_groups(index.group, np.concatenate(self._digests)))
        write_index(self.folder, index, r_peaks)

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._files.close()

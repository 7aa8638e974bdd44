"""Windows of ECGs with what a network says of them, and where each branch looks in them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xecg.explain.relevance import CLASSES
from xecg.inference.records import LeadWindows
from xecg.networks import FUSED

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xecg.explain.pictures import ExplainedWindow

Floats = NDArray[np.float32]

NOT_JUDGED = "cannot be judged"
_PLOTTED = 4  # windows


def predicted(p_af: ArrayLike, threshold: float = 0.5) -> NDArray[np.str_]:
    """Returns AF for each probability of AF above the threshold, else non-AF, in words."""
    return np.array(CLASSES)[(np.asarray(p_af) > threshold).astype(np.int64)]


def spread(n: int, most: int) -> list[int]:
    """Returns at most ``most`` of the rows 0 to n - 1, evenly spread, first and last included."""
    rows: list[int] = np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()
    return rows


@dataclass(frozen=True, eq=False)
class Maps:
    """Windows of ECGs, and where each branch looks in them.

    Args:
        table: A row a window: ``record`` and ``lead``, or ``signal``; ``start_s``, ``p_af``,
            ``p_af_<branch>``, ``quality``, ``predicted``, ``note``, and ``<branch>_<statistic>`` of
            :func:`xecg.wave_relevance`, and of :func:`xecg.explain.wave_effects` if asked for.
        signal: What the network saw, scaled, float32 ``(windows, time)``.
        relevance: By branch, of the class that it predicts, float32 ``(windows, time)``.
        r_peaks: R peaks of each window, in samples of the window.
        sampling_rate: Sampling rate of the windows in Hz.
        leads: What the windows were cut from, in their order.
        threshold: A window is called AF where the probability of all branches is above it.
    """

    table: pd.DataFrame
    signal: Floats
    relevance: dict[str, Floats]
    r_peaks: list[NDArray[np.int64]]
    sampling_rate: float
    leads: Sequence[LeadWindows] = field(repr=False)
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.signal)

    def plot(self, rows: Sequence[int] | None = None) -> "Figure":
        """Draws windows on ECG paper, one below the other.

        Args:
            rows: Rows of the windows; by default four, evenly spread.
        """
        from xecg.explain.pictures import draw_page  # matplotlib is slow to import

        return draw_page(self.drawable(spread(len(self), _PLOTTED) if rows is None else rows))

    def drawable(self, rows: Sequence[int]) -> "list[ExplainedWindow]":
        """Returns windows, not scaled and in the units of their leads, for the pictures."""
        places = [(lead, row) for lead in self.leads for row in range(len(lead))]
        return [self._drawable(row, *places[row]) for row in rows]

    def _drawable(self, row: int, lead: LeadWindows, row_of_lead: int) -> "ExplainedWindow":
        """A window that is not scaled, in the unit of its lead."""
        from xecg.explain.pictures import ExplainedWindow

        columns = {FUSED: "p_af"} | {branch: f"p_af_{branch}" for branch in self.relevance}
        p_af = {name: float(self.table[column].iloc[row]) for name, column in columns.items()}
        classes = dict(zip(p_af, map(str, predicted([*p_af.values()])), strict=True))
        classes[FUSED] = str(self.table["predicted"].iloc[row])
        note = str(self.table["note"].iloc[row])
        if note:
            note = f"{NOT_JUDGED}: {note}"
            del classes[FUSED]
        band = lead.preprocessing.low_hz, lead.preprocessing.high_hz
        return ExplainedWindow(
            record=lead.record,
            lead=lead.lead,
            start_s=float(lead.start_s[row_of_lead]),
            signal=lead.filtered[row_of_lead],
            unit=lead.unit,
            sampling_rate=self.sampling_rate,
            r_peaks=self.r_peaks[row],
            relevance={branch: maps[row] for branch, maps in self.relevance.items()},
            p_af=p_af,
            predicted=classes,
            note=note,
            threshold=None if note else self.threshold,
            band_hz=band,
        )

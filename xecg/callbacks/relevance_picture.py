"""A picture of some ECGs of a probe, quick to draw again when their relevance has changed."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from xecg.callbacks.probe import Probe
from xecg.callbacks.relevance_measures import BranchRelevance
from xecg.explain.pictures import ExplainedWindow, draw_ground, draw_traces
from xecg.explain.summary import CLASSES

_DPI = 72.0  # 841 pixels across, to be read on a screen

Branches = Mapping[str, BranchRelevance]


class RelevancePicture:
    """ECGs one below the other, coloured by the relevance that each branch gave them.

    Paper and texts, which take most of the time, are drawn once; only the traces are drawn again.

    Args:
        probe: Windows that hold the ECGs.
        rows: Those to draw.
        names: Of the branches.
    """

    def __init__(self, probe: Probe, rows: Sequence[int], names: Sequence[str]) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        self._probe, self._rows = probe, rows
        nothing = dict.fromkeys(names, np.zeros(probe.signals.shape[-1]))
        figure, self._axes = draw_ground([self._window(row, nothing) for row in rows])
        figure.set_dpi(_DPI)
        canvas: Any = FigureCanvasAgg(figure)
        canvas.draw()
        self._canvas, self._ground = canvas, canvas.copy_from_bbox(figure.bbox)

    def image(self, branches: Branches) -> Any:
        """The picture for W&B; its caption says what the ECGs are and what is said of them."""
        from wandb import Image

        return Image(self._pixels(branches), caption="; ".join(self._captions(branches)))

    def _pixels(self, branches: Branches) -> Any:
        """RGB ``(height, width, 3)``."""
        maps = {name: branch.maps.numpy() for name, branch in branches.items()}
        windows = [
            self._window(row, {name: of_all[row] for name, of_all in maps.items()})
            for row in self._rows
        ]
        self._canvas.restore_region(self._ground)
        for trace in draw_traces(self._axes, windows):
            self._axes.draw_artist(trace)
            trace.remove()
        return np.asarray(self._canvas.buffer_rgba())[..., :3]

    def _captions(self, branches: Branches) -> Iterator[str]:
        for row in self._rows:
            said = ", ".join(f"{name} {branch.p_af[row]:.2f}" for name, branch in branches.items())
            label = CLASSES[self._probe.classes[row]]
            yield f"{self._probe.records[row]} labelled {label}, p(AF) by {said}"

    def _window(self, row: int, relevance: Mapping[str, Any]) -> ExplainedWindow:
        probe = self._probe
        return ExplainedWindow(
            record=str(probe.records[row]),
            lead=str(probe.leads[row]),
            start_s=float(probe.starts_s[row]),
            signal=probe.signals[row, 0].numpy(),
            unit="",  # scaled to [0, 1]
            sampling_rate=probe.sampling_rate,
            r_peaks=probe.r_peaks[row],
            relevance=relevance,
            p_af={},  # stand in the caption: texts are slow to draw
            predicted={},
        )

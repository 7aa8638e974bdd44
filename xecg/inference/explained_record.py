"""A record with what the network makes of it, and where it looked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xecg.explain.deep_taylor import DeepTaylor, RuleSet
from xecg.explain.page import WindowResult
from xecg.explain.pictures import FUSED, ExplainedWindow
from xecg.explain.wave_relevance import RelevanceStatistics, relevance_statistics
from xecg.inference.classifier import Classifier, Floats, class_names, is_af
from xecg.inference.record_map import Progress
from xecg.inference.record_windows import RecordWindows, read_windows

NO_PEAK = -1
"""Fills the rows of R peaks of windows that have fewer than another one."""

_BATCH = 16  # windows: explaining keeps what every layer gave


@dataclass(frozen=True, eq=False)
class ExplainedRecord:
    """What the network makes of the windows of a record.

    Args:
        windows: The windows.
        p_af: Probability of AF under ``"fused"`` and by branch, ``(windows,)``.
        r_peaks: R peaks of each window, in samples of the window.
        relevance: By branch, of the class that it predicts, float32 ``(windows, time)``.
        statistics: Relevance per wave, by branch.
    """

    windows: RecordWindows
    p_af: dict[str, Floats]
    r_peaks: list[NDArray[np.int64]]
    relevance: dict[str, Floats]
    statistics: dict[str, RelevanceStatistics]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is kept of the record, each ``windows`` long but for the sampling rate.

        ``signal`` is what the network saw, scaled to [0, 1]; ``predicted`` is 1 for AF and 0 for
        non-AF; ``r_peaks`` are samples of the window, filled up with -1.
        """
        by_branch = {f"p_af_{name}": self.p_af[name] for name in self.relevance}
        maps = {f"relevance_{name}": relevance for name, relevance in self.relevance.items()}
        return {
            "signal": self.windows.signals,
            "sampling_rate": np.array(self.windows.preprocessing.sampling_rate),
            "start_s": self.windows.start_s,
            "p_af": self.p_af[FUSED],
            **by_branch,
            "predicted": is_af(self.p_af[FUSED]).astype(np.int64),
            "r_peaks": _filled_up(self.r_peaks),
            **maps,
        }

    def results(self) -> Iterator[WindowResult]:
        """What tables tell of each window."""
        predicted = class_names(self.p_af[FUSED])
        for row, start_s in enumerate(self.windows.start_s.tolist()):
            yield WindowResult(
                start_s=start_s,
                predicted=predicted[row],
                p_af={name: float(p[row]) for name, p in self.p_af.items()},
                enrichment={
                    branch: {wave: float(v[row]) for wave, v in statistics.enrichment.items()}
                    for branch, statistics in self.statistics.items()
                },
            )

    def drawable(self, row: int) -> ExplainedWindow:
        """A window as it is drawn: not scaled, in the unit of its lead."""
        windows = self.windows
        return ExplainedWindow(
            record=windows.record,
            lead=windows.lead,
            start_s=float(windows.start_s[row]),
            signal=windows.filtered[row],
            unit=windows.unit,
            sampling_rate=windows.preprocessing.sampling_rate,
            r_peaks=self.r_peaks[row],
            relevance={branch: maps[row] for branch, maps in self.relevance.items()},
            p_af={name: float(p[row]) for name, p in self.p_af.items()},
            predicted={name: class_names(p)[row] for name, p in self.p_af.items()},
        )


class Explainer:
    """Classifies records and explains each branch's own decision.

    Args:
        classifier: The network with its preprocessing.
        rules: Rule set of deep Taylor decomposition.
        lead: Name of the lead; None takes the preferred one of each record.
    """

    def __init__(self, classifier: Classifier, rules: RuleSet, lead: str | None = None) -> None:
        self.classifier, self.lead = classifier, lead
        self._deep_taylor = DeepTaylor(classifier.network, rules)

    def explain(self, record: str, path: Path, progress: Progress) -> ExplainedRecord:
        """Read, classify and explain a record.

        Args:
            record: What the record is called in the results.
            path: The record.
            progress: Told how many more windows are explained, again and again.

        Raises:
            XECGError: The record cannot be used.
        """
        preprocessing = self.classifier.preprocessing
        windows = read_windows(path, preprocessing, lead=self.lead, record=record)
        signals, r_peaks = windows.signals, windows.r_peaks()
        relevance = self._relevance(signals, progress)
        statistics = {
            branch: relevance_statistics(maps, r_peaks, preprocessing.sampling_rate)
            for branch, maps in relevance.items()
        }
        return ExplainedRecord(
            windows, self.classifier.p_af(signals), r_peaks, relevance, statistics
        )

    def _relevance(self, signals: Floats, progress: Progress) -> dict[str, Floats]:
        parts: dict[str, list[Floats]] = {branch: [] for branch in self.classifier.branches}
        for batch in torch.split(torch.from_numpy(signals).unsqueeze(1), _BATCH):
            maps = self._deep_taylor.attribute(batch)
            assert isinstance(maps, dict)  # one map for each branch
            for branch, relevance in maps.items():
                parts[branch].append(relevance.squeeze(1).numpy())
            progress(len(batch))
        return {branch: np.concatenate(maps) for branch, maps in parts.items()}


def _filled_up(r_peaks: list[NDArray[np.int64]]) -> NDArray[np.int64]:
    longest = max(len(peaks) for peaks in r_peaks)
    filled = np.full((len(r_peaks), longest), NO_PEAK, dtype=np.int64)
    for row, peaks in zip(filled, r_peaks, strict=True):
        row[: len(peaks)] = peaks
    return filled

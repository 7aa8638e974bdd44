"""Explanations of many records: arrays, pictures, a table, and a page that collects them."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from xecg.errors import ConfigError
from xecg.explain.deep_taylor import DeepTaylor, RuleSet
from xecg.explain.page import PageEntry, WindowResult, write_page
from xecg.explain.pictures import FUSED, ExplainedWindow, draw_page, save_figure
from xecg.explain.relevance import WAVES, enrichment_column, wave_relevance
from xecg.files import whole_file
from xecg.inference.classify import probability_columns
from xecg.inference.model import Classifier, Floats, class_names, is_af
from xecg.inference.records import (
    Problems,
    Progress,
    RecordWindows,
    list_records,
    map_records,
    read_windows,
)

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
    statistics: dict[str, pd.DataFrame]

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
                    branch: {wave: float(table[enrichment_column(wave)][row]) for wave in WAVES}
                    for branch, table in self.statistics.items()
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
            branch: wave_relevance(maps, r_peaks, preprocessing.sampling_rate)
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


_PER_SHEET = 2


def draw_record(
    explained: ExplainedRecord, folder: Path, *, ending: str, most: int, overwrite: bool
) -> list[Path]:
    """Draw windows of a record.

    Args:
        explained: The record.
        folder: Where the sheets are written, as ``<record>.png``, ``<record>.sheet2.png``, ...
        ending: ``"png"`` or ``"svg"``.
        most: How many windows to draw at most; of a longer record they are spread evenly.
        overwrite: Replace files that exist.

    Returns:
        The sheets in order.
    """
    rows = spread(len(explained.windows), most)
    sheets = [rows[start : start + _PER_SHEET] for start in range(0, len(rows), _PER_SHEET)]
    paths = []
    for number, sheet in enumerate(sheets, start=1):
        figure = draw_page([explained.drawable(row) for row in sheet])
        suffix = ending if number == 1 else f"sheet{number}.{ending}"
        path = folder / f"{explained.windows.record}.{suffix}"
        paths.append(save_figure(figure, path, overwrite=overwrite))
    return paths


def spread(n: int, most: int) -> list[int]:
    """At most ``most`` of the rows 0 to n - 1, evenly spread, the first and last among them."""
    rows: list[int] = np.linspace(0, n - 1, min(n, most)).round().astype(int).tolist()
    return rows


SUMMARY, PAGE = "summary.csv", "index.html"


@dataclass(frozen=True)
class Output:
    """What is written for each record.

    Args:
        folder: Where everything is written.
        picture: Kind of the pictures.
        most_drawn: How many windows of a record to draw at most; 0 draws none.
        overwrite: Replace files of an earlier run.

    Raises:
        ConfigError: A number below 0; or the folder holds something already, or cannot be made.
    """

    folder: Path
    picture: Literal["png", "svg"] = "png"
    most_drawn: int = 12
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.most_drawn < 0:
            raise ConfigError(f"expected 0 or more windows to draw, found {self.most_drawn}")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {self.folder}: cannot be made ({error})") from error
        if any(self.folder.iterdir()) and not self.overwrite:
            raise ConfigError(
                f"--out {self.folder} is not empty; name another folder, or pass --overwrite"
            )

    def write(self, explained: ExplainedRecord) -> PageEntry:
        """Write the arrays and pictures of a record; returns its part of the page."""
        record = explained.windows.record
        path = self.folder / f"{record}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = explained.arrays()
        with whole_file(path, "wb") as file:
            np.savez_compressed(file, **arrays)
        pictures = draw_record(
            explained,
            self.folder,
            ending=self.picture,
            most=self.most_drawn,
            overwrite=self.overwrite,
        )
        return PageEntry(record, list(explained.results()), pictures)


def explain(
    paths: Iterable[Path],
    output: Output,
    *,
    weights: str | Path,
    rules: RuleSet = "innvestigate",
    lead: str | None = None,
) -> int:
    """Explain records; writes ``<record>.npz`` and pictures, a table, a page, ``errors.csv``.

    Args:
        paths: WFDB records or folders of them.
        output: Where and what to write.
        weights: A weights file, or released weights by name.
        rules: Rule set of deep Taylor decomposition.
        lead: Name of the lead; None takes the preferred one of each record.

    Returns:
        Number of records that could not be explained.

    Raises:
        WeightsError: The weights cannot be used.
    """
    explainer = Explainer(Classifier.load(weights), rules, lead)
    records, failures = list_records(paths)
    problems = Problems(failures)
    entries = []
    with whole_file(output.folder / SUMMARY) as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(summary_header(explainer.classifier.branches))
        for explained in map_records(explainer.explain, records, problems, title="explain"):
            if explained.windows.left_out:
                problems.warn(explained.windows.record, explained.windows.left_out)
            entry = output.write(explained)
            table.writerows(summary_rows(entry))
            entries.append(entry)
    problems.write(output.folder)
    write_page(
        output.folder / PAGE,
        entries,
        title="ECGs explained",
        note=_note(explainer, rules, entries, output),
        failures=problems.failures,
        overwrite=output.overwrite,
    )
    return len(problems.failures)


def summary_header(branches: Sequence[str]) -> list[str]:
    """Names of the columns of ``summary_rows``."""
    enrichments = [f"enrichment_{branch}_{wave}" for branch in branches for wave in WAVES]
    return ["record", "start_s", "predicted", *probability_columns(branches), *enrichments]


def summary_rows(entry: PageEntry) -> Iterator[list[str]]:
    """A row for each window; nan where an enrichment could not be measured.

    In windows that are predicted AF, what stands under P is the place where P would be.
    """
    for window in entry.windows:
        enrichments = chain.from_iterable(w.values() for w in window.enrichment.values())
        numbers = (f"{number:.6g}" for number in (*window.p_af.values(), *enrichments))
        yield [entry.record, f"{window.start_s:.10g}", window.predicted, *numbers]


def _note(
    explainer: Explainer, rules: RuleSet, entries: Sequence[PageEntry], output: Output
) -> str:
    notes = [
        f"Weights {explainer.classifier.weights.name}, rules {rules}, "
        f"xecg {version('xecg-lightning')}. Not a medical device."
    ]
    if 0 < output.most_drawn < max((len(entry.windows) for entry in entries), default=0):
        notes.append(f"Of longer records {output.most_drawn} windows, evenly spread, are drawn.")
    return " ".join(notes)

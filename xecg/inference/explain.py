"""Explanations of many records: arrays, pictures, a table, and a page that collects them."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xecg.errors import ConfigError
from xecg.explain.deep_taylor import RuleSet
from xecg.explain.page import PageEntry, write_page
from xecg.explain.wave_measures import WAVES
from xecg.files import whole_file
from xecg.inference.classifier import Classifier
from xecg.inference.classify import probability_columns
from xecg.inference.explained_record import ExplainedRecord, Explainer
from xecg.inference.problems import Problems
from xecg.inference.record_list import list_records
from xecg.inference.record_map import map_records
from xecg.inference.record_pictures import draw_record

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

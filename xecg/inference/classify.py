"""Probabilities of AF for every window of many records, as a table."""

import csv
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xecg.errors import ConfigError, XECGError
from xecg.explain.pictures import FUSED
from xecg.files import whole_file
from xecg.inference.model import BATCH, Classifier, Floats, class_names, is_af
from xecg.inference.records import (
    ERRORS,
    Problems,
    Progress,
    RecordWindows,
    list_records,
    map_groups,
    read_windows,
)

Row = Sequence[str | int]

_GROUP = 32  # records that a thread takes at a time


@dataclass(frozen=True, eq=False)
class ClassifiedRecord:
    """What the network makes of a record.

    Args:
        record: What the record is called in the results.
        start_s: Where each window starts, in seconds, ``(windows,)``.
        p_af: Probability of AF of each window under ``"fused"`` and by branch, ``(windows,)``.
        left_out: Which windows could not be used, and why.
    """

    record: str
    start_s: NDArray[np.float64]
    p_af: dict[str, Floats]
    left_out: str


def classify(
    paths: Iterable[Path],
    out: Path,
    *,
    weights: str | Path,
    lead: str | None = None,
    per_record: bool = False,
    overwrite: bool = False,
) -> int:
    """Classify records and write a table, and beside it ``errors.csv`` if there is any to tell.

    Args:
        paths: WFDB records or folders of them.
        out: The table: a row per window, see ``window_rows``, or per record, see ``record_row``.
        weights: A weights file, or released weights by name.
        lead: Name of the lead; None takes the preferred one of each record.
        per_record: A row per record.
        overwrite: Replace the table and the ``errors.csv`` of an earlier run.

    Returns:
        Number of records that could not be classified.

    Raises:
        ConfigError: The table or ``errors.csv`` exists.
        WeightsError: The weights cannot be used.
    """
    _check_free(out, overwrite)
    classifier = Classifier.load(weights)
    records, failures = list_records(paths)
    problems = Problems(failures)
    work = partial(_classify_group, classifier=classifier, lead=lead)
    header = record_header if per_record else window_header
    rows: Callable[[ClassifiedRecord], Iterable[Row]] = (
        (lambda result: [record_row(result)]) if per_record else window_rows
    )
    with whole_file(out) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header(classifier.branches))
        for result in map_groups(work, records, problems, size=_GROUP, title="classify"):
            if result.left_out:
                problems.warn(result.record, result.left_out)
            writer.writerows(rows(result))
    problems.write(out.parent)
    return len(problems.failures)


def window_header(branches: Iterable[str]) -> list[str]:
    """Names of the columns of ``window_rows``."""
    return ["record", "start_s", *probability_columns(branches), "predicted"]


def window_rows(result: ClassifiedRecord) -> list[Row]:
    """A row for each window: record, start in seconds, probabilities of AF, predicted class."""
    starts = (f"{start:.10g}" for start in result.start_s)
    probabilities = zip(*(map(_text, p) for p in result.p_af.values()), strict=True)
    predicted = class_names(result.p_af[FUSED])
    return [
        (result.record, start, *p, name)
        for start, p, name in zip(starts, probabilities, predicted, strict=True)
    ]


def record_header(branches: Iterable[str]) -> list[str]:
    """Names of the columns of ``record_row``."""
    return ["record", "windows", "af_share", *probability_columns(branches), "predicted"]


def record_row(result: ClassifiedRecord) -> Row:
    """One row for a record.

    Its probabilities are the means over its windows, and the predicted class is that of the mean;
    AF that comes and goes shows in ``af_share``, the share of the windows in which it is predicted.
    """
    means = {name: np.mean(p, dtype=np.float64) for name, p in result.p_af.items()}
    share = is_af(result.p_af[FUSED]).mean()
    (predicted,) = class_names(means[FUSED].reshape(1))
    n_windows = len(result.start_s)
    return (result.record, n_windows, _text(share), *map(_text, means.values()), predicted)


def probability_columns(branches: Iterable[str]) -> list[str]:
    """Names of the columns that hold probabilities of AF: fused, then by branch."""
    return ["p_af", *(f"p_af_{branch}" for branch in branches)]


def _classify_group(
    group: Mapping[str, Path], progress: Progress, *, classifier: Classifier, lead: str | None
) -> dict[str, ClassifiedRecord | XECGError]:
    """Short records are classified together, since a network is slow on a few windows."""
    outcomes: dict[str, ClassifiedRecord | XECGError] = {}
    waiting: list[RecordWindows] = []
    for record, path in group.items():
        try:
            windows = read_windows(path, classifier.preprocessing, lead=lead, record=record)
        except XECGError as error:
            outcomes[record] = error
            continue
        waiting.append(windows)
        if sum(map(len, waiting)) >= BATCH:
            outcomes |= _classify_together(waiting, classifier, progress)
            waiting = []
    outcomes |= _classify_together(waiting, classifier, progress)
    return {record: outcomes[record] for record in group}


def _classify_together(
    records: Sequence[RecordWindows], classifier: Classifier, progress: Progress
) -> dict[str, ClassifiedRecord]:
    if not records:
        return {}
    p_af = classifier.p_af(np.concatenate([windows.signals for windows in records]), progress)
    ends = np.cumsum([len(windows) for windows in records])
    return {
        windows.record: ClassifiedRecord(
            windows.record,
            windows.start_s,
            {name: p[end - len(windows) : end] for name, p in p_af.items()},
            windows.left_out,
        )
        for windows, end in zip(records, ends, strict=True)
    }


def _text(number: float) -> str:
    return f"{number:.6g}"


def _check_free(out: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected the name of a table, such as p.csv")
    for path in (out, out.parent / ERRORS):
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists already; name another --out, or pass --overwrite")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {out}: its folder cannot be made ({error})") from error

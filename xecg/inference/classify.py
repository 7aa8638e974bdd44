"""Probabilities of AF for every window of many records, as a table."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from xecg.errors import ConfigError
from xecg.inference.model import NOT_JUDGED, Identity, load, load_once, predicted
from xecg.inference.records import LeadWindows, Problem, made_in_parts, read_items, write_part

_PIECE = 64  # records at most
_TOGETHER = 32  # windows: the network takes as many at a time
_FEW = 2000  # records that this process has classified before others have started


def classify(
    paths: list[Path],
    out: Path,
    *,
    weights: str | Path = "xecgarch",
    operating_point: str | None = None,
    threshold: float | None = None,
    lead: str | None = None,
    sampling_rate: float | None = None,
    per_record: bool = False,
    overwrite: bool = False,
    jobs: int | None = None,
    cluster: str | None = None,
) -> int:
    """Writes the probability of AF of each window of ECGs as a CSV table.

    Its columns are record, lead, start_s, p_af (all branches together), p_af_<branch>, quality
    (1 best, below 0.5 too low), predicted (AF where p_af is above the threshold, else non-AF;
    "cannot be judged" where the quality is too low, or together the branches call AF but to one of
    them the window speaks against it) and note, which says why. The last window of a record ends
    with it. Records that cannot be classified, and windows that cannot be used (missing samples,
    flat line), are printed and listed in OUT.errors.csv; the exit status is 1 if a record is
    missing. A command that was killed continues when it is given again. Not a medical device.

    Args:
        paths: ECGs, or folders of them: WFDB, HL7 aECG, MUSE XML, SCP-ECG, DICOM, EDF, ISHNE,
            Kardia JSON, Apple Health CSV (by the extra formats); CSV and NPY with --sampling_rate.
        out: Table to write, such as predictions.csv.
        weights: Name of released weights, weights file, folder of a run, or user/model of the hub.
        operating_point: Threshold that the weights name: sensitive, balanced (by default) or
            specific; 0.5 if they name none.
        threshold: Probability above which a window is called AF, in place of an operating point.
        lead: Name of the lead; by default II, else MLII, else I, else the first.
        sampling_rate: Sampling rate in Hz of CSV and NPY files, which do not say it; a column is a
            lead, with or without its name (II, or II (mV)) above.
        per_record: Write one row per record: number of windows, how many can be judged, and of
            these af_share (the share predicted AF), mean probabilities, and the class of the mean.
        overwrite: Replace the table and its errors.
        jobs: Number of processes; one per core by default, this one alone for few records.
        cluster: Address or scheduler file of a dask cluster, in place of processes.

    Returns the number of records that cannot be classified; raises XECGError if none can be, the
    table exists or cannot be written, or the weights cannot be used.
    """
    errors = out.with_suffix(".errors.csv")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected the name of a table, such as p.csv")
    for path in (out, errors):
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists already; name another --out, or pass --overwrite")
    model = load(weights, operating_point=operating_point, threshold=threshold)
    work = partial(classify_piece, model.identity, lead, per_record)
    how = (_PIECE, _FEW, jobs, cluster, sampling_rate)
    with made_in_parts(work, paths, out, *how) as made:
        made.write(out)
        made.report(errors)
    return len(made.failures)


def classify_piece(
    weights: Identity, lead: str | None, per_record: bool, items: Sequence[str], path: Path
) -> None:
    """Classifies the records of a piece; short ones together, since a few windows take as long."""
    model = load_once(weights)
    problems: list[Problem] = []
    waiting: list[LeadWindows] = []
    tables = []
    for windows in read_items(items, model.preprocessing, lead, problems):
        waiting.append(windows)
        if sum(map(len, waiting)) >= _TOGETHER:
            tables.append(model.table(waiting))
            waiting = []
    table = pd.concat([*tables, model.table(waiting)], ignore_index=True)
    write_part(_by_record(table, model.threshold) if per_record else table, problems, path)


def _by_record(table: pd.DataFrame, threshold: float) -> pd.DataFrame:
    names = [str(name) for name in table if str(name).startswith("p_af")]
    judged = table["predicted"] != NOT_JUDGED
    table = table.astype(dict.fromkeys(names, "float64")).assign(judged=judged, windows=1)
    table["af_share"] = (table["predicted"] == "AF").astype("float64").where(judged)
    table[names] = table[names].where(judged)
    by_record = table.groupby(["record", "lead"], sort=False)
    counts, means = by_record[["windows", "judged"]].sum(), by_record[["af_share", *names]].mean()
    classes = np.where(counts["judged"] > 0, predicted(means["p_af"], threshold), NOT_JUDGED)
    return counts.join(means).assign(predicted=classes).reset_index()

"""Probabilities of AF for every window of many records, as a table."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from xecg.errors import ConfigError
from xecg.files import whole_file
from xecg.inference.model import BATCH, Model, digest_of, load, load_once, predicted
from xecg.inference.records import LeadWindows, Problem, made_in_parts, read_items, write_part

_LARGEST_PIECE = 64  # records
_ALONE = 2000  # records that are classified before other processes have started


def classify(
    paths: list[Path],
    out: Path,
    *,
    weights: str | Path = "xecgarch",
    lead: str | None = None,
    per_record: bool = False,
    overwrite: bool = False,
    jobs: int | None = None,
    cluster: str | None = None,
) -> int:
    """Writes the probability of AF of each window of WFDB records as a CSV table.

    Its columns are record, start_s, p_af (all branches together), p_af_morphology, p_af_rhythm and
    predicted (AF where p_af is above 0.5, else non-AF). The last window of a record ends with it.
    Records that cannot be classified, and windows that cannot be used (missing samples, flat
    line), are printed and listed in OUT.errors.csv beside the table; the exit status is 1 if a
    record is missing in the table. A command that was killed continues where it was when it is
    given again. Not a medical device.

    Args:
        paths: WFDB records, or folders of them.
        out: Table to write, such as predictions.csv.
        weights: Name of released weights, weights file, or folder of a run.
        lead: Name of the lead; by default II, else MLII, else I, else the first.
        per_record: Write one row per record: number of windows, af_share (the share of windows
            predicted AF), mean probabilities, and the class of the mean.
        overwrite: Replace the table and its errors.
        jobs: Number of processes; one per core by default, this one alone for few records.
        cluster: Address or scheduler file of a dask cluster, in place of processes.

    Returns:
        Number of records that could not be classified.

    Raises:
        ConfigError: The table exists, or cannot be written.
        RecordError: No record can be classified.
        WeightsError: The weights cannot be used.
    """
    errors = out.with_suffix(".errors.csv")
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected the name of a table, such as p.csv")
    for path in (out, errors):
        if path.exists() and not overwrite:
            raise ConfigError(f"{path} exists already; name another --out, or pass --overwrite")
    model = load(weights)
    known = model.weights.resolve(), digest_of(model.weights)
    with made_in_parts(
        partial(classify_piece, *known, lead, per_record),
        paths,
        out,
        settings=("classify", known[1], lead, per_record),
        size=_LARGEST_PIECE,
        alone=_ALONE,
        jobs=jobs,
        cluster=cluster,
    ) as made:
        with whole_file(out) as file:
            for number, part in enumerate(made.tables):
                table = pd.read_parquet(part)
                table.to_csv(
                    file,
                    header=number == 0,
                    index=False,
                    float_format="%.6g",
                    na_rep="nan",
                    lineterminator="\n",
                )
        made.report(errors)
    return len(made.failures)


def classify_piece(
    weights: Path, digest: str, lead: str | None, per_record: bool, items: Sequence[str], path: Path
) -> None:
    """Classifies the records of a piece and writes their rows.

    Short records are classified together, since a network is slow on a few windows.

    Args:
        weights: Weights file.
        digest: Digest of the weights file.
        lead: Name of the lead; null takes the preferred one.
        per_record: Whether a row is a record, and not a window.
        items: Records, see ``read_items``.
        path: Part to write.
    """
    model = load_once(weights, digest)
    problems: list[Problem] = []
    waiting: list[LeadWindows] = []
    tables = []
    for windows in read_items(items, model.preprocessing, lead, problems):
        waiting.append(windows)
        if sum(map(len, waiting)) >= BATCH:
            tables.append(_rows(model, waiting, per_record))
            waiting = []
    if waiting or not tables:
        tables.append(_rows(model, waiting, per_record))
    write_part(pd.concat(tables, ignore_index=True), problems, path)


def _rows(model: Model, leads: Sequence[LeadWindows], per_record: bool) -> pd.DataFrame:
    table = model.table(leads)
    if not per_record:
        return table.assign(start_s=[f"{start:.10g}" for start in table["start_s"]])
    columns = {name: (name, "mean") for name in map(str, table) if name.startswith("p_af")}
    table["af_share"] = (table["predicted"] == "AF").astype(float)
    table = table.astype(dict.fromkeys(columns, "float64"))
    means = table.groupby("record", sort=False, as_index=False).agg(
        windows=("af_share", "size"), af_share=("af_share", "mean"), **columns
    )
    return means.assign(predicted=predicted(means["p_af"]))

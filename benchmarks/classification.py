"""`xecg classify` beside the network's forward pass alone.

    python benchmarks/classification.py [--json FILE]

1,000 records of 10 s: read, filtered, classified and written to a table, against the same number of
windows in memory in batches. About a minute on two idle cores.
"""

import tempfile
from pathlib import Path

from made_data import made_windows, wfdb_records
from side_by_side import Row, alternate, medians, run_alone

from xecg.inference.classify import classify
from xecg.inference.model import load

N_RECORDS = 1000
WEIGHTS = "xecgarch"


def measure() -> list[Row]:
    model = load(WEIGHTS)
    windows = made_windows(model, N_RECORDS)
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "records"
        wfdb_records(records, N_RECORDS, 10.0)

        def command() -> None:
            classify([records], Path(folder) / "table.csv", weights=WEIGHTS, overwrite=True)

        def forward() -> None:
            model.p_af(windows)

        seconds = medians(alternate({"classify": command, "forward pass": forward}))
    return [
        Row(
            what=f"`xecg classify` of {N_RECORDS:,} records of 10 s",
            against="the network's forward pass alone",
            value=seconds["classify"] / seconds["forward pass"],
            goal=3.0,
            better="at most",
            measured={case: f"{value:.2f} s" for case, value in seconds.items()},
        )
    ]


if __name__ == "__main__":
    run_alone(measure, __doc__)

"""How soon a fit has its first batch, and how little of a store it holds in memory.

    python benchmarks/first_batch.py [--json FILE]

In processes that have imported torch and lightning: from importing xecg's data modules to the first
batch of a prepared store of 27,000 windows. Half a minute.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from made_data import made_store
from side_by_side import BUSY, Row, alternate, medians, run_alone

N_WINDOWS = 27_000
MEASURED = """
import sys, time
from pathlib import Path
import torch, lightning

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

clock = time.process_time if sys.argv[2] == "busy" else time.perf_counter
before, start = resident(), clock()
from xecg.data import AFData
data = AFData(sys.argv[1])
data.setup("fit")
batch = next(iter(data.train_dataloader()))
print(clock() - start, resident() - before)
"""


def measure() -> list[Row]:
    resident: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        store = made_store(Path(folder) / "store", N_WINDOWS)

        def first_batch() -> float:
            command = [sys.executable, "-c", MEASURED, str(store.path), "busy" if BUSY else ""]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds, megabytes = map(float, done.stdout.split())
            resident.append(megabytes)
            return seconds

        seconds = medians(alternate({"first batch": first_batch}))["first batch"]
    store_of = f"first batch of a prepared store of {N_WINDOWS:,} windows"
    return [
        Row(store_of, "nothing: a time", seconds, 1.0, "at most", unit="s"),
        Row(
            f"memory at the {store_of}",
            "what torch and lightning hold",
            medians({"resident": resident[1:]})["resident"],
            300.0,
            "at most",
            unit="MB",
        ),
    ]


if __name__ == "__main__":
    run_alone(measure, __doc__)

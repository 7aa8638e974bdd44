"""Several processes share the watched windows and agree on what it shows.

Run as a script by torchrun, this file is one process of two.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lightning import Trainer
from small_task import QUIET, Data, able_task, fit

from xecg.callbacks import RelevanceLogger

N_WINDOWS = 7  # does not divide by two


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc_per_node=2", __file__, str(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "self.log('relevance" not in done.stderr  # Lightning's advice to synchronise
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


def test_two_processes_agree_bit_for_bit(two_processes):
    first, second = two_processes
    assert first == second
    assert "NaN" not in json.dumps(first["fit"])


def test_two_processes_find_what_one_finds(two_processes):
    assert two_processes[0]["validate"] == pytest.approx(validate(), abs=1e-5, nan_ok=True)


def validate(**options):
    trainer = Trainer(callbacks=[RelevanceLogger(N_WINDOWS)], logger=False, **QUIET, **options)
    (metrics,) = trainer.validate(able_task(), Data(), verbose=False)
    return {name: value for name, value in metrics.items() if "relevance" in name}


def one_of_two_processes(folder):
    options = {"devices": 2, "strategy": "ddp"}
    found = {"validate": validate(**options)}
    trainer = fit(RelevanceLogger(N_WINDOWS), task=able_task(), **options)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    found["fit"] = {name: value for name, value in metrics.items() if "relevance" in name}
    (folder / f"{trainer.global_rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    one_of_two_processes(Path(sys.argv[1]))

"""A cell's process without a training: writes what a run leaves behind, after as long as told.

In place of ``xecg.study.worker``; the file ``behaviour.json`` of the study's folder says by cell
what it does: ``fail``, ``crash``, ``terminated``, ``hang``, or a number of seconds.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

from xecg.study.attempts import next_attempt
from xecg.study.worker import end_with_parent

end_with_parent()
work = Path(sys.argv[1])
study = work.parents[1]
behaviours = study / "behaviour.json"
how = json.loads(behaviours.read_text()).get(work.name) if behaviours.exists() else None
run = next_attempt(work).folder
(run / "checkpoints").mkdir(parents=True)
with (study / "begun.txt").open("a") as begun:
    begun.write(f"{work.name} {os.getpid()}\n")
print("working")
if how == "fail":
    print("xecg: the store is not there", file=sys.stderr)
    sys.exit(1)
if how in ("crash", "terminated"):
    os.kill(os.getpid(), signal.SIGSEGV if how == "crash" else signal.SIGTERM)
time.sleep(60.0 if how == "hang" else how or 0.0)
task = json.loads((work / "task.json").read_text())
(run / "config.yaml").write_text("seed_everything: 0\nrun_folder: here\nckpt_path: null\n")
(run / "task.json").write_text(json.dumps(task | {"threads": os.environ.get("OMP_NUM_THREADS")}))
(run / "metrics.csv").write_text("epoch,step,train/loss\n0,9,0.5\n")
(run / "weights.safetensors").write_text("weights")
(run / "test_metrics.csv").write_text(
    "test_set,part,metric,value,low,high,n,n_groups\nours,fused,accuracy,0.9,0.8,1,100,10\n"
)
with (study / "finished.txt").open("a") as finished:
    finished.write(f"{work.name}\n")

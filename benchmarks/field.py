"""xecg beside other packages of the field: speed, and F1 after the same time of training.

    pip install -e '.[field]'
    XECG_DATA=FOLDER python benchmarks/field.py [--json FILE]

The same windows of 10 s of CinC 2017, AF against the rest (noisy records left out), for `xecg fit`,
deepecgkit (its trainer and command line, its smallest convolutional network) and torch_ecg (a CRNN
in a plain loop), where they are installed. Without XECG_DATA the embedded synthetic ECGs are used.
Each F1 is of one training of three minutes; all of them take 12 minutes, speed takes 3.
"""

import os
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from field_packages import XECG, DeepECGKit, TorchECG, Windows
from side_by_side import Row, alternate, medians, run_alone

from xecg.data.databases import get_database
from xecg.data.databases.synthetic import embedded_store
from xecg.data.prepare import prepare
from xecg.metrics.bootstrap import Interval

PACKAGES = {"deepecgkit": DeepECGKit, "torch_ecg": TorchECG}
WINDOWS = 960
SECONDS = 180


def measure() -> list[Row]:
    present = {name: make for name, make in PACKAGES.items() if find_spec(name)}
    if not present:
        raise SystemExit("none of the other packages is installed: pip install -e '.[field]'")
    with tempfile.TemporaryDirectory() as folder:
        windows = Windows.of(_store(Path(folder)))
        others = {name: make(windows) for name, make in present.items()}
        return [*speed(windows, others), *after_the_same_time(windows, others)]


def speed(windows: Windows, others: dict[str, Any]) -> list[Row]:
    packages = {"xecg": XECG(windows), **others}
    signals = windows.signals(WINDOWS)
    training = {name: lambda p=package: p.train(WINDOWS) for name, package in packages.items()}
    inference = {name: lambda p=package: p.classify(signals) for name, package in packages.items()}
    rows = []
    for what, cases in (("training", training), ("inference", inference)):
        seconds = medians(alternate(cases))
        rows += [_speed_row(what, name, seconds) for name in others]
    return rows


def after_the_same_time(windows: Windows, others: dict[str, Any]) -> list[Row]:
    own = {
        "from scratch": XECG(windows).f1_after(SECONDS),
        "pre-trained, 3 blocks frozen": XECG(windows, "finetune_frozen3").f1_after(SECONDS),
    }
    rows = []
    for name, package in others.items():
        theirs = package.f1_after(SECONDS)
        rows += [_f1_row(how, found, name, theirs) for how, found in own.items()]
    return rows


def _store(folder: Path) -> Path:
    real = Path(os.environ.get("XECG_DATA", "nowhere")) / "cinc2017"
    if not real.is_dir():
        return embedded_store().path
    return prepare(get_database("cinc2017", real), folder / "cinc2017").path


def _speed_row(what: str, other: str, seconds: dict[str, float]) -> Row:
    return Row(
        what=f"windows a second in {what}, both branches",
        against=other,
        value=seconds[other] / seconds["xecg"],
        goal=1.0,
        better="at least",
        measured={name: f"{WINDOWS / seconds[name]:.0f} windows/s" for name in ("xecg", other)},
    )


def _f1_row(how: str, own: Interval, name: str, theirs: Interval) -> Row:
    return Row(
        what=f"test F1 after {SECONDS} s of training, fused, {how}",
        against=f"{name} after as long ({own.n} windows of {own.n_groups} records)",
        value=own.value,
        goal=theirs.value,
        better="at least",
        measured={"xecg": str(own), name: str(theirs)},
        repeats=1,
    )


if __name__ == "__main__":
    run_alone(measure, __doc__)

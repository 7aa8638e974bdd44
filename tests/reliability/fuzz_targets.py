"""What ``fuzz.py`` damages: files of every kind that xecg reads, and how each is compared.

Of what is read after the damage, only what the damage cannot have changed is compared with what
was read before: see ``_same_ecg`` and ``_same_samples``.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from difflib import SequenceMatcher
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from xecg.data.databases.labels import LabelTable
from xecg.files import read_settings
from xecg.signal.formats import read_ecg
from xecg.signal.recording import Recording
from xecg.signal.wfdb import (
    Annotations,
    find_records,
    read_annotations,
    read_recording,
    write_annotations,
    write_recording,
)

TESTS = Path(__file__).parents[1]
sys.path += [str(TESTS / "signal"), str(TESTS / "study")]


@dataclass(frozen=True)
class Target:
    """What is damaged, and how it is read.

    Args:
        write: Writes good files into a folder.
        read: Reads them.
        same: ``same(before, after, good, bad)``: whether what is read after the damage is what was
            read before, as far as the contents of the files by name, before and after, allow.
        asked: Files that are asked for, which may be links, as a user may lay them.
    """

    write: Callable[[Path], object]
    read: Callable[[Path], Any]
    same: Callable[[Any, Any, dict[str, bytes], dict[str, bytes]], bool]
    asked: str = "r.hea"


def write_leads(folder: Path, fmt: str = "16", name: str = "r", seed: int = 0) -> None:
    random = np.random.default_rng(seed)
    samples = np.cumsum(random.normal(size=(2, 800)), axis=1)
    recording = Recording(name, samples, 250.0, ("II", "V5"), ("mV", "mV"), ("Dx: 164889003",))
    write_recording(recording, folder, fmt=fmt)


def write_frames(folder: Path) -> None:
    """Four samples of an ECG in a frame, one of respiration."""
    digital = np.random.default_rng(0).integers(1, 999, (200, 5))
    lines = ["r 2 62.5 200 10:00:00 01/02/2003"]
    leads = (("16x4", "mV", digital[:, :4], "ECG"), ("16", "Ohm", digital[:, 4:], "RESP"))
    for fmt, unit, x, name in leads:
        lines.append(f"r.dat {fmt} 200(0)/{unit} 16 0 {x.flat[0]} {x.sum() % 65536} 0 {name}")
    (folder / "r.hea").write_text("\n".join([*lines, "# 69 M"]))
    digital.astype("<i2").tofile(folder / "r.dat")


def write_segments(folder: Path) -> None:
    for number in (1, 2):
        write_leads(folder, name=f"s{number}", seed=number)
    (folder / "r.hea").write_text("r/3 2 250 2000\ns1 800\n~ 400\ns2 800\n")


def write_beats(folder: Path) -> None:
    write_leads(folder)
    samples = np.arange(10, 800, 40)
    notes = ["(AFIB", *[""] * (len(samples) - 1)]
    beats = Annotations(samples, tuple("+" + "N" * (len(samples) - 1)), tuple(notes))
    write_annotations(folder / "r", "atr", beats, 360.0)  # another rate: a note gives it


def write_table(folder: Path) -> None:
    rows = "".join(f"r{i},{'AF' if i % 2 else 'N'},{i // 2}\n" for i in range(12))
    (folder / "records.csv").write_text("record,label,Patient ID\n" + rows)


def is_text(name: str) -> bool:
    return Path(name).suffix in (".hea", ".csv", ".yaml", ".json", ".xml")


# What the following targets import takes seconds.


def write_store(folder: Path) -> None:
    from xecg.data.prepare import prepare
    from xecg.signal.preprocessing import Preprocessing

    records, short = folder / "records", Preprocessing(window_s=1.0)
    write_leads(records)
    (records / "records.csv").write_text("record,label\nr,AF\n")
    with redirect_stdout(sys.stderr):  # standard output is for outcomes
        prepare("folder", folder / "store", root=records, preprocessing=short)
    shutil.rmtree(records)


def read_store(folder: Path) -> list[Any]:
    from xecg.data.store import Store

    store = Store.open(folder / "store")
    arrays = store.signals.tolist(), store.waves.tolist(), store.beats.to_pylist()
    return [store.info, store.index.to_csv(), *arrays]


def write_checkpoint(folder: Path) -> None:
    import torch

    state = {"weight": torch.arange(64.0), "bias": torch.ones(8)}
    found = {"state_dict": state, "epoch": 1, "global_step": 9, "pytorch-lightning_version": "2"}
    torch.save(found, folder / "last.ckpt")


def read_checkpoint(folder: Path) -> str:
    from xecg.run_folder import read_checkpoint

    return str(read_checkpoint(folder / "last.ckpt"))


def write_weights(folder: Path) -> None:
    from xecg.networks.weights import find_weights

    shutil.copy(find_weights("xecgarch"), folder / "w.safetensors")


def read_weights(folder: Path) -> list[Any]:
    from xecg.networks.weights import load_xecgarch

    network, info = load_xecgarch(folder / "w.safetensors")
    return [info, [values.numpy().tobytes() for values in network.state_dict().values()]]


def write_study(folder: Path) -> None:
    from fake_study import FakeStudy

    FakeStudy(depths=(None, 2), seeds=(0,), test_sets=(("t", 12, 6),)).write(folder / "study")


def read_study(folder: Path) -> list[Any]:
    """What a report of a study is made of."""
    from xecg.study.report import _own, _pretraining, read_ladders, read_runs

    study, (runs, left_out) = _own(folder / "study"), read_runs(folder / "study")
    tables = [
        runs.drop(columns="folder"),
        _pretraining(runs),
        *(ladder.windows for ladder in read_ladders(runs)),
    ]
    columns = [
        values.tolist() for ladder in read_ladders(runs) for values in ladder.columns.values()
    ]
    return [study, left_out, str(columns), *(table.to_csv() for table in tables)]


def write_config(folder: Path) -> None:
    shared = (TESTS.parent / "configs").glob("*.yaml")
    shutil.copy(sorted(shared)[0], folder / "config.yaml")


def write_format(folder: Path, suffix: str, **options: Any) -> None:
    from ecg_files import write

    counts = np.random.default_rng(0).integers(-50, 50, (2, 1000)).astype(np.int16)
    leads = ("I",) if suffix == "apple.csv" else ("I", "II")
    write(folder, suffix, counts[: len(leads)], leads, **options)


def _same_ecg(
    before: Recording, after: Recording, good: dict[str, bytes], bad: dict[str, bytes]
) -> bool:
    """Whether the leads hold the recorded samples, in one of the orders that a header may give.

    Gains, rates and names are what the header says; a shorter length cuts. A sample may differ
    where the bytes that hold it do: at most two in a changed byte, or one that is repeated
    four times.
    """
    changed = 0
    for name in good.keys() - {n for n in good if n.endswith(".hea")}:
        a, b = good[name], bad.get(name, b"")
        if a != b and a.startswith(b"fLaC"):
            return True  # a byte decides on thousands of samples
        changed += sum(x != y for x, y in zip(a, b, strict=False)) + abs(len(a) - len(b))
    if not changed and good == bad:
        return before.leads == after.leads and np.array_equal(
            before.samples, after.samples, equal_nan=True
        )
    pieces = [before.samples]
    if before.n_samples == 2000:  # of the record with segments
        pieces = np.split(before.samples, [800, 1200], axis=1)
    orders = [list(zip(*order, strict=True)) for order in permutations(pieces)]
    rows = [row for order in orders for row in order]
    return all(any(_is_recorded(lead, row, 4 * changed) for row in rows) for lead in after.samples)


def _is_recorded(lead: np.ndarray, pieces: tuple[np.ndarray, ...], n_changed: int) -> bool:
    stops = np.cumsum([len(piece) for piece in pieces])
    found = zip(np.split(lead, stops[:-1]), pieces, strict=True)
    return all(_is_scaled(piece, row, n_changed) for piece, row in found)


def _is_scaled(lead: np.ndarray, row: np.ndarray, n_changed: int) -> bool:
    n = min(len(lead), len(row))
    x, y = row[:n].astype(np.float64), lead[:n].astype(np.float64)
    known = ~(np.isnan(x) | np.isnan(y))
    if len(lead) > len(row) + n_changed or (np.isnan(x) != np.isnan(y)).sum() > n_changed:
        return False
    if known.sum() < 3 or n_changed >= n / 4:
        return True
    # Gain and baseline from the middle half of the ratios, which a few wrong samples leave.
    x, y = x[known], y[known]
    steps = np.diff(x) != 0
    slope = np.median(np.diff(y)[steps] / np.diff(x)[steps]) if steps.any() else 0.0
    off = np.abs(y - slope * x - np.median(y - slope * x))
    return int((off > 1e-3 * max(np.ptp(y), 1e-30) + 1e-6 * np.abs(y).max()).sum()) <= n_changed


def _same_samples(
    before: Recording, after: Recording, good: dict[str, bytes], bad: dict[str, bytes]
) -> bool:
    """Whether each lead holds the samples of a recorded one in their order.

    Gains, rates and names are what the header says, and what is cut out is missing. Other samples
    may be as many as the numbers that changed in the file; of an array also what its head changes.
    """
    ((name, a),) = good.items()
    if (b := bad.get(name)) is None:
        return True  # read through a link: another file
    if a == b:
        return before.leads == after.leads and np.array_equal(before.samples, after.samples)
    if name.endswith(".npy") and a[:128] != b[:128]:
        return True  # the type and shape of every number
    most = 4 * _n_changed(a, b, is_text(name))
    # What is cut out of a text may be the end of a lead and the begin of the next.
    rows = [_steps(row) for row in (*before.samples, before.samples.ravel())]
    rows += [-row for row in rows]
    leads = [_steps(lead) for lead in after.samples if len(lead) > 200]  # for all steps to occur
    return all(any(_n_others(row, lead) <= most for row in rows) for lead in leads)


def _n_changed(a: bytes, b: bytes, text: bool) -> int:
    """The number of numbers, or of bytes, that are new, and of places where some are missing."""
    if text:
        words = [re.split(rb"[^\w.+-]+", content.replace(b"\0", b"")) for content in (a, b)]
        changes = SequenceMatcher(None, *words, autojunk=False).get_opcodes()
        return sum(1 + stop - start for kind, _, _, start, stop in changes if kind != "equal")
    if len(a) == len(b):
        return sum(x != y for x, y in zip(a, b, strict=True))
    same = [next((i for i, (x, y) in enumerate(zip(*ends, strict=False)) if x != y), 0)
            for ends in ((a, b), (a[::-1], b[::-1]))]  # fmt: skip
    return 1 + max(0, len(b) - sum(same))


def _steps(lead: np.ndarray) -> np.ndarray:
    """Differences between neighbours in digital units, which no gain and no baseline changes."""
    known = lead[~np.isnan(lead)].astype(np.float64)
    unit = np.median(np.diff(np.unique(known))) if len(np.unique(known)) > 1 else 1.0
    return np.clip(np.rint(np.diff(known) / unit), -1e9, 1e9).astype(int)


def _n_others(row: np.ndarray, lead: np.ndarray) -> int:
    """The number of differences that are not those of a recorded lead, in their order."""
    if np.array_equal(row, lead):
        return 0
    blocks = SequenceMatcher(None, row.tolist(), lead.tolist(), autojunk=False)
    return len(lead) - sum(block.size for block in blocks.get_matching_blocks() if block.size > 2)


def _same_beats(
    before: Annotations, after: Annotations, good: dict[str, bytes], bad: dict[str, bytes]
) -> bool:
    if good["r.atr"] != bad.get("r.atr"):  # every time follows from the ones before
        return len(after.samples) <= len(good["r.atr"]) + len(bad.get("r.atr", b""))
    return before.symbols == after.symbols and before.notes == after.notes


def _same_rows(before: Any, after: Any, good: dict[str, bytes], bad: dict[str, bytes]) -> bool:
    head, *lines = good["records.csv"].splitlines()
    new = bad.get("records.csv", b"").splitlines() or [b""]
    kept = [line.decode().split(",")[0] for line in lines if line in new and new[0] == head]
    return all(after[name] == before[name] for name in kept if name in after)


def _equal(before: Any, after: Any, good: dict[str, bytes], bad: dict[str, bytes]) -> bool:
    return before == after  # whatever was damaged


def _same(before: Any, after: Any, good: dict[str, bytes], bad: dict[str, bytes]) -> bool:
    return good != bad or before == after


READ = {
    **{
        f"record in format {fmt}": Target(
            lambda folder, fmt=fmt: write_leads(folder, fmt),
            lambda folder: read_recording(folder / "r"),
            _same_ecg,
        )
        for fmt in ("16", "212", "80", "516")
    },
    "record of other rates": Target(write_frames, lambda f: read_recording(f / "r"), _same_ecg),
    "record of segments": Target(write_segments, lambda f: read_recording(f / "r"), _same_ecg),
    "annotations": Target(write_beats, lambda f: read_annotations(f / "r", "atr"), _same_beats),
    "folder of records": Target(
        write_segments,
        lambda folder: [path.name for path in find_records(folder)],
        lambda before, after, good, bad: set(before) <= {"r", *after} or "r.hea" not in bad,
        "*.hea",
    ),
    "table": Target(
        write_table, lambda f: LabelTable(f / "records.csv", {}, root=f).read(), _same_rows, "*.csv"
    ),
    "settings": Target(write_config, lambda f: read_settings(f / "config.yaml"), _same, "*.yaml"),
}
FORMATS = [("aecg.xml", {}), ("muse.xml", {}), ("scp", {}), ("scp", {"huffman": True})]
FORMATS += [("dcm", {}), ("edf", {}), ("edf", {"onsets": [0, 1]}), ("edf", {"slow": "RESP"})]
FORMATS += [("ecg", {}), ("json", {}), ("apple.csv", {}), ("csv", {}), ("npy", {})]
if find_spec("ecgdatakit") and find_spec("pydicom"):
    for suffix, options in FORMATS:
        READ[" ".join(["r." + suffix, *options])] = Target(
            lambda folder, suffix=suffix, options=options: write_format(folder, suffix, **options),
            lambda folder, suffix=suffix: read_ecg(folder / f"r.{suffix}", 500.0),
            _same_samples,
            f"r.{suffix}",
        )
STORED = {
    "store": Target(write_store, read_store, _equal, "**/*"),
    "checkpoint": Target(write_checkpoint, read_checkpoint, _equal, "*.ckpt"),
    "weights": Target(write_weights, read_weights, _equal, "*.safetensors"),
    "study": Target(write_study, read_study, _equal, "**/*"),
}
TARGETS = READ | STORED

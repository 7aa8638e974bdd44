"""Damages files by chance, reads them, and counts what comes out: ``python fuzz.py --help``.

Every case is one seed: a target, its files anew, and one to three mutations of them. It runs in a
child process with 1 GB of memory over what the imports took, and 5 s. A target is four lines: see
``TARGETS``. Of what is read, only what the mutations cannot have changed is compared with the
files before: see ``_same_ecg``.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from xecg.data.databases.labels import LabelTable
from xecg.errors import XECGError
from xecg.files import read_settings
from xecg.signal.header import is_file
from xecg.signal.recording import Recording
from xecg.signal.wfdb import (
    Annotations,
    find_records,
    read_annotations,
    read_recording,
    write_annotations,
    write_recording,
)

SECONDS, MEMORY, MOST_PROBLEMS = 5, 2**30, 50
OUTCOMES = {
    "right": "read rightly",
    "refused": "refused",
    "wrong": "read wrongly (0)",
    "raw": "raw errors (0)",
    "hang": f"hangs over {SECONDS} s (0)",
    "memory": "memory over 1 GB (0)",
    "outside": "read outside of the record's folder (0)",
}


# --- what is damaged, and how -------------------------------------------------------------------

NUMBERS = ["0", "-1", "1e999", "nan", "99999999999999999999", "-2147483649", "1e-300", "0x10", "١٢"]
WORDS = [
    "~",
    "µV",
    "心电",
    "../outside/r",
    "/etc/passwd",
    "\0",
    "$\\frac$",
    "x" * 300,
    "# Dx: AF",
    "",
]


def flip_bits(random: Random, content: bytes) -> bytes:
    found = bytearray(content)
    for _ in range(random.choice([1, 1, 1, 8])):
        found[random.randrange(len(found))] ^= 1 << random.randrange(8)
    return bytes(found)


def cut(random: Random, content: bytes) -> bytes:
    start, stop = sorted(random.randrange(len(content) + 1) for _ in range(2))
    return random.choice([content[:stop], content[:start] + content[stop:], content[start:]])


def insert(random: Random, content: bytes) -> bytes:
    place = random.randrange(len(content) + 1)
    new = random.choice([random.randbytes(random.choice([1, 2, 64])), content[place : place + 99]])
    return content[:place] + new + content[place:]


def move_lines(random: Random, content: bytes) -> bytes:
    lines = content.split(b"\n")
    i, j = (random.randrange(len(lines)) for _ in range(2))
    how = random.choice(["swap", "double", "drop"])
    if how == "swap":
        lines[i], lines[j] = lines[j], lines[i]
    else:
        lines[i : i + 1] = [lines[i]] * (2 if how == "double" else 0)
    return b"\n".join(lines)


def change_word(random: Random, content: bytes) -> bytes:
    words = content.split(b" ")
    word = random.choice(NUMBERS + WORDS + [str(random.randrange(10**9)), "16x3", "212", "61:9"])
    words[random.randrange(len(words))] = word.encode()
    return b" ".join(words)


def change_digit(random: Random, content: bytes) -> bytes:
    places = [i for i, byte in enumerate(content) if chr(byte).isdigit()] or [0]
    place = random.choice(places)
    digit = random.choice(["9", "0", "-", ".", "e", "99999999", ""]).encode()
    return content[:place] + digit + content[place + 1 :]


def encode_otherwise(random: Random, content: bytes) -> bytes:
    text = content.decode("latin-1")
    return random.choice(
        [
            text.encode("utf-16"),
            b"\xef\xbb\xbf" + content,
            text.replace("\n", "\r").encode("latin-1"),
        ]
    )


def replace_file(random: Random, file: Path) -> None:
    """Puts something in the place of a file that is none, or leads to another."""
    other = random.choice(sorted(file.parent.iterdir()))
    outside = file.parents[1] / "outside" / f"r{file.suffix}"
    how = random.choice(["pipe", "loop", "device", "outside", "other", "folder", "nothing"])
    file.unlink()
    if how == "pipe":
        os.mkfifo(file)
    elif how == "folder":
        file.mkdir()
    elif how != "nothing":
        targets = {"loop": file, "device": "/dev/zero", "outside": outside, "other": other}
        file.symlink_to(targets[how])


BYTES = [flip_bits, flip_bits, cut, insert, move_lines]
TEXT = [*BYTES, change_word, change_word, change_digit, change_digit, encode_otherwise]


def mutate(random: Random, file: Path) -> None:
    if not is_file(file):  # replaced already
        return
    if random.random() < 0.05:
        replace_file(random, file)
    elif content := file.read_bytes():
        is_text = file.suffix in (".hea", ".csv", ".yaml", ".json")
        file.write_bytes(random.choice(TEXT if is_text else BYTES)(random, content))


# --- targets ------------------------------------------------------------------------------------


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
    sys.path.append(str(Path(__file__).parents[1] / "study"))
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
    shared = (Path(__file__).parents[2] / "configs").glob("*.yaml")
    shutil.copy(sorted(shared)[0], folder / "config.yaml")


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
STORED = {
    "store": Target(write_store, read_store, _equal, "**/*"),
    "checkpoint": Target(write_checkpoint, read_checkpoint, _equal, "*.ckpt"),
    "weights": Target(write_weights, read_weights, _equal, "*.safetensors"),
    "study": Target(write_study, read_study, _equal, "**/*"),
}
TARGETS = READ | STORED


# --- running ------------------------------------------------------------------------------------


@cache
def _good_files(name: str) -> tuple[dict[str, bytes], Any]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "in")
        place.mkdir()
        TARGETS[name].write(place)
        return _contents(place), TARGETS[name].read(place)


def _contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if is_file(path) and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run_case(seed: int, names: list[str], opened: list[str]) -> tuple[str, str]:
    """Runs a case; returns its outcome and what should be known about it."""
    random = Random(seed)
    target = TARGETS[name := names[seed % len(names)]]
    good, before = _good_files(name)
    with tempfile.TemporaryDirectory() as folder:
        place, outside = Path(folder, "in"), Path(folder, "outside")
        for root in (place, outside):
            for file, content in good.items():
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                (root / file).write_bytes(content)
                if root == outside:
                    (root / f"r{Path(file).suffix}").write_bytes(content)
        for _ in range(random.choice([1, 1, 2, 3])):
            mutate(random, place / random.choice(sorted(good)))
        bad = _contents(place)
        opened.clear()
        try:
            after = target.read(place)
            outcome, why = "right", ""
        except BaseException as error:
            memory = isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError)
            kinds = XECGError if name in STORED else (XECGError, OSError)
            refused = isinstance(error, kinds) and str(error)
            outcome = "memory" if memory else "refused" if refused else "raw"
            why = f"{type(error).__name__}: {error}"[:300]
        # The folder lies in that of temporary files, as do the copies of headers for wfdb.
        real = [os.path.realpath(path) for path in opened]
        # A user may link to a record: then its folder is the one that the link leads to.
        folders = {path.resolve().parent for path in place.glob(target.asked) if is_file(path)}
        elsewhere = (f"{outside.resolve()}/", "/etc/passwd", "/dev/zero")
        found = [path for path in real if path.startswith(elsewhere)]
        if found := [path for path in found if Path(path).parent not in folders]:
            outcome, why = "outside", f"{found} {why}"
        if outcome == "right" and not target.same(before, after, good, bad):
            outcome = "wrong"
    return outcome, f"seed {seed}, {name}: {why}"


def note_opened(opened: list[str]) -> None:
    """Adds the path of every file to ``opened`` that this process opens from now on."""

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            opened.append(os.fspath(arguments[0]))

    sys.addaudithook(note)


def child(first: int, last: int, names: list[str]) -> None:
    """Runs cases under limits; prints a line before and after each."""
    opened: list[str] = []
    for name in names:
        _good_files(name)  # imports all there is to import
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    note_opened(opened)
    for seed in range(first, last):
        print("start", seed, flush=True)
        outcome, why = run_case(seed, names, opened)
        print("end", outcome, why.encode("unicode_escape").decode(), flush=True)


def fuzz(
    n_cases: int, first: int = 0, names: list[str] | None = None
) -> tuple[Counter[str], list[str]]:
    """Runs cases; returns the number of each outcome, and a line on each that should not be."""
    names = list(TARGETS) if names is None else names
    counts: Counter[str] = Counter()
    problems: list[str] = []
    seed, last = first, first + n_cases
    while seed < last and len(problems) < MOST_PROBLEMS:
        command = [sys.executable, __file__, "--child", str(seed), str(last), *names]
        quick = {"TMPDIR": "/dev/shm"} if os.access("/dev/shm", os.W_OK) else {}
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=os.environ | quick
        ) as process:
            assert process.stdout is not None
            started, buffer = False, b""
            while True:
                ready = select.select([process.stdout], [], [], SECONDS if started else 120)[0]
                chunk = os.read(process.stdout.fileno(), 65536) if ready else b""
                if not chunk:
                    if seed < last:  # it hangs, or it died
                        outcome = "raw" if ready else "hang"
                        counts[outcome] += 1
                        problems.append(f"{outcome}: seed {seed}, {names[seed % len(names)]}")
                        seed += 1
                    process.kill()
                    break
                *lines, buffer = (buffer + chunk).split(b"\n")
                for kind, _, rest in (line.decode().partition(" ") for line in lines):
                    started = True
                    if kind == "end":
                        outcome, _, why = rest.partition(" ")
                        counts[outcome] += 1
                        problems += [f"{outcome}: {why}"] * (outcome not in ("right", "refused"))
                        seed += 1
    return counts, problems


def report(counts: Counter[str]) -> str:
    """Returns a line for each outcome."""
    lines = [f"{counts[outcome]:7d}  {name}" for outcome, name in OUTCOMES.items()]
    return "\n".join([f"{counts.total():7d}  tried", *lines])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:])
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0, help="seed of the first case")
    parser.add_argument("--targets", nargs="*", default=[*TARGETS], help=f"of {', '.join(TARGETS)}")
    arguments = parser.parse_args()
    counts, problems = fuzz(arguments.cases, arguments.first, arguments.targets)
    print(*problems, report(counts), sep="\n")
    sys.exit(bool(problems))

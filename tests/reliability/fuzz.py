"""Damages files by chance, reads them, and counts what comes out: ``python fuzz.py --help``.

Every case is one seed: a target, its files anew, and one to three mutations of them. It runs in a
child process with 1 GB of memory over what the imports took, and 5 s. The targets, and how each is
compared with what was read before, are in ``fuzz_targets.py``.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

from fuzz_targets import STORED, TARGETS, is_text

from xecg.errors import XECGError
from xecg.signal.header import is_file

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
        how = random.choice(TEXT if is_text(file.name) else BYTES)
        file.write_bytes(how(random, content))


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

"""Whether memory and time per window grow with the number of records.

    python benchmarks/growth.py [--json FILE]

Memory of preparing 300 and 3,000 made records, and of a fit on 1,000 and 10,000 windows: the most
that a process of its own held beside mapped files. Time of a fit per window on stores of 1,000 to
100,000 windows (1 GB on disk). About 4 minutes on two idle cores.
"""

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fitting import WINDOWS, timed_fit
from made_data import made_database, made_store
from side_by_side import Row, alternate, medians, run_alone

from xecg.data.prepare import prepare

N_RECORDS = (300, 3000)
N_WINDOWS = (1000, 10_000, 100_000)
REPEATS = 3


def measure() -> list[Row]:
    with tempfile.TemporaryDirectory() as folder:
        stores = {n: made_store(Path(folder) / f"store{n}", n).path for n in N_WINDOWS}
        return [
            _memory("preparation", N_RECORDS, lambda n: _prepare(Path(folder) / f"db{n}", n)),
            _memory("a fit", N_WINDOWS[:2], lambda n: _fit(stores[n])),
            _memory("a fit", N_WINDOWS[1:], lambda n: _fit(stores[n])),
            _time_per_window(stores),
        ]


def _memory(what: str, sizes: tuple[int, ...], work: Callable[[int], object]) -> Row:
    few, many = (peak_memory(work, size) for size in sizes)
    unit = "records" if what == "preparation" else "windows"
    return Row(
        what=f"memory of {what} on {sizes[1]:,} {unit}",
        against=f"on {sizes[0]:,}",
        value=many / few,
        goal=1.1,
        better="at most",
        measured={f"{n:,}": f"{size:.0f} MB" for n, size in zip(sizes, (few, many), strict=True)},
        repeats=1,
    )


def _time_per_window(stores: dict[int, Path]) -> Row:
    cases = {f"{n:,}": lambda path=path: _fit(path) for n, path in stores.items()}
    seconds = medians(alternate(cases, REPEATS))
    return Row(
        what=f"time of a fit per window on {N_WINDOWS[-1]:,} windows",
        against=f"on {N_WINDOWS[0]:,}",
        value=seconds[f"{N_WINDOWS[-1]:,}"] / seconds[f"{N_WINDOWS[0]:,}"],
        goal=1.1,
        better="at most",
        measured={case: f"{1000 * value / WINDOWS:.2f} ms" for case, value in seconds.items()},
        repeats=REPEATS,
    )


def _prepare(folder: Path, n_records: int) -> None:
    prepare(made_database(folder, n_records), folder.with_suffix(".store"))


def _fit(store: Path) -> float:
    flags = ("--data.stores", str(store), "--trainer.limit_val_batches", "2")
    return timed_fit(*flags, "--trainer.callbacks", "[]", n_epochs=2).training[1]


def peak_memory(work: Callable[[int], object], size: int) -> float:
    """Most memory (MB) that a process of its own held, mapped files left out."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_watched, args=(work, size, sender))
    process.start()
    peak: float = receiver.recv()
    process.join()
    return peak


def _watched(work: Callable[[int], object], size: int, sender) -> None:
    peak, done = [0.0], threading.Event()

    def watch() -> None:
        while not done.is_set():
            peak[0] = max(peak[0], _held())
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work(size)
    finally:
        done.set()
        watcher.join()
        sender.send(peak[0])


def _held() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kilobytes,) = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(kilobytes) / 1024


if __name__ == "__main__":
    run_alone(measure, __doc__)

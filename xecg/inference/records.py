"""A function over many records in threads: in order, with flat memory, none stopping the others."""

import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xecg.errors import RecordError, XECGError
from xecg.files import write_table
from xecg.signal.heartbeats import detect_r_peaks
from xecg.signal.preprocessing import Preprocessing, Windows, cut_windows, window_starts
from xecg.signal.recording import Recording
from xecg.signal.wfdb import find_records, read_recording
from xecg.threads import one_thread_per_operation

ERRORS = "errors.csv"


class Problems:
    """Collects what to tell of records.

    Args:
        failures: Records that failed already, and why.
    """

    def __init__(self, failures: Mapping[str, str]) -> None:
        self.failures: dict[str, str] = {}
        self._told: list[tuple[str, str]] = []
        for record, reason in failures.items():
            self.fail(record, reason)

    def fail(self, record: str, reason: str) -> None:
        """Tell that there is no result for a record."""
        self.failures[record] = reason
        self.warn(record, reason)

    def warn(self, record: str, reason: str) -> None:
        """Tell that parts of a record are left out."""
        self._told.append((record, reason))
        tqdm.write(f"xecg: {record}: {reason}", file=sys.stderr)

    def write(self, folder: Path) -> None:
        """Write ``errors.csv``, or remove that of an earlier run if there is nothing to tell."""
        path = folder / ERRORS
        if self._told:
            records, reasons = zip(*self._told, strict=True)
            write_table(path, {"record": records, "reason": reasons})
        else:
            path.unlink(missing_ok=True)


_SHOW_AFTER_S = 2.0


class ProgressBar:
    """Counts records, and windows, which move on within a long record as well.

    It appears on stderr after two seconds. It is made only then: tqdm would draw a bar that waits
    with ``delay`` as soon as a message is written past it.

    Args:
        title: What is being done.
        n_records: Number of records in all.
    """

    def __init__(self, title: str, n_records: int) -> None:
        self._title, self._total = title, n_records
        self._records, self._windows = 0, 0
        self._started = time.monotonic()
        self._bar: Any = None
        self._lock = Lock()

    def __enter__(self) -> "ProgressBar":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def windows(self, n: int) -> None:
        """Tell that ``n`` more windows are done; may be called from any thread."""
        self._move(0, n)

    def record(self) -> None:
        """Tell that one more record is done."""
        self._move(1, 0)

    def _move(self, records: int, windows: int) -> None:
        with self._lock:
            self._records += records
            self._windows += windows
            if self._bar is not None:
                self._bar.set_postfix_str(f"{self._windows} windows", refresh=False)
                self._bar.update(records)
            elif time.monotonic() - self._started > _SHOW_AFTER_S:
                self._bar = tqdm(
                    desc=self._title,
                    total=self._total,
                    initial=self._records,
                    unit="record",
                    mininterval=0.5,
                    miniters=0,  # so that windows show while no record is complete
                )


def list_records(paths: Iterable[Path]) -> tuple[dict[str, Path], dict[str, str]]:
    """Find the records that paths stand for.

    A record is called by its name. Records of one name in several folders get as many of their
    folders before it as it takes to tell them apart: ``clinic/100``, ``home/100``.

    Args:
        paths: WFDB records, with or without suffix, or folders of them; a record that is named
            twice is listed once.

    Returns:
        Path of each record by what it is called, in the order of ``paths``; and for each path
        that stands for no record the reason.
    """
    found: dict[Path, None] = {}
    failures: dict[str, str] = {}
    for path in paths:
        try:
            # The folder alone is resolved: a linked file keeps the name that its header knows.
            records = [r.parent.resolve() / r.name for r in find_records(path)]
        except (XECGError, OSError) as error:
            failures[str(path)] = str(error)
        else:
            found |= dict.fromkeys(records)
    return _names(found), failures


def _names(records: Iterable[Path]) -> dict[str, Path]:
    named: dict[str, list[Path]] = {}
    for record in records:
        named.setdefault(record.name, []).append(record)
    depths = {name: _telling_depth(alike) for name, alike in named.items()}
    return {_tail(record, depths[record.name]): record for record in records}


def _telling_depth(alike: list[Path]) -> int:
    """How many last parts of their paths tell these records apart."""
    depth = 1
    while len({_tail(record, depth) for record in alike}) < len(alike):
        depth += 1
    return depth


def _tail(record: Path, depth: int) -> str:
    return "/".join(record.parts[-depth:])


@dataclass(frozen=True, eq=False)
class RecordWindows:
    """Windows of one lead, side by side; the last one ends with the record.

    Args:
        record: What the record is called in the results.
        lead: Name of the lead.
        unit: Physical unit of the lead.
        raw: The lead as recorded, float32 ``(time,)`` in ``unit``.
        raw_rate: Sampling rate of ``raw`` in Hz.
        preprocessing: What made the windows.
        starts: First sample of each window, int64 ``(windows,)``, at the rate of the preprocessing.
        filtered: Band-limited windows, float32 ``(windows, window_samples)`` in ``unit``.
        left_out: Which windows cannot be used, and why; empty if all can.
    """

    record: str
    lead: str
    unit: str
    raw: NDArray[np.float32]
    raw_rate: float
    preprocessing: Preprocessing
    starts: NDArray[np.int64]
    filtered: NDArray[np.float32]
    left_out: str

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def start_s(self) -> NDArray[np.float64]:
        """Where each window starts in the record, in seconds, ``(windows,)``."""
        return self.starts / self.preprocessing.sampling_rate

    @property
    def signals(self) -> NDArray[np.float32]:
        """The windows as the network takes them, scaled, ``(windows, window_samples)``."""
        return self.preprocessing.scale(self.filtered)

    def r_peaks(self) -> list[NDArray[np.int64]]:
        """Detected R peaks of each window, in samples of the window.

        They are looked for in the whole lead, so that the detector has settled in every window.
        """
        peaks_s = detect_r_peaks(self.raw, self.raw_rate) / self.raw_rate
        peaks = np.rint(peaks_s * self.preprocessing.sampling_rate).astype(np.int64)
        stops = self.starts + self.preprocessing.window_samples
        firsts, lasts = np.searchsorted(peaks, [self.starts, stops])
        return [
            peaks[first:last] - start
            for first, last, start in zip(firsts, lasts, self.starts, strict=True)
        ]


def read_windows(
    path: Path, preprocessing: Preprocessing, *, lead: str | None = None, record: str = ""
) -> RecordWindows:
    """Read a record and cut one of its leads into windows.

    Args:
        path: A WFDB record.
        preprocessing: What the network's windows have to pass.
        lead: Name of the lead; None takes the preferred one.
        record: What the record is called in the results; its own name if empty.

    Raises:
        RecordError: It cannot be read, has no such lead, is shorter than a window, or has no
            window that can be used.
    """
    recording = read_recording(path)
    _check_duration(recording, preprocessing.window_s)
    index = recording.choose_lead(lead)
    raw = recording.samples[index]
    unscaled = replace(preprocessing, scaling="none")
    cut = cut_windows(
        raw, recording.sampling_rate, unscaled, align_last=True, record=recording.name
    )
    left_out = _left_out(cut, recording, preprocessing)
    if not len(cut):
        raise RecordError(f"Record {recording.name!r}, lead {recording.leads[index]}: {left_out}.")
    return RecordWindows(
        record=record or recording.name,
        lead=recording.leads[index],
        unit=recording.units[index],
        raw=raw,
        raw_rate=recording.sampling_rate,
        preprocessing=preprocessing,
        starts=cut.starts,
        filtered=cut.signals,
        left_out=left_out,
    )


def _check_duration(recording: Recording, window_s: float) -> None:
    """Stricter than resampling, which rounds the length of a record up."""
    missing_samples = window_s * recording.sampling_rate - recording.n_samples
    if missing_samples > 1e-6:
        raise RecordError(
            f"Record {recording.name!r} lasts {recording.duration_s:.6g} s; the network takes "
            f"windows of {window_s:g} s. Leave the record out, or join it to what follows it."
        )


def _left_out(cut: Windows, recording: Recording, preprocessing: Preprocessing) -> str:
    """Number of windows left out by reason, and which part of the record they cover."""
    if not cut.left_out:
        return ""
    window, rate = preprocessing.window_samples, preprocessing.sampling_rate
    n_samples = preprocessing.resampled_length(recording.n_samples, recording.sampling_rate)
    starts = window_starts(n_samples, window, window, align_last=True)
    absent = np.setdiff1d(starts, cut.starts)
    reasons = ", ".join(f"{count} {reason}" for reason, count in cut.left_out.items())
    spans = ", ".join(f"{a / rate:g} to {b / rate:g} s" for a, b in _spans(absent, window))
    noun = "window" if len(starts) == 1 else "windows"
    return f"{len(absent)} of {len(starts)} {noun} cannot be used ({reasons}): {spans}"


def _spans(starts: NDArray[np.int64], window: int) -> list[tuple[int, int]]:
    """First sample and the one after the last of each run of windows that touch."""
    breaks = [i for i, (a, b) in enumerate(pairwise(starts), start=1) if b > a + window]
    edges = [0, *breaks, len(starts)]
    return [(int(starts[a]), int(starts[b - 1]) + window) for a, b in pairwise(edges)]


Result = TypeVar("Result")
Progress = Callable[[int], None]
"""Takes the number of windows that were done since the last call."""

Outcomes = Mapping[str, Result | XECGError]
"""By record its result, or why there is none."""

_AHEAD = 2  # records, or groups of them, per thread that wait for their turn


def map_records(
    function: Callable[[str, Path, Progress], Result],
    records: Mapping[str, Path],
    problems: Problems,
    *,
    title: str,
) -> Iterator[Result]:
    """Results of ``function(name, path, progress)`` for each record, in the order of ``records``.

    Args:
        function: Works on one record.
        records: Path of each record by name.
        problems: Is told of records for which ``function`` raises an ``XECGError``.
        title: What is being done, for the progress bar.
    """

    def alone(group: Mapping[str, Path], progress: Progress) -> Outcomes[Result]:
        ((name, path),) = group.items()
        try:
            return {name: function(name, path, progress)}
        except XECGError as error:
            return {name: error}

    return map_groups(alone, records, problems, size=1, title=title)


def map_groups(
    function: Callable[[Mapping[str, Path], Progress], Outcomes[Result]],
    records: Mapping[str, Path],
    problems: Problems,
    *,
    size: int,
    title: str,
) -> Iterator[Result]:
    """Results for each record, in the order of ``records``, worked on some at a time.

    Args:
        function: ``function(group, progress)`` gives a result, or an error, for each record.
        records: Path of each record by name.
        problems: Is told of the errors.
        size: Most records in a group; fewer if there is not a group for each thread.
        title: What is being done, for the progress bar.
    """
    with (
        ProgressBar(title, len(records)) as bar,
        one_thread_per_operation() as n_threads,
        ThreadPoolExecutor(n_threads) as pool,
    ):
        todo = _groups(records, max(1, min(size, len(records) // (_AHEAD * n_threads))))
        running: deque[Future[Outcomes[Result]]] = deque()
        try:
            while True:
                for group in islice(todo, _AHEAD * n_threads - len(running)):
                    running.append(pool.submit(function, group, bar.windows))
                if not running:
                    return
                for name, outcome in running.popleft().result().items():
                    if isinstance(outcome, XECGError):
                        problems.fail(name, str(outcome))
                    else:
                        yield outcome
                    bar.record()
        finally:
            pool.shutdown(cancel_futures=True)


def _groups(records: Mapping[str, Path], size: int) -> Iterator[dict[str, Path]]:
    items = iter(records.items())
    while group := dict(islice(items, size)):
        yield group

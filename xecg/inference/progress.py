"""A progress bar for work that turns out to take long."""

import time
from threading import Lock
from typing import Any

from tqdm import tqdm

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

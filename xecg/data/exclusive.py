"""One process at a time makes a folder, and the folder appears whole or not at all."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from xecg.errors import StoreError

_log = logging.getLogger(__name__)


@contextmanager
def only_one(out: Path) -> Iterator[bool]:
    """Holds the lock on `out`, a file beside it, which is freed even if the process is killed.

    Yields:
        Whether another process had the lock and was waited for.

    Raises:
        StoreError: If the lock file cannot be written.
    """
    lock = FileLock(f"{out}.lock")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        waited = not _acquired_at_once(lock)
        if waited:
            _log.warning("%s: another process is preparing it; waiting", out)
            lock.acquire()
    except OSError as error:
        raise cannot_write(out, error) from error
    try:
        yield waited
    finally:
        lock.release()


@contextmanager
def whole_or_nothing(out: Path) -> Iterator[Path]:
    """Gives a folder to fill beside `out`, and moves it there when all went well.

    What was at `out` is replaced; it stays if anything fails. Call it under `only_one`.

    Yields:
        Path of the folder, which does not exist yet.

    Raises:
        StoreError: If files cannot be written.
    """
    filling, replaced = Path(f"{out}.partial"), Path(f"{out}.replaced")
    _remove(filling, replaced)  # left over from a process that was killed
    try:
        yield filling
        if out.exists():
            out.rename(replaced)
        try:
            filling.rename(out)
        except OSError:
            if replaced.exists():
                replaced.rename(out)
            raise
    except OSError as error:
        raise cannot_write(out, error) from error
    finally:
        _remove(filling, replaced)


def cannot_write(out: Path, error: OSError) -> StoreError:
    """The error for a place that takes no files."""
    return StoreError(f"{out}: cannot be written ({error}); free the space or give another --out")


def _acquired_at_once(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    return True


def _remove(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)

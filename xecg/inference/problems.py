"""Records that could not be used, wholly or in part: told at once, and written down at the end."""

import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from xecg.files import write_table

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

"""Which records a command line names, and what each is called in the results."""

from collections.abc import Iterable
from pathlib import Path

from xecg.errors import XECGError
from xecg.signal.wfdb_files import find_records


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

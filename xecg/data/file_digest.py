"""Whether a folder's files are still the ones seen before, told without reading them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


def file_digest(folder: Path) -> str:
    """Number, total size, and a digest over path, size and time of change of all files below.

    Hidden files and folders are passed over. 17,000 files take about 0.1 s.

    Args:
        folder: The folder of a database.

    Returns:
        For example `"96 files, 100423568 bytes, 0f343b0931126a20"`.
    """
    hashed = hashlib.sha256()
    n_files = n_bytes = 0
    for path, stat in _files(folder, ""):
        hashed.update(f"{path}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
        n_files += 1
        n_bytes += stat.st_size
    return f"{n_files} files, {n_bytes} bytes, {hashed.hexdigest()[:16]}"


def _files(folder: Path | str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        visible = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in visible:
        if entry.is_dir():
            yield from _files(entry.path, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry.stat()

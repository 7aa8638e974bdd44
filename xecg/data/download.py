"""One file over HTTP: continued where it was cut off, checked, and only then given its name."""

from __future__ import annotations

import errno
import hashlib
import http.client
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from xecg.errors import DataError

TIMEOUT_S = 60.0
# Waits between attempts, in seconds; each attempt continues where the last one ended.
PAUSES_S = (1.0, 2.0, 4.0, 8.0)
_CHUNK = 1 << 16
_PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE, _TOO_MANY_REQUESTS, _SERVER_ERRORS = 206, 416, 429, 500
_NOT_THERE = (404, 410)

OnBytes = Callable[[int], object]
_Result = TypeVar("_Result")


class NotThereError(DataError):
    """A file that the server does not have."""


class ChecksumError(DataError):
    """A file that arrived whole and is not the one that was published.

    Args:
        url: Where it came from.
        expected: The published SHA-256.
        found: The SHA-256 of what arrived.
        reproducible: Whether a second download brought the same file.
    """

    def __init__(self, url: str, expected: str, found: str, reproducible: bool) -> None:
        super().__init__(
            f"{url}: expected the published SHA-256 {expected}, found {found}"
            f"{' twice' if reproducible else ', and another one the second time'}"
        )
        self.reproducible = reproducible


def download(
    url: str,
    target: Path,
    sha256: str,
    *,
    keep_mismatch: bool = False,
    on_bytes: OnBytes = lambda _: None,
) -> bool:
    """Downloads a file, unless it is there already.

    Bytes go to `target` + `.part`, which a later call continues by an HTTP range request. A
    file with the wrong checksum is downloaded a second time from its beginning.

    Args:
        url: Where the file is.
        target: Where it shall be; its folder is made.
        sha256: Its published checksum, in hexadecimal.
        keep_mismatch: Keep a file that does not match its checksum if a second download brings
            the same one, and one that is there already.
        on_bytes: Is told the number of bytes that arrived, again and again.

    Returns:
        Whether the file matches its checksum.

    Raises:
        ChecksumError: If the file does not match, and is not kept.
        NotThereError: If the server does not have it.
        DataError: If the file cannot be had for another reason.
    """
    if target.is_file():
        matches = sha256_of(target) == sha256
        if matches or keep_mismatch:
            return matches
        warnings.warn(f"{target}: is not the published file, it is fetched again", stacklevel=2)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    first = _complete(url, part, sha256, on_bytes)
    if first != sha256:
        part.unlink()
        second = _complete(url, part, sha256, on_bytes)
        if second != sha256 and not (keep_mismatch and first == second):
            part.unlink()
            raise ChecksumError(url, sha256, second, reproducible=first == second)
        first = second
    part.replace(target)
    return first == sha256


def read_text(url: str) -> str:
    """A small text file.

    Raises:
        DataError: If it cannot be had.
    """

    def read() -> str:
        with _open(url, 0) as response:
            return str(response.read().decode("utf-8", errors="replace"))

    return _persistently(url, read)


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _complete(url: str, part: Path, sha256: str, on_bytes: OnBytes) -> str:
    """Downloads what is missing of a file; returns its checksum."""
    if part.is_file() and sha256_of(part) == sha256:
        return sha256  # it was cut off between the last byte and its renaming
    _persistently(url, lambda: _append(url, part, on_bytes))
    return sha256_of(part)


def _append(url: str, part: Path, on_bytes: OnBytes) -> None:
    """One attempt to download the rest of a file."""
    start = part.stat().st_size if part.is_file() else 0
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code != _RANGE_NOT_SATISFIABLE:
            raise
        part.unlink()  # longer than the file, so not a part of it
        start, response = 0, _open(url, 0)
    with response:
        continued = response.status == _PARTIAL_CONTENT
        expected = response.headers["Content-Length"]
        arrived = 0
        with part.open("ab" if continued else "wb") as file:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                arrived += len(chunk)
                on_bytes(len(chunk))
    if expected is not None and arrived != int(expected):
        raise ConnectionError(f"cut off after {arrived} of {expected} bytes")


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "xecg", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    request = urllib.request.Request(url, headers=headers)
    response: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    return response


def _persistently(url: str, attempt: Callable[[], _Result]) -> _Result:
    """Repeats an attempt that fails for reasons that may pass."""
    for pause in (*PAUSES_S, None):
        try:
            return attempt()
        except urllib.error.HTTPError as error:
            if error.code < _SERVER_ERRORS and error.code != _TOO_MANY_REQUESTS:
                kind = NotThereError if error.code in _NOT_THERE else DataError
                raise kind(
                    f"{url}: expected a file, the server answers {error.code} {error.reason}; "
                    "check the address in a browser"
                ) from error
            problem: Exception = error
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, PermissionError) or getattr(error, "errno", None) == errno.ENOSPC:
                raise DataError(f"{url}: cannot be written: {error}") from error
            problem = error
        if pause is not None:
            time.sleep(pause)
    raise DataError(
        f"{url}: cannot be had after {len(PAUSES_S) + 1} attempts ({problem}); check the "
        "connection and call again: what has arrived is kept and continued"
    ) from problem

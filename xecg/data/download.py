"""Databases from PhysioNet: resumable downloads, each file checked against its checksum.

wfdb's own downloader (`wfdb.dl_files`) holds whole files in memory, writes them under their
final names, and checks sizes only; so the files come over plain HTTP.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import shutil
import tempfile
import threading
import time
import urllib.error
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import quote

from filelock import FileLock, Timeout
from tqdm import tqdm

from xecg.data.databases import DATABASES
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


# PhysioNet asks for few connections at a time.
CONNECTIONS = 4
CHECKSUM_LISTS = ("SHA256SUMS.txt", "SHA256SUMS")

# What became of a file.
MATCHES = "match their published checksums"
DIFFERS = "differ from their published checksums, as known of this database, and are kept"
ABSENT = "are in the list of checksums but not on the server, as known of this database"


@dataclass(frozen=True)
class Selection:
    """What is fetched of a published database.

    Args:
        files: Patterns of the paths in the list of checksums.
        archive: A zip file among them that is unpacked and removed; empty if there is none.
        unpacked: The folder that comes out of it.
        corrected: Patterns of files that the publishers changed after their checksums.
        withdrawn: Patterns of files that the list of checksums has and the server may not.
    """

    files: tuple[str, ...]
    archive: str = ""
    unpacked: str = ""
    corrected: tuple[str, ...] = ()
    withdrawn: tuple[str, ...] = ()


SELECTIONS = {
    "cinc2017": Selection(
        ("training2017.zip", "REFERENCE-v3.csv"), "training2017.zip", "training2017"
    ),
    "ludb": Selection(("RECORDS", "data/*")),
    # 57 headers carry later signal names than the published checksums, and sel233.atr is listed
    # but not there.
    "qtdb": Selection(
        ("RECORDS", "sel*.hea", "sel*.dat", "sel*.atr", "sel*.q1c"),
        corrected=("sel*.hea",),
        withdrawn=("sel*.atr",),
    ),
    "mitdb": Selection(("RECORDS", "[12]??.hea", "[12]??.dat", "[12]??.atr")),
    "challenge": Selection(("training/*",)),
}

# Where databases are that cannot be fetched.
ELSEWHERE = {
    "folder": "these are your own records",
    "synthetic": "write_synthetic_database of xecg.signal.synthetic makes it",
    "xfusemap": (
        "it belongs to doi:10.1038/s44387-025-00022-w; get it there and read it as `challenge`"
    ),
}


def fetch(
    name: str, out: Path | str, *, base_url: str | None = None, progress: bool = True
) -> Path:
    """Downloads a database from PhysioNet.

    A download that was cut off is continued by the next call; files that are complete are only
    checked. Where the publishers are known to have changed or withdrawn files after they listed
    the checksums (in qtdb), this is no error, but a warning counts these files.

    Args:
        name: One of `SELECTIONS`.
        out: The folder for it; made if it does not exist.
        base_url: Address of a folder with the list of checksums, in place of PhysioNet's.
        progress: Whether to show a progress bar.

    Returns:
        The folder, fit as the root of the database of that name.

    Raises:
        DataError: If the database cannot be fetched from there, a file cannot be had or does
            not match its checksum, or another process fetches into the same folder.
    """
    selection = _selection(name)
    url = (base_url or DATABASES[name].url.replace("/content/", "/files/")).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise DataError(f"base_url: expected an address with http:// or https://, found {url}")
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".fetch.lock", timeout=0):
            _fetch(name, selection, url, out, progress)
    except Timeout as error:
        raise DataError(
            f"{out}: another process is fetching into this folder; wait for it or choose another"
        ) from error
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from error
    return out


def _selection(name: str) -> Selection:
    if name in ELSEWHERE:
        raise DataError(f"{name} cannot be fetched from PhysioNet: {ELSEWHERE[name]}")
    if name not in SELECTIONS:
        raise DataError(
            f"no database called {name!r} can be fetched; there are {', '.join(SELECTIONS)}"
        )
    return SELECTIONS[name]


def _fetch(name: str, selection: Selection, url: str, out: Path, progress: bool) -> None:
    published = _published(url)
    wanted = _wanted(name, selection, published, url)
    if selection.archive and (out / selection.unpacked).is_dir():
        wanted.pop(selection.archive, None)
    with tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=not progress) as bar:
        outcomes = _download_all(wanted, selection, url, out, bar)
    for outcome in (DIFFERS, ABSENT):
        if paths := sorted(path for path, found in outcomes.items() if found == outcome):
            warnings.warn(f"{name}: {len(paths)} files {outcome}: {_some(paths)}", stacklevel=3)
    if selection.archive in wanted:
        _unpack(out / selection.archive, out, progress)


def _wanted(
    name: str, selection: Selection, published: Mapping[str, str], url: str
) -> dict[str, str]:
    """The selected files of a published list."""
    matching = {
        pattern: [path for path in published if fnmatchcase(path, pattern)]
        for pattern in selection.files
    }
    if missing := [pattern for pattern, paths in matching.items() if not paths]:
        raise DataError(
            f"{url}: expected files like {', '.join(missing)} in the list of checksums, found "
            f"{len(published)} others; is this the folder of {name}?"
        )
    return {path: published[path] for paths in matching.values() for path in paths}


def _published(url: str) -> Mapping[str, str]:
    """The published SHA-256 of every file of a database, by path."""
    problems = []
    for name in CHECKSUM_LISTS:
        try:
            lines = read_text(f"{url}/{name}").splitlines()
        except DataError as error:
            problems.append(error)
            continue
        pairs = (line.split(maxsplit=1) for line in lines if line.strip())
        return {_inside(path, f"{url}/{name}"): sha256.lower() for sha256, path in pairs}
    raise DataError(
        f"{url}: expected {' or '.join(CHECKSUM_LISTS)} there, to know the files and to check "
        f"them; found neither ({problems[0]})"
    ) from problems[0]


def _inside(path: str, url: str) -> str:
    """A path of the list, asserted not to lead out of the folder."""
    path = path.strip().removeprefix("*")
    if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise DataError(f"{url}: expected paths below this folder, found {path!r}")
    return path


def _download_all(
    wanted: Mapping[str, str], selection: Selection, url: str, out: Path, bar: tqdm
) -> dict[str, str]:
    """Downloads the wanted files; returns what became of each."""
    stop = threading.Event()

    def on_bytes(n_bytes: int) -> None:
        if stop.is_set():
            raise DataError("stopped")
        bar.update(n_bytes)

    def one(path: str) -> str:
        keep = any(fnmatchcase(path, pattern) for pattern in selection.corrected)
        address = f"{url}/{quote(path)}"
        try:
            matches = download(
                address, out / path, wanted[path], keep_mismatch=keep, on_bytes=on_bytes
            )
        except NotThereError:
            if any(fnmatchcase(path, pattern) for pattern in selection.withdrawn):
                return ABSENT
            raise
        return MATCHES if matches else DIFFERS

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = {pool.submit(one, path): path for path in wanted}
        try:
            return _outcomes(futures, bar)
        finally:  # after an error or Ctrl-C nothing more is begun, what runs ends soon
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _outcomes(futures: Mapping[Future[str], str], bar: tqdm) -> dict[str, str]:
    """Waits for all downloads; mismatches are gathered, another error ends it at once."""
    outcomes: dict[str, str] = {}
    mismatches = []
    for done, future in enumerate(as_completed(futures), start=1):
        bar.set_postfix_str(f"{done}/{len(futures)} files")
        try:
            outcomes[futures[future]] = future.result()
        except ChecksumError as error:
            mismatches.append(error)
    if mismatches:
        raise DataError(
            f"{len(mismatches)} of {len(futures)} files do not match their published checksums "
            f"and were not kept; the others are complete. First: {mismatches[0]}. Call again "
            "later; if it stays, the server does not hold what was published"
        )
    return outcomes


def _unpack(archive: Path, out: Path, progress: bool) -> None:
    """Unpacks a zip file beside itself, all or nothing, and removes it."""
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=out))
    try:
        with zipfile.ZipFile(archive) as file:
            for member in tqdm(file.infolist(), f"unpack {archive.name}", disable=not progress):
                file.extract(member, scratch)
        for path in scratch.iterdir():
            path.rename(out / path.name)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive}: is no zip file ({error}); remove it and call again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    archive.unlink()


def _some(paths: list[str]) -> str:
    return ", ".join(paths[:3]) + (", ..." if len(paths) > 3 else "")

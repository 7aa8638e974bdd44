"""Databases from PhysioNet: each file checked by its published checksum."""

import shutil
import tempfile
import threading
import warnings
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import quote

from filelock import FileLock, Timeout
from tqdm import tqdm

from xecg.data.databases import DATABASES, Download
from xecg.errors import DataError

if TYPE_CHECKING:
    from pooch import HTTPDownloader, Pooch

CONNECTIONS = 4  # PhysioNet asks for few at a time
RETRIES = 4  # pooch waits 1, 2, 3, ... seconds before each
TIMEOUT_S = 60.0
CHECKSUM_LISTS = ("SHA256SUMS.txt", "SHA256SUMS")


def fetch(name: str, out: Path | str, *, base_url: str | None = None) -> Path:
    """Downloads a database; files that are complete are only checked. Returns its folder.

    Args:
        name: Name of the database, or class path of your own.
        out: Folder for it, fit as the root of the database; made if it does not exist.
        base_url: Address of a folder with the list of checksums, in place of the database's own.

    Raises:
        DataError: If the database cannot be downloaded from there, a file cannot be had or does
            not match its checksum, or another process downloads into the same folder.
    """
    database, out = DATABASES[name], Path(out)
    wanted = database.download
    if isinstance(wanted, str):
        raise DataError(f"{name} cannot be downloaded: {wanted}")
    url = (base_url or database.url.replace("/content/", "/files/")).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{name}: expected an address with http:// or https://, found {url!r}")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".fetch.lock", timeout=0):
            _fetch(name, wanted, url, out)
    except Timeout as error:
        raise DataError(
            f"{out}: another process downloads into this folder; wait for it or choose another"
        ) from error
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from error
    return out


def _fetch(name: str, wanted: Download, url: str, out: Path) -> None:
    hashes = _chosen(name, wanted, _published(url), url)
    if wanted.archive and (out / wanted.unpacked).is_dir():
        del hashes[wanted.archive]
    if absent := _download_all(name, wanted, hashes, url, out):
        more = ", ..." if len(absent) > 3 else ""
        warnings.warn(
            f"{name}: the server has no {', '.join(sorted(absent)[:3])}{more}, as is known of this "
            "database",
            stacklevel=3,
        )
    if wanted.archive in hashes:
        _unpack(out / wanted.archive, out)


def _published(url: str) -> dict[str, str]:
    """The published SHA-256 of every file of a database, by path."""
    from requests import RequestException

    problem: Exception | None = None
    for name in CHECKSUM_LISTS:
        with tempfile.TemporaryDirectory() as folder:
            try:
                lines = Path(_pooch(url, folder, {name: None}).fetch(name)).read_text().splitlines()
            except RequestException as error:
                problem = problem or error
                continue
        pairs = (line.split(maxsplit=1) for line in lines if line.strip())
        return {path.strip().removeprefix("*"): f"sha256:{digest}" for digest, path in pairs}
    raise DataError(
        f"{url}: expected {' or '.join(CHECKSUM_LISTS)} there, to know the files and to check "
        f"them; found neither ({problem}); check the address and the connection"
    ) from problem


def _chosen(
    name: str, wanted: Download, published: Mapping[str, str], url: str
) -> dict[str, str | None]:
    """The checksums of the files to download; null where the published one is out of date."""
    hashes: dict[str, str | None] = {}
    for pattern in wanted.files:
        paths = [path for path in published if fnmatchcase(path, pattern)]
        if not paths:
            raise DataError(
                f"{url}: expected files like {pattern} in the list of checksums, found "
                f"{len(published)} others; is this the folder of {name}?"
            )
        hashes |= {path: published[path] for path in paths}
    for path in hashes:
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise DataError(f"{url}: expected paths below this folder, found {path!r}")
        if any(fnmatchcase(path, pattern) for pattern in wanted.unchecked):
            hashes[path] = None
    return hashes


def _download_all(
    name: str, wanted: Download, hashes: Mapping[str, str | None], url: str, out: Path
) -> list[str]:
    """Downloads the files, a few at a time; returns those that are withdrawn."""
    from requests import RequestException

    absent, different, files = [], [], _pooch(url, out, hashes)
    bar = tqdm(desc=name, unit="B", unit_scale=True, unit_divisor=1024, disable=None)
    stop = threading.Event()
    with bar, ThreadPoolExecutor(CONNECTIONS) as pool:
        try:
            futures = {pool.submit(files.fetch, p, None, _downloader(bar, stop)): p for p in hashes}
            for done, future in enumerate(as_completed(futures), start=1):
                path = futures[future]
                bar.set_postfix_str(f"{done}/{len(futures)} files")
                try:
                    future.result()
                except RequestException as error:
                    gone = getattr(error.response, "status_code", None) in (404, 410)
                    if not (gone and any(fnmatchcase(path, p) for p in wanted.withdrawn)):
                        raise DataError(
                            f"{url}/{path}: cannot be had after {RETRIES + 1} attempts ({error}); "
                            "check address and connection and call again: what is complete is kept"
                        ) from error
                    absent.append(path)
                except ValueError as error:  # pooch's for another checksum
                    different.append(f"{path} ({error})")
        finally:  # after an error or Ctrl-C nothing more is begun, what runs ends soon
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
    if different:
        raise DataError(
            f"{len(different)} of {len(hashes)} files do not match their published checksums and "
            f"were not kept; the others are complete. First: {different[0]}. Call again later; if "
            "it stays, the server does not hold what was published"
        )
    return absent


def _pooch(url: str, folder: Path | str, hashes: Mapping[str, str | None]) -> "Pooch":
    import pooch

    pooch.get_logger().setLevel("WARNING")
    urls = {path: f"{url}/{quote(path)}" for path in hashes}
    return pooch.create(
        folder, f"{url}/", registry=dict(hashes), urls=urls, retry_if_failed=RETRIES
    )


def _downloader(bar: tqdm, stop: threading.Event) -> "HTTPDownloader":
    """Downloads a file, adds its bytes to a bar that is all files', and stops when asked to."""
    from pooch import HTTPDownloader

    class Bytes:
        total, ended = 0, False

        def update(self, n_bytes: int) -> None:
            if stop.is_set():
                raise DataError("stopped")
            if not self.ended:
                bar.update(n_bytes)

        def reset(self) -> None:  # pooch then tells the whole size once more
            self.ended = True

        def close(self) -> None:
            pass

    return HTTPDownloader(progressbar=Bytes(), chunk_size=1 << 16, timeout=TIMEOUT_S)


def _unpack(archive: Path, out: Path) -> None:
    """Unpacks a zip file beside itself, all or nothing, and removes it."""
    scratch = Path(tempfile.mkdtemp(prefix=".unpacking-", dir=out))
    try:
        with zipfile.ZipFile(archive) as file:
            for member in tqdm(file.infolist(), f"unpack {archive.name}", disable=None):
                file.extract(member, scratch)
        for path in scratch.iterdir():
            path.rename(out / path.name)
    except zipfile.BadZipFile as error:
        raise DataError(f"{archive}: is no zip file ({error}); remove it and call again") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    archive.unlink()

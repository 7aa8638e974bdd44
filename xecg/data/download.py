"""Databases from PhysioNet: each file checked by its published checksum."""

import shutil
import tempfile
import warnings
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pooch
import requests
from filelock import FileLock, Timeout
from tqdm import tqdm

from xecg.data.databases import DATABASES, Download
from xecg.errors import DataError

CONNECTIONS = 4  # PhysioNet asks for few at a time
RETRIES = 4  # pooch waits 1, 2, 3, ... seconds before each
TIMEOUT_S = 60.0
CHECKSUM_LISTS = ("SHA256SUMS.txt", "SHA256SUMS")


def fetch(name: str, out: Path | None = None, base_url: str | None = None) -> None:
    """Downloads a database from PhysioNet, and checks every file by its published checksum.

    Files that are complete are not downloaded again.

    Args:
        name: Name of the database (``xecg data list``), or class path of your own.
        out: Folder for it; ``data/NAME`` by default.
        base_url: Address of a folder with the list of checksums, in place of the database's own.

    Raises:
        DataError: If a file cannot be had or is not as published, or the folder is in use.
    """
    database, out = DATABASES[name], out or Path("data") / name
    if isinstance(wanted := database.download, str):
        raise DataError(f"{name} cannot be downloaded: {wanted}")
    url = (base_url or database.url.replace("/content/", "/files/")).rstrip("/")
    if not url.startswith(("http://", "https://")):
        raise DataError(f"{name}: expected an address with http:// or https://, found {url!r}")
    pooch.get_logger().setLevel("WARNING")
    try:
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".fetch.lock", timeout=0):
            hashes = _checksums(name, wanted, url)
            if wanted.archive and (out / wanted.unpacked).is_dir():
                del hashes[wanted.archive]
            _download(name, wanted, hashes, url, out)
            if wanted.archive in hashes:
                _unpack(out / wanted.archive)
    except Timeout as error:
        todo = "wait for it or choose another"
        raise DataError(f"{out}: another process downloads into this folder; {todo}") from error
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from error
    print(f"{out}: complete; next: xecg data prepare {name} --root {out}")


def _checksums(name: str, wanted: Download, url: str) -> dict[str, str | None]:
    """Returns the checksums of the files to download; null where the published one is old."""
    published, hashes = _published(url), {}
    for pattern in wanted.files:
        if not (paths := [path for path in published if fnmatchcase(path, pattern)]):
            others = f"found {len(published)} others; is this the folder of {name}?"
            raise DataError(f"{url}: expected checksums of files like {pattern}, {others}")
        for path in paths:
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise DataError(f"{url}: expected paths below this folder, found {path!r}")
            changed = any(fnmatchcase(path, pattern) for pattern in wanted.unchecked)
            hashes[path] = None if changed else published[path]
    return hashes


def _published(url: str) -> dict[str, str]:
    found = []
    for name in CHECKSUM_LISTS:
        try:
            (answer := requests.get(f"{url}/{name}", timeout=TIMEOUT_S)).raise_for_status()
        except requests.RequestException as error:
            found.append(str(error))
            continue
        pairs = [line.split(maxsplit=1) for line in answer.text.splitlines()]
        return {path.removeprefix("*"): f"sha256:{digest}" for digest, path in filter(None, pairs)}
    expected = f"{' or '.join(CHECKSUM_LISTS)} there, to know the files and to check them"
    todo = "check the address and the connection"
    raise DataError(f"{url}: expected {expected}, found neither ({found[0]}); {todo}")


def _download(
    name: str, wanted: Download, hashes: Mapping[str, str | None], url: str, out: Path
) -> None:
    absent, different = [], []
    urls = {path: f"{url}/{quote(path)}" for path in hashes}
    files = pooch.create(out, url, registry=hashes, urls=urls, retry_if_failed=RETRIES)
    get = pooch.HTTPDownloader(timeout=TIMEOUT_S)
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = {pool.submit(files.fetch, path, downloader=get): path for path in hashes}
        try:
            for future in tqdm(
                as_completed(futures), name, len(futures), unit="file", disable=None
            ):
                path = futures[future]
                try:
                    future.result()
                except requests.RequestException as error:
                    gone = getattr(error.response, "status_code", None) in (404, 410)
                    if not (gone and any(fnmatchcase(path, p) for p in wanted.withdrawn)):
                        raise DataError(
                            f"{url}/{path}: cannot be had after {RETRIES + 1} attempts ({error}); "
                            "check address and connection and call again: what is complete is kept"
                        ) from error
                    absent.append(path)
                except ValueError as error:  # pooch's for another checksum
                    different.append(f"{path} ({error})")
        finally:
            pool.shutdown(cancel_futures=True)
    if different:
        raise DataError(
            f"{len(different)} of {len(hashes)} files do not match their published checksums and "
            f"were not kept; the others are complete. First: {different[0]}. Call again later; if "
            "it stays, the server does not hold what was published"
        )
    if absent:
        known = f"the server has no {min(absent)} and {len(absent) - 1} others, as is known of it"
        warnings.warn(f"{name}: {known}", stacklevel=3)


def _unpack(archive: Path) -> None:
    """Unpacks a zip file beside itself, all or nothing, and removes it."""
    with tempfile.TemporaryDirectory(prefix=".unpacking-", dir=archive.parent) as scratch:
        try:
            shutil.unpack_archive(archive, scratch, "zip")
        except shutil.ReadError as error:
            why = f"is no zip file ({error}); remove it and call again"
            raise DataError(f"{archive}: {why}") from error
        for path in Path(scratch).iterdir():
            path.rename(archive.parent / path.name)
    archive.unlink()

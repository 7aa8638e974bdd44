"""Databases from PhysioNet: each file checked by its published checksum."""

import shutil
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import pooch
import requests
from tqdm import tqdm

from xecg.data.databases import DATABASES, Database
from xecg.errors import DataError

CONNECTIONS = 4  # PhysioNet asks for few at a time
RETRIES = 4  # pooch waits 1, 2, 3, ... seconds before each
TIMEOUT_S = 60.0
CHECKSUM_LISTS = ("SHA256SUMS.txt", "SHA256SUMS")


def fetch(name: str, out: Path | None = None) -> None:
    """Downloads a database from PhysioNet, and checks every file by its published checksum.

    Files that are complete are not downloaded again.

    Args:
        name: Name of the database (``xecg data list``), or class path of your own.
        out: Folder for it; ``data/NAME`` by default.

    Raises:
        DataError: If a file cannot be had or is not as published.
    """
    database, out = DATABASES[name], out or Path("data") / name
    if not database.download:
        raise DataError(f"{name}: expected a published database, found one without files to fetch")
    url = database.url.replace("/content/", "/files/").rstrip("/")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _download(database, _checksums(database, url), url, out)
    except requests.RequestException as error:
        todo = "check the connection and call again: what is complete is kept"
        raise DataError(f"{url}: cannot be had ({error}); {todo}") from error
    except OSError as error:
        raise DataError(f"{out}: cannot be written: {error}") from error
    print(f"{out}: complete; next: xecg data prepare {name} --root {out}")


def _checksums(database: type[Database], url: str) -> dict[str, str | None]:
    """Returns the checksums of the files to download; null where the published one is old."""
    answers = (requests.get(f"{url}/{name}", timeout=TIMEOUT_S) for name in CHECKSUM_LISTS)
    if not (listed := next((answer.text for answer in answers if answer.ok), "")):
        lists = " or ".join(CHECKSUM_LISTS)
        raise DataError(f"{url}: expected {lists} there, to know the files, found neither")
    hashes: dict[str, str | None] = {}
    for digest, path in (line.split(maxsplit=1) for line in listed.splitlines() if line):
        if _is_like(path := path.removeprefix("*"), database.download):
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise DataError(f"{url}: expected paths below this folder, found {path!r}")
            hashes[path] = None if _is_like(path, database.changed) else f"sha256:{digest}"
    for pattern in database.download:
        if not any(_is_like(path, (pattern,)) for path in hashes):
            raise DataError(f"{url}: expected checksums of files like {pattern}, found none")
    return hashes


def _is_like(path: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _download(database: type[Database], hashes: dict[str, str | None], url: str, out: Path) -> None:
    pooch.get_logger().setLevel("WARNING")
    urls = {path: f"{url}/{quote(path)}" for path in hashes}
    files = pooch.create(out, url, registry=hashes, urls=urls, retry_if_failed=RETRIES)
    get, different = pooch.HTTPDownloader(timeout=TIMEOUT_S), []
    # At each call: an archive that was half unpacked has all its files for pooch, the last cut off.
    unpack = {".zip": lambda path, *_: shutil.unpack_archive(path, out)}
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        futures = {
            pool.submit(files.fetch, path, unpack.get(path[-4:]), get): path for path in hashes
        }
        done = as_completed(futures)
        try:
            for future in tqdm(done, database.name, len(futures), unit="file", disable=None):
                path = futures[future]
                try:
                    future.result()
                except requests.HTTPError as error:
                    gone = getattr(error.response, "status_code", None) == 404
                    if not (gone and _is_like(path, database.changed)):
                        raise
                except ValueError as error:  # pooch's for another checksum
                    different.append(f"{path} ({error})")
        finally:
            pool.shutdown(cancel_futures=True)
    if different:
        raise DataError(
            f"{url}: {len(different)} of {len(hashes)} files do not match their published "
            f"checksums and were not kept; the others are complete. First: {different[0]}. Call "
            "again later; if it stays, the server does not hold what was published"
        )

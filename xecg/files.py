"""Files that are written whole, known by their digests, and settings that are read."""

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from uuid import uuid4

import yaml

from xecg.errors import ConfigError, DataError, UnwritableError

if TYPE_CHECKING:
    import pandas as pd

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EISDIR}
SUMS, REPORT = "SHA256SUMS", "test_metrics.csv"
_RESULTS = "config.yaml", "study.yaml", REPORT, "windows/*.csv"  # of a run or a study
_OF_TAGS = LookupError, AttributeError, ArithmeticError  # of a YAML tag whose value is none
# What a spreadsheet runs: blanks do not hinder it, and a minus that begins no number is a sign.
_FORMULA = r"[\t\r]|[\s\ufeff]*(?:[=+@＝＋＠]|[-－](?!(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?\Z))"  # noqa: RUF001
_MOST_BYTES, _MOST_VALUES, _DEEPEST = 1_000_000, 100_000, 50  # of a file of settings


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a file (``w`` text, ``wb`` bytes) that takes its name at the end, or goes on an error.

    Raises UnwritableError if the folder is read-only, the disk full, or the like.
    """
    temporary = path.with_name(f".{uuid4().hex}")  # no longer than a name may be
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        file = temporary.open(mode, encoding=encoding, newline=newline)
    except OSError as error:
        raise UnwritableError(f"{path}: cannot be written ({error})") from error
    try:
        with file:
            yield file
        temporary.replace(path)
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        raise UnwritableError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, content: str | bytes) -> None:
    """Writes a file at once, or raises UnwritableError."""
    with whole_file(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Yields a folder whose files take their places in ``out`` at the end, or go on an error."""
    new = (out if out.is_dir() else out.parent) / f".{out.name}.{uuid4().hex[:8]}"
    try:
        new.mkdir(parents=True)
    except OSError as error:
        raise UnwritableError(f"{out}: cannot be made ({error.strerror})") from error
    try:
        yield new
        move_files(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def move_files(folder: Path, out: Path) -> None:
    """Moves all files of a folder to their places in another one."""
    if out.exists():
        shutil.copytree(folder, out, copy_function=os.replace, dirs_exist_ok=True)
    else:
        folder.rename(out)


def check_empty(out: Path) -> None:
    """Raises ConfigError if there is something at ``out`` that is no empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"out: {out} is no empty folder; name another one")


def sha256(path: Path) -> str:
    """Returns the digest of a file; raises OSError if it is none."""
    with _regular(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_digest(plain: Any) -> str:
    """Returns the digest of what JSON can hold."""
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _regular(path: Path) -> Path:
    if not path.is_file():  # a pipe would be waited for, a device read without an end
        raise OSError(f"{path.name} is no regular file")
    return path


def _sums(folder: Path) -> list[str]:
    paths = sorted(path for pattern in _RESULTS for path in folder.glob(pattern))
    return [f"{sha256(path)}  {path.relative_to(folder).as_posix()}" for path in paths]


def write_sums(folder: Path) -> None:
    """Writes the digests of the results of a run or a study, as the program ``sha256sum`` does."""
    write_whole(folder / SUMS, "".join(f"{line}\n" for line in _sums(folder)))


def check_sums(folder: Path) -> None:
    """Raises DataError unless the results in a folder are those that ``write_sums`` saw."""
    try:
        kept = _regular(folder / SUMS).read_text(encoding="utf-8").splitlines()
        why = ", ".join(sorted({line[66:] for line in {*_sums(folder)} ^ {*kept}}))
    except (OSError, ValueError) as error:
        why = str(error)
    if why:
        there = " ".join(pattern for pattern in _RESULTS if any(folder.glob(pattern)))
        raise DataError(
            f"{folder}: expected the files whose digests are in {SUMS}; missing or changed since: "
            f"{why}. Make them again. To take them as they are, as those of an older xecg: "
            f"(cd {folder} && sha256sum {there} > {SUMS})"
        )


def csv_text(table: "pd.DataFrame", **options: Any) -> str:
    """Returns a table as CSV, floats with six digits.

    Text that a spreadsheet would run (``=...``, ``@...``) is set behind an apostrophe.
    """
    texts = table.select_dtypes(["object", "string", "category"]).columns
    safe = table.copy()
    for name in texts:
        text = safe[name].astype(str)
        safe[name] = text.where(~text.str.match(_FORMULA), "'" + text)
    return str(safe.to_csv(index=False, float_format="%.6g", lineterminator="\n", **options))


def read_settings(path: Path) -> Any:
    """Reads a YAML file of settings.

    Raises ConfigError if it is no file, not UTF-8, no YAML, nested too deeply, contains itself or a
    key twice, or is too large, also by references to its own parts.
    """
    try:
        if not path.is_file():
            raise ConfigError(f"{path}: expected a file of settings, found none of that name")
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise ConfigError(f"{path}: expected at most {_MOST_BYTES} bytes, found {size}")
        loader = yaml.SafeLoader(path.read_text(encoding="utf-8"))
        if (node := loader.get_single_node()) is None:
            return None
        if _n_values(node, {}) > _MOST_VALUES:
            raise ValueError("it holds too many values, or itself")
        return loader.construct_document(node)
    except (OSError, ValueError, RecursionError, yaml.YAMLError, *_OF_TAGS) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{path}: expected settings as YAML in UTF-8 ({reason})") from error


def _n_values(node: Any, known: dict[int, float], depth: int = 0) -> float:
    """The number of values that a part of a YAML text stands for, infinite if it holds itself."""
    if depth > _DEEPEST:
        raise ValueError("it is nested too deeply")
    if id(node) not in known:
        known[id(node)] = inf
        if isinstance(node, yaml.MappingNode):
            keys = Counter(
                (key.tag, key.value) for key, _ in node.value if isinstance(key, yaml.ScalarNode)
            )
            for (_, key), n in keys.items():
                if n > 1:
                    raise ValueError(f"the key {key} stands {n} times in one place")
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        pairs = [part if isinstance(part, tuple) else (part,) for part in parts]
        sizes = [_n_values(part, known, depth + 1) for pair in pairs for part in pair]
        known[id(node)] = 1 + sum(sizes)
    return known[id(node)]

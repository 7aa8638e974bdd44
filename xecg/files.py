"""Files that are written whole: under a temporary name, then renamed."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from xecg.errors import UnwritableError

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EISDIR}


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that takes the name ``path`` at the end, or is removed on an error.

    Args:
        path: The file; one of that name is replaced.
        mode: ``"w"`` for text, ``"wb"`` for bytes.

    Raises:
        UnwritableError: The file cannot be written: the folder is read-only, the disk full.
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
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
    """Write a file at once.

    Raises:
        UnwritableError: The file cannot be opened.
    """
    with whole_file(path, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)

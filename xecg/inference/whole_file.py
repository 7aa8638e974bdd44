"""A file that is written bit by bit, and there only when it is complete."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from xecg.errors import ConfigError


@contextmanager
def whole_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file that takes the name ``path`` at the end, or is removed on an error.

    Args:
        path: The file; one of that name is replaced.
        mode: ``"w"`` for text, ``"wb"`` for bytes.

    Raises:
        ConfigError: The file cannot be opened.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    encoding, newline = (None, None) if "b" in mode else ("utf-8", "")
    try:
        file = temporary.open(mode, encoding=encoding, newline=newline)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error})") from error
    try:
        with file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)

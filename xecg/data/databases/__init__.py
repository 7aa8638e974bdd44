"""Databases by name: each a file that says what its labels mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xecg.data.databases.base import Database, LabelledRecording, RhythmSpan
from xecg.data.databases.challenge import Challenge
from xecg.data.databases.cinc2017 import CinC2017
from xecg.data.databases.folder import Folder
from xecg.data.databases.ludb import LUDB
from xecg.data.databases.mitdb import MITDB
from xecg.data.databases.qtdb import QTDB
from xecg.data.databases.synthetic import Synthetic
from xecg.errors import DataError

__all__ = ["DATABASES", "Database", "LabelledRecording", "RhythmSpan", "get_database"]

DATABASES: dict[str, type[Database]] = {
    database.name: database
    for database in (CinC2017, LUDB, QTDB, MITDB, Challenge, Folder, Synthetic)
}


def get_database(name: str, root: Path | str, **options: Any) -> Database:
    """The database of a name, in a folder.

    Args:
        name: One of `DATABASES`.
        root: The folder that holds it, as downloaded.
        **options: What the database takes besides: see `Folder`.

    Raises:
        DataError: If there is no such database, or the folder is not it.
    """
    if name not in DATABASES:
        raise DataError(f"no database is called {name!r}; there are {', '.join(DATABASES)}")
    return DATABASES[name](root, **options)

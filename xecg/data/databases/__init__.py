"""Databases by name: each a class that says what its labels mean."""

from pathlib import Path
from typing import Any

from xecg.data.databases import physionet
from xecg.data.databases.base import Database, LabelledRecording, RhythmSpan
from xecg.data.databases.challenge import PTBXL, Challenge, CinC2017
from xecg.data.databases.labels import Folder
from xecg.data.databases.synthetic import Synthetic
from xecg.plugins import Registry

__all__ = ["DATABASES", "Database", "LabelledRecording", "RhythmSpan", "get_database"]

# By name, or by the class path of one in another package.
DATABASES: Registry[type[Database]] = Registry("databases")
for _database in (
    CinC2017, PTBXL, Challenge, physionet.LUDB, physionet.QTDB, physionet.MITDB, physionet.AFDB,
    physionet.LTAFDB, physionet.CPSC2021, physionet.SVDB, physionet.AFPDB, physionet.AFTDB,
    Folder, Synthetic,
):  # fmt: skip
    DATABASES.register(_database.name, _database)


def get_database(name: str, root: Path | str, **options: Any) -> Database:
    """Returns a database; raises ConfigError for an unknown name, DataError for a wrong folder."""
    return DATABASES[name](root, **options)

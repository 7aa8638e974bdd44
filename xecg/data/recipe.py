"""What a store is made of: a store is reused only where all of this is the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from xecg.data.databases.base import Database
from xecg.data.file_digest import file_digest
from xecg.errors import ConfigError, StoreError
from xecg.signal.preprocessing import Preprocessing

FORMAT = 1
"""Raised when another release computes other values from the same records."""

Leads = str | tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """Everything that decides about the content of a store.

    Args:
        database: Name of the database.
        database_version: Its version, empty if unknown.
        options: What else the database was given, such as the meaning of labels.
        files: Number, size and digest of the database's files.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: `"preferred"` (one per record), `"all"`, or the names of leads.
        stride_s: From one window's start to the next, in seconds.
        limit: Only the first records, None for all of them.
        format: Version of the store's layout and content.

    Raises:
        ConfigError: If a setting is out of its range.
    """

    database: str
    database_version: str
    options: str
    files: str
    preprocessing: Preprocessing
    leads: Leads
    stride_s: float
    limit: int | None = None
    format: int = FORMAT

    def __post_init__(self) -> None:
        if not self.stride_s > 0:
            raise ConfigError(f"stride_s: expected more than 0 s, found {self.stride_s}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit: expected at least 1 record, found {self.limit}")
        if isinstance(self.leads, str) and self.leads not in ("preferred", "all"):
            raise ConfigError(
                f"leads: expected 'preferred', 'all' or a list of names, found {self.leads!r}"
            )
        if not self.leads:
            raise ConfigError("leads: expected at least one name, found an empty list")

    @classmethod
    def of(
        cls,
        database: Database,
        preprocessing: Preprocessing,
        leads: str | Sequence[str] | None = None,
        stride_s: float | None = None,
        limit: int | None = None,
    ) -> Recipe:
        """The recipe of a database as it lies on disk.

        Args:
            database: Where the records come from.
            preprocessing: Band limits, sampling rate, window, scaling.
            leads: As in `Recipe`; None takes what suits the database.
            stride_s: As in `Recipe`; None sets windows side by side.
            limit: As in `Recipe`.
        """
        if leads is None:
            leads = database.leads
        return cls(
            database=database.name,
            database_version=database.version,
            options=_options(database),
            files=file_digest(database.root),
            preprocessing=preprocessing,
            leads=leads if isinstance(leads, str) else tuple(leads),
            stride_s=preprocessing.window_s if stride_s is None else float(stride_s),
            limit=limit,
        )

    @property
    def fingerprint(self) -> str:
        """Equal for equal recipes."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: Recipe) -> list[str]:
        """One line per setting that differs: `"stride_s: 10.0 here, 5.0 asked for"`."""
        here, there = _flat(self.to_dict()), _flat(other.to_dict())
        return [
            f"{name}: {here.get(name)} here, {there.get(name)} asked for"
            for name in sorted(here.keys() | there.keys())
            if here.get(name) != there.get(name)
        ]

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        plain = {field.name: getattr(self, field.name) for field in fields(self)}
        plain["preprocessing"] = self.preprocessing.to_dict()
        plain["leads"] = self.leads if isinstance(self.leads, str) else list(self.leads)
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Recipe:
        """The inverse of `to_dict`.

        Raises:
            StoreError: If keys are missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if plain.keys() != names:
            raise StoreError(
                f"recipe: expected the keys {', '.join(sorted(names))}, "
                f"found {', '.join(sorted(plain))}"
            )
        leads = plain["leads"]
        return cls(
            **{
                **plain,
                "preprocessing": Preprocessing.from_dict(plain["preprocessing"]),
                "leads": leads if isinstance(leads, str) else tuple(leads),
            }
        )


def _options(database: Database) -> str:
    """The database's own settings as JSON; paths below its folder are relative to it."""
    settings = {
        name: str(value.relative_to(database.root)) if isinstance(value, Path) else value
        for name, value in vars(database).items()
        if name not in ("root", "folder")
    }
    return json.dumps(settings, sort_keys=True)


def _flat(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of the preprocessing as `preprocessing.low_hz` and so on."""
    inner = {f"preprocessing.{name}": value for name, value in plain["preprocessing"].items()}
    return {name: value for name, value in plain.items() if name != "preprocessing"} | inner

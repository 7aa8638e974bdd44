"""What a store says about itself: where its windows come from and how they were made."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from xecg.data.index_file import damaged
from xecg.data.recipe import FORMAT, Leads, Recipe
from xecg.errors import StoreError, XECGError
from xecg.signal.preprocessing import Preprocessing

INFO_FILE = "store.json"


@dataclass(frozen=True)
class StoreInfo:
    """The contents of `store.json`.

    Args:
        recipe: Everything that decides about the content.
        title: Name of the database in full.
        licence: Licence of the database.
        citation: What to cite.
        n_windows: Windows in the store.
        n_annotated: Windows with wave annotations.
        n_records: Records that were read and cut.
        skipped: Records that could not be used, and why.
        left_out: How many windows of the other records were left out, by reason.
        xecg_version: The release that wrote the store.
    """

    recipe: Recipe
    title: str
    licence: str
    citation: str
    n_windows: int
    n_annotated: int
    n_records: int
    skipped: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)
    xecg_version: str = field(default_factory=lambda: version("xecg-lightning"))

    @property
    def database(self) -> str:
        """Name of the database."""
        return self.recipe.database

    @property
    def preprocessing(self) -> Preprocessing:
        """Band limits, sampling rate, window, scaling."""
        return self.recipe.preprocessing

    @property
    def leads(self) -> Leads:
        """`"preferred"`, `"all"`, or names of leads."""
        return self.recipe.leads

    @property
    def stride_s(self) -> float:
        """From one window's start to the next, in seconds."""
        return self.recipe.stride_s

    @property
    def fingerprint(self) -> str:
        """Equal for stores made of the same files with the same settings."""
        return self.recipe.fingerprint

    @property
    def format(self) -> int:
        """Version of the store's layout and content."""
        return self.recipe.format

    def write(self, folder: Path) -> None:
        """Writes `store.json` into a folder."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain |= {"recipe": self.recipe.to_dict(), "fingerprint": self.fingerprint}
        text = json.dumps(plain, indent=2, ensure_ascii=False)
        (folder / INFO_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> StoreInfo:
        """Reads `store.json` from a folder.

        Raises:
            StoreError: If it is missing, damaged, or written in another format.
        """
        path = folder / INFO_FILE
        if not path.is_file():
            raise StoreError(
                f"{folder}: expected a prepared store, found no {INFO_FILE}; prepare one with "
                f"`xecg data prepare NAME --out {folder}`"
            )
        try:
            plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            found_format = plain["recipe"]["format"]
        except (ValueError, TypeError, KeyError) as error:
            raise damaged(path, error) from error
        if found_format != FORMAT:
            raise StoreError(
                f"{path}: expected format {FORMAT}, found {found_format}; another release of "
                "xecg wrote this store. Prepare it again with --overwrite"
            )
        plain.pop("fingerprint", None)
        try:
            return cls(**{**plain, "recipe": Recipe.from_dict(plain["recipe"])})
        except (TypeError, XECGError) as error:
            raise damaged(path, error) from error

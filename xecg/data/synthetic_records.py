"""Records of synthetic ECGs beside the store that is prepared from them, written once."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from xecg.data.prepare import only_one, whole_or_nothing
from xecg.errors import DataError
from xecg.signal.synthetic import write_synthetic_database

SETTINGS_FILE = "settings.json"


@dataclass(frozen=True)
class SyntheticSettings:
    """What decides about a database of synthetic ECGs; see `write_synthetic_database`.

    Args:
        persons: How many persons.
        records_per_person: How many records of each.
        duration_s: Length of each record.
        af_share: Share of the records that are in AF.
        leads: Names of the leads.
        seed: Another seed makes other persons.
    """

    persons: int = 150
    records_per_person: int = 4
    duration_s: float = 30.0
    af_share: float = 0.4
    leads: tuple[str, ...] = ("II",)
    seed: int = 0


def synthetic_records(
    folder: Path, settings: SyntheticSettings = SyntheticSettings(), *, progress: bool = True
) -> Path:
    """Writes a database of synthetic ECGs, or reuses the one that is there.

    Args:
        folder: Where it belongs; appears when it is whole.
        settings: What is written.
        progress: Show a progress bar.

    Returns:
        The folder.

    Raises:
        DataError: If the folder is there and was not made with these settings.
        ConfigError: If a setting is out of its range.
    """
    wanted = json.dumps(asdict(settings), indent=2) + "\n"
    if not _is_there(folder, wanted):
        with only_one(folder):
            if not _is_there(folder, wanted):
                with whole_or_nothing(folder) as filling:
                    write_synthetic_database(filling, **asdict(settings), progress=progress)
                    (filling / SETTINGS_FILE).write_text(wanted, encoding="utf-8")
    return folder


def _is_there(folder: Path, wanted: str) -> bool:
    if not folder.exists():
        return False
    settings = folder / SETTINGS_FILE
    found = settings.read_text(encoding="utf-8") if settings.is_file() else "no " + SETTINGS_FILE
    if found != wanted:
        raise DataError(
            f"{folder}: expected synthetic records with the settings {_inline(wanted)}, found "
            f"{_inline(found)}; give another --out, prepare these by --root {folder}, or delete it"
        )
    return True


def _inline(text: str) -> str:
    return " ".join(text.split())

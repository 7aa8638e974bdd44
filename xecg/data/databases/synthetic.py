"""The synthetic ECGs of ``xecg.signal.synthetic``, written and read like any database."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from platformdirs import user_cache_dir

from xecg.data.databases.base import Database, LabelledRecording
from xecg.data.databases.labels import beats, read_labels, rhythm_spans, row_of
from xecg.errors import DataError, UnwritableError
from xecg.signal.waves import wave_codes
from xecg.signal.wfdb import read_annotations, read_recording

if TYPE_CHECKING:
    from xecg.data.store import Store

TABLE, SETTINGS = "records.csv", "settings.json"
EMBEDDED = "synthetic"


class Synthetic(Database):
    """The folder that `write_synthetic_database` writes.

    Rhythms and beats from `.atr`, waves from `.waves` over the whole record, persons from
    `records.csv`. All leads share the waves.
    """

    name = "synthetic"
    title = "Synthetic ECGs"
    licence = "Apache-2.0"
    citation = (
        "Model after McSharry PE et al. A dynamical model for generating synthetic "
        "electrocardiogram signals. IEEE Transactions on Biomedical Engineering 50(3):289-294, "
        "2003. doi:10.1109/TBME.2003.808805"
    )
    download = "xecg data prepare synthetic makes it"
    markers: ClassVar[tuple[str, ...]] = (TABLE,)

    def tables(self) -> list[Path]:
        """The table of persons."""
        return [self.folder / TABLE]

    def records(self) -> list[str]:
        """The records that the table lists, sorted."""
        return sorted(read_labels(self.folder / TABLE))

    def read(self, record: str) -> LabelledRecording:
        """One record with its rhythms, beats and waves."""
        table = self.folder / TABLE
        rows = read_labels(table)
        row = row_of(record, rows, table, {row.label for row in rows.values()})
        path = self.folder / record
        recording = read_recording(path)
        reference = read_annotations(path, "atr")
        r_peaks, symbols = beats(reference)
        codes = wave_codes(
            read_annotations(path, "waves"),
            recording.n_samples,
            region=(0, recording.n_samples),
        )
        return LabelledRecording(
            recording,
            person=row.person,
            rhythms=rhythm_spans(reference, recording.n_samples, recording.sampling_rate),
            r_peaks=r_peaks,
            beat_symbols=symbols,
            codes=dict.fromkeys(recording.leads, codes),
        )


@dataclass(frozen=True)
class SyntheticSettings:
    """What decides about a database of synthetic ECGs; see ``write_synthetic_database``.

    Args:
        persons: Number of persons.
        records_per_person: Number of records of each.
        duration_s: Length of each record in seconds.
        af_share: Share of the records in AF.
        leads: Names of the leads.
        seed: Random seed of the persons.
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
    """Writes a database of synthetic ECGs, or reuses the one that is there; returns its folder.

    Args:
        folder: Where it belongs; appears when it is whole.
        settings: What is written.
        progress: Whether to show a progress bar.

    Raises:
        DataError: If the folder is there and was not made with these settings.
        ConfigError: If a setting is out of its range.
    """
    from xecg.data.prepare import only_one
    from xecg.signal.synthetic import write_synthetic_database

    wanted = json.dumps(asdict(settings), indent=2) + "\n"
    if _is_there(folder, wanted):
        return folder
    with only_one(folder):
        if not _is_there(folder, wanted):
            filling = Path(f"{folder}.partial")
            shutil.rmtree(filling, ignore_errors=True)  # of a process that was killed
            try:
                write_synthetic_database(filling, **asdict(settings), progress=progress)
                (filling / SETTINGS).write_text(wanted, encoding="utf-8")
                filling.rename(folder)
            except OSError as error:
                raise UnwritableError(f"{folder}: cannot be written ({error})") from error
            finally:
                shutil.rmtree(filling, ignore_errors=True)
    return folder


def _is_there(folder: Path, wanted: str) -> bool:
    if not folder.exists():
        return False
    settings = folder / SETTINGS
    found = settings.read_text(encoding="utf-8") if settings.is_file() else f"no {SETTINGS}"
    if found != wanted:
        raise DataError(
            f"{folder}: expected synthetic records with the settings {' '.join(wanted.split())}, "
            f"found {' '.join(found.split())}; give another --out, prepare these by --root "
            f"{folder}, or delete it"
        )
    return True


@cache
def embedded_store() -> Store:
    """Returns the store of the synthetic ECGs that come with xecg: 150 persons, 1,800 windows.

    Made at first use, in seconds, in the user's cache folder or the one that ``XECG_CACHE`` names;
    the WFDB records that it is prepared from are kept beside it.
    """
    from xecg.data.prepare import prepare

    cache_folder = Path(os.environ.get("XECG_CACHE") or user_cache_dir("xecg"))
    store = cache_folder / version("xecg-lightning") / EMBEDDED
    return prepare(Synthetic(synthetic_records(Path(f"{store}-records"))), store)

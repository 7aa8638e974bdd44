"""The synthetic ECGs of ``xecg.signal.synthetic``, written and read like any database."""

from __future__ import annotations

import json
import os
from functools import cache
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, ClassVar

from platformdirs import user_cache_dir

from xecg.data.databases.base import Database, LabelledRecording
from xecg.data.databases.labels import beats, read_labels, rhythm_spans, row_of
from xecg.errors import DataError, UnwritableError
from xecg.signal.waves import QRS, P, T, wave_codes
from xecg.signal.wfdb import (
    read_annotations,
    read_recording,
)

if TYPE_CHECKING:
    from xecg.data.store import Store
    from xecg.signal.synthetic.ecg import Rhythm

TABLE, SETTINGS = "records.csv", "settings.json"
EMBEDDED = "synthetic"
DEFAULTS: dict[str, Any] = {
    "persons": 150,
    "records_per_person": 4,
    "duration_s": 30.0,
    "af_share": 0.4,
    "leads": ["II"],
    "seed": 0,
}

_ECTOPY_SHARE = 0.2  # of the records
_LABELS: dict[Rhythm, str] = {"N": "N", "AF": "A", "O": "O"}  # as in the CinC Challenge 2017
_RHYTHM_NOTES: dict[Rhythm, str] = {"N": "(N", "AF": "(AFIB", "O": "(N"}
_WAVE_SYMBOLS = {P: "p", QRS: "N", T: "t"}
# Room for so many persons per database seed, and records per person, without sharing a seed.
_MAX_PERSONS, _MAX_RECORDS = 10_000, 1_000


class Synthetic(Database):
    """The folder that ``synthetic_records`` writes.

    Beside each record ``p0007_1`` (``.hea``, ``.dat``: 16 bit, mV) lie

    - ``p0007_1.atr``: one symbol for each R peak (N sinus beat and every beat in AF, V
      ventricular, A atrial ectopic) and at sample 0 a rhythm change ``+`` with the note ``(N`` or
      ``(AFIB``;
    - ``p0007_1.waves``: each wave as ``(`` onset, ``p``, ``N`` or ``t`` at its peak, ``)`` offset;

    and ``records.csv`` holds persons and labels. All leads share the waves.
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
        """Returns the table of persons."""
        return [self.folder / TABLE]

    def records(self) -> list[str]:
        """Returns the records that the table lists, sorted."""
        return sorted(read_labels(self.folder / TABLE))

    def read(self, record: str) -> LabelledRecording:
        """Reads one record with its rhythms, beats and waves."""
        table = self.folder / TABLE
        rows = read_labels(table)
        row = row_of(record, rows, table, {row.label for row in rows.values()})
        path = self.folder / record
        recording = read_recording(path)
        n_samples = recording.n_samples
        reference = read_annotations(path, "atr")
        r_peaks, symbols = beats(reference)
        codes = wave_codes(read_annotations(path, "waves"), n_samples, region=(0, n_samples))
        return LabelledRecording(
            recording,
            person=row.person,
            rhythms=rhythm_spans(reference, n_samples, recording.sampling_rate),
            r_peaks=r_peaks,
            beat_symbols=symbols,
            codes=dict.fromkeys(recording.leads, codes),
        )


def synthetic_records(folder: Path, **settings: Any) -> Path:
    """Writes a database of synthetic ECGs, or reuses the one that is there; returns its folder.

    Args:
        folder: Where it belongs; appears when it is whole.
        **settings: Other values of ``DEFAULTS``; see ``write_synthetic_database``.

    Raises:
        DataError: If the folder is there and was not made with these settings.
        ConfigError: If a setting is out of its range.
    """
    from xecg.data.prepare import only_one
    from xecg.signal.synthetic import write_synthetic_database

    wanted = json.dumps(DEFAULTS | settings, indent=2) + "\n"
    if _is_there(folder, wanted):
        return folder
    with only_one(folder):
        if not _is_there(folder, wanted):
            try:
                with TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
                    made = write_synthetic_database(Path(scratch, "ecgs"), **DEFAULTS | settings)
                    (made / SETTINGS).write_text(wanted, encoding="utf-8")
                    made.rename(folder)
            except OSError as error:
                raise UnwritableError(f"{folder}: cannot be written ({error})") from error
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

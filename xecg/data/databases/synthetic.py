"""The synthetic ECGs of ``xecg.signal.synthetic``, written and read like any database."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from platformdirs import user_cache_dir
from tqdm import tqdm

from xecg.data.databases.base import AF, NOT_AF, Database, LabelledRecording
from xecg.data.databases.labels import LabelTable, beats, rhythm_spans
from xecg.errors import DataError, check_ranges
from xecg.files import whole_folder
from xecg.signal import wfdb
from xecg.signal.waves import QRS, P, T, wave_codes

if TYPE_CHECKING:
    from xecg.data.store import Store
    from xecg.signal.synthetic import Rhythm, SyntheticECG

TABLE, SETTINGS = "records.csv", "settings.json"
EMBEDDED = "synthetic"
_ECTOPY_SHARE = 0.2  # of the records
_LABELS: dict[Rhythm, str] = {"N": "N", "AF": "A", "O": "O"}  # as in the CinC Challenge 2017
_RHYTHM_NOTES: dict[Rhythm, str] = {"N": "(N", "AF": "(AFIB", "O": "(N"}
_WAVE_SYMBOLS = {P: "p", QRS: "N", T: "t"}
# Room for so many persons per database seed, and records per person, without sharing a seed.
_MAX_PERSONS, _MAX_RECORDS = 10_000, 1_000


class Synthetic(Database):
    """The folder that ``synthetic_records`` writes.

    Beside each record (``.hea``, ``.dat``: 16 bit, mV) lie ``.atr``: one symbol for each R peak (N
    sinus beat and every beat in AF, V ventricular, A atrial ectopic) and at sample 0 a change of
    rhythm ``+`` with the note ``(N`` or ``(AFIB``; and ``.waves``: each wave of all leads as ``(``
    onset, ``p``, ``N`` or ``t`` at its peak, ``)`` offset. ``records.csv`` has persons and labels.
    """

    name = "synthetic"
    title = "Synthetic ECGs"
    licence = "Apache-2.0"
    citation = (
        "Model after McSharry PE et al. A dynamical model for generating synthetic "
        "electrocardiogram signals. IEEE Transactions on Biomedical Engineering 50(3):289-294, "
        "2003. doi:10.1109/TBME.2003.808805"
    )
    markers = (TABLE,)

    _labels: LabelTable

    def __init__(self, root: Path | str) -> None:
        super().__init__(root)
        self._labels = LabelTable(self.folder / TABLE, {"A": AF, "N": NOT_AF, "O": NOT_AF})

    def read(self, record: str) -> LabelledRecording:
        """Reads one record with its rhythms, beats and waves."""
        path = self.folder / record
        person = self._labels.rows(record)[0].person
        recording, reference = wfdb.read_recording(path), wfdb.read_annotations(path, "atr")
        n = recording.n_samples
        rhythms = rhythm_spans(reference, n, recording.sampling_rate)
        codes = wave_codes(wfdb.read_annotations(path, "waves"), n, region=(0, n))
        by_lead = dict.fromkeys(recording.leads, codes)
        return LabelledRecording(recording, person, "", rhythms, *beats(reference), by_lead)


@dataclass(frozen=True)
class SyntheticSettings:
    """Settings of a database of synthetic ECGs at 250 Hz, a fifth of them with ectopic beats.

    Args:
        persons: Number of persons, at most 10,000.
        records_per_person: Number of records of each person, at most 1,000.
        duration_s: Length of each record in seconds.
        af_share: Share of the records in AF.
        leads: Names of the leads, among ``xecg.signal.synthetic.LEADS``.
        seed: Random seed; databases of one seed have the same persons, those of others share none.
    """

    persons: int = 150
    records_per_person: int = 4
    duration_s: float = 30.0
    af_share: float = 0.4
    leads: tuple[str, ...] = ("II",)
    seed: int = 0

    def __post_init__(self) -> None:
        check_ranges(
            persons=(self.persons, 1, _MAX_PERSONS),
            records_per_person=(self.records_per_person, 1, _MAX_RECORDS),
            seed=(self.seed, 0),
            af_share=(self.af_share, 0, 1 - _ECTOPY_SHARE),
        )


def synthetic_records(folder: Path, settings: SyntheticSettings | None = None) -> Path:
    """Writes a database of synthetic ECGs, or reuses the one that is there; returns its folder.

    The rhythms are dealt over all records at random in exact shares, so that most persons have
    records of several rhythms and the shape of a person's waves does not give the rhythm away.
    Raises DataError if the folder is there and was not made with these settings, StoreError if it
    cannot be written.
    """
    from xecg.data.prepare import only_one

    settings = settings or SyntheticSettings()
    wanted = json.dumps(asdict(settings), indent=2) + "\n"
    if not folder.exists():
        with only_one(folder):
            if not folder.exists():
                _write(folder, settings, wanted)
    file = folder / SETTINGS
    found = file.read_text(encoding="utf-8") if file.is_file() else f"no {SETTINGS}"
    if found != wanted:
        both = f"{' '.join(wanted.split())}, found {' '.join(found.split())}"
        cure = f"give another --out, prepare these by --root {folder}, or delete it"
        raise DataError(f"{folder}: expected synthetic records with the settings {both}; {cure}")
    return folder


def _write(folder: Path, settings: SyntheticSettings, about: str) -> None:
    """Writes the records, their table and their settings, all or nothing."""
    from xecg.signal.synthetic import synthesize

    rows = ["record,label,person\n"]
    with whole_folder(folder) as whole:
        for i, rhythm in enumerate(tqdm(_rhythms(settings), "synthesizing", disable=None)):
            person, repeat = divmod(i, settings.records_per_person)
            person_seed = settings.seed * _MAX_PERSONS + person
            ecg = synthesize(
                rhythm,
                duration_s=settings.duration_s,
                seed=person_seed * _MAX_RECORDS + repeat,
                person_seed=person_seed,
                leads=settings.leads,
                name=f"p{person:04d}_{repeat + 1}",
            )
            write_ecg(ecg, whole)
            rows.append(f"{ecg.recording.name},{_LABELS[rhythm]},{ecg.person}\n")
        (whole / TABLE).write_text("".join(rows))
        (whole / SETTINGS).write_text(about, encoding="utf-8")


def _rhythms(settings: SyntheticSettings) -> list[Rhythm]:
    """Returns the rhythms of all records, shuffled."""
    n = settings.persons * settings.records_per_person
    n_af = round(n * settings.af_share)
    n_ectopy = min(round(n * _ECTOPY_SHARE), n - n_af)
    n_of: dict[Rhythm, int] = {"AF": n_af, "O": n_ectopy, "N": n - n_af - n_ectopy}
    rhythms = [rhythm for rhythm, times in n_of.items() for _ in range(times)]
    return [rhythms[i] for i in np.random.default_rng(settings.seed).permutation(n)]


def write_ecg(ecg: SyntheticECG, folder: Path) -> None:
    """Writes the recording of a synthetic ECG, its beats and its waves."""
    path, rate = folder / ecg.recording.name, ecg.recording.sampling_rate
    notes = (_RHYTHM_NOTES[ecg.rhythm], *[""] * ecg.r_peaks.size)
    beats_and_rhythm = wfdb.Annotations(np.append(0, ecg.r_peaks), ("+", *ecg.beat_symbols), notes)
    symbols = [mark for code in ecg.waves[:, 0] for mark in ("(", _WAVE_SYMBOLS[int(code)], ")")]
    waves = wfdb.Annotations(ecg.waves[:, 1:].ravel(), tuple(symbols), ("",) * len(symbols))
    wfdb.write_recording(ecg.recording, folder)
    wfdb.write_annotations(path, "atr", beats_and_rhythm, rate)
    wfdb.write_annotations(path, "waves", waves, rate)


@cache
def embedded_store() -> Store:
    """Returns the store of the synthetic ECGs that come with xecg: 150 persons, 1,800 windows.

    It and its WFDB records are made at first use, in the user's cache folder or ``XECG_CACHE``.
    """
    from xecg.data.prepare import prepare
    from xecg.data.store import FORMAT

    cache_folder = Path(os.environ.get("XECG_CACHE") or user_cache_dir("xecg"))
    store = cache_folder / f"{version('xecg-lightning')}-{FORMAT}" / EMBEDDED
    return prepare(Synthetic(synthetic_records(Path(f"{store}-records"))), store)

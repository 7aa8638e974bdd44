"""A database of synthetic ECGs in the layout of real ones: WFDB records, annotations, a table.

Beside each record ``p0007_1`` (``.hea``, ``.dat``: 16 bit, mV) lie

- ``p0007_1.atr``: one symbol for each R peak (N sinus beat and every beat in AF, V ventricular, A
  atrial ectopic) and at sample 0 a rhythm change ``+`` with the note ``(N`` or ``(AFIB``;
- ``p0007_1.waves``: each wave as ``(`` onset, ``p``, ``N`` or ``t`` at its peak, ``)`` offset;

and ``records.csv`` holds persons and labels (N, A, O, as in the CinC Challenge 2017).
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xecg.errors import ConfigError, DataError
from xecg.signal.synthetic.ecg import Noise, Rhythm, SyntheticECG, check_ranges, synthesize
from xecg.signal.waves import QRS, P, T
from xecg.signal.wfdb import Annotations, write_annotations, write_recording

RECORDS_FILE = "records.csv"
_LABELS: dict[Rhythm, str] = {"N": "N", "AF": "A", "O": "O"}
_RHYTHM_NOTES: dict[Rhythm, str] = {"N": "(N", "AF": "(AFIB", "O": "(N"}
_WAVE_SYMBOLS = {P: "p", QRS: "N", T: "t"}
# Room for so many persons per database seed, and records per person, without sharing a seed.
_MAX_PERSONS, _MAX_RECORDS = 10_000, 1_000


def write_synthetic_database(
    folder: Path | str,
    *,
    persons: int = 100,
    records_per_person: int = 4,
    duration_s: float = 30.0,
    sampling_rate: float = 250.0,
    leads: Sequence[str] = ("II",),
    af_share: float = 0.4,
    ectopy_share: float = 0.2,
    noise: Noise | None = None,
    seed: int = 0,
    progress: bool = True,
) -> Path:
    """Writes a database of synthetic ECGs.

    The rhythms are dealt over all records at random in exact shares, so that most persons have
    records of several rhythms and the shape of a person's waves does not give the rhythm away.

    Args:
        folder: Folder to write, which must not exist, or be empty.
        persons: Number of persons, at most 10,000.
        records_per_person: Number of records of each person, at most 1,000.
        duration_s: Length of each record, s.
        sampling_rate: 100 to 1000 Hz.
        leads: Names among ``LEADS``.
        af_share: Share of the records that are in AF.
        ectopy_share: Share of the records with ectopic beats; the rest is sinus rhythm.
        noise: Typical sizes of the noise.
        seed: Random seed. Databases of one seed have the same persons and records; those of
            different seeds share none.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        ConfigError: A setting outside its range.
        DataError: The folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected a new or an empty folder, found one with files in it; "
            "choose another or delete it"
        )
    counts = {"persons": (persons, 1, _MAX_PERSONS), "seed": (seed, 0, np.inf)}
    check_ranges(**counts, records_per_person=(records_per_person, 1, _MAX_RECORDS))
    rhythms = _deal_rhythms(persons * records_per_person, af_share, ectopy_share, seed)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as scratch:
        whole = Path(scratch) / folder.name  # takes its place when it is done
        whole.mkdir()
        rows = ["record,label,person\n"]
        for i, rhythm in enumerate(tqdm(rhythms, "synthesizing", disable=not progress)):
            person, repeat = divmod(i, records_per_person)
            person_seed = seed * _MAX_PERSONS + person
            ecg = synthesize(
                rhythm,
                duration_s=duration_s,
                sampling_rate=sampling_rate,
                seed=person_seed * _MAX_RECORDS + repeat,
                person_seed=person_seed,
                leads=leads,
                noise=noise,
                name=f"p{person:04d}_{repeat + 1}",
            )
            _write_record(ecg, whole)
            rows.append(f"{ecg.recording.name},{_LABELS[rhythm]},{ecg.person}\n")
        (whole / RECORDS_FILE).write_text("".join(rows))
        whole.rename(folder)
    return folder


def _deal_rhythms(n: int, af_share: float, ectopy_share: float, seed: int) -> list[Rhythm]:
    """Shuffles the rhythms of ``n`` records, in exact shares."""
    if not (af_share >= 0 and ectopy_share >= 0 and af_share + ectopy_share <= 1):
        raise ConfigError(
            "af_share, ectopy_share: expected shares from 0 to 1 that sum to at most 1, "
            f"found {af_share} and {ectopy_share}"
        )
    n_af = round(n * af_share)
    n_ectopy = min(round(n * ectopy_share), n - n_af)
    rhythms: list[Rhythm] = ["AF"] * n_af
    rhythms += ["O"] * n_ectopy
    rhythms += ["N"] * (n - n_af - n_ectopy)
    return [rhythms[i] for i in np.random.default_rng(seed).permutation(n)]


def _write_record(ecg: SyntheticECG, folder: Path) -> None:
    name, rate, n = ecg.recording.name, ecg.recording.sampling_rate, ecg.r_peaks.size
    beats = Annotations(
        samples=np.concatenate([[0], ecg.r_peaks]).astype(np.int64),
        symbols=("+", *ecg.beat_symbols),
        notes=(_RHYTHM_NOTES[ecg.rhythm], *[""] * n),
        numbers=np.zeros(n + 1, dtype=np.int64),
    )
    symbols = [mark for code in ecg.waves[:, 0] for mark in ("(", _WAVE_SYMBOLS[int(code)], ")")]
    waves = Annotations(
        samples=ecg.waves[:, 1:].ravel(),
        symbols=tuple(symbols),
        notes=("",) * len(symbols),
        numbers=np.zeros(len(symbols), dtype=np.int64),
    )
    write_recording(ecg.recording, folder)
    write_annotations(folder, name, "atr", beats, rate)
    write_annotations(folder, name, "waves", waves, rate)

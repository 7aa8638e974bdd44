"""A database of synthetic ECGs in the layout of real ones: WFDB records, annotations, a table.

Beside each record `p0007_1` (`.hea`, `.dat`: 16 bit, mV) lie
- `p0007_1.atr`: one symbol per R peak (N sinus beat and every beat in AF, V ventricular, A atrial
  ectopic) and at sample 0 a rhythm change `+` with the note `(N` or `(AFIB`;
- `p0007_1.waves`: each wave as `(` onset, `p`, `N` or `t` at its peak, `)` offset, as in LUDB;
and in `records.csv` its label as in the CinC Challenge 2017 (N, A, O) and its person.
"""

import csv
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from xecg.errors import ConfigError, DataError
from xecg.signal.synthetic.ecg import Noise, Rhythm, SyntheticECG, synthesize
from xecg.signal.waves import QRS, P, T
from xecg.signal.wfdb import Annotations, write_annotations, write_recording

RECORDS_FILE = "records.csv"
LABELS: dict[Rhythm, str] = {"N": "N", "AF": "A", "O": "O"}

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
    """Write a database of synthetic ECGs.

    The rhythms are dealt over all records at random in exact shares, so that most persons have
    records of several rhythms and nobody's shape of waves gives the rhythm away.

    Args:
        folder: Where to write; must not exist, or be empty.
        persons: How many persons, at most 10,000.
        records_per_person: How many records of each, at most 1,000.
        duration_s: Length of each record, s.
        sampling_rate: 100 to 1000 Hz.
        leads: Names among `LEADS`.
        af_share: Share of the records that are in AF.
        ectopy_share: Share of the records with ectopic beats; the rest is sinus rhythm.
        noise: Typical sizes of the noise.
        seed: Two databases of the same seed have the same persons and records, others none.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        ConfigError: A setting outside its range.
        DataError: The folder exists and is not empty.
    """
    folder = Path(folder)
    _check_folder(folder)
    _check_counts(persons, records_per_person, seed)
    rhythms = _deal_rhythms(persons * records_per_person, af_share, ectopy_share, seed)
    draw = partial(
        synthesize, duration_s=duration_s, sampling_rate=sampling_rate, leads=leads, noise=noise
    )
    with _folder_in_the_making(folder) as part:
        rows = []
        for i, rhythm in enumerate(tqdm(rhythms, "synthesizing", disable=not progress)):
            person, repeat = divmod(i, records_per_person)
            ecg = _draw_record(draw, rhythm, seed, person, repeat)
            _write_record(ecg, part)
            rows.append((ecg.recording.name, LABELS[rhythm], ecg.person))
        _write_table(rows, part)
    return folder


def _draw_record(
    draw: Callable[..., SyntheticECG], rhythm: Rhythm, seed: int, person: int, repeat: int
) -> SyntheticECG:
    """Draw one record of a person from seeds that no other record or person shares."""
    person_seed = seed * _MAX_PERSONS + person
    return draw(
        rhythm,
        seed=person_seed * _MAX_RECORDS + repeat,
        person_seed=person_seed,
        name=f"p{person:04d}_{repeat + 1}",
    )


@contextmanager
def _folder_in_the_making(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `folder` if all goes well, and vanishes if not."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        yield part
        part.chmod(0o755)  # mkdtemp makes it private
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def _check_folder(folder: Path) -> None:
    """Refuse to mix with what is there."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DataError(
            f"{folder}: expected a new or an empty folder, found one with files in it; "
            "choose another or delete it"
        )


def _check_counts(persons: int, records_per_person: int, seed: int) -> None:
    for key, value, low, high in (
        ("persons", persons, 1, _MAX_PERSONS),
        ("records_per_person", records_per_person, 1, _MAX_RECORDS),
        ("seed", seed, 0, np.inf),
    ):
        if not low <= value <= high:
            raise ConfigError(f"{key}: expected {low} to {high}, found {value}")


def _deal_rhythms(n: int, af_share: float, ectopy_share: float, seed: int) -> list[Rhythm]:
    """Shuffle the rhythms of `n` records, in exact shares."""
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
    """Write the samples, beats and waves of one recording."""
    name, rate = ecg.recording.name, ecg.recording.sampling_rate
    write_recording(ecg.recording, folder)
    write_annotations(folder, name, "atr", _beat_annotations(ecg), rate)
    write_annotations(folder, name, "waves", _wave_annotations(ecg), rate)


def _beat_annotations(ecg: SyntheticECG) -> Annotations:
    """The rhythm at sample 0, then every beat."""
    n = ecg.r_peaks.size
    return Annotations(
        samples=np.concatenate([[0], ecg.r_peaks]).astype(np.int64),
        symbols=("+", *ecg.beat_symbols),
        notes=(_RHYTHM_NOTES[ecg.rhythm], *[""] * n),
        numbers=np.zeros(n + 1, dtype=np.int64),
    )


def _wave_annotations(ecg: SyntheticECG) -> Annotations:
    """Three annotations per wave: onset, peak, offset."""
    symbols = [mark for code in ecg.waves[:, 0] for mark in ("(", _WAVE_SYMBOLS[int(code)], ")")]
    return Annotations(
        samples=ecg.waves[:, 1:].ravel(),
        symbols=tuple(symbols),
        notes=("",) * len(symbols),
        numbers=np.zeros(len(symbols), dtype=np.int64),
    )


def _write_table(rows: list[tuple[str, str, str]], folder: Path) -> None:
    with (folder / RECORDS_FILE).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["record", "label", "person"])
        writer.writerows(rows)

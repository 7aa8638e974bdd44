import csv
from collections import Counter

import numpy as np
import pytest

from xecg.errors import ConfigError, DataError
from xecg.signal.synthetic import Noise, synthesize, write_synthetic_database
from xecg.signal.waves import P, wave_codes
from xecg.signal.wfdb import find_records, read_annotations, read_recording

NOTES = {"N": "(N", "A": "(AFIB", "O": "(N"}
RHYTHMS = {"N": "N", "A": "AF", "O": "O"}
SMALL = {"persons": 3, "records_per_person": 2, "duration_s": 8, "progress": False}


def table(folder):
    with (folder / "records.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("rate", [250.0, 257.5, 360.0, 500.0])
def test_what_is_read_is_what_was_synthesized(tmp_path, rate):
    folder = write_synthetic_database(
        tmp_path / "ecgs", sampling_rate=rate, leads=("II", "V1"), seed=2, **SMALL
    )
    for row in table(folder):
        person, repeat = int(row["record"][1:5]), int(row["record"][6:]) - 1
        ecg = synthesize(
            RHYTHMS[row["label"]],
            seed=(20_000 + person) * 1_000 + repeat,
            person_seed=20_000 + person,
            duration_s=8,
            sampling_rate=rate,
            leads=("II", "V1"),
        )
        recording = read_recording(folder / row["record"])
        assert row["person"] == ecg.person
        assert recording.leads == ("II", "V1")
        assert recording.units == ("mV", "mV")
        assert recording.sampling_rate == rate
        np.testing.assert_allclose(recording.samples, ecg.recording.samples, atol=2e-4)

        atr = read_annotations(folder / row["record"], "atr")
        assert (atr.samples[0], atr.symbols[0], atr.notes[0]) == (0, "+", NOTES[row["label"]])
        np.testing.assert_array_equal(atr.samples[1:], ecg.r_peaks)
        assert atr.symbols[1:] == ecg.beat_symbols

        waves = read_annotations(folder / row["record"], "waves")
        n = recording.n_samples
        np.testing.assert_array_equal(wave_codes(waves, n, region=(0, n)), ecg.codes)


def test_many_cut_and_squeezed_waves_survive_the_annotation_file(tmp_path):
    folder = write_synthetic_database(
        tmp_path / "ecgs",
        persons=60,
        records_per_person=1,
        duration_s=2,
        af_share=0.3,
        ectopy_share=0.7,
        noise=Noise.none(),
        progress=False,
    )
    for row in table(folder):
        person = int(row["record"][1:5])
        ecg = synthesize(
            RHYTHMS[row["label"]], seed=person * 1_000, person_seed=person, duration_s=2
        )
        codes = wave_codes(read_annotations(folder / row["record"], "waves"), 500, region=(0, 500))
        np.testing.assert_array_equal(codes, ecg.codes)
        assert (P in codes) <= (row["label"] != "A")


def test_shares_are_exact_and_rhythms_are_spread_over_persons(tmp_path):
    folder = write_synthetic_database(
        tmp_path / "ecgs",
        persons=10,
        records_per_person=4,
        duration_s=2,
        af_share=0.5,
        ectopy_share=0.25,
        progress=False,
    )
    rows = table(folder)
    assert Counter(row["label"] for row in rows) == {"A": 20, "O": 10, "N": 10}
    assert Counter(Counter(row["person"] for row in rows).values()) == {4: 10}
    mixed = [len({r["label"] for r in rows if r["person"] == p["person"]}) > 1 for p in rows]
    assert np.mean(mixed) > 0.5
    assert [path.name for path in find_records(folder)] == sorted(row["record"] for row in rows)


def test_the_same_seed_writes_the_same_bytes_and_other_seeds_share_nobody(tmp_path):
    first, again, other = (
        write_synthetic_database(tmp_path / name, seed=seed, **SMALL)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert len(names) == 6 * 4 + 1
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes()
    assert not {row["person"] for row in table(first)} & {row["person"] for row in table(other)}


def test_a_folder_with_files_is_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match=r"choose another or delete it"):
        write_synthetic_database(tmp_path, **SMALL)
    with pytest.raises(DataError, match="empty folder"):
        write_synthetic_database(tmp_path / "notes.txt", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "ecgs").mkdir()
    folder = write_synthetic_database(tmp_path / "ecgs", **SMALL)
    assert len(table(folder)) == 6
    assert [path.name for path in tmp_path.iterdir()] == ["ecgs"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"persons": 0}, "persons"),
        ({"persons": 10_001}, "persons"),
        ({"records_per_person": 0}, "records_per_person"),
        ({"seed": -1}, "seed"),
        ({"af_share": 0.8, "ectopy_share": 0.3}, "af_share"),
        ({"af_share": float("nan")}, "af_share"),
        ({"leads": ("X",)}, "leads"),
    ],
)
def test_a_failure_leaves_nothing_behind(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        write_synthetic_database(tmp_path / "ecgs", **SMALL | settings)
    assert not list(tmp_path.iterdir())

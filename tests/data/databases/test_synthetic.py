from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from xecg.data.databases import get_database
from xecg.data.databases.synthetic import SyntheticSettings, synthetic_records, write_ecg
from xecg.errors import ConfigError, DataError, RecordError, StoreError
from xecg.signal.synthetic import RHYTHMS, synthesize
from xecg.signal.waves import NOT_ANNOTATED, QRS, P, T, wave_codes
from xecg.signal.wfdb import find_records, read_annotations, read_recording

NOTES = {"N": "(N", "AF": "(AFIB", "O": "(N"}
SMALL = SyntheticSettings(persons=3, records_per_person=2, duration_s=8.0)


def write(folder, **settings):
    return synthetic_records(folder, replace(SMALL, **settings))


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("synthetic") / "db"
    write(folder, duration_s=12.0, af_share=0.5, seed=1, leads=("II", "V1"))
    return get_database("synthetic", folder)


def test_every_record_knows_its_person_beats_rhythm_and_waves(synthetic):
    labelled = [synthetic.read(record) for record in synthetic.records()]
    assert len(labelled) == 6
    assert len({x.person for x in labelled}) == 3
    assert sorted(x.rhythms[0].af for x in labelled) == [0, 0, 0, 1, 1, 1]
    for x in labelled:
        (span,) = x.rhythms
        assert (span.start_s, span.stop_s) == (0.0, x.recording.duration_s)
        assert set(x.codes) == {"II", "V1"}
        codes = x.codes["II"]
        assert NOT_ANNOTATED not in codes
        assert (P in codes) == (span.af == 0)
        assert T in codes
        assert (codes[x.r_peaks] == QRS).mean() > 0.9
        assert len(x.beat_symbols) == len(x.r_peaks) > 5


def test_records_are_those_that_the_seeds_of_database_and_person_give(synthetic):
    for record in synthetic.records():
        x = synthetic.read(record)
        person, repeat = int(record[1:5]), int(record[6:]) - 1
        ecg = synthesize(
            "AF" if x.rhythms[0].af else "O" if {"V", "A"} & set(x.beat_symbols) else "N",
            seed=(10_000 + person) * 1_000 + repeat,
            person_seed=10_000 + person,
            duration_s=12.0,
            leads=("II", "V1"),
        )
        assert x.person == ecg.person
        np.testing.assert_allclose(x.recording.samples, ecg.recording.samples, atol=2e-4)
        np.testing.assert_array_equal(x.r_peaks, ecg.r_peaks)
        np.testing.assert_array_equal(x.codes["V1"], ecg.codes)


@pytest.mark.parametrize("rate", [250.0, 257.5, 360.0, 500.0])
@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_what_is_read_is_what_was_written(tmp_path, rhythm, rate):
    ecg = synthesize(rhythm, seed=2, sampling_rate=rate, leads=("II", "V1"), name="r1")
    write_ecg(ecg, tmp_path)
    recording = read_recording(tmp_path / "r1")
    assert recording.leads == ("II", "V1")
    assert recording.units == ("mV", "mV")
    assert recording.sampling_rate == rate
    np.testing.assert_allclose(recording.samples, ecg.recording.samples, atol=2e-4)

    atr = read_annotations(tmp_path / "r1", "atr")
    assert (atr.samples[0], atr.symbols[0], atr.notes[0]) == (0, "+", NOTES[rhythm])
    np.testing.assert_array_equal(atr.samples[1:], ecg.r_peaks)
    assert atr.symbols[1:] == ecg.beat_symbols

    waves = read_annotations(tmp_path / "r1", "waves")
    n = recording.n_samples
    np.testing.assert_array_equal(wave_codes(waves, n, region=(0, n)), ecg.codes)


def test_many_cut_and_squeezed_waves_survive_the_annotation_file(tmp_path):
    for seed in range(60):
        rhythm = "AF" if seed < 18 else "O"
        ecg = synthesize(rhythm, seed=seed, duration_s=2, noise=0, name=f"r{seed}")
        write_ecg(ecg, tmp_path)
        codes = wave_codes(read_annotations(tmp_path / f"r{seed}", "waves"), 500, region=(0, 500))
        np.testing.assert_array_equal(codes, ecg.codes)


def test_shares_are_exact_and_rhythms_are_spread_over_persons(tmp_path):
    folder = write(
        tmp_path / "ecgs", persons=10, records_per_person=4, duration_s=2.0, af_share=0.5
    )
    rows = pd.read_csv(folder / "records.csv")
    assert Counter(rows["label"]) == {"A": 20, "O": 8, "N": 12}
    assert (rows.groupby("person").size() == 4).all()
    mixed = rows.groupby("person")["label"].nunique() > 1
    assert mixed.mean() > 0.5
    assert [path.name for path in find_records(folder)] == sorted(rows["record"])


def test_the_same_seed_writes_the_same_bytes_and_other_seeds_share_nobody(tmp_path):
    first, again, other = (
        write(tmp_path / name, seed=seed)
        for name, seed in (("first", 1), ("again", 1), ("other", 2))
    )
    names = sorted(path.name for path in first.iterdir())
    assert names == sorted(path.name for path in again.iterdir())
    assert len(names) == 6 * 4 + 2
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes()
    people = [set(pd.read_csv(folder / "records.csv")["person"]) for folder in (first, other)]
    assert not people[0] & people[1]


def test_records_made_with_the_same_settings_are_reused_and_others_left_alone(tmp_path):
    folder = write(tmp_path / "ecgs")
    before = (folder / "records.csv").stat().st_mtime_ns
    write(folder)
    assert (folder / "records.csv").stat().st_mtime_ns == before
    with pytest.raises(DataError, match=r"expected synthetic records.*\"seed\": 5.*or delete it"):
        write(folder, seed=5)
    with pytest.raises(DataError, match=r"no settings\.json"):
        write(tmp_path)
    assert (folder / "records.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"persons": 0}, "persons"),
        ({"persons": 10_001}, "persons"),
        ({"records_per_person": 0}, "records_per_person"),
        ({"seed": -1}, "seed"),
        ({"af_share": 0.9}, "af_share"),
        ({"af_share": float("nan")}, "af_share"),
        ({"leads": ("X",)}, "leads"),
    ],
)
def test_a_setting_out_of_range_leaves_no_folder_behind(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        write(tmp_path / "ecgs", **settings)
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("xecg.signal.wfdb.write_recording", full)
    with pytest.raises(StoreError, match=r"ecgs: cannot be written \(No space"):
        write(tmp_path / "ecgs")
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_a_record_that_the_table_does_not_list(synthetic):
    with pytest.raises(RecordError, match="p9999_1"):
        synthetic.read("p9999_1")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xecg.errors import ConfigError
from xecg.signal.synthetic import (
    LEADS,
    RHYTHMS,
    add_f_waves,
    fibrillatory_waves,
    sum_gaussians,
    synthesize,
)
from xecg.signal.synthetic_heart import Gaussians, draw_person
from xecg.signal.waves import OTHER, QRS, P, T, detect_r_peaks, rr_measures

SEEDS = st.integers(0, 2**40)
RATES = st.sampled_from([100.0, 128.0, 250.0, 257.5, 300.0, 333.3, 360.0, 500.0, 1000.0])


def widths_s(ecg, code):
    """Extents in s of the waves of one kind that the record's ends do not cut."""
    rows = ecg.waves[ecg.waves[:, 0] == code]
    whole = (rows[:, 1] > 0) & (rows[:, 3] < ecg.recording.n_samples - 1)
    return (rows[whole, 3] - rows[whole, 1] + 1) / ecg.recording.sampling_rate


def measures(ecg):
    return rr_measures(ecg.r_peaks / ecg.recording.sampling_rate)


def with_beat(ecg, symbol):
    """Positions among the beats, the first and last left out."""
    return [
        i
        for i, found in enumerate(ecg.beat_symbols)
        if found == symbol and 0 < i < ecg.r_peaks.size - 1
    ]


@settings(max_examples=60, deadline=None)
@given(rhythm=st.sampled_from(RHYTHMS), seed=SEEDS, rate=RATES, duration=st.floats(1, 40))
def test_truth_fits_the_recording_and_itself(rhythm, seed, rate, duration):
    ecg = synthesize(rhythm, seed=seed, sampling_rate=rate, duration_s=duration)
    n = round(duration * rate)
    assert ecg.recording.samples.shape == (1, n)
    assert ecg.recording.samples.dtype == np.float32
    assert np.isfinite(ecg.recording.samples).all()
    assert ecg.codes.shape == (n,)
    assert ecg.codes.dtype == np.uint8
    assert ecg.r_peaks.size == len(ecg.beat_symbols) > 0
    assert (np.diff(ecg.r_peaks) > 0).all()
    assert (ecg.codes[ecg.r_peaks] == QRS).all()
    painted = np.zeros(n, dtype=np.uint8)
    for code, onset, peak, offset in ecg.waves:
        assert 0 <= onset <= peak <= offset < n
        assert (painted[onset : offset + 1] == OTHER).all(), "waves overlap"
        painted[onset : offset + 1] = code
    np.testing.assert_array_equal(painted, ecg.codes)


@settings(max_examples=25, deadline=None)
@given(rhythm=st.sampled_from(RHYTHMS), seed=SEEDS, rate=RATES)
def test_another_sampling_rate_leaves_beats_and_waves_where_they_were(rhythm, seed, rate):
    coarse = synthesize(rhythm, seed=seed, sampling_rate=rate)
    fine = synthesize(rhythm, seed=seed, sampling_rate=1000.0)
    found, exact = coarse.r_peaks / rate, fine.r_peaks / 1000
    border = 0.5 / rate + 5e-4  # within it a beat may round to the outside
    inside = exact[(exact > border) & (exact < coarse.recording.n_samples / rate - 2 * border)]
    distance = np.abs(found[:, None] - exact).min(axis=1)
    assert (distance[(found > border) & (found < found.max())] <= border).all()
    assert (np.abs(inside[:, None] - found).min(axis=1) <= border).all()
    share = [np.mean(ecg.codes[:, None] == [P, QRS, T], axis=0) for ecg in (coarse, fine)]
    np.testing.assert_allclose(*share, atol=0.02)


def test_the_detector_finds_the_true_r_peaks():
    found = missed = invented = 0
    for seed in range(90):
        ecg = synthesize(RHYTHMS[seed % 3], seed=seed)
        peaks = detect_r_peaks(ecg.recording.samples[ecg.recording.choose_lead("II")], 250)
        near = np.abs(peaks[:, None] - ecg.r_peaks) <= 0.05 * 250
        found += near.any(axis=0).sum()
        missed += (~near.any(axis=0)).sum()
        invented += (~near.any(axis=1)).sum()
    assert 2 * found / (2 * found + missed + invented) > 0.97


@pytest.mark.parametrize("seed", range(20))
def test_the_r_wave_of_a_clean_lead_ii_culminates_at_the_r_peak(seed):
    ecg = synthesize("N", seed=seed, sampling_rate=1000, noise=0)
    lead = ecg.recording.samples[ecg.recording.choose_lead("II")]
    for peak in ecg.r_peaks[1:-1]:
        assert abs(int(np.argmax(lead[peak - 40 : peak + 41])) - 40) <= 12


def test_no_p_wave_in_atrial_fibrillation_and_before_no_ventricular_beat():
    for seed in range(40):
        assert P not in synthesize("AF", seed=seed).codes
        ecg = synthesize("O", seed=seed)
        for i in with_beat(ecg, "V"):
            before = ecg.codes[ecg.r_peaks[i] - 75 : ecg.r_peaks[i]]  # 300 ms
            last_t = np.flatnonzero(before == T)
            assert P not in before[last_t[-1] if last_t.size else 0 :]


@pytest.mark.parametrize(("rhythm", "symbol"), [("N", "N"), ("O", "N"), ("O", "A")])
def test_p_qrs_and_t_follow_each_other_in_every_other_beat(rhythm, symbol):
    seen = 0
    for seed in range(20):
        ecg = synthesize(rhythm, seed=seed)
        kinds, peaks = ecg.waves[:, 0].tolist(), ecg.waves[:, 2].tolist()
        for i in with_beat(ecg, symbol):
            at = peaks.index(ecg.r_peaks[i])
            assert kinds[at - 1 : at + 2] == [P, QRS, T]
            seen += 1
    assert seen > 10


def test_wave_durations_are_those_of_adults():
    ecgs = [synthesize("N", seed=seed) for seed in range(60)]
    for code, low, high in ((P, 0.08, 0.14), (QRS, 0.06, 0.13)):
        widths = np.concatenate([widths_s(ecg, code) for ecg in ecgs])
        assert (widths > low).all()
        assert (widths < high).all()


def test_ventricular_beats_are_early_broad_and_followed_by_a_compensatory_pause():
    broad, narrow, early, pauses = [], [], [], []
    for seed in range(60):
        ecg = synthesize("O", seed=seed, sampling_rate=1000, duration_s=20)
        rr = np.diff(ecg.r_peaks)
        qrs = ecg.waves[ecg.waves[:, 0] == QRS]
        width = dict(zip(qrs[:, 2].tolist(), (qrs[:, 3] - qrs[:, 1]).tolist(), strict=True))
        for i in with_beat(ecg, "V"):
            broad.append(width[ecg.r_peaks[i]])
            early.append(rr[i - 1] / rr[i])
            pauses.append((rr[i - 1] + rr[i]) / (2 * measures(ecg).mean_rr_ms))
        narrow += [width[ecg.r_peaks[i]] for i in with_beat(ecg, "N")]
    assert min(broad) > 120
    assert max(narrow) < 125
    assert max(early) < 1
    assert np.median(pauses) == pytest.approx(1, abs=0.1)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, duration=st.floats(1, 20))
def test_a_record_with_ectopy_holds_an_ectopic_beat(seed, duration):
    assert {"V", "A"} & set(synthesize("O", seed=seed, duration_s=duration).beat_symbols)


def test_sinus_rhythm_has_about_the_rmssd_of_its_person():
    ratios, wanted = [], []
    for seed in range(30):
        person = draw_person(seed)
        ecg = synthesize("N", seed=seed + 1000, person_seed=seed, duration_s=300)
        wanted.append(person.rmssd_ms)
        ratios.append(measures(ecg).rmssd_ms / person.rmssd_ms)
    assert min(wanted) < 10
    assert max(wanted) > 80
    # Each recording has its own factor (log-normal, 0.15), and a fast heart cannot swing far.
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert np.mean(np.abs(np.log(ratios)) < 0.3) > 0.9


def test_irregularity_alone_does_not_tell_af():
    rmssd = {
        rhythm: np.array([measures(synthesize(rhythm, seed=seed)).rmssd_ms for seed in range(100)])
        for rhythm in RHYTHMS
    }
    assert np.median(rmssd["AF"]) > 2 * np.median(rmssd["N"])
    assert np.nanmax(rmssd["N"]) > np.nanquantile(rmssd["AF"], 0.25)
    assert np.nanmedian(rmssd["O"]) > np.nanmedian(rmssd["AF"])


def test_gaussians_summed_near_their_centres_are_gaussians_summed_everywhere():
    rng = np.random.default_rng(0)
    times = np.arange(500) / 250
    group = Gaussians(
        rng.uniform(-0.2, 2.2, 40), *rng.uniform(0.005, 0.06, (2, 40)), rng.normal(size=(40, 3))
    )
    whole = np.zeros((3, 500))
    for centre, rise, fall, dipole in zip(*vars(group).values(), strict=True):
        sigma = np.where(times < centre, rise, fall)
        whole += np.outer(dipole, np.exp(-((times - centre) ** 2) / (2 * sigma**2)))
    np.testing.assert_allclose(sum_gaussians([group], 500, 250.0), whole, atol=1e-4)


@pytest.mark.parametrize("seed", range(10))
def test_fibrillatory_waves_keep_to_4_to_9_hz(seed):
    times = np.arange(5000) / 250
    waves = fibrillatory_waves(np.random.default_rng(seed), times)
    power = np.abs(np.fft.rfft(waves[1])) ** 2
    frequencies = np.fft.rfftfreq(5000, 1 / 250)
    assert waves.shape == (3, 5000)
    assert 4 <= frequencies[power.argmax()] <= 9
    assert power[frequencies < 3].sum() < 0.05 * power.sum()


@pytest.mark.parametrize("person_seed", range(8))
def test_qt_is_that_of_bazett(person_seed):
    ecg = synthesize("N", seed=1, person_seed=person_seed, sampling_rate=1000)
    onsets = ecg.waves[ecg.waves[:, 0] == QRS, 1]
    ends = ecg.waves[ecg.waves[:, 0] == T, 3]
    qt = [ends[ends > onset][0] - onset for onset in onsets[1:-1]]
    corrected = np.array(qt) / np.sqrt(measures(ecg).mean_rr_ms / 1000)
    # Where a T wave runs into the next P wave, it ends there.
    assert np.median(corrected) / 1000 <= draw_person(person_seed).qtc_s + 0.01
    assert corrected.max() / 1000 == pytest.approx(draw_person(person_seed).qtc_s, abs=0.025)


def test_qt_shortens_when_the_heart_is_faster():
    rr, rt = [], []
    for seed in range(30):
        ecg = synthesize("AF", seed=seed, person_seed=1)
        t_peaks = ecg.waves[ecg.waves[:, 0] == T, 2]
        for before, peak in zip(ecg.r_peaks[:-1], ecg.r_peaks[1:], strict=True):
            following = t_peaks[t_peaks > peak]
            if following.size:
                rr.append(peak - before)
                rt.append(following[0] - peak)
    assert np.corrcoef(np.sqrt(rr), rt)[0, 1] > 0.8


@pytest.mark.parametrize("rhythm", RHYTHMS)
def test_the_same_seed_gives_the_same_samples_and_another_seed_others(rhythm):
    first, again, other = (synthesize(rhythm, seed=seed, leads=LEADS) for seed in (3, 3, 4))
    assert first.recording.samples.tobytes() == again.recording.samples.tobytes()
    assert first.codes.tobytes() == again.codes.tobytes()
    assert first.beat_symbols == again.beat_symbols
    assert first.recording.samples.tobytes() != other.recording.samples.tobytes()


def test_lead_and_noise_leave_the_beats_where_they_were():
    first = synthesize("O", seed=5)
    other = synthesize("O", seed=5, leads=("V1", "I"), noise=3)
    np.testing.assert_array_equal(first.r_peaks, other.r_peaks)
    np.testing.assert_array_equal(first.waves, other.waves)


def test_the_person_gives_the_shape_of_the_beats():
    def beat(seed, person_seed):
        ecg = synthesize("N", seed=seed, person_seed=person_seed, leads=LEADS, noise=0)
        around = ecg.r_peaks[1:-1, None] + np.arange(-15, 16)
        return ecg.recording.samples[:, around].mean(axis=1).ravel()

    same = [np.corrcoef(beat(1, person), beat(2, person))[0, 1] for person in range(8)]
    others = [np.corrcoef(beat(1, person), beat(1, person + 1))[0, 1] for person in range(8)]
    assert min(same) > 0.99
    assert max(others) < 0.99
    assert synthesize("N", seed=1, person_seed=7).person == "synthetic-7"
    assert synthesize("N", seed=1).person == "synthetic-1"


def test_leads_belong_together_and_differ_in_polarity():
    for seed in range(10):
        ecg = synthesize("N", seed=seed, leads=LEADS, noise=0)
        lead = dict(zip(LEADS, ecg.recording.samples, strict=True))
        np.testing.assert_allclose(lead["II"], lead["I"] + lead["III"], atol=1e-5)
        np.testing.assert_allclose(lead["aVR"] + lead["aVL"] + lead["aVF"], 0, atol=1e-5)
        assert (lead["II"][ecg.r_peaks] > 0.1).all()
        assert (lead["aVR"][ecg.r_peaks] < -0.1).all()


def test_noise_has_the_stated_size():
    sizes = []
    for seed in range(60):
        ecgs = [synthesize("N", seed=seed, noise=noise) for noise in (0, 1, 2)]
        clean, usual, twice = (ecg.recording.samples for ecg in ecgs)
        np.testing.assert_allclose(twice - clean, 2 * (usual - clean), atol=1e-6)
        sizes.append(np.std(usual - clean))
    assert np.median(sizes) == pytest.approx(0.08, rel=0.35)
    assert max(sizes) > 2 * min(sizes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rhythm": "AFIB"}, "rhythm.*AFIB"),
        ({"duration_s": 0.5}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"sampling_rate": 50}, "sampling_rate.*50"),
        ({"noise": -1}, "noise"),
        ({"seed": -1}, "seed"),
        ({"person_seed": -1}, "person_seed"),
        ({"leads": ("II", "MLII")}, "leads"),
        ({"leads": ("II", "II")}, "leads"),
        ({"leads": ()}, "leads"),
        ({"leads": "II"}, "leads"),
    ],
)
def test_settings_outside_the_model_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        synthesize(**{"rhythm": "N", "seed": 0} | settings)


def test_fibrillatory_waves_are_a_tenth_as_high_as_the_r_waves():
    signal, peaks = np.full(2500, 0.2, np.float32), np.arange(100, 2500, 200)
    signal[peaks] = 0.7
    added = add_f_waves(signal, peaks, 250.0) - signal
    assert 2 * np.sqrt(2) * added.std() == pytest.approx(0.05, rel=1e-3)
    assert (add_f_waves(signal, peaks[:0], 250.0) == signal).all()
    assert (add_f_waves(signal, peaks, 250.0, seed=1) != added + signal).any()

"""Networks on arrays: what they say, what they refuse, and that records give the same numbers."""

from dataclasses import replace

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch

import xecg
from xecg.errors import ConfigError, RecordError, WeightsError
from xecg.explain import wave_relevance
from xecg.explain.deep_taylor import DeepTaylor
from xecg.inference.model import load, predicted, spread
from xecg.inference.records import read_windows
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.synthetic import synthesize
from xecg.signal.wfdb import read_recording

WINDOWS = Preprocessing().scale(np.random.default_rng(0).random((70, 2500), dtype=np.float32))
ECG = synthesize("AF", duration_s=24.0, sampling_rate=500.0, seed=3).recording.samples[0]


@pytest.fixture(scope="module")
def model(weights):
    return load(weights)


def save(network, path, preprocessing):
    save_weights(network, path, WeightsInfo(describe_branches(network.branches), preprocessing))
    return path


def test_probabilities_are_those_of_the_network(network, model):
    p_af = model.p_af(WINDOWS)
    with torch.no_grad():
        logits = network(torch.from_numpy(WINDOWS)[:, None])
    assert list(p_af) == ["morphology", "rhythm", "fused"]
    for branch in ("morphology", "rhythm"):
        expected = torch.softmax(logits[branch], 1)[:, 1].numpy()
        np.testing.assert_allclose(p_af[branch], expected, rtol=1e-5)
    fused = (p_af["morphology"] + p_af["rhythm"]) / 2
    np.testing.assert_allclose(p_af["fused"], fused, rtol=1e-6)


def test_a_network_of_one_branch_is_fused_with_nothing(tmp_path):
    network = XECGArch.build(["rhythm"], channels=4)
    path = save(network, tmp_path / "one.safetensors", Preprocessing().to_dict())
    p_af = load(path).p_af(WINDOWS[:3])
    assert list(p_af) == ["rhythm", "fused"]
    np.testing.assert_array_equal(p_af["fused"], p_af["rhythm"])


def test_windows_are_made_as_the_weights_say(network, tmp_path):
    asked = Preprocessing(low_hz=None, sampling_rate=125.0, window_s=5.0)
    model = load(save(network, tmp_path / "w.safetensors", asked.to_dict()))
    assert model.preprocessing == asked
    assert model.classify(ECG, 500)["start_s"].tolist() == [0, 5, 10, 15, 19]


def test_weights_without_whole_preprocessing_are_refused_by_name(network, tmp_path):
    path = save(network, tmp_path / "w.safetensors", {"sampling_rate": 250.0})
    with pytest.raises(WeightsError, match=r"w\.safetensors.*expected.*window_s"):
        load(path)


def test_a_model_is_loaded_by_name_file_or_folder_of_a_run(network, tmp_path):
    path = save(network, tmp_path / "run" / "weights.safetensors", Preprocessing().to_dict())
    assert xecg.load(tmp_path / "run").weights == xecg.load(path).weights == path
    assert xecg.load().weights.name == "xecgarch.safetensors"
    with pytest.raises(WeightsError, match="found no file nobody"):
        xecg.load("nobody")


def test_af_is_predicted_where_it_is_the_more_probable_class():
    assert list(predicted([0.0, 0.5, 0.5001, 1.0])) == ["non-AF", "non-AF", "AF", "AF"]


POINTS = {"balanced": 0.3, "specific": 0.8}


def test_the_threshold_is_that_of_the_operating_point(network, tmp_path, weights):
    points = {name: {"threshold": value} for name, value in POINTS.items()}
    info = WeightsInfo(
        describe_branches(network.branches),
        Preprocessing().to_dict(),
        {"operating_points": points},
    )
    path = tmp_path / "calibrated.safetensors"
    save_weights(network, path, info)
    assert load(weights).threshold == 0.5  # not calibrated
    assert load(path).threshold == POINTS["balanced"]
    assert load(path, operating_point="specific").threshold == POINTS["specific"]
    (p_af,) = load(path).classify(ECG[:5000], 500)["p_af"]
    for threshold, called in ((p_af - 1e-3, "AF"), (p_af + 1e-3, "non-AF")):
        model = load(path, threshold=threshold)
        assert model.classify(ECG[:5000], 500)["predicted"].tolist() == [called]
        assert model.explain(ECG[:5000], 500).table["predicted"].tolist() == [called]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"operating_point": "balanced"}, "operating_point balanced: .* not calibrated"),
        ({"threshold": 1.5}, "threshold: .*1.5"),
        ({"threshold": 0.5, "operating_point": "specific"}, "specific"),
    ],
)
def test_a_threshold_that_is_none_is_refused(weights, options, message):
    with pytest.raises(ConfigError, match=message):
        load(weights, **options)


def test_an_array_gives_the_numbers_of_the_record(model, write_record, tmp_path):
    path = write_record("r", duration_s=24.0, sampling_rate=360.0, leads=("V1", "II"))
    out = tmp_path / "p.csv"
    assert xecg.classify([path], out, weights=model.weights, lead="V1") == 0
    recording = read_recording(path)
    table = model.classify(recording.samples, recording.sampling_rate)
    of_lead = table[table["signal"] == 0]
    rows = pd.read_csv(out)
    assert of_lead["start_s"].tolist() == rows["start_s"].tolist() == [0, 10, 14]
    assert of_lead["predicted"].tolist() == rows["predicted"].tolist()
    for column in ("p_af", "p_af_morphology", "p_af_rhythm"):
        assert [f"{p:.5g}" for p in of_lead[column]] == [f"{p:.5g}" for p in rows[column]]
    exact = model.table([read_windows(path, model.preprocessing, lead="V1")])
    alone = model.classify(recording.samples[0], recording.sampling_rate)
    np.testing.assert_array_equal(alone["p_af"], exact["p_af"])


def test_a_row_is_a_window_whatever_the_shape_and_the_unit(model):
    one = model.classify(ECG, sampling_rate=500)
    assert list(one) == [
        *("signal", "start_s", "p_af", "p_af_morphology", "p_af_rhythm"),
        *("quality", "predicted", "note"),
    ]
    assert one["start_s"].tolist() == [0, 10, 14]
    assert set(one["note"]) == {""}
    two = model.classify(np.stack([ECG, -ECG]), sampling_rate=500)
    assert two["signal"].tolist() == [0, 0, 0, 1, 1, 1]
    np.testing.assert_allclose(two["p_af"][:3], one["p_af"], rtol=1e-6)
    raw = model.classify(np.rint(1000 * ECG).astype(np.int16), sampling_rate=500)
    np.testing.assert_allclose(raw["p_af"], one["p_af"], atol=0.01)


def test_branches_that_contradict_each_other_call_no_af(model):
    info = replace(model.info, provenance={"prevalence": 0.1})
    calibrated = replace(model, threshold=0.2, info=info)
    morphology = np.array([0.6, 0.09, 0.11, 0.02, 0.99], np.float32)
    rhythm = np.array([0.7, 0.9, 0.9, 0.3, 0.01], np.float32)
    p_af = {"morphology": morphology, "rhythm": rhythm, "fused": (morphology + rhythm) / 2}
    classes, notes = calibrated.calls(p_af)
    unsure = "cannot be judged"
    assert classes.tolist() == ["AF", unsure, "AF", "non-AF", unsure]
    assert [bool(note) for note in notes] == [False, True, False, False, True]
    assert "0.09" in notes[1]
    assert "morphology" in notes[1]
    sensitive, _ = replace(calibrated, threshold=0.05).calls(p_af)
    assert sensitive.tolist() == ["AF", "AF", "AF", unsure, unsure]
    not_calibrated, _ = replace(calibrated, info=model.info).calls(p_af)
    assert not_calibrated.tolist() == ["AF", "AF", "AF", "non-AF", "AF"]


def test_the_prevalence_is_that_of_the_weights(network, tmp_path):
    about = Preprocessing().to_dict(), {"prevalence": 0.25}
    path = tmp_path / "calibrated.safetensors"
    save_weights(network, path, WeightsInfo(describe_branches(network.branches), *about))
    assert load(path).prevalence == 0.25


@pytest.mark.filterwarnings("error")
def test_windows_that_cannot_be_classified_say_why_and_have_no_probability(model):
    ecg = np.stack([ECG, ECG])
    ecg[0, 200] = np.nan
    ecg[1, :6000] = 0.5
    table = model.classify(ecg, sampling_rate=500)
    assert table["note"].tolist() == [
        "cannot be classified: missing samples",
        "",
        "",
        "cannot be classified: flat line",
        "flat for 20% of the time",
        "",
    ]
    assert table["predicted"][4] == "cannot be judged"
    bad = table["note"].str.startswith("cannot")
    assert table.loc[bad, ["p_af", "p_af_morphology", "p_af_rhythm"]].isna().all(axis=None)
    assert (table.loc[bad, "predicted"] == "").all()
    assert table.loc[~bad].notna().all(axis=None)
    nothing = model.classify(np.full(5000, np.nan), sampling_rate=500)
    assert nothing["p_af"].isna().all()


@pytest.mark.parametrize(
    ("ecg", "sampling_rate", "error", "message"),
    [
        (ECG, None, ConfigError, r"sampling_rate: .*Hz.*found None"),
        (ECG, 0, ConfigError, "found 0"),
        (ECG, -500.0, ConfigError, "found -500"),
        (ECG, 99.0, RecordError, "100 to 1000 Hz"),
        (ECG[None, None], 500, RecordError, r"\(leads, time\).*\(1, 1, 12000\)"),
        (np.array(["a"] * 5000), 500, RecordError, "real numbers"),
        (ECG + 0j, 500, RecordError, "real numbers.*complex"),
        (np.empty((0, 5000)), 500, RecordError, r"\(0, 5000\)"),
        (ECG[:4999], 500, RecordError, r"lasts 9\.998 s.*windows of 10 s"),
        (ECG[:, None].repeat(12, axis=1), 500, RecordError, r"lasts 0\.024 s.*windows of 10 s"),
        (np.append(ECG, np.inf), 500, RecordError, "infinite"),
    ],
)
def test_what_is_no_ecg_is_refused(model, ecg, sampling_rate, error, message):
    for ask in (model.classify, model.explain):
        with pytest.raises(error, match=message):
            ask(ecg, sampling_rate)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (WINDOWS[:, :2499], r"\(n, 2500\).*\(70, 2499\)"),
        (WINDOWS[0], r"\(n, 2500\).*\(2500,\)"),
        (WINDOWS.astype(np.float64), "float64"),
        (np.full_like(WINDOWS, np.nan), "finite.*from nan"),
        (2 * WINDOWS - 1, r"scaled to \[0, 1\].* from -1 to 1.*Model.classify"),
        (np.zeros_like(WINDOWS), "from 0 to 0"),
    ],
)
def test_windows_that_are_not_preprocessed_are_refused(model, windows, message):
    with pytest.raises(RecordError, match=message):
        model.p_af(windows)


@pytest.mark.parametrize("attribution", ["innvestigate", "zbox"])
def test_maps_are_what_the_network_looks_at(model, network, attribution):
    maps = model.explain(np.stack([ECG, ECG]), 500, attribution=attribution)
    assert len(maps) == 6
    x = torch.from_numpy(maps.signal)[:, None]
    for branch, expected in DeepTaylor(network, attribution).attribute(x).items():
        relevance = maps.relevance[branch]
        assert relevance.dtype == np.float32
        assert relevance.max() > 0
        np.testing.assert_allclose(relevance, expected[:, 0].numpy(), atol=1e-6 * relevance.max())
        measured = wave_relevance(relevance, maps.r_peaks, 250.0)
        for column in measured.drop(columns="conservation"):
            np.testing.assert_array_equal(maps.table[f"{branch}_{column}"], measured[column])
        assert (maps.table[f"{branch}_conservation"] > 0).all()
    assert maps.table["signal"].tolist() == [0, 0, 0, 1, 1, 1]
    classified = model.classify(np.stack([ECG, ECG]), 500)
    np.testing.assert_array_equal(maps.table["p_af"], classified["p_af"])


def test_r_peaks_are_samples_of_each_window(model):
    true_s = synthesize("AF", duration_s=24.0, sampling_rate=500.0, seed=3).r_peaks / 500
    maps = model.explain(ECG, 500)
    for start_s, peaks in zip(maps.table["start_s"], maps.r_peaks, strict=True):
        assert len(peaks) > 5
        assert np.abs((start_s + peaks / 250)[:, None] - true_s).min(axis=1).max() < 0.04


def test_maps_are_drawn_on_ecg_paper(model):
    ecg = np.stack([ECG, ECG])
    ecg[0, 200] = np.nan  # the first window is left out
    maps = model.explain(ecg, sampling_rate=500)
    assert maps.table["start_s"].tolist() == [10, 14, 0, 10, 14]
    figure = maps.plot([0, 2])
    assert isinstance(figure, matplotlib.figure.Figure)
    texts = " ".join(text.get_text() for text in figure.axes[0].texts)
    assert "signal 0" in texts
    assert "10 to 20 s" in texts
    assert "signal 1" in texts
    assert "10 mm/mV" in texts
    assert len(maps.plot().axes[0].texts) > len(figure.axes[0].texts)
    raw = model.explain(1000 * ECG, sampling_rate=500, unit="ADC units").plot([0])
    assert "not in mV" in " ".join(text.get_text() for text in raw.axes[0].texts)


def test_nothing_to_explain_is_refused_with_the_reason(model):
    with pytest.raises(RecordError, match=r"signal 0: 1 of 1 windows .*flat line.*first at 0 s"):
        model.explain(np.ones(5000), 500)


@pytest.mark.parametrize(
    ("n", "most", "rows"),
    [(1, 12, [0]), (3, 12, [0, 1, 2]), (7, 3, [0, 3, 6]), (180, 2, [0, 179]), (5, 0, [])],
)
def test_drawn_windows_are_spread_over_the_record(n, most, rows):
    assert spread(n, most) == rows

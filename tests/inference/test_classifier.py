import numpy as np
import pytest
import torch

from xecg.errors import WeightsError
from xecg.inference.model import Classifier, class_names
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing

WINDOWS = np.random.default_rng(0).random((70, 2500), dtype=np.float32)


def save(network, path, preprocessing):
    save_weights(network, path, WeightsInfo(describe_branches(network.branches), preprocessing))
    return path


def test_probabilities_are_those_of_the_network(network, weights):
    classifier = Classifier.load(weights)
    p_af = classifier.p_af(WINDOWS)
    with torch.no_grad():
        logits = network(torch.from_numpy(WINDOWS)[:, None])
    assert list(p_af) == ["fused", "morphology", "rhythm"]
    for branch in ("morphology", "rhythm"):
        expected = torch.softmax(logits[branch], 1)[:, 1].numpy()
        np.testing.assert_allclose(p_af[branch], expected, rtol=1e-5)
    fused = (p_af["morphology"] + p_af["rhythm"]) / 2
    np.testing.assert_allclose(p_af["fused"], fused, rtol=1e-6)


def test_windows_are_counted_as_they_are_done(weights):
    done = []
    Classifier.load(weights).p_af(WINDOWS, done.append)
    assert sum(done) == len(WINDOWS)
    assert len(done) > 1


def test_a_network_of_one_branch_is_fused_with_nothing(tmp_path):
    network = XECGArch.build(["rhythm"], channels=4)
    path = save(network, tmp_path / "one.safetensors", Preprocessing().to_dict())
    p_af = Classifier.load(path).p_af(WINDOWS[:3])
    assert list(p_af) == ["fused", "rhythm"]
    np.testing.assert_array_equal(p_af["fused"], p_af["rhythm"])


def test_windows_are_made_as_the_weights_say(network, tmp_path):
    asked = Preprocessing(low_hz=None, sampling_rate=125.0, window_s=5.0)
    path = save(network, tmp_path / "w.safetensors", asked.to_dict())
    assert Classifier.load(path).preprocessing == asked


def test_weights_without_whole_preprocessing_are_refused_by_name(network, tmp_path):
    path = save(network, tmp_path / "w.safetensors", {"sampling_rate": 250.0})
    with pytest.raises(WeightsError, match=r"w\.safetensors.*missing.*window_s"):
        Classifier.load(path)


def test_af_is_predicted_where_it_is_the_more_probable_class():
    assert class_names(np.array([0.0, 0.5, 0.5001, 1.0])) == ["non-AF", "non-AF", "AF", "AF"]

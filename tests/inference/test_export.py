"""Exported files say what the weights say, and are refused where they would not."""

import copy
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import xecg
from xecg.errors import ConfigError, ExportError, RecordError, WeightsError
from xecg.explain import deep_taylor
from xecg.explain.attributions import BranchExplainer
from xecg.files import sha256
from xecg.inference import export as export_module
from xecg.inference.export import compare, export
from xecg.inference.records import cut_lead
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.signal.preprocessing import Preprocessing, cut_windows
from xecg.signal.recording import Recording
from xecg.signal.synthetic import synthesize

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = DOCS / "examples"
ECG = synthesize("AF", duration_s=24.0, sampling_rate=500.0, seed=3).recording.samples[0]
POINTS = {"balanced": {"threshold": 0.4}, "specific": {"threshold": 0.6}}


@pytest.fixture(scope="module")
def calibrated(network, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "calibrated.safetensors"
    provenance = {"operating_points": POINTS, "prevalence": 0.1}
    settings = Preprocessing().to_dict()
    save_weights(
        network, path, WeightsInfo(describe_branches(network.branches), settings, provenance)
    )
    return path


@pytest.fixture(scope="module")
def onnx_file(calibrated, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "model.onnx"
    export(weights=str(calibrated), out=path, licence="CC0-1.0")
    return path


@pytest.fixture(scope="module")
def module_on_path() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield


def test_it_classifies_and_explains_as_the_weights(calibrated, onnx_file):
    ecg = np.stack([ECG, -ECG, np.where(np.arange(len(ECG)) == 9, np.nan, ECG)])
    weights, exported = xecg.load(calibrated), xecg.load(onnx_file)
    assert exported.threshold == weights.threshold == POINTS["balanced"]["threshold"]
    assert xecg.load(onnx_file, operating_point="specific").threshold == 0.6
    assert exported.prevalence == weights.prevalence == 0.1
    assert exported.branches == weights.branches
    assert exported.preprocessing == weights.preprocessing
    tables = [model.classify(ecg, 500) for model in (weights, exported)]
    pd.testing.assert_frame_equal(*tables, atol=1e-5)
    wanted, found = (model.explain(ecg, 500) for model in (weights, exported))
    pd.testing.assert_frame_equal(wanted.table, found.table, atol=1e-3)
    for branch, relevance in wanted.relevance.items():
        assert relevance.max() > 0
        largest = relevance.max(axis=1, keepdims=True)
        assert (np.abs(relevance - found.relevance[branch]) <= 1e-4 * largest).all()


def test_nothing_to_classify_is_nothing(onnx_file):
    table = xecg.load(onnx_file).classify(np.full(5000, np.nan), 500)
    assert table["p_af"].isna().all()


def test_its_metadata_say_how_it_is_used(calibrated, onnx_file):
    about = xecg.load(onnx_file).network.about
    assert json.loads(about["preprocessing"]) == Preprocessing().to_dict()
    assert json.loads(about["operating_points"]) == POINTS
    assert json.loads(about["threshold"]) == 0.4
    assert json.loads(about["prevalence"]) == 0.1
    assert about["weights_sha256"] == sha256(calibrated)
    assert about["xecg"] == xecg.__version__
    assert about["licence"] == "CC0-1.0"
    assert "not a medical device" in about["notice"]
    assert str(Path(xecg.__file__).parent).encode() not in onnx_file.read_bytes()


def test_pytorch_is_not_imported(onnx_file, write_record, tmp_path):
    record = write_record("r", duration_s=24.0)
    code = (
        "import sys, xecg; from pathlib import Path\n"
        "model, record, out = map(Path, sys.argv[1:])\n"
        "assert xecg.classify([record], out, weights=model) == 0\n"
        "import numpy; xecg.load(model).explain(numpy.sin(numpy.arange(5000.0)), 500)\n"
        "print('torch' in sys.modules)"
    )
    out = tmp_path / "p.csv"
    arguments = [sys.executable, "-c", code, str(onnx_file), str(record), str(out)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
    assert len(pd.read_csv(out)) == 3


def test_what_the_file_cannot_do_is_refused(onnx_file, tmp_path):
    model = xecg.load(onnx_file)
    with pytest.raises(ConfigError, match="zbox"):
        model.explain(ECG, 500, attribution="zbox")
    with pytest.raises(ConfigError, match="effects"):
        model.explain(ECG, 500, effects=True)
    with pytest.raises(ConfigError, match="operating_point sensitive"):
        xecg.load(onnx_file, operating_point="sensitive")
    with pytest.raises(ConfigError, match="exported"):
        export(weights=str(onnx_file), out=tmp_path / "again.onnx")


@pytest.mark.parametrize("content", [None, b"", b"no onnx", "other"])
def test_a_file_of_another_kind_is_refused(content, tmp_path):
    path = tmp_path / "model.onnx"
    if content == "other":
        import onnx

        onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [])), path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(WeightsError, match=re.escape(str(path))):
        xecg.load(path)


def test_a_program_of_torch_says_the_same_for_any_batch(weights, network, write_record, tmp_path):
    out = tmp_path / "model.pt2"
    write_record("r", duration_s=24.0)
    (tmp_path / "records" / "bad.hea").write_text("bad")
    export(weights=str(weights), out=out, check=[tmp_path / "records"])
    files = {"about.json": ""}
    module = torch.export.load(out, extra_files=files).module()
    about = json.loads(files["about.json"])
    assert about["prevalence"] == "0.0"
    assert about["licence"] == "not stated"
    for batch in (1, 2, 5):
        x = torch.rand(batch, 1, 2500)
        said = module(x)
        for name, (logits, relevance) in BranchExplainer(network).explain(x).items():
            largest = relevance.amax(dim=2, keepdim=True)
            assert ((said[f"relevance_{name}"] - relevance).abs() <= 1e-4 * largest).all()
            torch.testing.assert_close(said[f"logit_{name}"], logits.amax(dim=1))


@pytest.mark.parametrize("mutant", ["rule", "weight"])
def test_what_differs_from_the_weights_is_not_written(mutant, weights, tmp_path, monkeypatch):
    out, made = tmp_path / "model.pt2", export_module.explained_program

    def broken(network, time):
        with pytest.MonkeyPatch.context() as patch:
            if mutant == "rule":  # all weights in place of the positive ones
                rule = lambda layer: ((torch.nn.Identity(), layer),)  # noqa: E731
                patch.setattr(deep_taylor, "nonnegative_input", rule)
            if mutant == "weight":
                network = copy.deepcopy(network)
                network.heads["rhythm"].linear.bias.data[1] += 1e-3
            return made(network, time)

    monkeypatch.setattr(export_module, "explained_program", broken)
    what = {"rule": "relevance of", "weight": "p_af of"}[mutant]
    with pytest.raises(ExportError, match=what):
        export(weights=str(weights), out=out)
    assert not list(tmp_path.iterdir())


def test_a_folder_without_a_record_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(export_module, "explained_program", lambda *_: None)
    monkeypatch.setattr(export_module, "_pt2", lambda *_: (b"", None))
    monkeypatch.setattr(export_module, "RHYTHMS", ())
    with pytest.raises(RecordError, match="nobody"):
        export(weights=str(weights), out=tmp_path / "model.pt2", check=[tmp_path / "nobody"])
    assert not list(tmp_path.iterdir())


def test_a_record_of_use_is_enough_beside_one_that_is_not_there(weights, write_record, tmp_path):
    paths = [tmp_path / "nobody", write_record("r", duration_s=24.0)]
    assert [lead.record for lead in export_module._checked(xecg.load(weights), paths)] == ["r"]


def explained(model, signals):
    found = model.explainer().explain(torch.from_numpy(signals)[:, None]).items()
    return {name: (z.amax(dim=1, keepdim=True).numpy(), maps.numpy()) for name, (z, maps) in found}


def test_maps_may_differ_only_where_the_weights_own_are_unsteady(weights, monkeypatch):
    model = xecg.load(weights)
    lead = cut_lead(Recording("r", ECG[None], 500.0, ("II",), ("mV",)), 0, model.preprocessing)
    p_af, maps = model.p_af(lead.signals), explained(model, lead.signals)
    logit, relevance = maps["rhythm"]
    changed = relevance.copy()
    changed[1] += 1e-3 * changed[1].max()
    said = p_af, maps | {"rhythm": (logit, changed)}
    assert export_module._unsteadiness(model, lead.signals[1], "rhythm") < 4e-4
    with pytest.raises(ExportError, match=r"relevance of rhythm, r at 10 s"):
        compare(said, model, lead, [])
    monkeypatch.setattr(export_module, "_unsteadiness", lambda *_: 1e-3)
    compare(said, model, lead, [])


@pytest.mark.parametrize("name", ["model.txt", "there.onnx"])
def test_a_name_that_cannot_be_taken_is_refused_at_once(name, tmp_path):
    (tmp_path / "there.onnx").touch()
    with pytest.raises(ConfigError, match=name):
        export(out=tmp_path / name)


@given(
    rate=st.sampled_from([100.0, 128.0, 250.0, 257.5, 333.3, 360.0, 1000.0]),
    seconds=st.floats(10, 40),
    settings=st.sampled_from(
        [
            Preprocessing(),
            Preprocessing(low_hz=None, sampling_rate=125.0, window_s=5.0),
            Preprocessing(high_hz=None, sampling_rate=300.0),
            Preprocessing(low_hz=None, high_hz=None, scaling="none"),
        ]
    ),
    seed=st.integers(0, 99),
)
def test_the_example_preprocesses_as_xecg_to_the_bit(module_on_path, rate, seconds, settings, seed):
    from preprocessing import preprocess

    ecg = np.random.default_rng(seed).normal(size=int(np.ceil(seconds * rate))).cumsum()
    ecg = ecg.astype(np.float32)
    wanted = cut_windows(ecg, rate, settings, align_last=True)
    windows, start_s = preprocess(ecg, rate, **settings.to_dict())
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows[:, 0], wanted.signals)
    np.testing.assert_array_equal(start_s, wanted.starts / settings.sampling_rate)


def test_the_example_is_short_and_needs_numpy_and_scipy_alone():
    text = (EXAMPLES / "preprocessing.py").read_text()
    assert len(text.splitlines()) <= 100
    imported = re.findall(r"^(?:import|from) (\w+)", text, flags=re.MULTILINE)
    assert set(imported) == {"fractions", "numpy", "scipy"}


def test_the_page_runs(onnx_file, module_on_path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model.onnx").symlink_to(onnx_file)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "EXPORT.md").read_text(), flags=re.DOTALL)
    for block in blocks:
        exec(compile(block, "EXPORT.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "p_af_morphology" in printed
    assert "(3, 1, 2500)" in printed
    assert (tmp_path / "classifier.onnx").is_file()

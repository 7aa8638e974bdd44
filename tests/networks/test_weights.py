"""Weights files: round trip, strictness, what the errors name."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from xecg.errors import WeightsError
from xecg.networks.branch import build_branch
from xecg.networks.weights import (
    RELEASED,
    WeightsInfo,
    _digest,
    describe_branches,
    find_weights,
    load_branch,
    load_xecgarch,
    save_weights,
)
from xecg.networks.xecgarch import PWaveNetwork, XECGArch

X = torch.rand(2, 1, 1000)
PREPROCESSING = {"sampling_rate": 250.0}


def info_of(network: torch.nn.Module) -> WeightsInfo:
    return WeightsInfo(describe_branches(network.branches), PREPROCESSING, {"task": "test"})


@pytest.fixture
def ensemble(tmp_path: Path) -> tuple[XECGArch, Path]:
    network = XECGArch.build(channels=8).eval()
    path = tmp_path / "ensemble.safetensors"
    save_weights(network, path, info_of(network))
    return network, path


def test_network_comes_back_with_what_it_was_made_of(ensemble: tuple[XECGArch, Path]) -> None:
    network, path = ensemble
    loaded, info = load_xecgarch(path)
    assert not loaded.training
    assert info == info_of(network)
    for name, logits in network(X).items():
        assert torch.equal(loaded(X)[name], logits)


def test_equal_weights_are_equal_files(ensemble: tuple[XECGArch, Path], tmp_path: Path) -> None:
    network, path = ensemble
    for number in range(5):
        save_weights(network, again := tmp_path / f"{number}.safetensors", info_of(network))
        assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("name", ["morphology", "rhythm"])
def test_a_branch_is_taken_out_of_an_ensemble(ensemble: tuple[XECGArch, Path], name: str) -> None:
    network, path = ensemble
    branch = build_branch(name, channels=8).eval()
    load_branch(branch, name, path)
    assert torch.equal(branch(X), network.branches[name](X))


def test_a_pretrained_branch_fits_the_ensemble(tmp_path: Path) -> None:
    pretrained = PWaveNetwork(channels=8).eval()
    save_weights(pretrained, tmp_path / "p.safetensors", info_of(pretrained))
    network = XECGArch.build(channels=8).eval()
    load_branch(network.branches["morphology"], "morphology", tmp_path / "p.safetensors")
    expected = pretrained.branches["morphology"](X)
    assert torch.equal(network.branches["morphology"](X), expected)


def test_missing_branch_is_named(tmp_path: Path) -> None:
    pretrained = PWaveNetwork(channels=8)
    path = tmp_path / "p.safetensors"
    save_weights(pretrained, path, info_of(pretrained))
    with pytest.raises(
        WeightsError, match=r"p\.safetensors holds branch morphology; .*rhythm"
    ) as it:
        load_branch(build_branch("rhythm", channels=8), "rhythm", path)
    assert len(str(it.value)) < 300  # no list of tensors


def test_what_was_learnt_from_comes_back_and_stays_small(tmp_path: Path) -> None:
    network = PWaveNetwork(channels=8)
    learnt = torch.randint(2**48, (30_000,), generator=torch.Generator().manual_seed(0))
    info = replace(info_of(network), learnt=learnt)
    paths = [tmp_path / "without.safetensors", tmp_path / "with.safetensors"]
    for path, described in zip(paths, (info_of(network), info), strict=True):
        save_weights(network, path, described)
    small, large = (path.stat().st_size for path in paths)
    assert large - small < 8 * len(learnt)
    branch = build_branch("morphology", channels=8)
    found = [load_branch(branch, "morphology", path).learnt for path in paths]
    assert found[0] is None
    assert torch.equal(found[1], learnt.unique())


def test_released_weights_load() -> None:
    for name, source in (("morphology", "pwave_morphology"), ("rhythm", "rr_rhythm")):
        assert load_branch(build_branch(name), name, source).learnt is None
    network, info = load_xecgarch("xecgarch")
    assert list(network.branches) == ["morphology", "rhythm"]
    assert info.preprocessing["sampling_rate"] == 250.0
    assert info.learnt is not None
    assert set(info.operating_points) == {"sensitive", "balanced", "specific"}


def test_other_width_is_refused_with_shapes(ensemble: tuple[XECGArch, Path]) -> None:
    with pytest.raises(WeightsError, match=r"expected .*\(8, 1, 7\), found .*\(4, 1, 7\)"):
        load_branch(build_branch("morphology", channels=16), "morphology", ensemble[1])


def test_refused_weights_leave_the_branch_as_it_was(ensemble: tuple[XECGArch, Path]) -> None:
    branch = build_branch("morphology", channels=16)
    before = {key: value.clone() for key, value in branch.state_dict().items()}
    with pytest.raises(WeightsError):
        load_branch(branch, "morphology", ensemble[1])
    assert all(torch.equal(before[key], value) for key, value in branch.state_dict().items())


def test_existing_file_is_not_overwritten(ensemble: tuple[XECGArch, Path]) -> None:
    network, path = ensemble
    before = path.read_bytes()
    with pytest.raises(WeightsError, match="exists already"):
        save_weights(network, path, info_of(network))
    assert path.read_bytes() == before


def test_a_checkpoint_is_told_from_weights(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "best.ckpt")
    with pytest.raises(WeightsError, match=r"no safetensors file.*not a \.ckpt"):
        load_xecgarch(tmp_path / "best.ckpt")


def test_foreign_safetensors_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "foreign.safetensors")
    with pytest.raises(WeightsError, match="expected format 'xecg-weights-1'; found None"):
        load_xecgarch(tmp_path / "foreign.safetensors")


def test_unknown_name_lists_the_released_weights() -> None:
    with pytest.raises(WeightsError, match="Released: "):
        find_weights("no_such_weights")


def contents_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda tensors, name: tensors.update({name: tensors[name] * torch.nan}), "not finite"),
        (lambda tensors, name: tensors.update({name: tensors[name] / 0}), "not finite"),
        (
            lambda tensors, name: tensors.update({name: tensors[name].int()}),
            "expected .*found torch.int",
        ),
        (lambda tensors, name: tensors.update({name: tensors[name].half()}), "expected .*float16"),
        (lambda tensors, name: tensors.pop(name), "expected .*found none"),
        (
            lambda tensors, name: tensors.update({name + "2": tensors[name].clone()}),
            "expected none",
        ),
    ],
)
@pytest.mark.parametrize(
    "name", ["branches.rhythm.block3.conv.weight", "branches.rhythm.block1.norm.running_var"]
)
def test_tensors_that_are_no_weights_are_named(
    ensemble: tuple[XECGArch, Path], change: Any, named: str, name: str
) -> None:
    tensors, metadata = contents_of(ensemble[1])
    change(tensors, name)
    save_file(tensors, ensemble[1], metadata)
    with pytest.raises(WeightsError, match=r"ensemble\.safetensors"):  # by its digest
        load_xecgarch(ensemble[1])
    metadata["sha256"] = _digest(tensors, metadata)
    save_file(tensors, ensemble[1], metadata)
    with pytest.raises(WeightsError, match=rf"{name}2?: {named}"):
        load_xecgarch(ensemble[1])


@pytest.mark.parametrize("key", ["architecture", "preprocessing", "provenance", "sha256"])
def test_changed_metadata_is_refused(ensemble: tuple[XECGArch, Path], key: str) -> None:
    tensors, metadata = contents_of(ensemble[1])
    metadata[key] = metadata[key].replace(min(metadata[key]), "7")
    save_file(tensors, ensemble[1], metadata)
    with pytest.raises(WeightsError, match=r"ensemble\.safetensors"):
        load_xecgarch(ensemble[1])


def test_weights_without_a_digest_are_refused(ensemble: tuple[XECGArch, Path]) -> None:
    tensors, metadata = contents_of(ensemble[1])
    del metadata["sha256"]
    save_file(tensors, ensemble[1], metadata)
    with pytest.raises(WeightsError, match=r"ensemble\.safetensors.*expected digest None"):
        load_xecgarch(ensemble[1])


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_a_changed_bit_is_refused(ensemble: tuple[XECGArch, Path], place: int, bit: int) -> None:
    content = bytearray(ensemble[1].read_bytes())
    content[place % len(content)] ^= 1 << bit
    changed = ensemble[1].with_name("changed.safetensors")
    changed.write_bytes(content)
    with pytest.raises(WeightsError):
        load_xecgarch(changed)


@pytest.mark.parametrize("path", sorted(RELEASED.glob("*.safetensors")), ids=lambda p: p.stem)
def test_released_weights_have_a_model_card(path: Path) -> None:
    card = path.with_suffix(".md").read_text()
    for heading in ("Data", "Licences", "Training", "Metrics", "Where it fails"):
        assert f"## {heading}" in card
    assert "not a medical device" in card

"""Weights of the hub: against a local stand-in, with the hub's own package."""

import json
import sys
import time

import pytest
import torch
from hub_stand_in import hub_stand_in

import xecg
from xecg.cli import main
from xecg.errors import ConfigError, WeightsError
from xecg.files import sha256
from xecg.hub import CARD, FACTS, WEIGHTS, is_hub_name, push
from xecg.networks.weights import (
    RELEASED,
    WeightsInfo,
    describe_branches,
    find_weights,
    save_weights,
)
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing

constants = pytest.importorskip("huggingface_hub.constants")
POINTS = {"balanced": {"threshold": 0.4}, "specific": {"threshold": 0.8}}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_stand_in() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
        yield server


@pytest.fixture
def weights(tmp_path):
    return make(tmp_path / "run" / WEIGHTS)


def make(path, seed=0):
    torch.manual_seed(seed)
    network = XECGArch.build(channels=4)
    about = {"operating_points": POINTS}
    info = WeightsInfo(describe_branches(network.branches), Preprocessing().to_dict(), about)
    save_weights(network, path, info)
    path.with_suffix(".md").write_text("# A card\n", encoding="utf-8")
    return path


def test_what_is_pushed_is_loaded_again(hub, weights, capsys):
    assert main(["push", str(weights.parent), "--to", "somebody/af"]) == 0
    ((commit, files),) = hub.commits["somebody/af"]
    assert f'xecg.load("somebody/af@{commit}")' in capsys.readouterr().out
    assert files[WEIGHTS] == weights.read_bytes()
    facts = json.loads(files[FACTS])
    assert facts["sha256"] == sha256(weights)
    assert facts["operating_points"] == POINTS
    card = files[CARD].decode()
    assert card.startswith("---\nlibrary_name: xecg\nlicense: apache-2.0\n")
    assert card.endswith("# A card\n")
    for source in ("somebody/af", f"somebody/af@{commit}"):
        model = xecg.load(source, operating_point="specific")
        assert model.weights.read_bytes() == weights.read_bytes()
        assert model.threshold == 0.8


def test_a_revision_stays_what_it_was(hub, weights, tmp_path):
    push(str(weights), to="somebody/af")
    first = hub.commits["somebody/af"][0][0]
    push(str(make(tmp_path / "other.safetensors", seed=1)), to="somebody/af", licence="mit")
    assert sha256(find_weights(f"somebody/af@{first}")) == sha256(weights)
    assert sha256(find_weights("somebody/af")) == sha256(tmp_path / "other.safetensors")
    assert b"license: mit" in hub.commits["somebody/af"][1][1][CARD]
    with pytest.raises(WeightsError, match="Revision"):
        find_weights("somebody/af@v9")


def test_files_of_one_commit_are_taken_while_another_is_pushed(hub, weights, monkeypatch):
    push(str(weights), to="somebody/af")
    commit = hub.commits["somebody/af"][0][0]
    find_weights("somebody/af")
    assert any(f"/somebody/af/resolve/{commit}/{WEIGHTS}" in asked for asked in hub.asked)


@pytest.mark.parametrize("offline", [True, False])
def test_without_the_hub_the_cache_serves(hub, weights, monkeypatch, offline):
    push(str(weights), to="somebody/af")
    commit = hub.commits["somebody/af"][0][0]
    found = find_weights("somebody/af")
    hub.commits.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    if not offline:  # nobody answers, however often it is tried
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits for the hub"))
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        template = "http://127.0.0.1:9/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    hub.asked.clear()
    assert find_weights("somebody/af") == find_weights(f"somebody/af@{commit}") == found
    assert not hub.asked
    with pytest.raises(WeightsError, match="somebody/other"):
        find_weights("somebody/other")


def test_other_weights_than_were_pushed_are_refused(hub, weights, tmp_path):
    push(str(weights), to="somebody/af")
    other = make(tmp_path / "other.safetensors", seed=1)
    hub.commit("somebody/af", {WEIGHTS: other.read_bytes()})
    with pytest.raises(WeightsError, match=sha256(weights)):
        xecg.load("somebody/af")
    cached = find_weights(f"somebody/af@{hub.commits['somebody/af'][0][0]}").resolve()
    cached.write_bytes(cached.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match=sha256(weights)):
        xecg.load(f"somebody/af@{hub.commits['somebody/af'][0][0]}")


def test_other_models_are_refused(hub):
    hub.commit("somebody/language", {"config.json": b'{"model_type": "bert"}', WEIGHTS: b"x"})
    hub.commit("somebody/empty", {"README.md": b""})
    for name in ("somebody/language", "somebody/empty", "nobody/none"):
        with pytest.raises(WeightsError, match=name):
            find_weights(name)


def test_a_push_that_cannot_be_is_refused(hub, weights, monkeypatch):
    for to in ("af", "somebody/af@main", "a/b/c"):
        with pytest.raises(ConfigError, match=to):
            push(str(weights), to=to)
    with pytest.raises(ConfigError, match=r"none\.md"):
        push(str(weights), to="somebody/af", card=weights.parent / "none.md")
    with pytest.raises(WeightsError):
        push(str(weights.with_suffix(".md")), to="somebody/af")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ConfigError, match="somebody/af"):
        push(str(weights), to="somebody/af")
    assert not any(hub.commits.values())


def test_released_weights_have_a_card_that_is_pushed(hub):
    push("xecgarch", to="somebody/released")
    assert (RELEASED / "xecgarch.md").read_bytes() in hub.commits["somebody/released"][0][1][CARD]


def test_a_package_that_is_missing_is_named(monkeypatch, weights):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(WeightsError, match=r"xecg-lightning\[hub\]"):
        find_weights("somebody/af")
    with pytest.raises(ConfigError, match=r"xecg-lightning\[hub\]"):
        push(str(weights), to="somebody/af")


def test_paths_are_no_names_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    paths = ["xecgarch", "runs/mine", "out/w.safetensors", "/a/b", "../a", "a/b/c", "", "a b/c"]
    paths += ["runs/mine@2", "out/w@1.safetensors", "out/model.onnx"]
    assert not any(map(is_hub_name, paths))
    assert all(map(is_hub_name, ["user/model", "user/model.v2@main", "u_s-r/m@refs/pr/1"]))

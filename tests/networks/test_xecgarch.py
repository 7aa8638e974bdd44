"""The two-branch network: independence, fusion, its chain of modules."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from xecg.errors import NetworkError
from xecg.networks.xecgarch import XECGArch, fuse

X = torch.rand(3, 1, 1000)


@pytest.fixture
def network() -> XECGArch:
    torch.manual_seed(0)
    return XECGArch.build(channels=8).eval()


def test_two_logits_per_branch_and_window(network: XECGArch) -> None:
    logits = network(X)
    assert list(logits) == ["morphology", "rhythm"]
    assert all(z.shape == (3, 2) for z in logits.values())


def test_branches_share_nothing(network: XECGArch) -> None:
    network(X)["rhythm"].sum().backward()
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == ("rhythm" in name), name


def test_a_branch_can_be_left_out(network: XECGArch) -> None:
    alone = XECGArch.build(["rhythm"], channels=8).eval()
    state = {k: v for k, v in network.state_dict().items() if "rhythm" in k}
    alone.load_state_dict(state)
    assert torch.equal(alone(X)["rhythm"], network(X)["rhythm"])


@pytest.mark.parametrize("name", ["morphology", "rhythm"])
def test_chain_computes_the_branch(network: XECGArch, name: str) -> None:
    assert torch.equal(network.chain(name)(X), network(X)[name])


def test_chain_holds_the_networks_own_modules(network: XECGArch) -> None:
    own = set(network.modules())
    chain = network.chain("rhythm")
    assert all(module in own for module in chain)
    assert not any(isinstance(module, nn.Sequential) for module in chain)


def test_unknown_chain_is_refused(network: XECGArch) -> None:
    with pytest.raises(NetworkError, match="morphology, rhythm; found 'tempo'"):
        network.chain("tempo")


def test_no_branch_is_refused() -> None:
    with pytest.raises(NetworkError, match="at least one branch"):
        XECGArch({})


logit = st.floats(-30, 30)


@given(st.lists(st.tuples(logit, logit), min_size=1, max_size=4))
def test_fused_probability_is_the_mean_of_the_branches(pairs: list[tuple[float, float]]) -> None:
    logits = {str(i): torch.tensor([pair]) for i, pair in enumerate(pairs)}
    fused = fuse(logits)
    expected = sum(torch.tensor(pair).softmax(0) for pair in pairs) / len(pairs)
    assert torch.allclose(fused[0], expected, atol=1e-6)
    assert torch.allclose(fused.sum(), torch.tensor(1.0))


def test_fusion_is_in_float32() -> None:
    assert fuse({"a": torch.zeros(1, 2, dtype=torch.bfloat16)}).dtype == torch.float32

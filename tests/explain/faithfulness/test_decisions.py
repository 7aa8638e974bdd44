import pytest
import torch
from torch import Tensor, nn

from xecg.errors import DataError, NetworkError
from xecg.explain.faithfulness.decisions import Decisions, logits_of


def test_each_window_is_explained_for_the_class_that_the_network_predicts(
    linear: nn.Sequential, decisions: Decisions
) -> None:
    assert torch.equal(decisions.classes, linear(decisions.x).argmax(dim=1))
    assert len(set(decisions.classes.tolist())) == 2


def test_the_network_is_copied_and_left_as_it_is(linear: nn.Sequential) -> None:
    linear.train()
    decisions = Decisions.of(linear, torch.rand(3, 1, 40))
    assert linear.training
    assert all(parameter.requires_grad for parameter in linear.parameters())
    assert not decisions.network.training
    assert not any(parameter.requires_grad for parameter in decisions.network.parameters())


def test_batches_are_the_windows_in_order(decisions: Decisions) -> None:
    batches = list(decisions.batches(5))
    assert [len(batch) for batch in batches] == [5, 5, 2]
    assert torch.equal(torch.cat([batch.x for batch in batches]), decisions.x)
    assert torch.equal(torch.cat([batch.classes for batch in batches]), decisions.classes)


def test_windows_are_taken_with_their_classes(decisions: Decisions) -> None:
    taken = decisions.take(torch.tensor([7, 2]))
    assert torch.equal(taken.x, decisions.x[[7, 2]])
    assert torch.equal(taken.classes, decisions.classes[[7, 2]])


def test_logits_do_not_depend_on_the_batches_they_were_made_in(linear: nn.Sequential) -> None:
    x = torch.rand(150, 1, 40)
    with torch.no_grad():
        torch.testing.assert_close(logits_of(linear, x), linear(x))


@pytest.mark.parametrize("x", [torch.rand(0, 1, 40), torch.rand(3, 40), torch.rand(3, 2, 40)])
def test_what_is_no_batch_of_windows_is_refused(linear: nn.Sequential, x: Tensor) -> None:
    with pytest.raises(DataError, match=r"windows \(n, 1, time\)"):
        Decisions(linear, x, torch.zeros(len(x), dtype=torch.long))


def test_a_class_too_few_is_refused(linear: nn.Sequential) -> None:
    with pytest.raises(DataError, match="class for each of 3 windows"):
        Decisions(linear, torch.rand(3, 1, 40), torch.zeros(2, dtype=torch.long))


def test_a_network_in_training_mode_is_refused(linear: nn.Sequential) -> None:
    with pytest.raises(NetworkError, match="training mode"):
        Decisions(linear.train(), torch.rand(1, 1, 40), torch.zeros(1, dtype=torch.long))

"""Activity: a share of time, whatever the size of a feature."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xecg.networks.penalties import mean_activity


@given(active=st.integers(1, 50), size=st.floats(0.1, 100.0))
def test_a_feature_of_one_height_has_the_share_of_time_at_which_it_is_active(
    active: int, size: float
) -> None:
    feature = torch.zeros(2, 1, 50)
    feature[..., :active] = size
    assert mean_activity([feature]).item() == pytest.approx(active / 50, rel=1e-2)


@given(seed=st.integers(0, 1000), factor=st.floats(0.5, 50.0))
def test_activity_does_not_depend_on_the_size_of_features(seed: int, factor: float) -> None:
    feature = torch.rand(2, 3, 40, generator=torch.Generator().manual_seed(seed)) + 0.5
    assert mean_activity([feature]).item() == pytest.approx(
        mean_activity([feature * factor]).item(), rel=1e-3
    )


def test_blocks_count_alike_and_silence_is_no_activity() -> None:
    assert mean_activity([torch.ones(1, 1, 5), torch.zeros(1, 9, 7)]).item() == pytest.approx(
        0.5, abs=1e-3
    )

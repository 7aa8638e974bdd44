"""The whole evaluation on a network of which it is known what it looks at."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from xecg.errors import ConfigError, DataError
from xecg.explain.faithfulness.attributions import METHODS
from xecg.explain.faithfulness.evaluation import Faithfulness, evaluate_maps
from xecg.explain.faithfulness.figures import draw_curves, draw_randomisation
from xecg.explain.faithfulness.randomisation import STAGES
from xecg.explain.faithfulness.report import (
    agreement_report,
    area_report,
    class_report,
    randomisation_report,
    report_of,
)
from xecg.explain.faithfulness.settings import EvaluationSettings
from xecg.networks.branch import BlockSpec, Branch
from xecg.networks.xecgarch import XECGArch

GROUPS = np.array([f"p{number // 2}" for number in range(12)])
SETTINGS = EvaluationSettings(steps=8, draws=3)


def network_of_pulses(seed: int) -> XECGArch:
    """Its logit of AF is the mean amplitude above 0.5, whatever the seed of its other class."""
    branch = Branch([BlockSpec(1)] * 8, 2)
    network = XECGArch({"rhythm": branch})
    torch.manual_seed(seed)
    with torch.no_grad():
        for block in branch.blocks:
            block.conv.weight.copy_(torch.eye(2, block.conv.in_channels).unsqueeze(-1))
        branch.block1.norm.running_mean.copy_(torch.tensor([0.5, 10.0]))
        head = network.heads["rhythm"].linear
        head.weight.copy_(torch.tensor([[0.0, 0.0], [50.0, 0.0]]))
        head.bias.copy_(torch.tensor([0.1 * torch.rand(()), 0.0]))
    return network.eval()


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    """Ripples below 0.5, which the network does not see, and pulses, which it does."""
    rng = np.random.default_rng(0)
    signals = 0.4 * rng.random((12, 500), np.float32)
    for signal in signals:
        signal[rng.integers(20, 480, 4)[:, None] + np.arange(8)] = 0.9
    return signals


@pytest.fixture(scope="module")
def found(x: NDArray[np.float32]) -> Faithfulness:
    return evaluate_maps([network_of_pulses(0), network_of_pulses(1)], x, GROUPS, 250, SETTINGS)


def areas(found: Faithfulness, filling: str) -> dict[str, float]:
    key = {"filling": filling, "measure": "logit", "predicted": "all"}
    return {row["method"]: row["value"] for row in found.areas if key.items() <= row.items()}


def test_maps_of_what_the_network_sees_beat_those_that_know_no_network(
    found: Faithfulness,
) -> None:
    for filling in ("interpolation", "zero"):
        by_method = areas(found, filling)
        for method in ("dtd_innvestigate", "dtd_zbox", "gradient", "integrated_gradients"):
            assert by_method[method] > 2 * max(by_method["steepness"], by_method["random"])


def test_a_random_order_has_no_area(found: Faithfulness) -> None:
    for row in found.areas:
        if row["method"] == "random" and row["measure"] == "logit":
            assert abs(row["value"]) < 0.3 * areas(found, row["filling"])["dtd_zbox"]


def test_every_map_is_in_the_tables(found: Faithfulness) -> None:
    assert {row["method"] for row in found.curves} == set(METHODS)
    assert {row["method"] for row in found.areas} == set(METHODS)
    of_network = set(METHODS) - {"steepness", "random"}
    assert {(row["method"], row["stage"]) for row in found.randomisation} == {
        (method, stage) for method in of_network for stage in STAGES
    }
    assert {row["method"] for row in found.agreement} == of_network


def test_gains_are_over_the_steepness_of_the_same_windows(found: Faithfulness) -> None:
    key = {"filling": "zero", "measure": "logit", "predicted": "all"}
    gains = {row["method"]: row for row in found.gains if key.items() <= row.items()}
    by_method = areas(found, "zero")
    assert gains.keys() == METHODS.keys() - {"steepness"}
    for method, row in gains.items():
        assert row["value"] == pytest.approx(by_method[method] - by_method["steepness"])
    assert gains["dtd_zbox"]["low"] > 0


def test_networks_that_see_the_same_agree(found: Faithfulness) -> None:
    for row in found.agreement:
        assert row["networks"] == 2
        assert row["value"] > 0.99
        assert (row["windows"], row["groups"]) == (12, 6)


def test_the_same_seed_gives_the_same_tables(x: NDArray[np.float32], found: Faithfulness) -> None:
    again = evaluate_maps([network_of_pulses(0), network_of_pulses(1)], x, GROUPS, 250, SETTINGS)
    assert again.areas == found.areas
    assert str(again.randomisation) == str(found.randomisation)  # NaN is not itself


def test_one_network_alone_has_no_agreement_and_maps_without_network_no_randomisation(
    x: NDArray[np.float32],
) -> None:
    settings = EvaluationSettings(("random",), steps=2)
    found = evaluate_maps([network_of_pulses(0)], x, GROUPS, 250, settings)
    assert not found.agreement
    assert not found.gains
    assert not found.randomisation
    assert found.areas


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"methods": ()}, "at least one method"),
        ({"methods": ("magic",)}, "found 'magic'"),
        ({"steps": 0}, "steps must be at least 1; found 0"),
        ({"segment_ms": -5.0}, "longer than 0 ms, found -5"),
        ({"draws": 0}, "draws must be at least 1; found 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluationSettings(**settings)


def test_what_does_not_go_together_is_refused(x: NDArray[np.float32]) -> None:
    for networks in ([], [network_of_pulses(0), XECGArch.build(channels=2)]):
        with pytest.raises(DataError, match="at least one, all with the same branches"):
            evaluate_maps(networks, x, GROUPS, 250)
    with pytest.raises(DataError, match=r"found shapes \(12, 500\) and \(3,\)"):
        evaluate_maps([network_of_pulses(0)], x, GROUPS[:3], 250)


def test_reports_hold_the_numbers_of_the_tables(found: Faithfulness) -> None:
    area = next(
        row
        for row in found.areas
        if row["method"] == "dtd_zbox" and row["filling"] == "zero" and row["predicted"] == "all"
    )
    report = report_of(found)
    assert f"{area['value']:.3f} [{area['low']:.3f}, {area['high']:.3f}]" in report
    assert len(area_report(found.areas).splitlines()) == 2 + len(METHODS)
    assert len(area_report(found.gains).splitlines()) == 2 + len(METHODS) - 1
    for part in (found.areas, found.gains):
        assert area_report(part) in report
    assert len(randomisation_report(found.randomisation).splitlines()) == 2 + 5
    agreement = agreement_report(found.agreement)
    assert "| rhythm | DTD, zbox | 1.000 [1.000, 1.000] | 1.000 [1.000, 1.000] | 12 |" in agreement


def test_areas_are_reported_by_predicted_class() -> None:
    row = {"branch": "rhythm", "method": "gradient", "measure": "probability", "low": 0.1}
    row |= {"high": 0.3, "windows": 7}
    rows = [
        {**row, "filling": filling, "predicted": predicted, "value": value}
        for filling, predicted, value in (
            ("interpolation", "all", 0.2),
            ("interpolation", "AF", 0.22),
            ("zero", "all", 0.2),
            ("zero", "AF", 0.18),
        )
    ]
    assert class_report(rows).splitlines() == [
        "| branch | map | AF, interpolation | AF, zero | windows AF |",
        "| --- | --- | --- | --- | --- |",
        "| rhythm | gradient | 0.220 [0.100, 0.300] | 0.180 [0.100, 0.300] | 7 |",
    ]


def test_a_value_that_is_not_there_is_a_dash() -> None:
    row = {"value": np.nan, "low": np.nan, "high": np.nan, "windows": 0, "networks": 2}
    key = {"branch": "rhythm", "method": "gradient"}
    rows = [{**key, "coefficient": name, **row} for name in ("spearman", "pearson")]
    assert agreement_report(rows).splitlines()[-1] == "| rhythm | gradient | - | - | 0 |"


def test_the_figure_of_curves_draws_both_orders_for_each_map_and_filling(
    found: Faithfulness,
) -> None:
    figure = draw_curves(found.curves, found.areas)
    assert len(figure.axes) == len(METHODS) * 2
    assert [axes.get_title() for axes in figure.axes[: len(METHODS)]] == [
        method.title for method in METHODS.values()
    ]
    key = {"method": "dtd_innvestigate", "filling": "interpolation", "predicted": "all"}
    key |= {"order": "MoRF", "measure": "probability"}
    means = [row["value"] for row in found.curves if key.items() <= row.items()]
    (line,) = (ln for ln in figure.axes[0].lines if ln.get_label() == "most relevant first")
    assert line.get_ydata().tolist() == means


def test_the_figure_of_randomisation_draws_every_stage(found: Faithfulness) -> None:
    (axes,) = draw_randomisation(found.randomisation).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == list(STAGES)
    assert len(axes.containers) == len(METHODS) - 2

import numpy as np
import pytest

from xecg.explain.faithfulness.perturbation import PerturbationCurves
from xecg.explain.faithfulness.tables import (
    area_rows,
    by_class,
    columns_of,
    curve_rows,
    mean_rows,
    similarity_rows,
)
from xecg.metrics.bootstrap import intervals

GROUPS = np.array(["a", "a", "b", "c", "d", "d"])
CLASSES = np.array([0, 1, 0, 0, 1, 0])
SHARES = np.array([0, 0.5, 1])


def mean_interval(values, groups, **options):
    def mean(weights):
        return {"mean": weights @ values / weights.sum(axis=1)}

    return intervals(mean, groups, **options)["mean"]


@pytest.fixture
def curves() -> PerturbationCurves:
    rng = np.random.default_rng(0)
    outputs = {
        order: {measure: rng.random((6, 3)) for measure in ("probability", "logit")}
        for order in ("MoRF", "LeRF")
    }
    return PerturbationCurves(SHARES, outputs)


def test_means_and_intervals_are_those_of_each_column_alone() -> None:
    values = np.random.default_rng(1).random((6, 2))
    values[3, 1] = np.nan
    for column, row in enumerate(mean_rows(values, GROUPS, seed=3)):
        assert row["value"] == pytest.approx(np.nanmean(values[:, column]))
        assert row["low"] < row["value"] < row["high"]
    first, second = mean_rows(values, GROUPS, seed=3)
    expected = mean_interval(values[:, 0], GROUPS, seed=3)
    assert (first["low"], first["high"]) == pytest.approx((expected.low, expected.high))
    assert (first["windows"], first["groups"]) == (6, 4)
    assert (second["windows"], second["groups"]) == (5, 3)


def test_a_column_without_a_value_is_told_as_such() -> None:
    (row,) = mean_rows(np.full((6, 1), np.nan), GROUPS, seed=0)
    assert np.isnan([row["value"], row["low"], row["high"]]).all()
    assert (row["windows"], row["groups"]) == (0, 0)


def test_classes_that_nobody_predicted_have_no_rows() -> None:
    assert [name for name, _ in by_class(CLASSES)] == ["all", "non-AF", "AF"]
    assert [name for name, _ in by_class(np.ones(3, np.int64))] == ["all", "AF"]


def test_a_curve_has_a_row_for_each_share(curves: PerturbationCurves) -> None:
    rows = list(curve_rows(curves, CLASSES, GROUPS, 0))
    assert len(rows) == 3 * 2 * 2 * 3  # classes, orders, measures, shares
    key = {"predicted": "AF", "order": "LeRF", "measure": "logit", "share": 0.5}
    (row,) = (row for row in rows if key.items() <= row.items())
    change = curves.change("LeRF", "logit")[CLASSES == 1, 1]
    assert row["value"] == pytest.approx(change.mean())
    assert row["windows"] == 2


def test_an_area_has_a_row_for_each_class_and_measure(curves: PerturbationCurves) -> None:
    empty = np.array([True, True, False, True, False, False])
    rows = list(area_rows(curves, CLASSES, GROUPS, empty, 0))
    found = {(row["predicted"], row["measure"]): row for row in rows}
    assert found["non-AF", "logit"]["value"] == pytest.approx(
        curves.area("logit")[CLASSES == 0].mean()
    )
    assert [found[name, "logit"]["empty_maps"] for name in ("all", "non-AF", "AF")] == [3, 2, 1]


def test_coefficients_have_a_row_each() -> None:
    values = {"spearman": np.full(6, 0.25), "pearson": np.full(6, 0.75)}
    rows = columns_of(list(similarity_rows(values, GROUPS, 0)))
    assert rows["coefficient"] == ["spearman", "pearson"]
    assert rows["low"] == rows["value"] == rows["high"] == pytest.approx([0.25, 0.75])

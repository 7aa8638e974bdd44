"""Batches out of stores: order, targets, groups; drawing an epoch: shares, repetition, seeds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.datamodules import AFData, PWaveData, RRVariabilityData, WindowDataModule
from xecg.data.datasets import MixtureSampler, Source, WindowDataset
from xecg.data.store import Store
from xecg.errors import ConfigError, DataError
from xecg.signal.waves import NOT_ANNOTATED, P


@pytest.fixture
def dataset(synthetic_store: Store) -> WindowDataset:
    """Two parts of one store: odd rows backwards, then even rows."""
    rows = np.arange(len(synthetic_store))
    parts = [(synthetic_store, rows[1::2][::-1]), (synthetic_store, rows[::2])]
    return WindowDataset(parts, AFData.target, "both")


def test_a_batch_keeps_the_order_that_was_asked(dataset: WindowDataset) -> None:
    positions = [60, 3, 41, 3, 0]
    batch = dataset.__getitems__(positions)
    assert batch.signal.shape == (5, 1, 2500)
    assert batch.window.tolist() == positions
    for i, position in enumerate(positions):
        alone = dataset[position]
        assert torch.equal(batch.signal[i], alone.signal[0])
        assert batch.target[i] == alone.target[0]


def test_columns_and_targets_agree_with_the_batches(dataset: WindowDataset) -> None:
    batch = dataset.__getitems__(range(len(dataset)))
    assert np.array_equal(dataset.targets(), batch.target.numpy())
    assert np.array_equal(dataset.column("af"), batch.target.numpy())


def test_r_peaks_belong_to_the_window(dataset: WindowDataset, synthetic_store: Store) -> None:
    for position in (0, 39, 40, 79):
        row = np.flatnonzero(
            (synthetic_store.signals == dataset[position].signal[0, 0].numpy()).all(1)
        )
        assert np.array_equal(dataset.r_peaks(position), synthetic_store.r_peaks(int(row[0])))


def test_groups_are_persons(dataset: WindowDataset) -> None:
    groups, persons = dataset.groups(), dataset.column("person")
    assert groups.shape == (len(dataset),)
    first = groups[:40]
    assert len(np.unique(first)) == len(np.unique(persons[:40]))


def test_rr_target_is_in_ms(synthetic_store: Store) -> None:
    target = RRVariabilityData.target(synthetic_store, np.arange(5))
    assert target.shape == (5, 2)
    assert np.array_equal(target[:, 0], synthetic_store.index.rmssd_ms[:5])


def test_p_wave_target_is_binary_and_empty_in_af(synthetic_store: Store) -> None:
    rows = np.arange(len(synthetic_store))
    target = PWaveData.target(synthetic_store, rows)
    af = synthetic_store.index["af"].to_numpy() == 1
    assert not target[af].any()
    assert set(np.unique(target[~af])) <= {0, 1, 255}
    codes = synthetic_store.waves[synthetic_store.index["wave_row"].to_numpy()[rows[~af]]]
    assert np.array_equal(target[~af] == 1, codes == P)
    unannotated = replace(synthetic_store, index=synthetic_store.index.assign(wave_row=-1))
    target = PWaveData.target(unannotated, rows)
    assert not target[af].any()
    assert (target[~af] == NOT_ANNOTATED).all()


def test_each_task_uses_the_windows_whose_labels_are_known(synthetic_store: Store) -> None:
    def eligible(data: type[WindowDataModule], **columns: object) -> int:
        store = replace(synthetic_store, index=synthetic_store.index.assign(**columns))
        return int(np.asarray(data.eligible(store)).sum())

    n, n_af = len(synthetic_store), int((synthetic_store.index.af == 1).sum())
    assert [eligible(AFData), eligible(AFData, af=-1)] == [n, 0]
    assert [eligible(PWaveData, af=0), eligible(PWaveData, wave_row=-1)] == [n, n_af]
    unlabelled = {"af": -1, "reference_beats": False}
    assert [eligible(RRVariabilityData), eligible(RRVariabilityData, **unlabelled)] == [n, 0]
    assert eligible(RRVariabilityData, af=-1) == n
    assert (
        eligible(RRVariabilityData, rmssd_ms=np.nan) == eligible(RRVariabilityData, sdnn_ms=0) == 0
    )


def test_p_waves_annotated_in_af_are_an_error(synthetic_store: Store) -> None:
    index = synthetic_store.index.assign(af=np.int8(1))
    with pytest.raises(DataError, match="P waves are annotated in AF, in record p0"):
        PWaveData.target(replace(synthetic_store, index=index), np.arange(len(synthetic_store)))


def test_no_window_is_an_error_that_names_the_store(synthetic_store: Store) -> None:
    with pytest.raises(DataError, match=f"train: no window of {synthetic_store.path}"):
        WindowDataset([(synthetic_store, np.empty(0, np.int64))], AFData.target, "train")


def draw(pools: list[range], shares: list[float], size: int, seed: int = 0, epoch: int = 0):
    arrays = [np.asarray(pool) for pool in pools]
    return list(MixtureSampler(arrays, shares, size, seed, lambda: epoch))


@given(
    shares=st.lists(st.floats(0.1, 10), min_size=1, max_size=4),
    size=st.integers(1, 500),
    seed=st.integers(0, 2**31),
)
def test_every_pool_gets_its_share(shares: list[float], size: int, seed: int) -> None:
    pools = [range(1000 * i, 1000 * i + 700) for i in range(len(shares))]
    drawn = np.asarray(draw(pools, shares, size, seed))
    assert len(drawn) == size
    for i, share in enumerate(shares):
        expected = size * share / sum(shares)
        assert abs((drawn // 1000 == i).sum() - expected) <= 1


def test_a_large_pool_is_drawn_without_repetition() -> None:
    drawn = draw([range(100)], [1.0], 100)
    assert sorted(drawn) == list(range(100))


def test_a_small_pool_is_gone_through_before_anything_repeats() -> None:
    counts = np.bincount(draw([range(7)], [1.0], 40))
    assert set(counts) <= {5, 6}


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first = draw([range(50)], [1.0], 30, seed=1, epoch=2)
    assert first == draw([range(50)], [1.0], 30, seed=1, epoch=2)
    assert first != draw([range(50)], [1.0], 30, seed=1, epoch=3)
    assert first != draw([range(50)], [1.0], 30, seed=2, epoch=2)


def test_an_empty_pool_is_refused() -> None:
    with pytest.raises(ConfigError, match="no window to draw"):
        draw([range(3), range(0)], [1.0, 1.0], 10)


def test_a_weight_of_zero_is_refused() -> None:
    with pytest.raises(ConfigError, match="positive"):
        draw([range(3), range(3)], [1.0, 0.0], 10)
    for weight in (0.0, -1.0, float("nan")):
        with pytest.raises(ConfigError, match="weight"):
            Source("synthetic", weight=weight)

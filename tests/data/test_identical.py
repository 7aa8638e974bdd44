import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from xecg.data.windowing import digest, merge_groups

WINDOWS = st.lists(st.tuples(st.sampled_from("abcdefg"), st.integers(0, 9)), min_size=1)


def merged(windows):
    groups, signals = zip(*windows, strict=True)
    return merge_groups(np.array(groups), np.array(signals, dtype=np.uint64)).tolist()


def test_digest_tells_samples_apart():
    samples = np.random.default_rng(0).normal(size=2500).astype(np.float32)
    changed = samples.copy()
    changed[1200] = np.nextafter(changed[1200], np.float32(9))
    assert digest(samples) == digest(samples[np.newaxis].repeat(2, axis=0)[1])
    assert digest(samples) != digest(changed)
    assert isinstance(digest(samples), np.uint64)


def test_groups_that_share_a_signal_become_one():
    assert merged([("b", 1), ("a", 1), ("c", 2), ("b", 3)]) == ["a", "a", "c", "a"]


def test_groups_joined_by_way_of_another():
    assert merged([("c", 1), ("b", 1), ("b", 2), ("a", 2), ("d", 4)]) == ["a", "a", "a", "a", "d"]


@given(WINDOWS)
def test_merging_is_the_finest_partition_that_keeps_groups_and_signals_together(windows):
    result = merged(windows)
    parent = {group: group for group, _ in windows}

    def root(group):
        return group if parent[group] == group else root(parent[group])

    for one, signal in windows:
        for other, other_signal in windows:
            if signal == other_signal:
                first, last = sorted((root(one), root(other)))
                parent[last] = first
    assert result == [root(group) for group, _ in windows]

"""Signals that occur more than once: found by a digest, kept in one group."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def digest(samples: NDArray[np.float32]) -> np.uint64:
    """A 64-bit digest of samples: equal samples, equal digest.

    Two different signals out of a million share one with a probability of 3e-8; their groups
    would then be split together, which does no harm.

    Args:
        samples: `(time,)`.
    """
    hashed = hashlib.blake2b(np.ascontiguousarray(samples).data, digest_size=8)
    return np.uint64(int.from_bytes(hashed.digest(), "little"))


def merge_groups(groups: NDArray[np.str_], digests: NDArray[np.uint64]) -> NDArray[np.str_]:
    """Gives groups that share a signal, directly or by way of others, one name.

    Args:
        groups: `(windows,)` the group of each window.
        digests: `(windows,)` the digest of each window's samples.

    Returns:
        `(windows,)` the groups; joined ones bear the name that comes first in order.
    """
    names, group_of = np.unique(groups, return_inverse=True)
    signals, signal_of = np.unique(digests, return_inverse=True)
    n_nodes = len(names) + len(signals)
    edges = (np.ones(len(groups), dtype=np.int8), (group_of, len(names) + signal_of))
    _, component = connected_components(coo_array(edges, shape=(n_nodes, n_nodes)), directed=False)
    component_of_name = component[: len(names)]
    _, first_name, joined = np.unique(component_of_name, return_index=True, return_inverse=True)
    return names[first_name[joined]][group_of]

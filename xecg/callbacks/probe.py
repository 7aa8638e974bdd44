"""The probe: some validation windows, always the same, in which relevance is watched."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import ConfigError
from xecg.explain.wave_relevance import MIN_BEATS

NON_AF, AF = 0, 1


class ValidationWindows(Protocol):
    """What is asked of the validation data."""

    def targets(self) -> NDArray[np.generic]:
        """Class of every window."""

    def r_peaks(self, position: int) -> NDArray[np.integer]:
        """R peaks of a window, in samples from its start."""

    def column(self, name: str) -> NDArray[np.generic]:
        """``record``, ``lead`` or ``start_s`` of every window."""

    def __getitems__(self, positions: Sequence[int]) -> Any:
        """A batch whose ``signal`` is ``(batch, 1, time)``."""


METHODS = ("targets", "r_peaks", "column", "__getitems__")


@dataclass(frozen=True, eq=False)
class Probe:
    """Windows of both classes, each with ``MIN_BEATS`` R peaks or more.

    Args:
        signals: ``(n, 1, time)`` float32, as the network reads them.
        classes: ``(n,)``: 0 non-AF, 1 AF.
        r_peaks: R peaks of each window, in samples.
        sampling_rate: In Hz.
        records: Record of each window.
        leads: Lead of each window.
        starts_s: Start of each window in its record, in seconds.
    """

    signals: Tensor
    classes: NDArray[np.int64]
    r_peaks: list[NDArray[np.int64]]
    sampling_rate: float
    records: NDArray[np.str_]
    leads: NDArray[np.str_]
    starts_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.classes)

    def digest(self) -> str:
        """A short name for the windows' content."""
        return hashlib.blake2b(self.signals.numpy().tobytes(), digest_size=16).hexdigest()

    def of_both_classes(self, n: int) -> list[int]:
        """Rows of ``n`` windows, the first of each class."""
        non_af, af = (np.flatnonzero(self.classes == code).tolist() for code in (NON_AF, AF))
        return [*non_af[: n - n // 2], *af[: n // 2]]


def take_probe(
    dataset: ValidationWindows, n_windows: int, sampling_rate: float, seed: int
) -> Probe:
    """Draw a probe: half AF, or as many as there are.

    Args:
        dataset: The validation data.
        n_windows: Size of the probe.
        sampling_rate: Of the windows, in Hz.
        seed: Of the draw.

    Raises:
        ConfigError: If the data is of another kind, or no window has enough R peaks.
    """
    if missing := [name for name in METHODS if not hasattr(dataset, name)]:
        raise ConfigError(
            f"relevance logging needs validation data with {', '.join(METHODS)}, such as that of "
            f"xecg.data.AFData; found {type(dataset).__name__} without {', '.join(missing)}"
        )
    labels = dataset.targets()
    rng = np.random.default_rng(seed)
    sizes = {NON_AF: n_windows - n_windows // 2, AF: n_windows // 2}
    chosen = [
        position
        for code, size in sizes.items()
        for position in islice(
            _with_beats(dataset, rng.permutation(np.flatnonzero(labels == code))), size
        )
    ]
    if not chosen:
        raise ConfigError(
            f"relevance logging needs validation windows with {MIN_BEATS} R peaks or more; found "
            f"none of {len(labels)}"
        )
    return Probe(
        signals=dataset.__getitems__(chosen).signal,
        classes=labels[chosen].astype(np.int64),
        r_peaks=[dataset.r_peaks(position).astype(np.int64) for position in chosen],
        sampling_rate=sampling_rate,
        records=dataset.column("record")[chosen].astype(np.str_),
        leads=dataset.column("lead")[chosen].astype(np.str_),
        starts_s=dataset.column("start_s")[chosen].astype(np.float64),
    )


def _with_beats(dataset: ValidationWindows, positions: NDArray[np.int64]) -> Iterable[int]:
    return (p for p in positions.tolist() if len(dataset.r_peaks(p)) >= MIN_BEATS)

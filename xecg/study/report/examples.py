"""The same ECGs explained by networks of several depths."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xecg.errors import DataError
from xecg.explain.deep_taylor import DeepTaylor, Explanation, RuleSet
from xecg.explain.relevance import CLASSES, WAVES, enrichment_column, wave_relevance
from xecg.networks.weights import load_xecgarch
from xecg.study.fit_arguments import WEIGHTS
from xecg.study.report.cells import WINDOWS
from xecg.study.report.ladder import Ladder
from xecg.study.window_tables import test_data


@dataclass(frozen=True, eq=False)
class View:
    """How one branch of one network sees a window.

    Args:
        relevance: For the class that the branch predicts, ``(time,)``.
        p_af: Probability of AF.
        enrichment: By wave, over the whole window.
    """

    relevance: NDArray[np.float32]
    p_af: float
    enrichment: Mapping[str, float]


@dataclass(frozen=True, eq=False)
class Example:
    """A window, and how the branches see it at each depth.

    Args:
        test_set: Where it is from.
        record: Name of its record.
        start_s: Where it starts in the record, in seconds.
        rhythm: Its true class.
        signal: ``(time,)``, scaled.
        sampling_rate: In Hz.
        r_peaks: In samples of the window.
        seed: Of the networks.
        looks: By depth and branch.
    """

    test_set: str
    record: str
    start_s: float
    rhythm: str
    signal: NDArray[np.float32]
    sampling_rate: float
    r_peaks: NDArray[np.integer]
    seed: int
    looks: Mapping[int, Mapping[str, View]]


def examples(ladder: Ladder, depths: Sequence[int], rules: RuleSet, seed: int) -> list[Example]:
    """A window of each class, drawn at random, explained at several depths by one seed's networks.

    The seed of the networks is the first of those that have the most of the depths. Drawn is among
    the windows that both branches of all these networks predict rightly and that have four beats
    or more; a class without such a window has no example.

    Args:
        ladder: Whose cells; their runs must lie where they were tested, with their stores.
        depths: The depths wanted; those that there are, are shown.
        rules: Rule set of deep Taylor decomposition.
        seed: Of the draw.

    Raises:
        XECGError: The runs' stores or weights cannot be used.
    """
    cells = _cells(ladder, depths)
    rows = [row for code in range(len(CLASSES)) if (row := _draw(ladder, cells, code, seed)) >= 0]
    if not cells or not rows:
        return []
    signal, peaks, sampling_rate = _windows(ladder, cells[0], rows)
    seen = {}
    for cell in cells:
        network, _ = load_xecgarch(ladder.cells[cell].folder / WEIGHTS)
        explained = DeepTaylor(network, rules).explain(signal)
        assert isinstance(explained, dict)  # by branch
        seen[ladder.cells[cell].depth] = _looks(explained, peaks, sampling_rate)
    table = ladder.tables[cells[0]]
    return [
        Example(
            test_set=ladder.test_set,
            record=str(table.record[row]),
            start_s=float(table.start_s[row]),
            rhythm=CLASSES[int(table.af[row])],
            signal=signal[number, 0].numpy(),
            sampling_rate=sampling_rate,
            r_peaks=peaks[number],
            seed=ladder.cells[cells[0]].seed,
            looks={depth: looks[number] for depth, looks in seen.items()},
        )
        for number, row in enumerate(rows)
    ]


def _windows(
    ladder: Ladder, cell: int, rows: Sequence[int]
) -> tuple[Tensor, list[NDArray[np.int32]], float]:
    """Signals ``(n, 1, time)``, R peaks and sampling rate of rows of a cell's table."""
    table, run = ladder.tables[cell], ladder.cells[cell].folder
    data = test_data(run)
    positions = table.row[rows].tolist()
    for test_set in data.test_sets:
        if test_set.name == ladder.test_set and max(positions) < len(test_set):
            records = test_set.column("record")[positions]
            if np.array_equal(records, table.record[rows]):
                signal = test_set.__getitems__(positions).signal
                peaks = [test_set.r_peaks(position) for position in positions]
                return signal, peaks, data.sampling_rate
    raise DataError(
        f"{run / WINDOWS / ladder.test_set}.csv is of other windows than the store holds now: it "
        "was prepared again since"
    )


def _cells(ladder: Ladder, depths: Sequence[int]) -> list[int]:
    """Numbers of the cells shown, by depth."""
    by_seed = {
        seed: [
            n for n, cell in enumerate(ladder.cells) if cell.seed == seed and cell.depth in depths
        ]
        for seed in ladder.seeds
    }
    chosen = max(by_seed.values(), key=len)  # the first of the longest
    return sorted(chosen, key=lambda number: ladder.cells[number].depth)


def _draw(ladder: Ladder, cells: Sequence[int], code: int, seed: int) -> int:
    """A row of the table, or -1 where none will do."""
    suitable = ladder.af == code
    for branch in ladder.branches:
        suitable = suitable & ladder.right(branch)[cells].all(axis=0)
        suitable &= ~np.isnan(ladder.enrichment(branch, "P")[cells]).any(axis=0)
    rows = np.flatnonzero(suitable)
    return int(np.random.default_rng([seed, code]).choice(rows)) if rows.size else -1


def _looks(
    explained: Mapping[str, Explanation],
    peaks: Sequence[NDArray[np.int32]],
    sampling_rate: float,
) -> list[dict[str, View]]:
    """For each window the look of each branch."""
    looks: list[dict[str, View]] = [{} for _ in peaks]
    for branch, explanation in explained.items():
        maps = explanation.relevance[:, 0].numpy()
        p_af = explanation.logits.softmax(dim=1)[:, 1].tolist()
        table = wave_relevance(maps, peaks, sampling_rate)
        for number, window in enumerate(looks):
            waves = {wave: float(table[enrichment_column(wave)][number]) for wave in WAVES}
            window[branch] = View(maps[number], p_af[number], waves)
    return looks

"""All fine-tuned cells of a study on one test set, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from xecg.errors import DataError
from xecg.explain.pictures import FUSED
from xecg.metrics.bootstrap import FloatArray
from xecg.study.report.cells import FINETUNE, SCRATCH, WINDOWS, Cell
from xecg.study.report.window_table import WindowTable, read_window_table


@dataclass(frozen=True, eq=False)
class Ladder:
    """What ``c`` networks say of the same ``n`` windows.

    Args:
        test_set: Name of the test set.
        cells: The networks, ``c`` of them, by depth and seed.
        tables: What each says, with the same windows in the same order.
    """

    test_set: str
    cells: Sequence[Cell]
    tables: Sequence[WindowTable]

    def __post_init__(self) -> None:
        first = self.tables[0]
        for cell, table in zip(self.cells, self.tables, strict=True):
            same = (
                np.array_equal(table.row, first.row)
                and np.array_equal(table.group, first.group)
                and np.array_equal(table.af, first.af)
                and list(table.p_af) == list(first.p_af)
            )
            if not same:
                raise DataError(
                    f"{cell.folder / WINDOWS / self.test_set}.csv: expected the windows, groups, "
                    f"labels and branches of {self.cells[0].name}, found others. Cells can be "
                    "compared on the same windows only: run one of them again"
                )

    @property
    def branches(self) -> list[str]:
        """Names of the branches."""
        return list(self.tables[0].enrichment)

    @property
    def outputs(self) -> list[str]:
        """Names of the branches, and ``"fused"``."""
        return [*self.branches, FUSED]

    @property
    def af(self) -> NDArray[np.int64]:
        """True class of each window, ``(n,)``."""
        return self.tables[0].af

    @property
    def group_codes(self) -> NDArray[np.intp]:
        """Number of the group of each window, ``(n,)``."""
        return np.unique(self.tables[0].group, return_inverse=True)[1].reshape(-1)

    @property
    def n_groups(self) -> int:
        """How many persons or records there are."""
        return np.unique(self.tables[0].group).size

    @property
    def cell_depths(self) -> NDArray[np.int64]:
        """Depth of each cell, ``(c,)``."""
        return np.array([cell.depth for cell in self.cells])

    @property
    def cell_seeds(self) -> NDArray[np.int64]:
        """Seed of each cell, ``(c,)``."""
        return np.array([cell.seed for cell in self.cells])

    @property
    def depths(self) -> list[int]:
        """The depths that there are, rising; ``SCRATCH`` first if it is among them."""
        return sorted({cell.depth for cell in self.cells})

    @property
    def rungs(self) -> list[int]:
        """The depths without ``SCRATCH``."""
        return [depth for depth in self.depths if depth != SCRATCH]

    @property
    def seeds(self) -> list[int]:
        """The seeds that there are, rising."""
        return sorted({cell.seed for cell in self.cells})

    def p_af(self, output: str) -> FloatArray:
        """Probability of AF by a branch or fused, ``(c, n)``."""
        return np.stack([table.p_af[output] for table in self.tables])

    def enrichment(self, branch: str, wave: str) -> FloatArray:
        """Enrichment of a wave, ``(c, n)``."""
        return np.stack([table.enrichment[branch][wave] for table in self.tables])

    def right(self, output: str) -> NDArray[np.bool_]:
        """Where the more probable class is the true one, ``(c, n)``."""
        right: NDArray[np.bool_] = (self.p_af(output) > 0.5) == (self.af == 1)
        return right


def read_ladders(cells: Sequence[Cell]) -> list[Ladder]:
    """The ladder of each test set that fine-tuned cells were tested on.

    Raises:
        DataError: No cell was fine-tuned, a table cannot be used, or cells differ in windows.
    """
    tuned = [cell for cell in cells if cell.kind == FINETUNE]
    names = list(dict.fromkeys(name for cell in tuned for name in cell.test_sets()))
    if not names:
        raise DataError("no cell of the study is fine-tuned and tested yet: nothing to report")
    ladders = []
    for name in names:
        tested = [cell for cell in tuned if name in cell.test_sets()]
        paths = [cell.folder / WINDOWS / f"{name}.csv" for cell in tested]
        tables = [read_window_table(path) for path in tqdm(paths, f"read {name}", delay=2)]
        ladders.append(Ladder(name, tested, tables))
    return ladders

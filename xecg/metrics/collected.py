"""Rows kept until the end of a test, from every process, each window once."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class Collected(Metric):
    """Concatenates named columns over batches and processes, in the order of the windows.

    A distributed sampler repeats windows to give every process as many; they are taken once.
    """

    full_state_update = False

    def __init__(self) -> None:
        super().__init__()
        self.add_state("windows", default=[], dist_reduce_fx="cat")
        self.names: tuple[str, ...] = ()

    def update(self, windows: Tensor, columns: Mapping[str, Tensor]) -> None:
        """Keeps positions in the dataset, ``(batch,)``, and columns of ``batch`` rows by name."""
        if not self.names:
            self.names = tuple(columns)
            for name in self.names:
                self.add_state(f"column_{name}", default=[], dist_reduce_fx="cat")
        self.windows.append(windows)  # type: ignore[operator, union-attr]
        for name in self.names:
            getattr(self, f"column_{name}").append(columns[name].detach())

    def compute(self) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
        """Returns positions ``(n,)`` in rising order, and the columns' rows in the same order."""
        positions, first = np.unique(_numpy(self.windows), return_index=True)
        columns = {name: _numpy(getattr(self, f"column_{name}"))[first] for name in self.names}
        return positions, columns


def _numpy(values: Any) -> NDArray[Any]:
    tensor = dim_zero_cat(values)
    return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).cpu().numpy()

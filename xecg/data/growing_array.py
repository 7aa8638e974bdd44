"""A `.npy` file that grows row by row, so that memory does not grow with the data."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from xecg.errors import StoreError


class GrowingArray:
    """Writes rows to a `.npy` file; the header is set right when it is closed.

    NumPy (1.25 and newer) leaves room in the header for the first axis to grow, so that the
    header of no rows and the header of all rows have the same length.

    Args:
        path: The file to write; an existing one is replaced.
        row_shape: Shape of one row.
        dtype: Type of the values.
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        self.path = path
        self.row_shape = row_shape
        self.dtype = np.dtype(dtype)
        self.n_rows = 0
        self._file = path.open("wb")
        self._write_header()
        self._header_length = self._file.tell()

    def append(self, rows: NDArray[np.generic]) -> None:
        """Adds rows at the end.

        Args:
            rows: `(rows, *row_shape)` of the array's type.

        Raises:
            StoreError: If the rows do not fit.
        """
        if rows.shape[1:] != self.row_shape or rows.dtype != self.dtype:
            raise StoreError(
                f"{self.path}: expected rows of shape {self.row_shape} and type {self.dtype}, "
                f"found {rows.shape[1:]} and {rows.dtype}"
            )
        self._file.write(np.ascontiguousarray(rows).data)
        self.n_rows += len(rows)

    def close(self) -> None:
        """Sets the header to the number of rows and closes the file."""
        if self._file.closed:
            return
        with self._file:
            self._file.seek(0)
            self._write_header()
            if self._file.tell() != self._header_length:
                raise StoreError(f"{self.path}: {self.n_rows} rows do not fit the file's header")

    def __enter__(self) -> GrowingArray:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _write_header(self) -> None:
        header = {
            "descr": np.lib.format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self.n_rows, *self.row_shape),
        }
        np.lib.format.write_array_header_1_0(self._file, header)

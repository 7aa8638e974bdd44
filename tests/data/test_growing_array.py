import numpy as np
import pytest

from xecg.data.prepare import GrowingArray
from xecg.errors import StoreError


@pytest.mark.parametrize("parts", [[], [0], [3], [1, 0, 12_345]])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_numpy_reads_what_was_appended(tmp_path, parts, dtype):
    path = tmp_path / "a.npy"
    rows = [np.arange(n * 4).reshape(n, 4).astype(dtype) for n in parts]
    with GrowingArray(path, (4,), dtype) as array:
        for part in rows:
            array.append(part)
    for mode in (None, "r"):
        read = np.load(path, mmap_mode=mode)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, np.concatenate([np.zeros((0, 4), dtype), *rows]))


def test_file_is_an_ordinary_npy_file(tmp_path):
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    with GrowingArray(tmp_path / "grown.npy", (5,), np.float32) as array:
        array.append(rows[:2])
        array.append(rows[2:])
    np.save(tmp_path / "saved.npy", rows)
    assert (tmp_path / "grown.npy").read_bytes() == (tmp_path / "saved.npy").read_bytes()


@pytest.mark.parametrize("rows", [np.zeros((2, 5), np.float32), np.zeros((2, 4), np.float64)])
def test_refuses_rows_that_do_not_fit(tmp_path, rows):
    with (
        GrowingArray(tmp_path / "a.npy", (4,), np.float32) as array,
        pytest.raises(StoreError, match=r"expected rows of shape \(4,\) and type float32"),
    ):
        array.append(rows)

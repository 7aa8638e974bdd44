import pytest

from xecg.threads import one_thread_per_operation


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Small tensors: starting threads takes longer than the work they are given."""
    with one_thread_per_operation():
        yield

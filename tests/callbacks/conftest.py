import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Networks as small as these only wait for each other's threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

"""A small network with weights on disk, and folders of synthetic records."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.recording import Recording
from xecg.signal.synthetic import synthesize
from xecg.signal.wfdb import write_recording

WriteRecord = Callable[..., Path]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Small tensors: starting threads takes longer than the work they are given."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def network() -> XECGArch:
    """Random, but sure enough of itself that either branch has something to explain."""
    torch.manual_seed(1)
    network = XECGArch.build(channels=4).eval()
    with torch.no_grad():
        for head in network.heads.values():
            head[-1].bias.fill_(0.5)
    return network


@pytest.fixture(scope="session")
def weights(network: XECGArch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    info = WeightsInfo(describe_branches(network.branches), Preprocessing().to_dict(), {})
    save_weights(network, path, info)
    return path


@pytest.fixture
def write_record(tmp_path: Path) -> WriteRecord:
    """Writes a synthetic record below the test's folder, with what the caller breaks in it."""

    def write(
        name: str,
        *,
        folder: str = "records",
        rhythm: str = "N",
        duration_s: float = 10.0,
        sampling_rate: float = 250.0,
        leads: tuple[str, ...] = ("II",),
        unit: str = "mV",
        flat_s: tuple[float, float] = (0, 0),
        missing_s: tuple[float, float] = (0, 0),
        n_samples: int | None = None,
    ) -> Path:
        made_at = min(max(sampling_rate, 100.0), 1000.0)
        ecg = synthesize(
            rhythm,
            duration_s=duration_s * sampling_rate / made_at,
            sampling_rate=made_at,
            leads=leads,
            seed=7,
        )
        samples = ecg.recording.samples[:, :n_samples].copy()
        for (start_s, stop_s), value in ((flat_s, 0.25), (missing_s, np.nan)):
            samples[:, round(start_s * sampling_rate) : round(stop_s * sampling_rate)] = value
        recording = Recording(name, samples, sampling_rate, leads, (unit,) * len(leads))
        return write_recording(recording, tmp_path / folder)

    return write

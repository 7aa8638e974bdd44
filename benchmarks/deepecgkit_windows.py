"""The benchmark's windows as a dataset of deepecgkit; its command line takes this file by --import.

deepecg --import benchmarks/deepecgkit_windows.py train -d xecg-windows --data-dir FOLDER
"""

from pathlib import Path
from typing import ClassVar

import numpy as np
from deepecgkit.datasets.base import BaseECGDataset
from deepecgkit.datasets.preprocessing import ECGStandardizer
from deepecgkit.registry import register_dataset

FILE = "windows.npz"  # signals (n, time), labels (n,), records (n,), sampling_rate


@register_dataset(name="xecg-windows", input_channels=1, description="Windows of an xecg store")
class XECGWindows(BaseECGDataset):
    """Normalised as deepecgkit does by default, and split by record."""

    CLASS_LABELS: ClassVar[list[str]] = ["Non-AF", "AF"]

    @classmethod
    def is_downloaded(cls, data_dir=None) -> bool:
        return data_dir is not None and (Path(data_dir) / FILE).is_file()

    def _load_data(self) -> None:
        with np.load(Path(self.data_dir) / FILE) as windows:
            self.signals = list(standardised(windows["signals"]))
            self.labels = windows["labels"].tolist()
            self.record_names = windows["records"].tolist()
            self.sampling_rate = int(windows["sampling_rate"])


def standardised(signals: np.ndarray) -> np.ndarray:
    """Windows ``(n, time)`` as deepecgkit's networks take them, ``(n, 1, time)``."""
    return ECGStandardizer().normalize(signals[:, np.newaxis]).astype(np.float32)

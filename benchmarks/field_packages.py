"""The packages that benchmarks/field.py sets side by side, each used in its own way.

Each trains on the same windows of the same records, and says P(AF) of the same test windows.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from fitting import fused_f1, timed_fit
from torch import Tensor, nn

from xecg.cli import main
from xecg.data import AFData
from xecg.data.datasets import WindowDataset
from xecg.inference.model import load
from xecg.metrics.bootstrap import Interval
from xecg.metrics.classification import classification_report
from xecg.networks.xecgarch import BATCH

ROOT = Path(__file__).parents[1]
MANY = "100000"  # epochs: the clock ends the training


@dataclass(frozen=True)
class Windows:
    """Training, validation and test windows of one store, by xecg's split."""

    store: Path
    data: AFData

    @classmethod
    def of(cls, store: Path) -> "Windows":
        data = AFData(stores=str(store), augmentation=None)
        data.setup("fit")
        return cls(store, data)

    @property
    def test(self) -> WindowDataset:
        return self.data.test_sets[0]

    def signals(self, n: int) -> Tensor:
        """The first training windows, ``(n, 1, time)``."""
        return self.data.train_set.__getitems__(range(n)).signal

    def f1(self, p_af: Tensor) -> Interval:
        """F1 of P(AF) of the test windows, with its interval over records."""
        report = classification_report(p_af.numpy(), self.test.targets(), self.test.groups())
        return report["f1"]


class XECG:
    """``xecg fit`` and its network of two branches.

    Args:
        config: What is fitted.
    """

    def __init__(self, windows: Windows, config: str = "finetune_scratch") -> None:
        self.windows, self.config = windows, ROOT / "configs" / f"{config}.yaml"
        self.model = load()

    def train(self, n: int) -> float:
        """Seconds of an epoch of ``n`` windows."""
        flags = ("--data.stores", str(self.windows.store), "--trainer.limit_val_batches", "1")
        return timed_fit(*flags, "--trainer.callbacks", "[]", n_epochs=2, windows=n).training[1]

    def classify(self, signals: Tensor) -> None:
        self.model.p_af(signals[:, 0].numpy())

    def f1_after(self, seconds: int) -> Interval:
        """F1 of the best epoch of a training of that long."""
        with tempfile.TemporaryDirectory() as folder:
            arguments = ["fit", "--config", str(self.config), "--run_folder", f"{folder}/run"]
            arguments += ["--data.stores", str(self.windows.store), "--data.windows_per_epoch"]
            arguments += ["4000", "--trainer.max_epochs", MANY, "--trainer.max_time"]
            arguments += [f"00:{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"]
            arguments += ["--early_stopping.patience", MANY, "--trainer.callbacks", "[]"]
            main(arguments)
            return fused_f1(Path(folder) / "run")


class DeepECGKit:
    """deepecgkit's smallest convolutional network and its trainer; F1 by its command line."""

    MODEL = "simple-cnn"

    def __init__(self, windows: Windows) -> None:
        self.windows, self.network = windows, self._new().eval()

    def train(self, n: int) -> float:
        from deepecgkit.training import ECGTrainer
        from deepecgkit_windows import standardised

        signals = torch.from_numpy(standardised(self.windows.signals(n)[:, 0].numpy()))
        labels = torch.from_numpy(self.windows.data.train_set.targets()[:n])
        loaders = _Loaders(torch.utils.data.TensorDataset(signals, labels))
        start = time.perf_counter()
        ECGTrainer(self._new()).fit(loaders, epochs=1, progress_bar=False, restore_best=False)
        return time.perf_counter() - start

    def classify(self, signals: Tensor) -> Tensor:
        from deepecgkit_windows import standardised

        ready = torch.from_numpy(standardised(signals[:, 0].numpy()))
        with torch.inference_mode():
            return torch.cat([self.network(x) for x in ready.split(BATCH)]).softmax(dim=1)[:, 1]

    def f1_after(self, seconds: int) -> Interval:
        from deepecgkit.models.factory import build_model_from_checkpoint

        with tempfile.TemporaryDirectory() as folder:
            best = self._trained(Path(folder), seconds)
            self.network = build_model_from_checkpoint(best)[0].eval()
        every = self.windows.test.__getitems__(range(len(self.windows.test)))
        return self.windows.f1(self.classify(every.signal))

    def _new(self) -> nn.Module:
        from deepecgkit.models.factory import build_model

        return build_model(self.MODEL, input_channels=1, output_size=2)

    def _trained(self, folder: Path, seconds: int) -> Path:
        """The best checkpoint after that long; the clock starts with the first epoch."""
        validation_share = self._write_windows(folder)
        command = [sys.executable, "-m", "deepecgkit", "--import"]
        command += [str(ROOT / "benchmarks" / "deepecgkit_windows.py"), "train", "-m", self.MODEL]
        command += ["-d", "xecg-windows", "--data-dir", str(folder), "--output-dir"]
        command += [str(folder / "run"), "--epochs", MANY, "--early-stopping-patience", MANY]
        command += ["--val-split", f"{validation_share:.3f}", "--test-split", "0.02"]
        with (folder / "log").open("w") as log:
            training = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            try:
                _wait_for(folder / "run", "metrics.csv", training)
                time.sleep(seconds)
            finally:
                training.terminate()
                training.wait()
        losses = {p: float(p.stem.split("val_loss=")[1]) for p in folder.rglob("epoch=*.pt")}
        if not losses:
            raise RuntimeError(f"deepecgkit made no checkpoint:\n{(folder / 'log').read_text()}")
        return min(losses, key=losses.__getitem__)

    def _write_windows(self, folder: Path) -> float:
        from deepecgkit_windows import FILE

        sets = self.windows.data.train_set, self.windows.data.validation_set
        batches = [windows.__getitems__(range(len(windows))) for windows in sets]
        np.savez(
            folder / FILE,
            signals=np.concatenate([batch.signal[:, 0].numpy() for batch in batches]),
            labels=np.concatenate([batch.target.numpy() for batch in batches]),
            records=np.concatenate([windows.column("record") for windows in sets]),
            sampling_rate=self.windows.data.sampling_rate,
        )
        return len(sets[1]) / (len(sets[0]) + len(sets[1]))


class TorchECG:
    """torch_ecg's CRNN, a narrow Stanford ResNet with an LSTM, in a plain loop.

    Windows are drawn as xecg draws them; the best epoch of 4,000 by validation loss counts.
    """

    def __init__(self, windows: Windows) -> None:
        self.windows, self.network = windows, self._new().eval()

    def train(self, n: int) -> float:
        signals = self.windows.signals(n)
        labels = torch.from_numpy(self.windows.data.train_set.targets()[:n])
        step = _stepper(self._new())
        start = time.perf_counter()
        for signal, label in zip(signals.split(64), labels.split(64), strict=True):
            step(signal, label)
        return time.perf_counter() - start

    def classify(self, signals: Tensor) -> Tensor:
        with torch.inference_mode():
            logits = torch.cat([self.network(x) for x in signals.split(BATCH)])
        return logits.softmax(dim=1)[:, 1]

    def f1_after(self, seconds: int) -> Interval:
        torch.manual_seed(0)
        network = self._new()
        step, best, end = _stepper(network), float("inf"), time.perf_counter() + seconds
        for epoch in self._epochs():
            for batch in epoch:
                step(batch.signal, batch.target)
                if time.perf_counter() > end:
                    break
            loss = self._validation_loss(network.eval())
            if loss < best:
                best, kept = loss, {k: v.clone() for k, v in network.state_dict().items()}
            if time.perf_counter() > end:
                break
        self.network.load_state_dict(kept)
        every = self.windows.test.__getitems__(range(len(self.windows.test)))
        return self.windows.f1(self.classify(every.signal))

    def _epochs(self) -> Iterator[Any]:
        for seed in range(int(MANY)):  # the order is a function of the seed
            self.windows.data.seed = seed
            yield self.windows.data.train_dataloader()

    def _validation_loss(self, network: nn.Module) -> float:
        losses: list[Tensor] = []
        with torch.inference_mode():
            for batch in self.windows.data.val_dataloader():
                losses.append(F.cross_entropy(network(batch.signal), batch.target))
        return float(torch.stack(losses).mean())

    def _new(self) -> nn.Module:
        from copy import deepcopy

        from torch_ecg.model_configs.ecg_crnn import ECG_CRNN_CONFIG
        from torch_ecg.models.ecg_crnn import ECG_CRNN

        config = deepcopy(ECG_CRNN_CONFIG)
        config.cnn.name, config.rnn.name = "resnetNS", "lstm"
        return ECG_CRNN(["non-AF", "AF"], 1, config)


@dataclass(frozen=True)
class _Loaders:
    """What deepecgkit's trainer asks of a data module; one batch validates."""

    windows: torch.utils.data.TensorDataset

    def train_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(self.windows, batch_size=32, shuffle=True)

    def val_dataloader(self) -> Any:
        few = torch.utils.data.Subset(self.windows, range(32))
        return torch.utils.data.DataLoader(few, batch_size=32)


def _stepper(network: nn.Module) -> Any:
    optimizer = torch.optim.AdamW(network.parameters())

    def step(signal: Tensor, label: Tensor) -> None:
        loss = F.cross_entropy(network.train()(signal), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _wait_for(folder: Path, name: str, process: subprocess.Popen) -> None:
    while not any(folder.rglob(name)):
        if process.poll() is not None:
            return
        time.sleep(0.2)

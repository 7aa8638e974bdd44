"""A small classification of drawn heartbeats, for tests of callbacks that explain it."""

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader, Dataset

from xecg.data.datasets import Batch
from xecg.tasks import AFClassifier

RATE, TIME = 50.0, 500
QUIET = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
}


class Heartbeats(Dataset):
    """Windows with the methods of a prepared store's: regular beats with P, or AF.

    Every fifth window has too few beats for relevance per wave.
    """

    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = np.arange(n) % 2
        self.peaks = [self._beats(rng, row) for row in range(n)]
        self.signals = torch.tensor(rng.uniform(0, 0.1, (n, 1, TIME)), dtype=torch.float32)
        for row, peaks in enumerate(self.peaks):
            self.signals[row, 0, peaks] = 1.0
            if self.labels[row] == 0:
                self.signals[row, 0, peaks - 7] = 0.3

    def _beats(self, rng, row):
        intervals = rng.integers(25, 60, 30) if self.labels[row] else np.full(30, 40)
        peaks = 10 + np.cumsum(intervals)
        return peaks[peaks < TIME - 10][: 3 if row % 5 == 4 else None]

    def __len__(self):
        return len(self.labels)

    def __getitems__(self, positions):
        rows = torch.as_tensor(positions)
        return Batch(self.signals[rows], torch.from_numpy(self.labels)[rows], rows)

    def targets(self):
        return self.labels

    def r_peaks(self, position):
        return self.peaks[position].astype(np.int32)

    def column(self, name):
        if name == "start_s":
            return 10.0 * np.arange(len(self))
        if name == "af":
            return self.labels
        return np.array([f"{name}{row}" for row in range(len(self))])


class Data(LightningDataModule):
    sampling_rate = RATE

    def __init__(self, shuffle=False, validation=40):
        super().__init__()
        self.shuffle = shuffle
        self.train_set, self.validation_set = Heartbeats(32, seed=0), Heartbeats(validation, seed=1)

    def train_dataloader(self):
        return DataLoader(self.train_set, 8, shuffle=self.shuffle, collate_fn=lambda batch: batch)

    def val_dataloader(self):
        return DataLoader(self.validation_set, 16, collate_fn=lambda batch: batch)


def new_task(dropout=0.1):
    torch.manual_seed(0)
    return AFClassifier(channels=6, dropout=dropout, optimizer=adam)


def able_task(dropout=0.1):
    """A task that knows both classes already."""
    task = new_task(dropout)
    task.load_state_dict(_able_state())
    torch.manual_seed(0)
    return task


@cache
def _able_state():
    task, batch = new_task(), Data().train_set.__getitems__(range(32))
    optimizer = torch.optim.Adam(task.parameters(), lr=1e-2)
    for _ in range(60):
        losses = [F.cross_entropy(z, batch.target) for z in task.network(batch.signal).values()]
        optimizer.zero_grad()
        sum(losses).backward()
        optimizer.step()
    return task.state_dict()


def adam(parameters):
    return torch.optim.Adam(parameters, lr=1e-4)


def fit(*callbacks, epochs=2, task=None, data=None, ckpt_path=None, **options):
    task, data = task or new_task(), data or Data()
    settings = {**QUIET, "logger": False, "enable_checkpointing": False, "max_epochs": epochs}
    trainer = Trainer(callbacks=list(callbacks), **{**settings, **options})
    trainer.fit(task, data, ckpt_path=ckpt_path)
    return trainer

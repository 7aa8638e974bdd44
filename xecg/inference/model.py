"""A trained network with its preprocessing: classifies and explains ECGs that lie in memory.

PyTorch is imported with weights, not with exported files.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from multiprocessing import parent_process
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError, RecordError, WeightsError
from xecg.explain.relevance import CLASSES
from xecg.files import sha256
from xecg.inference.maps import NOT_JUDGED, Floats, Maps, predicted
from xecg.inference.records import LeadWindows, cut_lead
from xecg.networks import FUSED
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.quality import JUDGED

Identity = tuple[Path, str, float]

BATCH = 32  # windows: larger batches leave the processor's cache


@dataclass(frozen=True)
class Model:
    """A trained network and what its windows have to pass.

    Args:
        network: :class:`xecg.networks.xecgarch.XECGArch` in eval mode, or what is like it.
        preprocessing: What made the windows that it was trained with.
        weights: File of the weights.
        threshold: A window is called AF where the probability of all branches is above it.
        prevalence: Share of AF for which the probabilities are calibrated; 0 if they are not.
    """

    network: Any
    preprocessing: Preprocessing
    weights: Path
    threshold: float = 0.5
    prevalence: float = 0.0

    @property
    def branches(self) -> tuple[str, ...]:
        """Names of the branches."""
        return tuple(self.network.branches)

    @property
    def identity(self) -> "Identity":
        """File of the weights, its digest, and the threshold, for :func:`load_once`."""
        return self.weights.resolve(), sha256(self.weights), self.threshold

    def classify(self, ecg: ArrayLike, sampling_rate: float | None = None) -> pd.DataFrame:
        """Returns the probability of AF of each window of ECGs.

        Args:
            ecg: ``(time,)`` or ``(n, time)``: leads or recordings as they were measured, in mV or
                any other unit, integers too; NaN where samples are missing. The last window of
                each ends with it.
            sampling_rate: Sampling rate of ``ecg`` in Hz.

        Returns:
            A row a window: ``signal`` (row of ``ecg``), ``start_s``, ``p_af`` (all branches
            together), ``p_af_<branch>``, ``quality`` (1 best, below 0.5 too low), ``predicted``
            (``AF``, ``non-AF``, or ``cannot be judged``), and ``note``: why a window cannot be
            judged (too noisy, or the branches disagree), or cannot be classified; it has no
            probability then.

        Raises:
            RecordError: The array has another shape, is shorter than a window, infinite, or scaled
                to [0, 1] already.
            ConfigError: The sampling rate is missing or not positive.
        """
        leads, rate = self._cut(ecg, sampling_rate, ""), self.preprocessing.sampling_rate
        rows = [
            (number, start / rate, lead.absent.get(start, ""))
            for number, lead in enumerate(leads)
            for start in sorted([*lead.starts.tolist(), *lead.absent])
        ]
        whole = pd.DataFrame(rows, columns=["signal", "start_s", "note"])
        reasons = whole.pop("note")
        whole = whole.merge(_numbered(self.table(leads), leads), how="left")
        whole["note"] = whole["note"].fillna("cannot be classified: " + reasons)
        return whole.fillna({"predicted": ""})

    def explain(
        self,
        ecg: ArrayLike,
        sampling_rate: float | None = None,
        *,
        attribution: str = "innvestigate",
        unit: str = "mV",
        effects: bool = False,
    ) -> Maps:
        """Explains the decision of each branch in each window that can be classified.

        Args:
            ecg: ``(time,)`` or ``(n, time)``, as in :meth:`classify`.
            sampling_rate: Sampling rate of ``ecg`` in Hz.
            attribution: Name in ``xecg.explain.ATTRIBUTIONS``, or a class path.
            unit: Unit of ``ecg``, for the pictures; one that is not mV, uV or V is drawn scaled.
            effects: Whether the table has :func:`xecg.explain.wave_effects` too.

        Raises:
            RecordError: As in :meth:`classify`; or no window can be classified.
            ConfigError: There is no such attribution, or no sampling rate.
        """
        leads = self._cut(ecg, sampling_rate, unit)
        if not any(map(len, leads)):
            raise RecordError("; ".join(f"{lead.record}: {lead.left_out}" for lead in leads))
        maps = self.maps(leads, self.explainer(attribution), effects)
        return replace(maps, table=_numbered(maps.table, leads))

    def _cut(self, ecg: ArrayLike, sampling_rate: float | None, unit: str) -> list[LeadWindows]:
        """Windows of each row of an array, cut as those of a record are."""
        if sampling_rate is None or not 0 < sampling_rate < np.inf:
            raise ConfigError(f"sampling_rate: expected a number of Hz, found {sampling_rate}")
        signals, window_s = np.asarray(ecg), self.preprocessing.window_s
        time = (signals.shape or (0,))[-1]
        real = signals.ndim in (1, 2) and signals.dtype.kind in "fiu" and signals.size > 0
        if not real or time < window_s * sampling_rate - 1e-6:
            raise RecordError(
                "ecg: expected real numbers (time,) or (n, time), at least "
                f"{window_s:g} s along the last axis; found {signals.dtype} of shape "
                f"{signals.shape} at {sampling_rate:g} Hz, {time / sampling_rate:.6g} s"
            )
        if np.isinf(signals).any():
            raise RecordError("ecg: found infinite samples; mark missing samples by NaN")
        rows = np.atleast_2d(signals.astype(np.float32))
        if ((np.fmin.reduce(rows, 1) == 0) & (np.fmax.reduce(rows, 1) == 1)).any():
            raise RecordError(
                "ecg: expected an ECG as it was measured, found one that is scaled to [0, 1]; give "
                "it before scaling, or windows of this model's preprocessing to Model.p_af"
            )
        about = {"lead": "not named", "unit": unit}
        return [
            cut_lead(row, sampling_rate, self.preprocessing, record=f"signal {number}", **about)
            for number, row in enumerate(rows)
        ]

    def table(self, leads: Sequence[LeadWindows]) -> pd.DataFrame:
        """Returns a row a window: record, lead, start_s, probabilities, quality, predicted, note.

        A window whose quality is too low, or about which the branches disagree, is given as
        ``cannot be judged``; the note says why.
        """
        none = np.empty((0, self.preprocessing.window_samples), np.float32)
        p_af = self.p_af(np.concatenate([none, *(lead.signals for lead in leads)]))
        quality = [one for lead in leads for one in lead.quality]
        values = np.array([one.value for one in quality], dtype=np.float64)
        called, disagree = self.calls(p_af)
        columns = {
            "record": [lead.record for lead in leads for _ in range(len(lead))],
            "lead": [lead.lead for lead in leads for _ in range(len(lead))],
            "start_s": np.concatenate([np.empty(0), *(lead.start_s for lead in leads)]),
            "p_af": p_af[FUSED],
            **{f"p_af_{branch}": p_af[branch] for branch in self.branches},
            "quality": values,
            "predicted": np.where(values < JUDGED, NOT_JUDGED, called),
            "note": [one.reason or said for one, said in zip(quality, disagree, strict=True)],
        }
        return pd.DataFrame(columns).astype({"note": str})  # also where there is no window

    def calls(self, p_af: Mapping[str, Floats]) -> tuple[NDArray[np.str_], list[str]]:
        """Returns the class of each window, and a note where it cannot be judged.

        That is where the branches contradict each other: together they call AF, but one of them
        finds it less likely than the threshold, and than it is among all windows (the prevalence
        for which the probabilities are calibrated). ``p_af`` is as of :meth:`p_af`.
        """
        classes = predicted(p_af[FUSED], self.threshold)
        lowest = np.min([p_af[branch] for branch in self.branches], axis=0)
        contradict = (classes == CLASSES[1]) & (lowest < min(self.prevalence, self.threshold))
        notes = [""] * len(classes)
        for row in np.flatnonzero(contradict):
            said = (f"{p_af[branch][row]:.2f} by {branch}" for branch in self.branches)
            notes[row] = f"the branches disagree: {', '.join(said)}"
        return np.where(contradict, NOT_JUDGED, classes), notes

    def explainer(self, attribution: str = "innvestigate") -> Any:
        """Returns what :meth:`maps` takes; ConfigError if there is no such attribution."""
        from xecg.explain.attributions import BranchExplainer

        return BranchExplainer(self.network, attribution)

    def maps(self, leads: Sequence[LeadWindows], explainer: Any, effects: bool = False) -> Maps:
        """Returns the maps of all windows, of which there is at least one.

        ``explainer`` is of this model's network; ``effects`` take as long again.
        """
        signal = np.concatenate([lead.signals for lead in leads])
        r_peaks = [peaks for lead in leads for peaks in lead.r_peaks]
        rate = self.preprocessing.sampling_rate
        found = self._measured(explainer, signal, r_peaks, effects)
        tables = [of.add_prefix(f"{branch}_") for branch, (of, _) in found.items()]
        table = pd.concat([self.table(leads), *tables], axis=1)
        relevance = {branch: maps for branch, (_, maps) in found.items()}
        return Maps(table, signal, relevance, r_peaks, rate, leads, self.threshold)

    def p_af(self, windows: Floats) -> dict[str, Floats]:
        """Returns the probability of AF, float32 ``(n,)``, under ``"fused"`` and by branch.

        Takes windows ``(n, window_samples)`` that are preprocessed already. Raises RecordError if
        they have another shape or scale, are flat or not finite.
        """
        n = self.preprocessing.window_samples
        fit = windows.dtype == np.float32 and windows.shape[1:] == (n,)
        vary = fit and bool((np.ptp(windows, axis=1) > 0).all())
        if not vary or not np.array_equal(self.preprocessing.scale(windows), windows):
            raise RecordError(
                f"windows: expected float32 (n, {n}), finite and each scaled to [0, 1], found "
                f"{windows.dtype} {windows.shape} from {windows.min():g} to {windows.max():g}; "
                "give ECGs as they were measured to Model.classify"
            )
        return self._p_af(windows)

    def _p_af(self, windows: Floats) -> dict[str, Floats]:
        import torch

        from xecg.networks.xecgarch import fuse

        parts = {name: [np.empty(0, np.float32)] for name in (FUSED, *self.branches)}
        with torch.inference_mode():
            for start in range(0, len(windows), BATCH):
                batch = torch.from_numpy(windows[start : start + BATCH])
                logits = self.network(batch.unsqueeze(1))
                found = {name: z.softmax(dim=1) for name, z in logits.items()}
                for name, p in (found | {FUSED: fuse(logits)}).items():
                    parts[name].append(p[:, 1].numpy())
        return {name: np.concatenate(part) for name, part in parts.items()}

    def _measured(
        self, explainer: Any, signal: Floats, r_peaks: list[NDArray[np.int64]], effects: bool
    ) -> dict[str, tuple[pd.DataFrame, Floats]]:
        """By branch what is measured of each window, and the maps ``(n, time)``."""
        import torch

        from xecg.explain.effects import measured

        x, rate = torch.from_numpy(signal).unsqueeze(1), self.preprocessing.sampling_rate
        found = measured(explainer, x, r_peaks, rate, effects=effects)
        return {branch: (of.table, of.relevance.numpy()) for branch, of in found.items()}


def load(
    source: str | Path = "xecgarch",
    *,
    operating_point: str | None = None,
    threshold: float | None = None,
) -> Model:
    """Loads a trained network.

    Args:
        source: Name of released weights, a weights file, the folder of a run of ``xecg fit``, a
            model of the Hugging Face hub (``user/model`` or ``user/model@revision``), or an
            ``.onnx`` file of ``xecg export``, for which no PyTorch is imported.
        operating_point: Name of one that the weights have: ``sensitive``, ``balanced`` (by default)
            or ``specific``. Weights that were not calibrated have none, and 0.5 as threshold.
        threshold: Probability above which a window is called AF, in place of an operating point.

    Raises:
        WeightsError: The file is not there, is none, or holds another network.
        ConfigError: There is no such operating point, or the threshold is no probability.
    """
    network: Any
    info: Any
    if str(source).endswith(".onnx"):
        from xecg.inference.exported import Exported, ExportedModel

        kind: type[Model] = ExportedModel
        path = Path(source)
        network = info = Exported(path)
    else:
        from xecg.networks.weights import find_weights, load_xecgarch

        kind, path = Model, find_weights(source)
        network, info = load_xecgarch(path)
    if threshold is None:
        points = {name: one["threshold"] for name, one in info.operating_points.items()}
        name = operating_point or "balanced"
        if operating_point is not None and name not in points:
            has = ", ".join(points) or "none: they were not calibrated"
            raise ConfigError(f"operating_point {name}: {path} has {has}")
        threshold = points.get(name, 0.5)
    elif operating_point is not None or not 0 <= threshold <= 1:
        found = f"{threshold} and operating_point {operating_point}"
        raise ConfigError(
            f"threshold: expected a probability, or an operating point; found {found}"
        )
    try:
        settings = Preprocessing.from_dict(info.preprocessing)
        prevalence = info.provenance.get("prevalence", 0.0)
        return kind(network, settings, path, threshold, prevalence)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error} Its windows cannot be made.") from error


@lru_cache(maxsize=2)
def load_once(identity: Identity) -> Model:
    """Loads a network for all pieces that this process works on; see :attr:`Model.identity`."""
    model = load(identity[0], threshold=identity[2])
    if parent_process() is not None and "torch" in sys.modules:  # one of several, see one_thread
        sys.modules["torch"].set_num_threads(1)
    return model


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch work on each operation, all of which are small, in one thread."""
    torch = sys.modules.get("torch")
    if torch is None:  # the model is an exported one
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _numbered(table: pd.DataFrame, leads: Sequence[LeadWindows]) -> pd.DataFrame:
    """The table with the number of each signal in place of a record."""
    numbers = [number for number, lead in enumerate(leads) for _ in range(len(lead))]
    numbered = table.drop(columns=["record", "lead"])
    numbered.insert(0, "signal", np.array(numbers, np.int64))
    return numbered

"""A trained network with its preprocessing; PyTorch is imported with weights, not with exports."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from xecg.errors import ConfigError, RecordError, WeightsError
from xecg.explain.relevance import CLASSES, wave_relevance
from xecg.files import sha256
from xecg.inference.exported import Exported
from xecg.inference.records import LeadWindows, cut_lead
from xecg.networks import FUSED
from xecg.signal.preprocessing import Preprocessing
from xecg.signal.quality import JUDGED
from xecg.signal.recording import Recording

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xecg.explain.pictures import ExplainedWindow

Floats = NDArray[np.float32]
Identity = tuple[Path, str, float]

NOT_JUDGED = "cannot be judged"
_PLOTTED = 4  # windows
_SIGNAL = "signal "  # in the names of rows of an array


def predicted(p_af: ArrayLike, threshold: float = 0.5) -> NDArray[np.str_]:
    """Returns AF for each probability of AF above the threshold, else non-AF, in words."""
    return np.array(CLASSES)[(np.asarray(p_af) > threshold).astype(np.int64)]


def spread(n: int, most: int) -> list[int]:
    """Returns at most ``most`` of the rows 0 to n - 1, evenly spread, first and last included."""
    return [*map(int, np.linspace(0, n - 1, min(n, most)).round())]


@dataclass(frozen=True, eq=False)
class Maps:
    """Windows of ECGs, and where each branch looks in them.

    Args:
        table: A row a window: ``record`` and ``lead``, or ``signal``; ``start_s``, ``p_af``,
            ``p_af_<branch>``, ``quality``, ``predicted``, ``note``, and ``<branch>_<statistic>`` of
            :func:`xecg.wave_relevance`, and of :func:`xecg.explain.wave_effects` if asked for.
        signal: What the network saw, scaled, float32 ``(windows, time)``.
        relevance: By branch, of the class that it predicts, float32 ``(windows, time)``.
        r_peaks: R peaks of each window, in samples of the window.
        sampling_rate: Sampling rate of the windows in Hz.
        leads: What the windows were cut from, in their order.
        threshold: A window is called AF where the probability of all branches is above it.
    """

    table: pd.DataFrame
    signal: Floats
    relevance: dict[str, Floats]
    r_peaks: list[NDArray[np.int64]]
    sampling_rate: float
    leads: Sequence[LeadWindows] = field(repr=False)
    threshold: float = 0.5

    def __len__(self) -> int:
        return len(self.signal)

    def plot(self, rows: Sequence[int] | None = None) -> "Figure":
        """Draws the windows of ``rows``, by default four, evenly spread, on ECG paper."""
        from xecg.explain.pictures import draw_page  # matplotlib is slow to import

        return draw_page(self.drawable(spread(len(self), _PLOTTED) if rows is None else rows))

    def drawable(self, rows: Sequence[int]) -> "list[ExplainedWindow]":
        """Returns windows, not scaled and in the units of their leads, for the pictures."""
        places = [(lead, place) for lead in self.leads for place in range(len(lead))]
        return [self._drawable(row, *places[row]) for row in rows]

    def _drawable(self, row: int, lead: LeadWindows, place: int) -> "ExplainedWindow":
        from xecg.explain.pictures import ExplainedWindow

        said = self.table.iloc[row]
        p_af = {branch: float(said[f"p_af_{branch}"]) for branch in self.relevance}
        classes = dict(zip(p_af, map(str, predicted([*p_af.values()])), strict=True))
        p_af[FUSED], classes[FUSED] = float(said["p_af"]), str(said["predicted"])
        if note := str(said["note"]):
            note = f"{NOT_JUDGED}: {note}"
            del classes[FUSED]
        return ExplainedWindow(
            record=lead.record,
            lead=lead.lead,
            start_s=float(lead.start_s[place]),
            signal=lead.filtered[place],
            unit=lead.unit,
            sampling_rate=self.sampling_rate,
            r_peaks=self.r_peaks[row],
            relevance={branch: maps[row] for branch, maps in self.relevance.items()},
            p_af=p_af,
            predicted=classes,
            note=note,
            threshold=None if note else self.threshold,
            band_hz=(lead.preprocessing.low_hz, lead.preprocessing.high_hz),
        )


@dataclass(frozen=True)
class Model:
    """A trained network and what its windows have to pass.

    Args:
        network: :class:`xecg.networks.xecgarch.XECGArch` in eval mode, or
            :class:`xecg.inference.exported.Exported`.
        info: What the file says of itself: :class:`xecg.networks.weights.WeightsInfo` or alike.
        weights: File of the weights.
        preprocessing: What made the windows that the network was trained with.
        threshold: A window is called AF where the probability of all branches is above it.
    """

    network: Any
    info: Any
    weights: Path
    preprocessing: Preprocessing
    threshold: float = 0.5

    @property
    def prevalence(self) -> float:
        """Share of AF for which the probabilities are calibrated; 0 if they are not."""
        return float(self.info.provenance.get("prevalence", 0.0))

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

        A row a window: ``signal`` (row of ``ecg``), ``start_s``, ``p_af`` (all branches together),
        ``p_af_<branch>``, ``quality`` (1 best, below 0.5 too low), ``predicted`` (``AF``,
        ``non-AF``, or ``cannot be judged``), and ``note``: why a window cannot be judged (too
        noisy, or the branches disagree), or cannot be classified; it has no probability then.

        Args:
            ecg: ``(time,)`` or ``(n, time)``: leads or recordings as they were measured, in mV or
                any other unit, integers too; NaN where samples are missing. The last window of
                each ends with it.
            sampling_rate: Sampling rate of ``ecg`` in Hz.

        Raises RecordError if the array has another shape, is shorter than a window, or infinite;
        ConfigError if the sampling rate is missing or not positive.
        """
        leads, rate = self._cut(ecg, sampling_rate, ""), self.preprocessing.sampling_rate
        table = _numbered(self.table(leads))
        rows = table.to_dict("records")
        for number, lead in enumerate(leads):
            for start, why in lead.absent.items():
                row: Any = {"signal": number, "start_s": start / rate, "predicted": ""}
                rows.append(row | {"note": f"cannot be classified: {why}"})
        both = pd.DataFrame(rows, columns=table.columns).astype(table.dtypes.to_dict())
        return both.sort_values(["signal", "start_s"], ignore_index=True)

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

        Raises RecordError as :meth:`classify` does, and if no window can be classified; ConfigError
        if there is no such attribution, or no sampling rate.
        """
        leads = self._cut(ecg, sampling_rate, unit)
        if not any(map(len, leads)):
            raise RecordError("; ".join(f"{lead.lead}: {lead.left_out}" for lead in leads))
        maps = self.maps(leads, self.explainer(attribution), effects)
        return replace(maps, table=_numbered(maps.table))

    def _cut(self, ecg: ArrayLike, sampling_rate: float | None, unit: str) -> list[LeadWindows]:
        if sampling_rate is None or not 0 < sampling_rate < np.inf:
            raise ConfigError(f"sampling_rate: expected a number of Hz, found {sampling_rate}")
        samples = np.atleast_2d(np.asarray(ecg))
        names = [f"{_SIGNAL}{number}" for number in range(len(samples))]
        recording = Recording("ecg", samples, sampling_rate, tuple(names), (unit,) * len(names))
        return [cut_lead(recording, row, self.preprocessing) for row in range(len(names))]

    def table(self, leads: Sequence[LeadWindows]) -> pd.DataFrame:
        """Returns a row a window, as :meth:`classify` does, of record and ``lead``."""
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
        return pd.DataFrame(columns).astype({"lead": str, "note": str})  # also without windows

    def calls(self, p_af: Mapping[str, Floats]) -> tuple[NDArray[np.str_], list[str]]:
        """Returns the class of each window by :meth:`p_af`, and a note where it cannot be judged.

        That is where the branches contradict each other: together they call AF, but one of them
        finds it less likely than the threshold, and than it is among all windows.
        """
        classes = predicted(p_af[FUSED], self.threshold)
        lowest = np.min([p_af[branch] for branch in self.branches], axis=0)
        contradict = (classes == CLASSES[1]) & (lowest < min(self.prevalence, self.threshold))
        notes = [""] * len(classes)
        for row in np.flatnonzero(contradict):
            said = (f"{p_af[branch][row]:.2f} by {branch}" for branch in self.branches)
            notes[row] = f"the branches disagree: {', '.join(said)}"
        return np.where(contradict, NOT_JUDGED, classes), notes

    def explainer(self, attribution: str = "innvestigate", target: int | None = None) -> Any:
        """Returns what :meth:`maps` takes, for a class or, by default, what a branch predicts.

        Raises ConfigError if there is no such attribution.
        """
        if isinstance(self.network, Exported):
            return self.network.explaining(attribution, target)
        from xecg.explain.attributions import BranchExplainer

        return BranchExplainer(self.network, attribution, target)

    def maps(self, leads: Sequence[LeadWindows], explainer: Any, effects: bool = False) -> Maps:
        """Returns the maps of all windows, of which there is at least one.

        ``explainer`` is of this model; ``effects`` take as long again. Raises ConfigError if they
        are asked of an exported file.
        """
        signal = np.concatenate([lead.signals for lead in leads])
        r_peaks = [peaks for lead in leads for peaks in lead.r_peaks]
        rate = self.preprocessing.sampling_rate
        if isinstance(self.network, Exported):
            if effects:
                raise ConfigError(f"effects: need the weights that {self.weights} was made of")
            found = {
                branch: (wave_relevance(maps[:, 0], r_peaks, rate, logits=z[:, 0]), maps[:, 0])
                for branch, (z, maps) in explainer.explain(signal[:, None]).items()
            }
        else:
            import torch

            from xecg.explain.effects import measured

            x = torch.from_numpy(signal).unsqueeze(1)
            with _one_thread():
                each = measured(explainer, x, r_peaks, rate, effects=effects)
            found = {branch: (of.table, of.relevance.numpy()) for branch, of in each.items()}
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
        with _one_thread():
            return self.network.p_af(windows)  # type: ignore[no-any-return]


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

    Raises WeightsError if the file is not there, is none, or holds another network; ConfigError if
    there is no such operating point, or the threshold is no probability.
    """
    if str(source).endswith(".onnx"):
        path = Path(source)
        network: Any = Exported(path)
        info: Any = network
    else:
        from xecg.networks.weights import find_weights, load_xecgarch

        path = find_weights(source)
        network, info = load_xecgarch(path)
    points = info.operating_points
    if operating_point is not None and (operating_point not in points or threshold is not None):
        has = ", ".join(points) or "none: they were not calibrated"
        wanted = f"one of {path}, which has {has}, and no threshold beside it"
        raise ConfigError(f"operating_point {operating_point}: expected {wanted}")
    if threshold is None:
        threshold = points.get(operating_point or "balanced", {"threshold": 0.5})["threshold"]
    if not 0 <= threshold <= 1:
        raise ConfigError(f"threshold: expected a probability, found {threshold}")
    try:
        settings = Preprocessing.from_dict(info.preprocessing)
    except ConfigError as error:
        raise WeightsError(f"{path}: {error} Its windows cannot be made.") from error
    return Model(network, info, path, settings, threshold)


@lru_cache(maxsize=2)
def load_once(identity: Identity) -> Model:
    """Loads a network for all pieces that this process works on; see :attr:`Model.identity`."""
    return load(identity[0], threshold=identity[2])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Lets torch, where it is imported, work on operations, all of them small, in one thread."""
    if (torch := sys.modules.get("torch")) is None:
        yield
        return
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def _numbered(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the number of each signal in place of a record."""
    table = table.drop(columns="record").rename(columns={"lead": "signal"})
    return table.assign(signal=table["signal"].str.removeprefix(_SIGNAL).astype("int64"))

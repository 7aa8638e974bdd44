"""All measures of faithfulness of one network's maps, and their agreement with other networks'."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xecg.errors import DataError
from xecg.explain.faithfulness import tables
from xecg.explain.faithfulness.agreement import pairwise_agreement
from xecg.explain.faithfulness.attributions import REFERENCE, relevance_maps
from xecg.explain.faithfulness.decisions import Decisions
from xecg.explain.faithfulness.filling import FILLINGS
from xecg.explain.faithfulness.perturbation import (
    ORDERS,
    PerturbationCurves,
    perturbation_curves,
)
from xecg.explain.faithfulness.randomisation import (
    STAGES,
    Randomisation,
    deal_draws,
    fresh_networks,
)
from xecg.explain.faithfulness.segments import (
    relevance_ranks,
    samples_of,
    segment_means,
)
from xecg.explain.faithfulness.settings import EvaluationSettings
from xecg.explain.faithfulness.similarity import FloatArray
from xecg.explain.faithfulness.tables import Row
from xecg.explain.faithfulness.tasks import Done, run_tasks
from xecg.networks.xecgarch import XECGArch

_Curves = dict[tuple[str, str, str], PerturbationCurves]  # by branch, method, filling


@dataclass(frozen=True)
class Faithfulness:
    """Tables, as rows; see ``tables``.

    Args:
        curves: Mean change of output, by branch, method, filling, class, order, measure, share.
        areas: Mean area between the curves, by branch, method, filling, class, measure.
        gains: The same minus the area of ``REFERENCE`` in the same windows; empty without it.
        randomisation: Mean correlation with the trained map, by branch, method, stage.
        agreement: Mean correlation between networks, by branch and method; empty if there is one.
    """

    curves: list[Row]
    areas: list[Row]
    gains: list[Row]
    randomisation: list[Row]
    agreement: list[Row]


def evaluate_maps(
    networks: Sequence[XECGArch],
    x: NDArray[np.float32],
    groups: NDArray[np.str_],
    sampling_rate: float,
    settings: EvaluationSettings | None = None,
) -> Faithfulness:
    """Evaluate the maps of each branch's decisions.

    Args:
        networks: The first one's maps are evaluated; those of all are compared with each other.
            All have the same branches.
        x: Scaled windows ``(n, time)``.
        groups: Person or record of each window, ``(n,)``, for the intervals.
        sampling_rate: Of the windows, in Hz.
        settings: None takes the defaults.

    Raises:
        DataError: There is no network or window, or branches or lengths disagree.
    """
    if len({tuple(network.branches) for network in networks}) != 1:
        raise DataError("Expected networks, at least one, all with the same branches.")
    if x.ndim != 2 or groups.shape != x.shape[:1]:
        raise DataError(
            f"Expected windows (n, time) and n groups, found shapes {x.shape} and {groups.shape}."
        )
    settings = settings or EvaluationSettings()
    length = samples_of(settings.segment_ms, sampling_rate)
    evaluation = _Evaluation(networks, x, groups, length, settings)
    curves = evaluation.curves()
    return Faithfulness(
        curves=list(evaluation.curve_rows(curves)),
        areas=list(evaluation.area_rows(curves)),
        gains=list(evaluation.gain_rows(curves)),
        randomisation=list(evaluation.randomisation_rows()),
        agreement=list(evaluation.agreement_rows()),
    )


class _Evaluation:
    """The maps of all networks, and what is measured on them."""

    def __init__(
        self,
        networks: Sequence[XECGArch],
        x: NDArray[np.float32],
        groups: NDArray[np.str_],
        length: int,
        settings: EvaluationSettings,
    ) -> None:
        self.networks, self.groups = networks, groups
        self.length, self.settings = length, settings
        self.branches = list(networks[0].branches)
        windows = torch.from_numpy(np.ascontiguousarray(x, np.float32)).unsqueeze(1)
        self.decisions = {
            (number, branch): Decisions.of(network.chain(branch), windows)
            for number, network in enumerate(networks)
            for branch in self.branches
        }
        self.relevance = self._relevance()

    def curves(self) -> _Curves:
        """Of the first network's maps."""
        settings = self.settings
        tasks = {
            (branch, method, filling): partial(self._curves, branch, method, filling)
            for branch in self.branches
            for method in settings.methods
            for filling in FILLINGS
        }
        signals = len(self.groups) * (settings.steps + 1) * len(ORDERS)
        return run_tasks(tasks, title="perturb", total=len(tasks) * signals, unit="signal")

    def curve_rows(self, curves: _Curves) -> Iterator[Row]:
        for (branch, method, filling), of_map in curves.items():
            for row in tables.curve_rows(of_map, *self._grouping(branch), self.settings.seed):
                yield {"branch": branch, "method": method, "filling": filling, **row}

    def area_rows(self, curves: _Curves) -> Iterator[Row]:
        for (branch, method, filling), of_map in curves.items():
            empty = self.relevance[0, branch, method].max(axis=1) == 0
            grouping = self._grouping(branch)
            for row in tables.area_rows(of_map, *grouping, empty, self.settings.seed):
                yield {"branch": branch, "method": method, "filling": filling, **row}

    def gain_rows(self, curves: _Curves) -> Iterator[Row]:
        if REFERENCE not in self.settings.methods:
            return
        for (branch, method, filling), of_map in curves.items():
            if method != REFERENCE:
                reference = curves[branch, REFERENCE, filling]
                grouping = self._grouping(branch)
                for row in tables.gain_rows(of_map, reference, *grouping, self.settings.seed):
                    yield {"branch": branch, "method": method, "filling": filling, **row}

    def randomisation_rows(self) -> Iterator[Row]:
        """Intervals are over draws, each of which has its own persons or records."""
        settings = self.settings
        draws = deal_draws(self.groups, settings.draws, settings.seed)
        fresh = fresh_networks(self.networks[0], settings.draws, settings.seed)
        randomisation = Randomisation(self.networks[0], fresh, draws)
        tasks = {
            (branch, method): partial(self._similarity, randomisation, branch, method)
            for branch in self.branches
            for method in settings.of_network
        }
        total = len(tasks) * len(STAGES) * len(self.groups)
        found = run_tasks(tasks, title="randomise", total=total, unit="map")
        for (branch, method), stages in found.items():
            for stage, similarities in stages.items():
                for row in tables.similarity_rows(similarities, draws, settings.seed):
                    yield {"branch": branch, "method": method, "stage": stage, **row}

    def agreement_rows(self) -> Iterator[Row]:
        if len(self.networks) == 1:
            return
        for branch in self.branches:
            numbers = range(len(self.networks))
            classes = [self.decisions[number, branch].classes.numpy() for number in numbers]
            for method in self.settings.of_network:
                relevance = [self.relevance[number, branch, method] for number in numbers]
                agreement = pairwise_agreement(relevance, classes)
                for row in tables.similarity_rows(agreement, self.groups, self.settings.seed):
                    key = {"branch": branch, "method": method, "networks": len(numbers)}
                    yield {**key, **row}

    def _relevance(self) -> dict[tuple[int, str, str], FloatArray]:
        """Relevance of segments ``(n, segments)`` by network, branch and method."""
        settings = self.settings
        tasks = {
            (number, branch, method): partial(self._maps, number, branch, method)
            for number, branch in self.decisions
            for method in (settings.of_network if number else settings.methods)
        }
        total = len(tasks) * len(self.groups)
        return run_tasks(tasks, title="explain", total=total, unit="map")

    def _maps(self, number: int, branch: str, method: str, done: Done) -> FloatArray:
        decisions, settings = self.decisions[number, branch], self.settings
        maps = relevance_maps(method, decisions, seed=settings.seed, done=done)
        return segment_means(maps, self.length)

    def _curves(self, branch: str, method: str, filling: str, done: Done) -> PerturbationCurves:
        settings = self.settings
        return perturbation_curves(
            self.decisions[0, branch],
            relevance_ranks(self.relevance[0, branch, method], settings.seed),
            filling,
            length=self.length,
            steps=settings.steps,
            done=done,
        )

    def _similarity(
        self, randomisation: Randomisation, branch: str, method: str, done: Done
    ) -> dict[str, dict[str, FloatArray]]:
        return randomisation.similarity(
            branch,
            method,
            self.decisions[0, branch],
            self.relevance[0, branch, method],
            length=self.length,
            done=done,
        )

    def _grouping(self, branch: str) -> tuple[NDArray[Any], NDArray[np.str_]]:
        """Explained class and group of each window."""
        return self.decisions[0, branch].classes.numpy(), self.groups

"""How maps are evaluated."""

from dataclasses import dataclass

from xecg.errors import ConfigError
from xecg.explain.faithfulness.attributions import METHODS, find_methods
from xecg.explain.faithfulness.integrated_gradients import check_captum
from xecg.explain.faithfulness.segments import SEGMENT_MS, samples_of


@dataclass(frozen=True)
class EvaluationSettings:
    """Which maps are evaluated, and how finely.

    Args:
        methods: Names in ``METHODS``.
        segment_ms: Length of the segments that are ranked, replaced and compared, in ms.
        steps: Steps of a perturbation curve.
        draws: Draws of random weights that the windows are dealt out to.
        seed: Of random maps, ties, random weights and the bootstrap.

    Raises:
        ConfigError: A method is unknown or cannot run here, there is none, or a number is not
            positive.
    """

    methods: tuple[str, ...] = tuple(METHODS)
    segment_ms: float = SEGMENT_MS
    steps: int = 20
    draws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        if not find_methods(self.methods):
            raise ConfigError("expected at least one method, found none")
        if "integrated_gradients" in self.methods:
            check_captum()
        samples_of(self.segment_ms, sampling_rate=1.0)  # raises if it is not positive
        for name in ("steps", "draws"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1; found {getattr(self, name)}")

    @property
    def of_network(self) -> list[str]:
        """The methods that look at the network."""
        return [name for name in self.methods if METHODS[name].of_network]

"""How a study is reported."""

from dataclasses import dataclass

from xecg.errors import ConfigError

CONFIDENCE = 0.95


@dataclass(frozen=True)
class ReportSettings:
    """How a study is reported.

    Args:
        example_depths: Frozen depths at which example ECGs are shown; empty leaves them out.
        resamples: Of the bootstrap.
        permutations: Drawn at random for the permutation test, where there are too many for all.
        seed: Of everything random.

    Raises:
        ConfigError: A number is below 1, or a depth below 0.
    """

    example_depths: tuple[int, ...] = (0, 3, 8)
    resamples: int = 1000
    permutations: int = 9999
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("resamples", "permutations"):
            if getattr(self, name) < 1:
                raise ConfigError(f"expected --{name} of at least 1, found {getattr(self, name)}")
        if min(self.example_depths, default=0) < 0:
            raise ConfigError(
                f"expected --example_depths of 0 or more blocks, found {self.example_depths}"
            )

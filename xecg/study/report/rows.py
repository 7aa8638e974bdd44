"""What every row and every caption of a report says in the same words."""

from xecg.study.report.analysis import Analysed, Analysis
from xecg.study.report.cells import depth_title
from xecg.study.report.ladder import Ladder
from xecg.study.report.measures import DepthMean
from xecg.study.report.tables import Row, span


def of_what(ladder: Ladder) -> str:
    """Test set, number of windows and groups, seeds."""
    n, n_af = ladder.af.size, int(ladder.af.sum())
    groups = f"{ladder.n_groups:,} persons or records"
    return f"{ladder.test_set}: {n:,} windows ({n_af:,} AF) of {groups}; {seeds_text(ladder.seeds)}"


def seeds_text(seeds: list[int]) -> str:
    """Seeds by number, with how many they are."""
    listed = ", ".join(map(str, seeds))
    return f"1 seed ({listed})" if len(seeds) == 1 else f"{len(seeds)} seeds ({listed})"


def windows_text(found: Analysed) -> str:
    """Fewest and most windows that a network's number is of."""
    return span([n for mean in found.means for n in mean.windows])


def row_of(analysis: Analysis, found: Analysed, mean: DepthMean) -> Row:
    """A measure at a depth as a row of a CSV file."""
    return {
        "test_set": analysis.ladder.test_set,
        "part": found.measure.part,
        "frozen_layers": depth_title(mean.depth),
        "value": mean.value,
        "low": mean.low,
        "high": mean.high,
        "seeds": len(mean.by_seed),
        "seed_sd": mean.seed_sd,
        "fewest_windows": mean.windows[0],
        "most_windows": mean.windows[1],
        "fewest_groups": mean.groups,
    }

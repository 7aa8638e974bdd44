"""Epochs of fine-tuning with frozen blocks beside those with none.

    python benchmarks/freezing.py [--json FILE]

Training and validation of an epoch on the embedded synthetic ECGs by `xecg fit`. Frozen blocks have
no backward pass, the others have. About 3 minutes on two idle cores.
"""

from functools import partial

from fitting import WINDOWS, timed_fit
from side_by_side import Row, alternate, medians, run_alone

UNWATCHED = ("--trainer.callbacks", "[]")  # relevance logging is measured by itself


def measure() -> list[Row]:
    def epoch(depth: str) -> float:
        flags = (*UNWATCHED, "--freezing.frozen_layers", depth, "--freezing.allow_random", "true")
        return timed_fit(*flags, n_epochs=2).whole[1]

    cases = {"none frozen": "0", "three": "3", "all": "8"}
    seconds = medians(alternate({name: partial(epoch, depth) for name, depth in cases.items()}))
    return [_row("3", seconds, "three", 0.75), _row("all 8", seconds, "all", 0.5)]


def _row(blocks: str, seconds: dict[str, float], case: str, goal: float) -> Row:
    return Row(
        what=f"an epoch of fine-tuning, {blocks} blocks frozen",
        against="none frozen",
        value=seconds[case] / seconds["none frozen"],
        goal=goal,
        better="at most",
        measured={
            name: f"{seconds[name]:.2f} s for {WINDOWS} windows" for name in ("none frozen", case)
        },
    )


if __name__ == "__main__":
    run_alone(measure, __doc__)

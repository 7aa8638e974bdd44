"""Epochs of fine-tuning with frozen blocks beside those with none.

    python benchmarks/freezing.py [--json FILE]

Training and validation of an epoch on the embedded synthetic ECGs by `xecg fit`. With all blocks
frozen it is an epoch in which the features of nearly all windows are known; their augmentation is
drawn once per window. About 3 minutes on two idle cores.
"""

from fitting import WINDOWS, timed_fit
from side_by_side import Row, alternate, medians, run_alone

UNWATCHED = ("--trainer.callbacks", "[]")  # relevance logging is measured by itself
KNOWN_AFTER = 9  # epochs


def measure() -> list[Row]:
    def none() -> float:
        return timed_fit(*UNWATCHED, n_epochs=2).whole[1]

    def three() -> float:
        return timed_fit(*UNWATCHED, "--freezing.frozen_layers", "3", n_epochs=2).whole[1]

    def all_eight() -> float:
        flags = (*UNWATCHED, "--freezing.frozen_layers", "8")
        return timed_fit(*flags, n_epochs=KNOWN_AFTER).whole[-1]

    seconds = medians(alternate({"none frozen": none, "three": three, "all": all_eight}))
    return [_row("3", seconds, "three", 0.6), _row("all 8", seconds, "all", 0.1)]


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

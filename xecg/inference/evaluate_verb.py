"""`xecg explain evaluate`: whether the maps of a network are faithful, on a prepared store.

Torch is imported when the verb runs, so that the help text comes at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

RELEASED = "xecgarch"


def add_evaluate_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], verb: str
) -> argparse.ArgumentParser:
    """Adds the verb to a command line, called `verb`; `parsed.run` then does it."""
    parser = subparsers.add_parser(
        verb,
        help="whether such maps are faithful: perturbation, random weights, agreement of seeds",
        description="Whether maps show what each branch used, on the windows of a prepared store "
        "(xecg data prepare), for the class that the branch predicts. Perturbation: segments are "
        "replaced by interpolation and by zero, most and least relevant first; the area between "
        "the two curves is above 0 for a map that puts first what matters, and 0 for a random "
        "order. Randomisation: how much a map resembles itself after the weights were replaced "
        "by random ones, from the output down. Agreement: how much the maps of several weights "
        "resemble each other. Everything has 95 % intervals. A WFDB record that is called "
        "evaluate is explained as ./evaluate.",
    )
    parser.add_argument("store", type=Path, metavar="STORE", help="folder of a prepared store")
    parser.add_argument(
        "--weights",
        nargs="+",
        default=[RELEASED],
        metavar="NAME_OR_FILE",
        help=f"weights files or released weights ({RELEASED}); the first is evaluated, several "
        "are compared with each other",
    )
    _add_window_arguments(parser)
    _add_measure_arguments(parser)
    _add_output_arguments(parser)
    parser.set_defaults(run=run_evaluate)
    return parser


def run_evaluate(arguments: argparse.Namespace) -> int:
    """Runs a parsed `xecg explain evaluate ...`; returns the exit status 0.

    Raises:
        XECGError: If it cannot be done; the message says why.
    """
    from xecg.explain.faithfulness.attributions import METHODS
    from xecg.explain.faithfulness.settings import EvaluationSettings
    from xecg.inference.evaluate import WindowChoice, evaluate

    settings = EvaluationSettings(
        methods=tuple(dict.fromkeys(arguments.methods or METHODS)),
        segment_ms=arguments.segment_ms,
        steps=arguments.steps,
        draws=arguments.draws,
        seed=arguments.seed,
    )
    report = evaluate(
        arguments.store,
        arguments.out,
        weights=arguments.weights,
        choice=WindowChoice(
            arguments.windows, arguments.split, arguments.split_seed, arguments.seed
        ),
        settings=settings,
        picture=arguments.format,
    )
    print(report)
    return 0


def _add_window_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--split",
        choices=("test", "all"),
        default="test",
        help="test: what xecg's default split holds out; all: the whole store, for one that "
        "nothing was trained on (%(default)s)",
    )
    add("--split_seed", "--split-seed", type=int, default=0, help="of the split (%(default)s)")
    add(
        "--windows",
        type=int,
        default=200,
        metavar="N",
        help="windows at most, drawn at random (%(default)s)",
    )


def _add_measure_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="maps to evaluate (default: all): dtd_innvestigate, dtd_zbox, gradient, "
        "input_x_gradient, integrated_gradients (needs captum), and for comparison steepness "
        "(of the signal) and random",
    )
    add(
        "--segment_ms",
        "--segment-ms",
        type=float,
        default=20.0,
        help="length of the segments that are replaced and compared (%(default)s ms)",
    )
    add(
        "--steps",
        type=int,
        default=20,
        help="steps of a curve: 20 replace 5 %% of the segments at a time (%(default)s)",
    )
    add(
        "--draws",
        type=int,
        default=20,
        help="draws of random weights that the windows are dealt out to (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of everything random (%(default)s)")


def _add_output_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--out",
        type=Path,
        metavar="DIR",
        default=Path("faithfulness"),
        help="new folder for the tables and figures (%(default)s)",
    )
    add("--format", choices=("png", "svg"), default="png", help="of the figures (%(default)s)")

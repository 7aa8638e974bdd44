"""`xecg study report`: what a study found, as tables, figures and one page.

NumPy, matplotlib and torch are imported when the verb runs, so that the help text comes at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_report_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser], verb: str = "report"
) -> argparse.ArgumentParser:
    """Adds the verb to a command line, called `verb`; `parsed.run` then does it."""
    parser = subparsers.add_parser(
        verb,
        help="tables, figures and one page of what a study found so far",
        description="What the finished cells of a study show: accuracy, F1 and AUROC against the "
        "frozen depth, enrichment of P waves and QRS complexes, domain specificity with "
        "Spearman's rho and a permutation test, accuracy against specificity, and the same "
        "ECGs explained at several depths. Writes CSV and Markdown tables, figures, and "
        "report.html, which holds everything. Everything has 95 % bootstrap intervals over "
        "persons or records. A study that is not finished is reported as far as it went. "
        "Replaces an earlier report.",
    )
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="folder of a study")
    add(
        "--out",
        type=Path,
        metavar="DIR",
        help="where to write (default: FOLDER/report)",
    )
    add(
        "--example_depths",
        "--example-depths",
        type=int,
        nargs="*",
        default=[0, 3, 8],
        metavar="DEPTH",
        help="frozen depths of the example ECGs; none leaves them out (default: 0 3 8)",
    )
    add(
        "--resamples",
        type=int,
        default=1000,
        metavar="N",
        help="of the bootstrap (%(default)s)",
    )
    add(
        "--permutations",
        type=int,
        default=9999,
        metavar="N",
        help="of the permutation test, where there are too many for all (%(default)s)",
    )
    add("--seed", type=int, default=0, help="of everything random (%(default)s)")
    parser.set_defaults(run=run_report)
    return parser


def run_report(arguments: argparse.Namespace) -> int:
    """Runs a parsed `xecg study report ...`; returns the exit status 0.

    Raises:
        XECGError: If it cannot be done; the message says why.
    """
    from xecg.study.report.report import write_report
    from xecg.study.report.settings import ReportSettings

    settings = ReportSettings(
        example_depths=tuple(arguments.example_depths),
        resamples=arguments.resamples,
        permutations=arguments.permutations,
        seed=arguments.seed,
    )
    out = arguments.out or arguments.folder / "report"
    print(write_report(arguments.folder, out, settings))
    return 0

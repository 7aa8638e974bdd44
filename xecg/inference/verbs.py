"""`xecg classify` and `xecg explain`: the network on one's own records.

Torch is imported when a verb runs, so that the help texts come at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

RELEASED = "xecgarch"


def add_classify_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Adds `classify` to a command line; `parsed.run` then does it."""
    parser = subparsers.add_parser(
        "classify",
        help="probability of AF of each window of WFDB records, as a table",
        description="Probability of AF of each window of WFDB records, as a CSV table with the "
        "columns record, start_s, p_af (both branches together), p_af_morphology, p_af_rhythm and "
        "predicted (AF where p_af is above 0.5, else non-AF). The last window of a record ends "
        "with it. Records that cannot be classified, and windows that cannot be used (missing "
        "samples, flat line), are told and listed in errors.csv beside the table; the exit status "
        "is 1 if a record is missing in the table. Not a medical device.",
    )
    _add_common_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, help="the table, such as predictions.csv")
    add(
        "--per-record",
        "--per_record",
        action="store_true",
        help="one row per record: the mean probabilities of its windows, the class of the mean, "
        "the number of windows, and af_share, the share of windows predicted AF",
    )
    add("--overwrite", action="store_true", help="replace the table and its errors.csv")
    parser.set_defaults(run=run_classify)
    return parser


def run_classify(arguments: argparse.Namespace) -> int:
    """Runs a parsed `xecg classify ...`; the exit status is 1 if a record failed, else 0.

    Raises:
        XECGError: If nothing could be classified at all; the message says why.
    """
    from xecg.inference.classify import classify

    n_failed = classify(
        arguments.paths,
        arguments.out,
        weights=arguments.weights,
        lead=arguments.lead,
        per_record=arguments.per_record,
        overwrite=arguments.overwrite,
    )
    return int(n_failed > 0)


def add_explain_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Adds `explain` to a command line; `parsed.run` then does it."""
    parser = subparsers.add_parser(
        "explain",
        help="where each branch looks in the windows of WFDB records: arrays, pictures, a page",
        description="Where each branch looks in the windows of WFDB records, by deep Taylor "
        "decomposition of the class that it predicts. For each record RECORD.npz (signal as the "
        "network saw it, sampling_rate, start_s, p_af, p_af_morphology, p_af_rhythm, predicted: "
        "1 AF or 0 non-AF, r_peaks in samples of the window filled up with -1, "
        "relevance_morphology, relevance_rhythm) and pictures on ECG paper; for all of them "
        "summary.csv, where enrichment is the share of relevance / share of time of a wave (in AF, "
        "P is the place where a P wave would be), and index.html, which holds the pictures. "
        "Records that cannot be explained, and windows that cannot be used, are told "
        "and listed in errors.csv; the exit status is 1 if a record is missing. "
        "Not a medical device. Whether such maps are faithful: xecg explain evaluate --help (a "
        "record of that name is explained as ./evaluate).",
    )
    _add_common_arguments(parser)
    add = parser.add_argument
    add("--out", type=Path, required=True, metavar="DIR", help="folder for all of it")
    add(
        "--rules",
        choices=("innvestigate", "zbox"),
        default="innvestigate",
        help="innvestigate: what the original xECGArch was explained with; zbox: as in theory, "
        "relevance is conserved (default: %(default)s)",
    )
    add(
        "--format",
        choices=("png", "svg"),
        default="png",
        help="of the pictures (default: %(default)s)",
    )
    pictures = parser.add_mutually_exclusive_group()
    pictures.add_argument(
        "--draw",
        type=int,
        default=12,
        metavar="N",
        help="windows to draw of each record at most, evenly spread over it (default: %(default)s)",
    )
    pictures.add_argument(
        "--no-pictures",
        "--no_pictures",
        dest="draw",
        action="store_const",
        const=0,
        help="draw none",
    )
    add("--overwrite", action="store_true", help="replace files of an earlier run in DIR")
    parser.set_defaults(run=run_explain)
    return parser


def run_explain(arguments: argparse.Namespace) -> int:
    """Runs a parsed `xecg explain ...`; the exit status is 1 if a record failed, else 0.

    Raises:
        XECGError: If nothing could be explained at all; the message says why.
    """
    from xecg.inference.explain import Output, explain

    output = Output(arguments.out, arguments.format, arguments.draw, arguments.overwrite)
    n_failed = explain(
        arguments.paths,
        output,
        weights=arguments.weights,
        rules=arguments.rules,
        lead=arguments.lead,
    )
    return int(n_failed > 0)


def _add_common_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="WFDB record, or a folder of them")
    add(
        "--weights",
        default=RELEASED,
        help="weights file or name of released weights (default: %(default)s)",
    )
    add("--lead", help="name of the lead (default: II, else MLII, else I, else the first)")

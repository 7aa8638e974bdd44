"""The command ``xecg``: verbs on runs through Lightning, verbs on files without importing it."""

import argparse
import sys
from collections.abc import Sequence

from xecg.errors import XECGError

RUN_VERBS = {
    "fit": "train, then test the best checkpoint",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test sets",
    "predict": "write a checkpoint's predictions for the test sets",
}
EVALUATE, REPORT = "explain evaluate", "study report"  # verbs of two words


def main(args: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status (0 done, 1 an error that was explained)."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        if arguments and arguments[0] in RUN_VERBS:
            from xecg.lightning_cli import run  # Lightning and torch take seconds to import

            return run(None if args is None else arguments)
        if (verb := " ".join(arguments[:2])) in (EVALUATE, REPORT):
            arguments[:2] = [verb]
        parsed = _parser().parse_args(arguments)
        return int(parsed.run(parsed))
    except (XECGError, ValueError) as error:
        explained = _explanation(error)
        if explained is None:
            raise
        print(f"xecg: {explained}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xecg: interrupted", file=sys.stderr)
        return 130


def _explanation(error: BaseException | None) -> XECGError | None:
    """The error that xecg raised; the parser of configs wraps what a constructor raises."""
    while error is not None and not isinstance(error, XECGError):
        error = error.__cause__ or error.__context__
    return error


def _parser() -> argparse.ArgumentParser:
    from xecg.data.verbs import add_data_parser
    from xecg.inference.evaluate_verb import add_evaluate_parser
    from xecg.inference.verbs import add_classify_parser, add_explain_parser
    from xecg.study.report.verb import add_report_parser
    from xecg.study.verbs import add_study_parser

    parser = argparse.ArgumentParser(
        prog="xecg",
        description="Interpretable ECG deep learning: train, explain, use the two-branch network.",
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for name, purpose in RUN_VERBS.items():
        verbs.add_parser(name, help=f"{purpose} (xecg {name} --help)")
    add_data_parser(verbs)
    add_classify_parser(verbs)
    add_explain_parser(verbs)
    add_evaluate_parser(verbs, EVALUATE)
    add_study_parser(verbs)
    add_report_parser(verbs, REPORT)
    return parser


if __name__ == "__main__":
    sys.exit(main())

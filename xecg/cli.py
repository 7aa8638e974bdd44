"""The command ``xecg``: verbs on runs through Lightning, verbs on files through typed functions.

The help text of a verb on files is the docstring of its function, and its flags are the
parameters: the first is positional, lists take several words, booleans take none.
"""

import argparse
import difflib
import inspect
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from xecg.errors import XECGError
from xecg.files import read_settings


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Args:
        function: Where its function is: ``module:name``; imported when the verb is used.
        purpose: What it does, in a line.
    """

    function: str
    purpose: str


PARSING: dict[str, Any] = {"allow_abbrev": False, "exit_on_error": False}  # of every parser
RUN_VERBS = {
    "fit": "train, then test the best checkpoint",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test sets",
    "predict": "write a checkpoint's predictions for the test sets",
}
VERBS = {
    "data list": Verb("xecg.cli:list_databases", "the databases that can be prepared"),
    "data fetch": Verb("xecg.data.download:fetch", "download a database from PhysioNet"),
    "data prepare": Verb("xecg.data.verbs:prepare", "cut a database into windows for training"),
    "data show": Verb("xecg.data.verbs:show", "count and draw what a store holds"),
    "classify": Verb("xecg.inference.classify:classify", "P(AF) of each window of ECGs, a table"),
    "explain": Verb("xecg.inference.explain:explain", "where each branch looks in ECGs"),
    "explain evaluate": Verb("xecg.inference.evaluate:evaluate", "whether such maps are faithful"),
    "study": Verb("xecg.study.run:run_study", "the ladder of frozen depths"),
    "study report": Verb("xecg.study.report:write_report", "tables, figures, a page of a study"),
}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 an error, 2 a wrong command line."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        return _run(arguments)
    except (XECGError, ValueError) as error:
        explained = _explanation(error)
        if explained is None:
            raise
        print(f"xecg: {explained}", file=sys.stderr)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"xecg: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xecg: interrupted", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview())
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"xecg {version('xecg-lightning')}")
        return 0
    if arguments[0] in RUN_VERBS:
        from xecg.runs import run  # Lightning and torch take seconds to import

        return run(arguments[0], arguments[1:])
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in VERBS:
            return run_verb(name, VERBS[name], arguments[words:])
    return _unknown_verb(arguments)


def run_verb(name: str, verb: Verb, arguments: Sequence[str]) -> int:
    """Runs a verb on files; the exit status is 1 if its function returns a number above 0."""
    module, _, attribute = verb.function.partition(":")
    function = getattr(import_module(module), attribute)
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("xecg").setLevel(logging.INFO)
    if not arguments and not inspect.signature(function).parameters:
        return function() or 0
    parser = function_parser(f"xecg {name}", function)
    given = parse(parser, [_with_underscores(argument) for argument in arguments])
    if given is None:
        return 2
    found = function(**vars(parser.instantiate(given)))
    return int(isinstance(found, int) and found > 0)


def list_databases() -> None:
    """Lists the databases that can be prepared, with what they hold and their licences."""
    from xecg.data.databases import DATABASES

    for name in DATABASES:
        database = DATABASES[name]
        records = (database.__doc__ or "").strip().splitlines()[0]
        lines = [database.title, records, f"licence: {database.licence}", database.url]
        print(f"{name:<12}" + f"\n{'':<12}".join(line for line in lines if line))


def function_parser(prog: str, function: Callable[..., Any]) -> Any:
    """The parser of a function's parameters."""
    from docstring_parser import parse as parse_docstring
    from jsonargparse import ArgumentParser

    docstring = parse_docstring(function.__doc__ or "")
    helps = {param.arg_name: param.description for param in docstring.params}
    about = [docstring.short_description, docstring.long_description]
    parser = ArgumentParser(
        prog=prog,
        description="\n\n".join(filter(None, about)),
        **PARSING,
    )
    types = get_type_hints(function)
    for number, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        positional = number == 0 and name != "config"
        options = _options(types[name], parameter.default, positional)
        parser.add_argument(name if positional else f"--{name}", help=helps.get(name), **options)
    return parser


def parse(parser: Any, arguments: Sequence[str], flags: Sequence[str] = ()) -> Any:
    """The parsed arguments; null if they are wrong, which two lines on standard error say.

    Args:
        parser: A parser of jsonargparse.
        arguments: The words behind the verb.
        flags: Flags that the parser takes without listing them.
    """
    for path in configs_of(arguments):
        read_settings(path)
    try:
        return parser.parse_args(list(arguments))
    except argparse.ArgumentError as error:
        print(f"{parser.prog}: {_short(str(error))}", file=sys.stderr)
    known = [option for action in parser._actions for option in action.option_strings]
    if nearest := _nearest(arguments, [*known, *flags]):
        print(f"Did you mean {nearest}?", file=sys.stderr)
    print(f"All flags: {parser.prog} --help", file=sys.stderr)
    return None


def configs_of(arguments: Sequence[str]) -> list[Path]:
    """The files that ``--config`` names; it takes settings themselves as well."""
    found = []
    for flag, following in pairwise([*arguments, ""]):
        name, equals, value = flag.partition("=")
        given = value if equals else following
        if name in ("--config", "-c") and not given.lstrip().startswith(("{", "[")):
            found.append(Path(given))
    return found


def _short(message: str) -> str:
    """The first line of a message, and what was wrong with each type that was tried."""
    first, *others = [line.strip() for line in message.splitlines() if line.strip()]
    reasons = [line for line in others if line.startswith(("- ", "Given value:"))]
    return " ".join([first, *(reasons or others)[:4]])[:600]


def _nearest(arguments: Sequence[str], known: Sequence[str]) -> str | None:
    """The real flag that a misspelt one is most like."""
    given = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    for flag in given:
        if flag not in known and (found := difflib.get_close_matches(flag, known, 1, 0.75)):
            return found[0]
    return None


def _options(annotation: Any, default: Any, positional: bool) -> dict[str, Any]:
    """How a parameter is added to a parser."""
    if annotation is bool:
        return {"action": "store_true"}
    required = default is inspect.Parameter.empty
    options: dict[str, Any] = {} if required else {"default": default}
    if required and not positional:
        options["required"] = True
    lists = [kind for kind in (annotation, *get_args(annotation)) if get_origin(kind) is list]
    if lists:
        return options | {"nargs": "+", "type": get_args(lists[0])[0]}
    return options | {"type": annotation}


def _with_underscores(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return f"--{flag[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else argument


def _explanation(error: BaseException | None) -> XECGError | None:
    """The error that xecg raised; the parser of configs wraps what a constructor raises."""
    while error is not None and not isinstance(error, XECGError):
        error = error.__cause__ or error.__context__
    return error


def _unknown_verb(arguments: Sequence[str]) -> int:
    known = [*RUN_VERBS, *VERBS]
    asked = " ".join(arguments[:2])
    found = difflib.get_close_matches(asked, known, 1) or difflib.get_close_matches(
        arguments[0], known, 1
    )
    hint = f"; did you mean xecg {found[0]}?" if found else ""
    print(f"xecg: there is no verb {arguments[0]!r}{hint} xecg --help lists them", file=sys.stderr)
    return 2


def _overview() -> str:
    verbs = RUN_VERBS | {name: verb.purpose for name, verb in VERBS.items()}
    lines = [f"  {name:<17} {purpose}" for name, purpose in verbs.items()]
    return "\n".join(
        [
            "usage: xecg VERB ...",
            "",
            "Interpretable ECG deep learning: train, explain, use the two-branch network.",
            "",
            *lines,
            "",
            "xecg VERB --help says more of one; xecg --version prints the version.",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())

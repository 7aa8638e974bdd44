"""The command ``xecg``: verbs on runs through Lightning, verbs on files through typed functions.

The help text of a verb on files is the docstring of its function, and its flags are the
parameters: the first is positional, lists take several words, booleans take none.
"""

import argparse
import difflib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from xecg.errors import XECGError
from xecg.files import read_settings

PARSING: dict[str, Any] = {"allow_abbrev": False, "exit_on_error": False}  # of every parser
RUN_VERBS = {
    "fit": "train, then test the best checkpoint",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test sets",
    "predict": "write a checkpoint's predictions for the test sets",
    "calibrate": "fit a checkpoint's probabilities and thresholds to the validation split",
}
FILE_VERBS = {  # by name: the function, imported when it is used, and what it does
    "data list": ("xecg.cli:list_databases", "the databases that can be prepared"),
    "data fetch": ("xecg.data.download:fetch", "download a database from PhysioNet"),
    "data prepare": ("xecg.data.prepare:prepare", "cut a database into windows for training"),
    "data show": ("xecg.data.store:show", "count what a store holds"),
    "classify": ("xecg.inference.classify:classify", "P(AF) of each window of ECGs, a table"),
    "explain": ("xecg.inference.explain:explain", "where each branch looks in ECGs"),
    "explain evaluate": ("xecg.inference.evaluate:evaluate", "whether such maps are faithful"),
    "explain effects": ("xecg.inference.evaluate:effects", "what each branch uses"),
    "export": ("xecg.inference.export:export", "a model as one file that explains, ONNX or .pt2"),
    "test --weights": ("xecg.inference.failures:find_failures", "where trained weights fail"),
    "push": ("xecg.hub:push", "share weights on the Hugging Face hub"),
    "view": ("xecg.view:view", "a page on this computer that explains ECGs dropped on it"),
    "study": ("xecg.study.run:run_study", "the ladder of frozen depths"),
    "study report": ("xecg.study.report:write_report", "tables, figures, a page of a study"),
}
VERBS = RUN_VERBS | {name: purpose for name, (_, purpose) in FILE_VERBS.items()}


def main(args: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status: 0 done, 1 an error, 2 a wrong command line."""
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        try:
            return _run(arguments)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # who reads the output has seen enough, as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141  # as of a program that SIGPIPE ends
    except (XECGError, ValueError) as error:
        if (cause := ours(error)) is None:
            raise
        print(f"xecg: {cause}", file=sys.stderr)
        return 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(f"xecg: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("xecg: interrupted", file=sys.stderr)
        return 130


def ours(error: BaseException | None) -> XECGError | None:
    """Returns the error of xecg behind an error: the parser wraps what a constructor raises."""
    while error is not None and not isinstance(error, XECGError):
        error = error.__cause__ or error.__context__
    return error


def _run(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: xecg VERB ...\n\nInterpretable ECG deep learning: train, explain, use it.\n")
        print(*(f"  {name:<17} {purpose}" for name, purpose in VERBS.items()), sep="\n")
        print("\nxecg VERB --help says more of one; xecg --version prints the version.")
        return 0 if arguments else 2
    if arguments == ["--version"]:
        print(f"xecg {version('xecg-lightning')}")
        return 0
    if arguments[0] == "test" and any(flag.split("=")[0] == "--weights" for flag in arguments):
        return _run_on_files("test --weights", arguments[1:])
    if arguments[0] in RUN_VERBS:
        from xecg.runs import run  # Lightning and torch take seconds to import

        return run(arguments[0], arguments[1:])
    for words in (2, 1):
        if (name := " ".join(arguments[:words])) in FILE_VERBS:
            return _run_on_files(name, arguments[words:])
    asked = (" ".join(arguments[:2]), arguments[0])
    near = [name for words in asked for name in difflib.get_close_matches(words, VERBS, 1)]
    hint = f"did you mean xecg {near[0]}? " if near else ""
    print(f"xecg: no verb {arguments[0]!r}; {hint}xecg --help lists them", file=sys.stderr)
    return 2


def _run_on_files(name: str, arguments: Sequence[str]) -> int:
    """Runs a verb on files; the exit status is 1 if its function returns a number above 0."""
    module, _, attribute = FILE_VERBS[name][0].partition(":")
    function = getattr(import_module(module), attribute)
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("xecg").setLevel(logging.INFO)
    if not arguments and not inspect.signature(function).parameters:
        function()
        return 0
    parser = function_parser(f"xecg {name.partition(' --')[0]}", function)
    given = parse(parser, [_with_underscores(argument) for argument in arguments])
    if given is None:
        return 2
    found = function(**vars(parser.instantiate(given)))
    return int(isinstance(found, int) and found > 0)


def _with_underscores(argument: str) -> str:
    flag, equals, value = argument.partition("=")
    return f"--{flag[2:].replace('-', '_')}{equals}{value}" if flag.startswith("--") else argument


def list_databases() -> None:
    """Lists the databases that can be prepared, with what they hold and their licences."""
    from xecg.data.databases import DATABASES

    for name in DATABASES:
        database = DATABASES[name]
        records = (database.__doc__ or "").strip().splitlines()[0].replace("`", "")
        lines = [database.title, records, f"licence: {database.licence}", database.url]
        print(f"{name:<12}" + f"\n{'':<12}".join(line for line in lines if line))


def function_parser(prog: str, function: Callable[..., Any]) -> Any:
    """Returns a parser of the parameters of a function, which its docstring explains."""
    from docstring_parser import parse as parse_docstring
    from jsonargparse import ArgumentParser

    docstring = parse_docstring(function.__doc__ or "")
    helps = {param.arg_name: param.description for param in docstring.params}
    about = filter(None, [docstring.short_description, docstring.long_description])
    parser = ArgumentParser(prog=prog, description="\n\n".join(about), **PARSING)
    types = get_type_hints(function)
    for number, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        positional = number == 0 and name != "config" and parameter.kind != parameter.KEYWORD_ONLY
        kinds = (types[name], *get_args(types[name]))
        lists = [kind for kind in kinds if get_origin(kind) is list]
        kind = str if positional and str in kinds else types[name]
        options: dict[str, Any] = {"help": helps.get(name), "type": kind}
        if types[name] is bool:
            options |= {"action": "store_true"}
            del options["type"]
        elif positional and parameter.default is None:
            options |= {"nargs": "?"}
        elif parameter.default is not inspect.Parameter.empty:
            # A command takes every core by itself, a script would have to be guarded for that.
            options |= {"default": None if name == "jobs" else parameter.default}
        elif not positional:
            options |= {"required": True}
        if lists:
            options |= {"nargs": "+", "type": get_args(lists[0])[0]}
        parser.add_argument(name if positional else f"--{name}", **options)
    return parser


def parse(parser: Any, arguments: Sequence[str], flags: Callable[[], Sequence[str]] = tuple) -> Any:
    """Returns the parsed arguments; null if they are wrong, after saying so on standard error.

    ``flags`` returns those that the parser takes without listing them. Raises ConfigError if a
    config cannot be read.
    """
    for path in configs_of(arguments):
        read_settings(path)
    try:
        return parser.parse_args(list(arguments))
    except argparse.ArgumentError as error:
        first, *others = [line.strip() for line in str(error).splitlines() if line.strip()]
        reasons = [line for line in others if line.startswith(("- ", "Given value:"))]
        message = " ".join([first, *(reasons or others)[:4]])[:600]
        print(f"{parser.prog}: {message}", file=sys.stderr)
    known = [*flags(), *(flag for action in parser._actions for flag in action.option_strings)]
    given = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    unknown = [flag for flag in given if flag not in known]
    near = [name for flag in unknown for name in difflib.get_close_matches(flag, known, 1, 0.75)]
    if near:
        print(f"Did you mean {near[0]}?", file=sys.stderr)
    print(f"All flags: {parser.prog} --help", file=sys.stderr)
    return None


def configs_of(arguments: Sequence[str]) -> list[Path]:
    """Returns the files that ``--config`` names; settings themselves may follow it as well."""
    found = []
    for flag, following in pairwise([*arguments, ""]):
        name, equals, value = flag.partition("=")
        given = value if equals else following
        if name in ("--config", "-c") and not given.lstrip().startswith(("{", "[")):
            found.append(Path(given))
    return found


if __name__ == "__main__":
    sys.exit(main())

"""`xecg data list | fetch | prepare | show`: from a database's name to a store one can look at.

Errors are raised as `XECGError`; the command line turns them into a message and an exit status.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from xecg.data.prepare_verb import DATA, STORES, add_prepare_arguments, prepare_named
from xecg.errors import StoreError


class _Verb(NamedTuple):
    purpose: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]


def add_data_parser(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Adds `data` with its verbs to a command line; `parsed.run` is then `run_data`."""
    purpose = "list, fetch, prepare and show databases of ECGs"
    parser = subparsers.add_parser("data", help=purpose, description=purpose)
    parser.set_defaults(run=run_data)
    verbs = parser.add_subparsers(dest="data_verb", required=True, metavar="VERB")
    for name, verb in _VERBS.items():
        verb.add_arguments(verbs.add_parser(name, help=verb.purpose, description=verb.purpose))
    return parser


def run_data(arguments: argparse.Namespace) -> int:
    """Runs a parsed `xecg data ...`; returns the exit status 0.

    Raises:
        XECGError: If it cannot be done; the message says why.
    """
    if not logging.getLogger().handlers:
        logging.basicConfig(format="%(message)s", stream=sys.stderr)
        logging.getLogger("xecg").setLevel(logging.INFO)
    _VERBS[arguments.data_verb].run(arguments)
    return 0


def _add_list_arguments(parser: argparse.ArgumentParser) -> None:
    """There are none."""


def _list(_: argparse.Namespace) -> None:
    from xecg.data.databases import DATABASES

    for name, database in DATABASES.items():
        records = (database.__doc__ or "").strip().splitlines()[0]
        lines = [database.title, records, f"licence: {database.licence}", database.url]
        print(f"{name:<12}" + f"\n{'':<12}".join(line for line in lines if line))


def _add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="name of the database (xecg data list)")
    parser.add_argument("--out", type=Path, help=f"folder for it (default: {DATA}/NAME)")


def _fetch(arguments: argparse.Namespace) -> None:
    from xecg.data.download import fetch

    root = fetch(arguments.name, arguments.out or DATA / arguments.name)
    print(f"{root}: complete; next: xecg data prepare {arguments.name} --root {root}")


def _add_show_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("store", help=f"folder of a store, or the name of one in {STORES}")
    add("--train", type=float, default=0.7, help="share of the persons or records (%(default)s)")
    add("--validation", type=float, default=0.15, help="likewise (%(default)s)")
    add("--test", type=float, default=0.15, help="likewise (%(default)s)")
    add("--split_seed", "--split-seed", type=int, default=0, help="of the split (%(default)s)")
    add("--picture", type=Path, help="PNG of example windows (default: examples.png in the store)")
    add("--picture_seed", type=int, default=0, help="another seed, other windows (%(default)s)")
    add("--overwrite", action="store_true", help="replace the file named by --picture")


def _show(arguments: argparse.Namespace) -> None:
    from xecg.data.show import describe, draw_examples
    from xecg.data.splits import Split
    from xecg.data.store import Store

    named: Path | None = arguments.picture
    if named is not None and named.exists() and not arguments.overwrite:
        raise StoreError(f"{named}: is there already; pass --overwrite, or name another --picture")
    store = Store.open(_store_folder(arguments.store))
    split = Split(arguments.train, arguments.validation, arguments.test, arguments.split_seed)
    print(describe(store, split))
    picture = named or store.path / "examples.png"
    draw_examples(store, picture, seed=arguments.picture_seed)
    print(f"\nExample windows: {picture}")


def _store_folder(name: str) -> Path:
    """The folder of that name, else the one in `STORES`."""
    folder, prepared = Path(name), STORES / name
    return prepared if prepared.is_dir() and not folder.is_dir() else folder


_VERBS = {
    "list": _Verb("the databases that can be prepared", _add_list_arguments, _list),
    "fetch": _Verb("download a database from PhysioNet", _add_fetch_arguments, _fetch),
    "prepare": _Verb(
        "cut a database into windows, ready for training", add_prepare_arguments, prepare_named
    ),
    "show": _Verb("count and draw what a store holds", _add_show_arguments, _show),
}

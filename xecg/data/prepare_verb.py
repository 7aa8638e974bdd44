"""`xecg data prepare`: its arguments, and what they mean for each kind of database."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xecg.errors import ConfigError

if TYPE_CHECKING:
    from xecg.data.databases import Database

DATA, STORES = Path("data"), Path("stores")
SYNTHETIC, FOLDER = "synthetic", "folder"

_PREPROCESSING = ("low_hz", "high_hz", "sampling_rate", "window_s", "scaling")
_SYNTHETIC = ("persons", "records_per_person", "duration_s", "af_share", "seed")
_FOLDER = ("table", "af", "not_af", "left_out")


def add_prepare_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments; what is not given is not set, and the defaults of `prepare` hold."""
    add = parser.add_argument
    add("name", help="name of the database (xecg data list)")
    add("--root", type=Path, help=f"folder that holds it (default: {DATA}/NAME)")
    add("--out", type=Path, help=f"folder of the store (default: {STORES}/NAME)")
    add("--leads", nargs="+", help="preferred, all, or names (default: what suits the database)")
    _add_optional(
        parser,
        stride_s=(float, "seconds from window to window (default: the length of a window)"),
        workers=(int, "processes (default: one per core)"),
        limit=(int, "only the first records, to try things out"),
    )
    add("--overwrite", action="store_true", help="replace a store that was made otherwise")
    _add_optional(
        parser.add_argument_group("preprocessing"),
        low_hz=(_edge, "lower edge of the band, or none (default: 0.5)"),
        high_hz=(_edge, "upper edge of the band, or none (default: 40)"),
        sampling_rate=(float, "samples per second in the store (default: 250)"),
        window_s=(float, "length of a window in seconds (default: 10)"),
        scaling=(str, "minmax or none (default: minmax)"),
    )
    _add_optional(
        parser.add_argument_group("synthetic without --root: records are made first"),
        persons=(int, "number of persons (default: 150)"),
        records_per_person=(int, "records of each person (default: 4)"),
        duration_s=(float, "length of a record in seconds (default: 30)"),
        af_share=(float, "share of the records in AF (default: 0.4)"),
        seed=(int, "another seed makes other persons (default: 0)"),
    )
    own = parser.add_argument_group("folder: records with a table of your own labels")
    _add_optional(own, table=(str, "record,label[,person] in the folder (default: records.csv)"))
    for flag, meaning in (
        ("--af", "labels that mean AF"),
        ("--not_af", "labels that mean another rhythm"),
        ("--left_out", "labels of records to be left out of AF classification"),
    ):
        own.add_argument(flag, nargs="+", metavar="LABEL", help=meaning, default=argparse.SUPPRESS)


def prepare_named(arguments: argparse.Namespace) -> None:
    """Prepares the database that the arguments name.

    Raises:
        XECGError: If it cannot be done; the message says why.
    """
    from xecg.data.prepare import prepare
    from xecg.signal.preprocessing import Preprocessing

    name = arguments.name
    _check_options(arguments)
    preprocessing = Preprocessing(**_given(arguments, _PREPROCESSING))
    out = arguments.out or STORES / name
    store = prepare(
        _database(arguments, out),
        out,
        preprocessing=preprocessing,
        leads=_leads(arguments.leads),
        overwrite=arguments.overwrite,
        **_given(arguments, ("stride_s", "workers", "limit")),
    )
    print(f"{out}: {len(store)} windows of {store.info.n_records} records")


def _database(arguments: argparse.Namespace, out: Path) -> Database:
    from xecg.data.databases import get_database

    name = arguments.name
    if name == SYNTHETIC and arguments.root is None:
        return get_database(name, _synthetic_records(arguments, out))
    return get_database(name, arguments.root or DATA / name, **_given(arguments, _FOLDER))


def _synthetic_records(arguments: argparse.Namespace, out: Path) -> Path:
    from xecg.data.synthetic_records import SyntheticSettings, synthetic_records

    leads = _leads(arguments.leads)
    chosen: dict[str, Any] = {"leads": leads} if isinstance(leads, tuple) else {}
    settings = SyntheticSettings(**_given(arguments, _SYNTHETIC), **chosen)
    return synthetic_records(Path(f"{out}-records"), settings)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuses options that would have no effect."""
    makes_records = arguments.name == SYNTHETIC and arguments.root is None
    for names, apply, what in (
        (_SYNTHETIC, makes_records, "synthetic records that are made now, without --root"),
        (_FOLDER, arguments.name == FOLDER, f"the database {FOLDER!r}"),
    ):
        if (given := _given(arguments, names)) and not apply:
            flags = ", ".join(f"--{name}" for name in given)
            raise ConfigError(f"{flags}: only for {what}; leave it out")


def _leads(names: list[str] | None) -> str | tuple[str, ...] | None:
    if names is None:
        return None
    return names[0] if names in (["preferred"], ["all"]) else tuple(names)


def _edge(text: str) -> float | None:
    return None if text.lower() == "none" else float(text)


def _add_optional(parser: argparse._ActionsContainer, **arguments: tuple[Any, str]) -> None:
    for name, (kind, meaning) in arguments.items():
        parser.add_argument(f"--{name}", type=kind, help=meaning, default=argparse.SUPPRESS)


def _given(arguments: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Those of the arguments that were given, by name."""
    return {name: getattr(arguments, name) for name in names if hasattr(arguments, name)}

"""From a database to a store, once: prepared with all cores, reused from then on."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from xecg.data.building import build_store
from xecg.data.databases.base import Database
from xecg.data.exclusive import only_one, whole_or_nothing
from xecg.data.recipe import Recipe
from xecg.data.store import Store
from xecg.data.store_info import INFO_FILE
from xecg.errors import ConfigError, StoreError
from xecg.signal.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

_LOGGED = 5  # skipped records in the log; store.json names all of them


def prepare(
    database: Database,
    out: Path | str,
    *,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
    leads: str | Sequence[str] | None = None,
    stride_s: float | None = None,
    workers: int | None = None,
    limit: int | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Store:
    """Prepares a database, or reuses the store that is there already.

    The store appears at `out` only when it is whole. Of several processes that prepare the same
    store, one works, the others wait and reuse. A record that cannot be used is skipped, logged
    and counted in the store's info. The result does not depend on the number of workers.

    Args:
        database: Where the records come from.
        out: Folder of the store.
        preprocessing: Band limits, sampling rate, window, scaling.
        leads: `"preferred"` (one per record), `"all"`, or names; None takes what suits the
            database.
        stride_s: From one window's start to the next; None sets them side by side.
        workers: Processes; None takes one per core, 1 works in this process.
        limit: Only the first records, to try things out.
        overwrite: Replace a store that is there.
        progress: Show a progress bar.

    Raises:
        StoreError: If there is a store made with other settings, or something else, at `out`.
        DataError: If no record gives a window.
        ConfigError: If a setting is out of its range.
    """
    out = Path(out).resolve()
    workers = _available_cores() if workers is None else workers
    _check(database, out, workers)
    recipe = Recipe.of(database, preprocessing, leads, stride_s, limit)
    if not overwrite and (store := _reusable(out, recipe)):
        return store
    records = database.records()[:limit]
    with only_one(out) as waited:
        if waited and (store := _made_meanwhile(out, recipe, overwrite)):
            return store
        with whole_or_nothing(out) as folder:
            info = build_store(
                database, records, recipe, folder, workers=workers, progress=progress
            )
    _log_skipped(info.skipped, len(records))
    return Store.open(out)


def _check(database: Database, out: Path, workers: int) -> None:
    if workers < 1:
        raise ConfigError(f"workers: expected at least 1, found {workers}")
    if out.is_relative_to(database.root.resolve()):
        raise ConfigError(
            f"{out} lies in the folder of the database, where a new file makes the store out of "
            "date; give another --out"
        )
    if out.exists() and not (out / INFO_FILE).is_file():
        raise StoreError(
            f"{out}: expected a store or nothing, found something else, which is never replaced; "
            "give another --out"
        )


def _reusable(out: Path, recipe: Recipe) -> Store | None:
    """The store at `out`; None if there is none. One with other settings is an error."""
    if not out.exists():
        return None
    store = Store.open(out)
    if differences := store.info.recipe.differences(recipe):
        raise StoreError(
            f"{out}: there is a store made with other settings: {'; '.join(differences)}. "
            "Pass --overwrite to replace it, or another --out"
        )
    _log.info("%s: prepared already; its %d windows are reused", out, len(store))
    return store


def _made_meanwhile(out: Path, recipe: Recipe, overwrite: bool) -> Store | None:
    """The store that the process waited for has made, if it is the one that is wanted."""
    try:
        return _reusable(out, recipe)
    except StoreError:
        if overwrite:
            return None
        raise


def _log_skipped(skipped: Mapping[str, str], n_records: int) -> None:
    for record, reason in list(skipped.items())[:_LOGGED]:
        _log.warning("skipped %s: %s", record, reason)
    if skipped:
        more = f", {_LOGGED} of them above" if len(skipped) > _LOGGED else ""
        _log.warning(
            "%d of %d records skipped%s; the store's %s names them all",
            len(skipped),
            n_records,
            more,
            INFO_FILE,
        )


def _available_cores() -> int:
    """Cores that this process may use, which on a shared machine are not all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

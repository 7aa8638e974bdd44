"""The synthetic ECGs that come with xecg: written, prepared and reused like any database."""

from functools import cache
from pathlib import Path

from filelock import FileLock

from xecg.data.databases import get_database
from xecg.data.prepare import prepare
from xecg.data.store import Store
from xecg.signal.synthetic import RECORDS_FILE, write_synthetic_database

EMBEDDED = "synthetic"
STORES = Path("stores")
PERSONS, RECORDS_PER_PERSON, DURATION_S = 150, 4, 30.0


@cache
def embedded_store(folder: Path = STORES) -> Store:
    """The store of the embedded ECGs: 150 persons, 1,800 windows.

    Made at first use, in seconds, in ``<folder>/synthetic``; the WFDB records that it is prepared
    from are kept in ``<folder>/synthetic-records``, to look at and to try other settings on.
    """
    records, out = folder / f"{EMBEDDED}-records", folder / EMBEDDED
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{EMBEDDED}.lock"):
        if not (records / RECORDS_FILE).is_file():
            write_synthetic_database(
                records,
                persons=PERSONS,
                records_per_person=RECORDS_PER_PERSON,
                duration_s=DURATION_S,
            )
    return prepare(get_database(EMBEDDED, records), out)

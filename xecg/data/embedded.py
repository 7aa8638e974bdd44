"""The synthetic ECGs that come with xecg: written, prepared and reused like any database."""

from functools import cache
from pathlib import Path

from xecg.data.databases import get_database
from xecg.data.prepare import prepare
from xecg.data.store import Store
from xecg.data.synthetic_records import synthetic_records

EMBEDDED = "synthetic"
STORES = Path("stores")


@cache
def embedded_store(folder: Path = STORES) -> Store:
    """The store of the embedded ECGs: 150 persons, 1,800 windows.

    Made at first use, in seconds, in ``<folder>/synthetic``; the WFDB records that it is prepared
    from are kept in ``<folder>/synthetic-records``, to look at and to try other settings on.
    ``xecg data prepare synthetic`` makes the same.
    """
    records = synthetic_records(folder / f"{EMBEDDED}-records")
    return prepare(get_database(EMBEDDED, records), folder / EMBEDDED)

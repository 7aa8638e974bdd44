"""``xecg data prepare | show``: from a database's name to a store to look at."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from xecg.data.databases import get_database
from xecg.data.databases.synthetic import SyntheticSettings, synthetic_records
from xecg.errors import ConfigError, StoreError
from xecg.signal.preprocessing import Preprocessing

STORES = Path("stores")


def prepare(
    name: str,
    root: Path | None = None,
    out: Path | None = None,
    leads: list[str] | None = None,
    stride_s: float | None = None,
    preprocessing: Preprocessing = Preprocessing(),  # noqa: B008 (frozen)
    limit: int | None = None,
    overwrite: bool = False,
    jobs: int | None = None,
    cluster: str | None = None,
    table: str | None = None,
    af: list[str] | None = None,
    not_af: list[str] | None = None,
    left_out: list[str] | None = None,
    synthetic: SyntheticSettings | None = None,
) -> None:
    """Cuts a database into windows, ready for training, validation and test.

    A store of the same files and settings is used again. A record that cannot be used is skipped
    and counted. A command that was killed continues when it is given again.

    Args:
        name: Name of the database (``xecg data list``), or class path of your own.
        root: Folder that holds the database; ``data/NAME`` by default.
        out: Folder of the store; ``stores/NAME`` by default.
        leads: ``preferred`` (one per record), ``all``, or names; by default what suits NAME.
        stride_s: Seconds from window to window; the length of a window by default.
        preprocessing: Band (null for no edge), sampling rate, length and scaling of the windows.
        limit: Number of records to take, to try things out; all by default.
        overwrite: Replace a store that was made with other settings.
        jobs: Number of processes; one per core by default.
        cluster: Address or scheduler file of a dask cluster, in place of processes.
        table: Folder: table record,label[,person][,start_s,end_s]; ``records.csv`` by default.
        af: Folder: labels that mean AF; by default A, AF, AFIB, 1, true.
        not_af: Folder: labels that mean another rhythm; by default N, O, NSR, SR, non-AF, normal,
            other, 0, false.
        left_out: Folder: labels of records to be left out of AF classification.
        synthetic: Synthetic ECGs that are made now: persons, records, AF.
    """
    from xecg.data.prepare import prepare as prepare_database

    lead = leads[0] if leads in (["preferred"], ["all"]) else leads
    given = {"table": table, "af": af, "not_af": not_af, "left_out": left_out}
    options = {key: value for key, value in given.items() if value is not None}
    makes = name == "synthetic" and root is None
    if options and name != "folder":
        raise ConfigError(f"--{', --'.join(options)}: only for the database 'folder'; leave it out")
    if synthetic is not None and not makes:
        raise ConfigError("--synthetic: only for 'synthetic' without --root; leave it out")
    out = out or STORES / name.rpartition(".")[2]
    if makes:
        settings = synthetic or SyntheticSettings()
        settings = replace(settings, leads=tuple(lead)) if isinstance(lead, list) else settings
        root = synthetic_records(Path(f"{out}-records"), settings)
    how: dict[str, Any] = {"limit": limit, "overwrite": overwrite, "jobs": jobs, "cluster": cluster}
    how |= {"preprocessing": preprocessing, "leads": lead, "stride_s": stride_s}
    database = get_database(name, root or Path("data") / name, **options)
    store = prepare_database(database, out, **how)
    print(f"{out}: {len(store)} windows of {store.info.n_records} records")


def show(
    store: str,
    train: float = 0.7,
    validation: float = 0.15,
    test: float = 0.15,
    split_seed: int = 0,
    picture: Path | None = None,
    picture_seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Counts what a store holds by class and split, and draws some of its windows.

    Args:
        store: Folder of a store, or the name of one in ``stores``.
        train: Share of the persons or records that is trained on.
        validation: Share that selects the epoch.
        test: Share that is tested on.
        split_seed: Random seed of the split.
        picture: PNG of example windows; ``examples.png`` in the store by default.
        picture_seed: Random seed of the windows that are drawn.
        overwrite: Replace the file named by ``--picture``.
    """
    from xecg.data.show import describe, draw_examples
    from xecg.data.splits import Split
    from xecg.data.store import Store

    if picture is not None and picture.exists() and not overwrite:
        raise StoreError(f"{picture}: is there already; pass --overwrite, or name another picture")
    named = Path(store).is_dir() or not (STORES / store).is_dir()
    opened = Store.open(Path(store) if named else STORES / store)
    print(describe(opened, Split(train, validation, test, split_seed)))
    picture = picture or opened.path / "examples.png"
    draw_examples(opened, picture, seed=picture_seed)
    print(f"\nExample windows: {picture}")

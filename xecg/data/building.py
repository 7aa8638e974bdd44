"""The work of a preparation: records in, windows out, what could not be used counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tqdm import tqdm

from xecg.data.databases.base import Database
from xecg.data.parallel import ordered_map
from xecg.data.recipe import Recipe
from xecg.data.store_info import StoreInfo
from xecg.data.store_writer import StoreWriter
from xecg.data.windowing import LabelledWindows, concatenate, labelled_windows
from xecg.errors import DataError, RecordError, XECGError

_LARGEST_CHUNK = 16  # records a worker handles at once: enough that sending them costs nothing
_CHUNKS_PER_WORKER = 8  # at least, so that the last chunk does not keep the others waiting


@dataclass(frozen=True)
class PreparedChunk:
    """What became of some records.

    Args:
        windows: Of all records that could be used; None if there is no such record.
        skipped: Why the others could not, by record.
    """

    windows: LabelledWindows | None
    skipped: dict[str, str]


def build_store(
    database: Database,
    records: Sequence[str],
    recipe: Recipe,
    folder: Path,
    *,
    workers: int,
    progress: bool,
) -> StoreInfo:
    """Prepares records into a new store.

    Args:
        database: Where the records come from.
        records: Their names.
        recipe: The settings.
        folder: The folder to write; must not exist.
        workers: Number of processes.
        progress: Show a progress bar.

    Returns:
        The info of the store, as written.

    Raises:
        DataError: If no record gives a window.
    """
    size = max(1, min(_LARGEST_CHUNK, len(records) // (_CHUNKS_PER_WORKER * workers)))
    chunks = [records[i : i + size] for i in range(0, len(records), size)]
    skipped: dict[str, str] = {}
    with (
        StoreWriter(folder, recipe.preprocessing.window_samples) as writer,
        tqdm(total=len(records), desc=database.name, unit="record", disable=not progress) as bar,
    ):
        prepared = ordered_map(partial(prepare_chunk, database, recipe), chunks, workers)
        for names, chunk in zip(chunks, prepared, strict=True):
            if chunk.windows is not None:
                writer.append(chunk.windows)
            skipped |= chunk.skipped
            bar.update(len(names))
        if not writer.n_windows:
            raise _nothing_usable(database, len(records), skipped, writer.left_out)
        writer.write_index()
    info = StoreInfo(
        recipe=recipe,
        title=database.title,
        licence=database.licence,
        citation=database.citation,
        n_windows=writer.n_windows,
        n_annotated=writer.n_annotated,
        n_records=len(records) - len(skipped),
        skipped=skipped,
        left_out=dict(writer.left_out),
    )
    info.write(folder)
    return info


def prepare_chunk(database: Database, recipe: Recipe, records: Sequence[str]) -> PreparedChunk:
    """Reads, cuts and labels records; one that cannot be used is skipped with its reason."""
    windows = []
    skipped = {}
    for record in records:
        try:
            windows.append(_prepare_record(database, recipe, record))
        except (XECGError, OSError) as error:
            skipped[record] = str(error)
    return PreparedChunk(concatenate(windows) if windows else None, skipped)


def _prepare_record(database: Database, recipe: Recipe, record: str) -> LabelledWindows:
    try:
        labelled = database.read(record)
    except (XECGError, OSError):
        raise
    except Exception as error:
        # Damaged bytes bring parsers to raise anything. It is counted and told, and if no record
        # can be read, it is the message that the user sees.
        raise RecordError(f"cannot be read ({type(error).__name__}: {error})") from error
    try:
        return labelled_windows(labelled, recipe.preprocessing, recipe.leads, recipe.stride_s)
    except Exception as error:
        error.add_note(f"while record {record} of {database.name} was cut into windows")
        raise


def _nothing_usable(
    database: Database, n_records: int, skipped: Mapping[str, str], left_out: Mapping[str, int]
) -> DataError:
    reasons = Counter(left_out)
    example = next(iter(skipped.items()), None)
    found = [f"{len(skipped)} records that could not be used"] if skipped else []
    found += [f"{count} windows left out: {reason}" for reason, count in reasons.most_common()]
    shown = "; ".join(found) or "nothing"
    return DataError(
        f"{database.name}: expected at least one usable window in the {n_records} records of "
        f"{database.root}, found {shown}"
        + (f". The first of them, {example[0]}: {example[1]}" if example else "")
    )

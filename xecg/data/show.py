"""What a store holds, in words and numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from xecg.data.counts import ClassCounts, Count, count_classes
from xecg.data.splits import PARTS, Split, split_rows
from xecg.data.store import Store
from xecg.signal.heartbeats import MIN_BEATS

_SKIPPED, _LEADS = 3, 12  # how many are named
_COLUMN = 9
_WHOLE = "whole store"


def describe(store: Store, split: Split) -> str:
    """The page of text that `xecg data show` prints.

    Args:
        store: The store.
        split: The split to count by.
    """
    rows: dict[str, NDArray[np.int64]] = {_WHOLE: np.arange(len(store))}
    rows.update({str(part): found for part, found in split_rows(store.index, split).items()})
    counts = count_classes(store.index, rows)
    known_persons = bool((store.index.person != "").any())
    shares = ", ".join(f"{part} {share:g}" for part, share in zip(PARTS, split.shares, strict=True))
    unit = "person" if known_persons else "record"
    return "\n".join(
        [
            *_origin(store),
            *_windows(store),
            *_omissions(store),
            "",
            f"Split by {unit}, seed {split.seed}: {shares}",
            "",
            *_table(counts, (*rows,), known_persons),
        ]
    )


def _origin(store: Store) -> list[str]:
    info = store.info
    return [
        str(store.path),
        f"  {info.title}{f', version {v}' if (v := info.recipe.database_version) else ''}",
        f"  licence: {info.licence}",
        *([f"  cite: {info.citation}"] if info.citation else []),
    ]


def _windows(store: Store) -> list[str]:
    info, index = store.info, store.index
    settings = info.preprocessing
    band = f"{_hertz(settings.low_hz)} to {_hertz(settings.high_hz)}"
    few = int((index.n_beats < MIN_BEATS).sum())
    annotated = int(index.reference_beats.sum())
    return [
        f"  windows: {len(store)} of {settings.window_s:g} s, one every {info.stride_s:g} s, "
        f"at {settings.sampling_rate:g} Hz; band {band}; scaling {settings.scaling}",
        f"  leads: {_leads(index.lead)}",
        f"  heartbeats: annotated in {annotated} windows, detected in {len(store) - annotated}; "
        f"fewer than {MIN_BEATS} in {few}; nothing but sinus beats in "
        f"{int(index.normal_beats.sum())}",
        f"  waves: annotated in {info.n_annotated} windows"
        + (f", {_mean_share(store):.0%} of their time" if info.n_annotated else ""),
    ]


def _omissions(store: Store) -> list[str]:
    info = store.info
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(info.left_out.items()))
    lines = [f"  windows left out: {left_out or 'none'}", f"  records skipped: {len(info.skipped)}"]
    lines += [f"    {record}: {reason}" for record, reason in list(info.skipped.items())[:_SKIPPED]]
    if len(info.skipped) > _SKIPPED:
        lines.append("    ... (store.json names them all)")
    return lines


def _table(counts: Sequence[ClassCounts], parts: Sequence[str], persons: bool) -> list[str]:
    columns = ["windows", "records", "persons"] if persons else ["windows", "records"]
    width = max(len("class"), *(len(_label(line)) for line in counts))
    block = _COLUMN * len(columns)
    head = " " * width + "".join(f"{part:>{block}}" for part in parts)
    names = "class".ljust(width) + "".join(f"{name:>{_COLUMN}}" for _ in parts for name in columns)
    body = [
        _label(line).ljust(width) + "".join(_cells(line.counts[part], persons) for part in parts)
        for line in counts
    ]
    return [head.rstrip(), names, *body]


def _label(line: ClassCounts) -> str:
    return f"  {line.rhythm}" if line.rhythm else line.meaning


def _cells(count: Count, persons: bool) -> str:
    numbers = [count.windows, count.records, *([count.persons] if persons else [])]
    return "".join(f"{number:>{_COLUMN}}" for number in numbers)


def _leads(leads: NDArray[np.str_]) -> str:
    counted = Counter(leads.tolist()).most_common(_LEADS)
    others = len(set(leads.tolist())) - len(counted)
    if len({n for _, n in counted}) == 1 and not others:
        return ", ".join(lead for lead, _ in counted)
    named = ", ".join(f"{lead} ({n} windows)" for lead, n in counted)
    return f"{named} and {others} others" if others else named


def _mean_share(store: Store) -> float:
    shares = store.index.annotated_share[store.index.wave_row >= 0]
    return float(shares.mean())


def _hertz(edge: float | None) -> str:
    return "no limit" if edge is None else f"{edge:g} Hz"

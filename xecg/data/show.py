"""What a store holds, in words and numbers."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from xecg.data.splits import PARTS, Split, split_rows
from xecg.data.store import MEANINGS, ClassCounts, Count, Index, Store, count_classes
from xecg.errors import StoreError
from xecg.files import write_whole
from xecg.signal.heartbeats import MIN_BEATS
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, WAVE_NAMES, P, T

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

N_EXAMPLES = 8

_INK, _QUIET, _GRID = "#1f2430", "#6b7280", "#f0c9c2"
_COLOURS = {P: "#2f7fd0", QRS: "#e58a1f", T: "#3f9a5f", NOT_ANNOTATED: "#9aa0aa"}
_R_PEAK_COLOUR = "#b3264f"


def choose_examples(index: Index, n: int = N_EXAMPLES, seed: int = 0) -> list[int]:
    """Rows to show: rhythms take turns, each with windows of which more is known first.

    Args:
        index: The index of a store.
        n: How many rows, if there are as many.
        seed: Another seed chooses others.

    Returns:
        Rows, those of one rhythm together.
    """
    order = np.random.default_rng(seed).permutation(len(index))
    order = order[np.argsort(index.wave_row[order] < 0, kind="stable")]
    rhythms, windows = np.unique(index.rhythm, return_counts=True)
    by_rhythm = [
        _new_records_first(index, order[index.rhythm[order] == rhythm])[:n]
        for rhythm in rhythms[np.argsort(-windows, kind="stable")][:n]
    ]
    in_turn = (row for rows in zip_longest(*by_rhythm) for row in rows if row is not None)
    chosen = set(islice(in_turn, n))
    return [row for rows in by_rhythm for row in rows if row in chosen]


def _new_records_first(index: Index, rows: NDArray[np.int64]) -> list[int]:
    _, first = np.unique(index.record[rows], return_index=True)
    again = np.setdiff1d(np.arange(len(rows)), first)
    return [int(row) for row in rows[[*np.sort(first), *again]]]


def draw_examples(store: Store, path: Path, *, seed: int = 0) -> Path:
    """Draws a page of example windows as PNG.

    Args:
        store: The store.
        path: The file to write; an existing one is replaced.
        seed: Another seed chooses other windows.

    Raises:
        StoreError: If the file cannot be written.
    """
    from matplotlib.figure import Figure

    rows = choose_examples(store.index, seed=seed)
    figure = Figure(figsize=(11, 1.3 * len(rows) + 1), dpi=110, layout="constrained")
    figure.suptitle(f"{store.info.title}: examples", x=0.01, ha="left", fontsize=12, color=_INK)
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        _draw_window(axes, store, row)
    panels[-1].set_xlabel("time in the window / s", color=_QUIET, fontsize=8)
    figure.legend(
        handles=_legend(store, rows),
        loc="outside lower right",
        ncols=6,
        frameon=False,
        fontsize=8,
        labelcolor=_INK,
    )
    picture = io.BytesIO()
    figure.savefig(picture, format="png")
    try:
        write_whole(path, picture.getvalue())
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); name another --picture") from error
    return path


def _draw_window(axes: Axes, store: Store, row: int) -> None:
    index, rate = store.index, store.info.preprocessing.sampling_rate
    signal = np.asarray(store.signals[row])
    time_s = np.arange(len(signal)) / rate
    axes.set_title(_caption(index, row), loc="left", fontsize=8, color=_INK, pad=3)
    axes.plot(time_s, signal, color=_INK, linewidth=0.8)
    r_peaks = store.r_peaks(row)
    low, high = float(signal.min()), float(signal.max())
    above = high + 0.1 * (high - low)
    axes.plot(time_s[r_peaks], np.full(len(r_peaks), above), "v", color=_R_PEAK_COLOUR, ms=4)
    for start, stop, code in runs(_wave_codes(store, row)):
        if colour := _COLOURS.get(code):
            axes.axvspan(start / rate, stop / rate, color=colour, alpha=0.3, linewidth=0)
    _draw_paper(axes, len(signal) / rate)
    axes.set_ylim(low - 0.08 * (high - low), high + 0.22 * (high - low))


def _wave_codes(store: Store, row: int) -> NDArray[np.uint8]:
    """`(time,)` the wave codes of a window; all other where the whole store has none."""
    if (wave_row := int(store.index.wave_row[row])) >= 0:
        return np.asarray(store.waves[wave_row], dtype=np.uint8)
    code = NOT_ANNOTATED if store.info.n_annotated else OTHER
    return np.full(store.signals.shape[1], code, dtype=np.uint8)


def _draw_paper(axes: Axes, duration_s: float) -> None:
    axes.set_xlim(0, duration_s)
    axes.set_xticks(np.arange(0, duration_s + 1e-9, max(1.0, round(duration_s / 10))))
    axes.set_yticks([])
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.tick_params(length=0, labelsize=8, labelcolor=_QUIET)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)


def runs(codes: NDArray[np.uint8]) -> Iterator[tuple[int, int, int]]:
    """Stretches of one code: first sample, the one after the last, the code.

    Args:
        codes: `(time,)`.
    """
    changes = np.flatnonzero(np.diff(codes)) + 1
    edges = [0, *changes.tolist(), len(codes)]
    for start, stop in pairwise(edges):
        yield start, stop, int(codes[start])


def _caption(index: Index, row: int) -> str:
    rmssd = float(index.rmssd_ms[row])
    facts = [
        f"{index.record[row]}, lead {index.lead[row]}, from {index.start_s[row]:g} s",
        f"{index.rhythm[row]} ({MEANINGS[int(index.af[row])]})",
        f"{index.n_beats[row]} beats {'annotated' if index.reference_beats[row] else 'detected'}",
        "RMSSD unknown" if np.isnan(rmssd) else f"RMSSD {rmssd:.0f} ms",
    ]
    return "   |   ".join(facts)


def _legend(store: Store, rows: list[int]) -> list[Artist]:
    """One handle for everything that the page shows."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    codes = {code for row in rows for code in np.unique(_wave_codes(store, row)).tolist()}
    r_peak = Line2D([], [], color=_R_PEAK_COLOUR, marker="v", ls="", ms=4, label="R peak")
    names = {code: WAVE_NAMES[code] for code in (P, QRS, T)} | {NOT_ANNOTATED: "not annotated"}
    return [
        r_peak,
        *(
            Patch(color=_COLOURS[code], alpha=0.3, linewidth=0, label=name)
            for code, name in names.items()
            if code in codes
        ),
    ]


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

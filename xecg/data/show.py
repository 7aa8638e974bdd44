"""Text and picture of a store: counts by class and part of the split, some of its windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xecg.data.splits import PARTS, Split, split_stores
from xecg.data.store import Store
from xecg.errors import StoreError
from xecg.files import whole_file
from xecg.signal.heartbeats import MIN_BEATS
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, WAVE_NAMES, P, T

N_EXAMPLES = 8
MEANINGS = {1: "AF", 0: "not AF", -1: "left out"}
_LISTED, _SKIPPED, _LEADS = 8, 3, 12  # numbers of rhythms, records and leads that are named
_INK, _QUIET, _R_PEAK = "#1f2430", "#6b7280", "#b3264f"
_COLOURS = {P: "#2f7fd0", QRS: "#e58a1f", T: "#3f9a5f", NOT_ANNOTATED: "#9aa0aa"}


def show(
    store: str,
    split: Split = Split(),  # noqa: B008 (frozen)
    picture: Path | None = None,
    picture_seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Counts what a store holds by class and split, and draws some of its windows.

    Args:
        store: Folder of a store, or the name of one in ``stores``.
        split: Shares of the persons or records, and seed, by which is counted.
        picture: PNG of example windows; ``examples.png`` in the store by default.
        picture_seed: Random seed of the windows that are drawn.
        overwrite: Replace the file named by ``--picture``.
    """
    if picture is not None and picture.exists() and not overwrite:
        raise StoreError(f"{picture}: is there already; pass --overwrite, or name another picture")
    by_name = Path("stores") / store
    opened = Store.open(by_name if by_name.is_dir() and not Path(store).is_dir() else store)
    print(describe(opened, split))
    picture = picture or opened.path / "examples.png"
    draw_examples(opened, picture, seed=picture_seed)
    print(f"\nExample windows: {picture}")


def describe(store: Store, split: Split) -> str:
    """Returns the page of text that ``xecg data show`` prints, with counts by a split."""
    info, index, settings = store.info, _table(store), store.info.preprocessing
    edges = settings.low_hz, settings.high_hz
    low, high = ("no limit" if edge is None else f"{edge:g} Hz" for edge in edges)
    annotated = int(index["reference_beats"].sum())
    share = index["annotated_share"][index["wave_row"] >= 0].mean()
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(info.left_out.items()))
    skipped = [f"    {record}: {reason}" for record, reason in info.skipped.items()]
    version = info.recipe.database_version
    shares = ", ".join(f"{part} {share:g}" for part, share in zip(PARTS, split.shares, strict=True))
    unit = "person" if (index["person"] != "").any() else "record"
    lines = [
        str(store.path),
        f"  {info.title}{f', version {version}' if version else ''}",
        f"  licence: {info.licence}",
        *([f"  cite: {info.citation}"] if info.citation else []),
        f"  windows: {len(store)} of {settings.window_s:g} s, one every "
        f"{info.recipe.stride_s:g} s, at {settings.sampling_rate:g} Hz; band {low} to {high}; "
        f"scaling {settings.scaling}",
        f"  leads: {_leads(index['lead'])}",
        f"  heartbeats: annotated in {annotated} windows, detected in {len(store) - annotated}; "
        f"fewer than {MIN_BEATS} in {(index['n_beats'] < MIN_BEATS).sum()}; nothing but sinus "
        f"beats in {index['normal_beats'].sum()}",
        f"  waves: annotated in {info.n_annotated} windows"
        + (f", {share:.0%} of their time" if info.n_annotated else ""),
        f"  windows left out: {left_out or 'none'}",
        f"  records skipped: {len(skipped)}",
        *skipped[:_SKIPPED],
        *["    ... (store.json names them all)"] * (len(skipped) > _SKIPPED),
        f"\nSplit by {unit}, seed {split.seed}: {shares}\n",
        count_classes(store, split).to_string(),
    ]
    return "\n".join(lines)


def count_classes(store: Store, split: Split) -> pd.DataFrame:
    """Returns numbers of windows, records and, where known, persons, by class and part of a split.

    Rows are all windows, then each meaning of the labels, followed by its most frequent rhythms.
    """
    index = _table(store)
    lines = [("all", index["af"].isin(MEANINGS))]
    for af, meaning in MEANINGS.items():
        of_meaning = index["af"] == af
        rhythms = index["rhythm"][of_meaning].value_counts().index
        named = {f"  {rhythm}": [rhythm] for rhythm in rhythms[:_LISTED]}
        named[f"  {len(rhythms) - _LISTED} others"] = list(rhythms[_LISTED:])
        lines.append((meaning, of_meaning))
        lines += [(line, of_meaning & index["rhythm"].isin(some)) for line, some in named.items()]
    lines = [(line, chosen) for line, chosen in lines if chosen.any()]
    known = index["person"].replace("", None)
    columns: dict[tuple[str, str], list[int]] = {}
    parts = {"whole store": np.arange(len(store))} | split_stores([("", store.index)], [split])[0]
    for part, rows in parts.items():
        within = [rows[chosen.to_numpy()[rows]] for _, chosen in lines]
        columns[part, "windows"] = [len(some) for some in within]
        columns[part, "records"] = [index["record"][some].nunique() for some in within]
        if known.notna().any():
            columns[part, "persons"] = [known[some].nunique() for some in within]
    return pd.DataFrame(columns, pd.Index([line for line, _ in lines], name="class"))


def choose_examples(store: Store, n: int = N_EXAMPLES, seed: int = 0) -> list[int]:
    """Returns at most ``n`` rows: rhythms take turns, annotated windows and new records lead."""
    index = _table(store)
    rank = {rhythm: i for i, rhythm in enumerate(index["rhythm"].value_counts().index)}
    found = index.assign(rank=index["rhythm"].map(rank), bare=index["wave_row"] < 0)
    found = found.sample(frac=1, random_state=seed).sort_values("bare", kind="stable")
    found["again"] = found.duplicated(["rhythm", "record"])
    found = found.sort_values("again", kind="stable")
    found["turn"] = found.groupby("rank").cumcount()
    chosen = found.sort_values(["turn", "rank"]).head(n)
    return chosen.sort_values(["rank", "turn"]).index.tolist()


def draw_examples(store: Store, path: Path, *, seed: int = 0) -> None:
    """Draws windows with R peaks and waves as PNG, or raises StoreError if it cannot be written."""
    from matplotlib.figure import Figure

    rows, index = choose_examples(store, seed=seed), _table(store)
    figure = Figure(figsize=(11, 1.3 * len(rows) + 1), dpi=110, layout="constrained")
    figure.suptitle(f"{store.info.title}: examples", x=0.01, ha="left", parse_math=False)
    handles: dict[str, Any] = {}
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        handles |= _draw_window(axes, store, row, int(index["wave_row"][row]))
        axes.set_title(_caption(index.iloc[row]), loc="left", fontsize=8, pad=3, parse_math=False)
    panels[-1].set_xlabel("time in the window / s", color=_QUIET, fontsize=8)
    looks: dict[str, Any] = {"ncols": 6, "frameon": False, "fontsize": 8}
    figure.legend(handles.values(), handles.keys(), loc="outside lower right", **looks)
    try:
        with whole_file(path, "wb") as file:
            figure.savefig(file, format="png")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error}); name another --picture") from error


def _draw_window(axes: Any, store: Store, row: int, wave_row: int) -> dict[str, Any]:
    """Draws one window; returns what the legend names."""
    signal, rate = np.asarray(store.signals[row]), store.info.preprocessing.sampling_rate
    time_s = np.arange(len(signal)) / rate
    low, high = float(signal.min()), float(signal.max())
    peaks_s = store.r_peaks(row) / rate
    axes.plot(time_s, signal, color=_INK, linewidth=0.8)
    above = np.full(len(peaks_s), high + 0.1 * (high - low))
    handles = {"R peak": axes.plot(peaks_s, above, "v", color=_R_PEAK, ms=4)[0]}
    nothing = NOT_ANNOTATED if store.info.n_annotated else OTHER
    codes = store.waves[wave_row] if wave_row >= 0 else np.full(len(signal), nothing)
    style = {"alpha": 0.3, "linewidth": 0, "transform": axes.get_xaxis_transform()}
    for code, colour in _COLOURS.items():
        if (at := codes == code).any():
            name = "not annotated" if code == NOT_ANNOTATED else WAVE_NAMES[code]
            handles[name] = axes.fill_between(time_s, 0, 1, where=at, color=colour, **style)
    axes.set(xlim=(0, len(signal) / rate), yticks=[])
    axes.set_ylim(low - 0.08 * (high - low), high + 0.22 * (high - low))
    axes.grid(axis="x", color="#f0c9c2", linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=_QUIET)
    return handles


def _caption(window: pd.Series) -> str:
    rmssd = "unknown" if np.isnan(window["rmssd_ms"]) else f"{window['rmssd_ms']:.0f} ms"
    beats = "annotated" if window["reference_beats"] else "detected"
    place = f"{window['record']}, lead {window['lead']}, from {window['start_s']:g} s"
    rhythm = f"{window['rhythm']} ({MEANINGS[window['af']]})"
    return "   |   ".join([place, rhythm, f"{window['n_beats']} beats {beats}", f"RMSSD {rmssd}"])


def _leads(leads: pd.Series) -> str:
    counted = leads.value_counts()
    if counted.nunique() == 1 and len(counted) <= _LEADS:
        return ", ".join(counted.index)
    named = ", ".join(f"{lead} ({n} windows)" for lead, n in counted.head(_LEADS).items())
    others = len(counted) - _LEADS
    return f"{named} and {others} others" if others > 0 else named


def _table(store: Store) -> pd.DataFrame:
    """The index without categories: only what occurs is counted."""
    texts = store.index.select_dtypes("category")
    return store.index.assign(**{str(n): c.astype(str) for n, c in texts.items()})

"""Text and picture of a store: counts by class and part of the split, some of its windows."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from xecg.data.splits import PARTS, Split, split_stores
from xecg.data.store import COLUMNS, Store
from xecg.errors import StoreError
from xecg.files import whole_file
from xecg.signal.heartbeats import MIN_BEATS
from xecg.signal.waves import NOT_ANNOTATED, OTHER, QRS, WAVE_NAMES, P, T

N_EXAMPLES = 8
MEANINGS = {1: "AF", 0: "not AF", -1: "left out"}
_LISTED, _LEADS = 8, 12  # numbers of rhythms and leads that are named
_COLOURS = {P: "#2f7fd0", QRS: "#e58a1f", T: "#3f9a5f", NOT_ANNOTATED: "#9aa0aa"}


def show(
    store: str,
    split: Split = Split(),  # noqa: B008 (frozen)
    picture: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Counts what a store holds by class and split, and draws some of its windows.

    Args:
        store: Folder of a store, or the name of one in ``stores``.
        split: Shares of the persons or records by which is counted; its seed draws windows, too.
        picture: PNG of example windows; ``examples.png`` in the store by default.
        overwrite: Replace the file named by ``--picture``.
    """
    if picture is not None and picture.exists() and not overwrite:
        raise StoreError(f"{picture}: is there already; pass --overwrite, or name another picture")
    by_name = Path("stores") / store
    opened = Store.open(by_name if by_name.is_dir() and not Path(store).is_dir() else store)
    print(describe(opened, split))
    picture = picture or opened.path / "examples.png"
    draw_examples(opened, picture, seed=split.seed)
    print(f"\nExample windows: {picture}")


def describe(store: Store, split: Split) -> str:
    """Returns the page of text that ``xecg data show`` prints, with counts by a split."""
    info, index, settings = store.info, _table(store), store.info.preprocessing
    edges = settings.low_hz, settings.high_hz
    low, high = ("no limit" if edge is None else f"{edge:g} Hz" for edge in edges)
    leads = [f"{lead} ({n})" for lead, n in index["lead"].value_counts().items()]
    left_out = [f"{count} {reason}" for reason, count in sorted(info.left_out.items())]
    shares = ", ".join(f"{part} {share:g}" for part, share in zip(PARTS, split.shares, strict=True))
    unit = "person" if (index["person"] != "").any() else "record"
    return f"""{store.path}
  {info.title}, version {info.recipe.database_version or "unknown"}
  licence: {info.licence}
  cite: {info.citation}
  windows: {len(store)} of {settings.window_s:g} s, one every {info.recipe.stride_s:g} s, \
at {settings.sampling_rate:g} Hz; band {low} to {high}; scaling {settings.scaling}
  leads: {", ".join(leads[:_LEADS]) + ", ..." * (len(leads) > _LEADS)}
  heartbeats: annotated in {index["reference_beats"].sum()} windows, detected in \
{(~index["reference_beats"]).sum()}; fewer than {MIN_BEATS} in \
{(index["n_beats"] < MIN_BEATS).sum()}; nothing but sinus beats in {index["normal_beats"].sum()}
  waves: annotated in {info.n_annotated} windows, {index["annotated_share"].mean():.0%} of all time
  windows left out: {", ".join(left_out) or "none"}
  records skipped: {len(info.skipped)} (store.json says why)

Split by {unit}, seed {split.seed}: {shares}

{count_classes(store, split).to_string()}"""


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
    found = _table(store).assign(bare=store.index["wave_row"] < 0).sample(frac=1, random_state=seed)
    found = found.sort_values("bare", kind="stable")
    found["again"] = found.duplicated(["rhythm", "record"])
    found = found.sort_values("again", kind="stable")
    found["turn"] = found.groupby("rhythm").cumcount()
    chosen = found.sort_values("turn", kind="stable").head(n)
    return chosen.sort_values(["rhythm", "turn"]).index.tolist()


def draw_examples(store: Store, path: Path, *, seed: int = 0) -> None:
    """Draws windows with R peaks and waves as PNG; raises UnwritableError if it cannot write it."""
    from matplotlib.figure import Figure

    rows = choose_examples(store, seed=seed)
    figure = Figure(figsize=(11, 1.3 * len(rows) + 1), dpi=110, layout="constrained")
    figure.suptitle(f"{store.info.title}: examples", x=0.01, ha="left", parse_math=False)
    handles: dict[str, Any] = {}
    panels = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for axes, row in zip(panels, rows, strict=True):
        handles |= _draw_window(axes, store, row)
    panels[-1].set_xlabel("time in the window / s", fontsize=8)
    looks: dict[str, Any] = {"ncols": 6, "frameon": False, "fontsize": 8}
    figure.legend(handles.values(), handles.keys(), loc="outside lower right", **looks)
    with whole_file(path, "wb") as file:
        figure.savefig(file, format="png")


def _draw_window(axes: Any, store: Store, row: int) -> dict[str, Any]:
    """Draws one window; returns what the legend names."""
    signal, rate = np.asarray(store.signals[row]), store.info.preprocessing.sampling_rate
    window, time_s, peaks = store.index.iloc[row], np.arange(len(signal)) / rate, store.r_peaks(row)
    rhythm = f"{window['rhythm']} ({MEANINGS[window['af']]})"
    beats = f"{len(peaks)} beats {'annotated' if window['reference_beats'] else 'detected'}"
    place = f"{window['record']}, lead {window['lead']}, from {window['start_s']:g} s"
    title = f"{place}   |   {rhythm}   |   {beats}   |   RMSSD {window['rmssd_ms']:.0f} ms"
    axes.set_title(title, loc="left", fontsize=8, pad=3, parse_math=False)
    axes.plot(time_s, signal, color="#1f2430", linewidth=0.8)
    above = np.full(len(peaks), 1.1 * signal.max() - 0.1 * signal.min())
    handles = {"R peak": axes.plot(peaks / rate, above, "v", color="#b3264f", ms=4)[0]}
    nothing = NOT_ANNOTATED if store.info.n_annotated else OTHER
    wave_row = window["wave_row"]
    codes = store.waves[wave_row] if wave_row >= 0 else np.full(len(signal), nothing)
    style = {"alpha": 0.3, "linewidth": 0, "transform": axes.get_xaxis_transform()}
    for code, colour in _COLOURS.items():
        if (at := codes == code).any():
            name = "not annotated" if code == NOT_ANNOTATED else WAVE_NAMES[code]
            handles[name] = axes.fill_between(time_s, 0, 1, where=at, color=colour, **style)
    axes.set(xlim=(0, len(signal) / rate), yticks=[])
    axes.grid(axis="x", color="#f0c9c2", linewidth=0.6)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0, labelsize=8)
    return handles


def _table(store: Store) -> pd.DataFrame:
    """The index without categories: only what occurs is counted."""
    return store.index.astype({name: str for name, kind in COLUMNS.items() if kind == "category"})

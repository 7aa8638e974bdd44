"""Where trained weights fail, on windows that they did not learn from: tables and a page."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError
from xecg.files import csv_text, write_whole
from xecg.inference.evaluate import REPORT, check_empty, rows_to_test
from xecg.inference.model import Model, load, one_thread, predicted
from xecg.inference.trials import noise_trial, wave_trial
from xecg.metrics.bootstrap import mean
from xecg.metrics.calibration import PREVALENCES, predictive_value
from xecg.metrics.classification import classification_report
from xecg.networks.weights import load_xecgarch
from xecg.networks.xecgarch import FUSED
from xecg.signal.quality import JUDGED, window_quality

GROUPINGS = {  # column of the windows: what the page calls it
    "rhythm": "rhythm",
    "beats": "annotated beats",
    "lead": "lead",
    "source": "source",
    "quality_band": f"quality (below {JUDGED:g} a window cannot be judged)",
    "age_band": "age in years",
    "sex": "sex",
    "branches": "what the branches say, each at 0.5",
}
OFTEN = 0.05  # share of false AF above which a person is counted
TRUTHS = {1: "AF", 0: "non-AF", -1: "left out"}
_BEATS = {"PVC": "VE", "SVEB": "AaJSejn"}  # WFDB symbols
_BANDS: dict[str, tuple[list[float], list[str]]] = {
    "quality": ([0, JUDGED, 0.75], [f"below {JUDGED:g}", f"{JUDGED:g} to 0.75", "from 0.75"]),
    "age": ([0, 18, 40, 60, 80], ["below 18", "18 to 39", "40 to 59", "60 to 79", "from 80"]),
}
_KNOWN = ["record", "group", "lead", "source", "start_s", "rhythm", "af", "age", "sex"]
_PIECE = 1024  # windows


def find_failures(
    *,
    weights: str,
    stores: list[Path],
    out: Path = Path("test"),
    report: Path | None = None,
    split: Literal["unseen", "all"] = "unseen",
    operating_point: str | None = None,
    threshold: float | None = None,
    faithfulness: Path | None = None,
    trials: int = 200,
) -> None:
    """Tests trained weights on stores and shows where they fail.

    Writes windows.csv, metrics.csv (with intervals over persons), operating_points.csv (predictive
    values), subgroups.csv (share called AF by rhythm, beats, lead, source, quality, age, sex, what
    the branches say), records.csv and people.csv (false and missed AF), noise.csv and waves.csv
    (some windows with noise; what branches look at and use). Quality is that of stored windows.

    Args:
        weights: Name of released weights, a weights file, or the folder of a run of xecg fit.
        stores: Folders of prepared stores.
        out: New or empty folder for the tables and figures.
        report: File of a page (HTML) with all of it, the model card and the TRIPOD+AI checklist.
        split: ``unseen`` takes whom the weights did not learn from; ``all`` takes all.
        operating_point: sensitive, balanced (by default) or specific, of calibrated weights.
        threshold: Probability above which a window is called AF, in place of an operating point.
        faithfulness: Folder that xecg explain evaluate wrote, for the page.
        trials: Number of windows of a store, half of them AF, for noise.csv and waves.csv.

    Raises:
        ConfigError: A setting is wrong, a folder is not empty, or two stores have the same name.
        StoreError: A store has no window to test on, or not such as the weights take.
        WeightsError: The weights cannot be used, or do not say what they learnt from.
    """
    check_empty(out)
    opened = _opened(stores, faithfulness)
    model = load(weights, operating_point=operating_point, threshold=threshold)
    _, info = load_xecgarch(model.weights)
    chosen = {name: rows_to_test(s, {model.weights: info}, split) for name, s in opened.items()}
    _check_labels(opened, chosen)
    for folder in (out, *([report.parent] if report else [])):
        folder.mkdir(parents=True, exist_ok=True)
    points = {name: one["threshold"] for name, one in info.operating_points.items()}
    tested = [judged_windows(model, opened[name], rows) for name, (rows, _) in chosen.items()]
    tables = tables_of(pd.concat(tested, ignore_index=True), model, points)
    if trials:
        tables |= _tried(model, opened, {name: rows for name, (rows, _) in chosen.items()}, trials)
    for name, table in tables.items():
        write_whole(out / f"{name}.csv", csv_text(table))
    for name, (rows, origin) in chosen.items():
        of_store = tables["metrics"][tables["metrics"]["store"] == name]
        text = with_intervals(of_store, "metric", "part").to_string(index_names=False)
        print(f"{name}: {len(rows)} windows, {origin}\n{text}\n")
    if report:
        from xecg.inference.report import write_page  # matplotlib is slow to import

        origins = {opened[name]: origin for name, (_, origin) in chosen.items()}
        write_page(report, out, model, info.provenance, origins, tables, faithfulness)
    print(f"Everything is in {out}")


def _opened(stores: list[Path], faithfulness: Path | None) -> dict[str, Store]:
    if faithfulness and not (faithfulness / REPORT).is_file():
        raise ConfigError(f"faithfulness: expected {REPORT} in {faithfulness}, found none")
    opened = {path.resolve().name: Store.open(path) for path in stores}
    if len(opened) < len(stores):
        found = ", ".join(map(str, stores))
        raise ConfigError(f"stores: expected folders of different names, found {found}")
    return opened


def _check_labels(
    stores: Mapping[str, Store], chosen: Mapping[str, tuple[NDArray[np.int64], str]]
) -> None:
    for name, (rows, _) in chosen.items():
        if not (stores[name].index["af"].to_numpy()[rows] >= 0).any():
            path = stores[name].path
            raise StoreError(f"{path}: expected windows that are AF or not, found none")


def _tried(
    model: Model, stores: Mapping[str, Store], rows_of: Mapping[str, NDArray[np.int64]], n: int
) -> dict[str, pd.DataFrame]:
    """Tables of the trials on ``n`` windows of each store."""
    drawn = {name: draw(stores[name], rows, n) for name, rows in rows_of.items()}
    return {
        name: pd.DataFrame(
            {"store": key} | row
            for key, rows in drawn.items()
            for row in trial(model, stores[key], rows)
        )
        for name, trial in {"noise": noise_trial, "waves": wave_trial}.items()
    }


def draw(store: Store, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Draws windows of both classes, half of ``n`` each if there are as many, rising."""
    generator, af = np.random.default_rng(0), store.index["af"].to_numpy()[rows]
    return np.sort(np.concatenate([generator.permutation(rows[af == c])[: n // 2] for c in (0, 1)]))


def judged_windows(model: Model, store: Store, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Returns what is known of windows of a store, and what the model says: a row each."""
    rate = model.preprocessing.sampling_rate

    def judge(some: NDArray[np.int64]) -> pd.DataFrame:
        signals = store.signals[some]
        beats = [store.r_peaks(row) for row in some]
        pairs = zip(signals, beats, strict=True)
        columns = {"quality": [window_quality(x, x, peaks, rate).value for x, peaks in pairs]}
        p_af = model.p_af(signals)
        names = {FUSED: "p_af"} | {branch: f"p_af_{branch}" for branch in model.branches}
        return pd.DataFrame(columns | {name: p_af[part] for part, name in names.items()})

    pieces = np.array_split(rows, 1 + len(rows) // _PIECE)
    with one_thread():
        said = [judge(piece) for piece in tqdm(pieces, store.path.name, disable=None)]
    known = store.index.take(rows).reset_index(drop=True)
    windows = (
        known[_KNOWN].join(pd.concat(said, ignore_index=True)).rename(columns={"group": "person"})
    )
    windows.insert(0, "store", store.path.resolve().name)
    windows["predicted"] = predicted(windows["p_af"], model.threshold)
    windows["truth"] = known["af"].map(TRUTHS)
    windows["beats"] = known["beat_symbols"].astype(str).map(beat_class)
    for name, (edges, labels) in _BANDS.items():
        edges = [*edges, np.inf]
        windows[f"{name}_band"] = pd.cut(windows[name], edges, right=False, labels=labels)
    by_branch = [f"{b} " + pd.Series(predicted(windows[f"p_af_{b}"])) for b in model.branches]
    windows["branches"] = pd.concat(by_branch, axis=1).agg(", ".join, axis=1)
    return windows


def beat_class(symbols: str) -> str:
    """Returns the class of a window by the WFDB symbols of its beats; empty without any.

    A window with a paced beat is paced; else ectopic beats go before bundle branch blocks.
    """
    if set("/f") & {*symbols}:
        return "paced"
    ectopic = [name for name, kinds in _BEATS.items() if {*kinds} & {*symbols}]
    if ectopic or not symbols:
        return " and ".join(ectopic)
    if set("LR") & {*symbols}:
        return "bundle branch block"
    return "only normal" if symbols == "N" else "other"


def tables_of(
    windows: pd.DataFrame, model: Model, points: Mapping[str, float]
) -> dict[str, pd.DataFrame]:
    """Returns all tables by name, of :func:`judged_windows` and thresholds by name."""
    metrics = pd.DataFrame(_metrics(windows, model, points))
    fused = metrics[metrics["part"].str.startswith(FUSED)]
    keys = ["store", "part", "threshold"]
    at = fused.pivot(index=keys, columns="metric", values="value")
    at = at[["sensitivity", "specificity"]].reset_index()
    for prevalence in PREVALENCES:
        pairs = zip(at["sensitivity"], at["specificity"], strict=True)
        at[f"ppv_at_{prevalence:g}"] = [predictive_value(*pair, prevalence) for pair in pairs]
    return {
        "windows": windows,
        "metrics": metrics,
        "operating_points": at,
        "subgroups": pd.DataFrame(_subgroups(windows)),
        "records": _counts(windows, "person", "record", "lead"),
        "people": _counts(windows, "person"),
    }


def _metrics(
    windows: pd.DataFrame, model: Model, points: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Metrics of each part of the network at its thresholds, and of windows that can be judged."""
    parts = [(branch, f"p_af_{branch}", 0.5) for branch in model.branches]
    parts += [(name, "p_af", model.threshold) for name in (FUSED, f"{FUSED}, judged")]
    parts += [(f"{FUSED}, {name}", "p_af", threshold) for name, threshold in points.items()]
    for store, table in windows[windows["af"] >= 0].groupby("store", sort=False):
        for part, column, threshold in parts:
            rows = table[table["quality"] >= JUDGED] if part.endswith("judged") else table
            if rows.empty:
                continue
            found = classification_report(
                rows[column], rows["af"], rows["person"], threshold=threshold
            )
            for metric, interval in found.items():
                named = {"store": store, "part": part, "threshold": threshold, "metric": metric}
                yield named | vars(interval)


def _subgroups(windows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Share of the windows called AF, by group and truth; a window has each of its rhythms."""
    windows = windows.astype({"rhythm": "str"})
    by_rhythm = windows.assign(rhythm=windows["rhythm"].str.split("+")).explode("rhythm")
    for by in GROUPINGS:
        table = by_rhythm if by == "rhythm" else windows
        known = table[table[by].notna() & (table[by] != "")]
        for names, rows in known.groupby(["store", by, "truth"], observed=True):
            about = dict(zip(("store", "group", "truth"), names, strict=True))
            called = mean(rows["predicted"] == "AF", rows["person"])
            yield {"by": by} | about | vars(called)


def _counts(windows: pd.DataFrame, *keys: str) -> pd.DataFrame:
    """Counts of windows of each record or person of a store, and how often it is called AF."""
    called, af, non_af = windows["predicted"] == "AF", windows["af"] == 1, windows["af"] == 0
    outcomes = {"af": af, "non_af": non_af, "called_af": called}
    outcomes |= {"false_af": called & non_af, "missed_af": ~called & af}
    table = windows[["store", *keys]].assign(windows=1, **outcomes)
    table = table.groupby(["store", *keys], observed=True, sort=False).sum().reset_index()
    table["false_af_share"] = table["false_af"] / table["non_af"]
    table["missed_af_share"] = table["missed_af"] / table["af"]
    return table


def with_intervals(
    table: pd.DataFrame, row: str, column: str, *, counts: bool = False
) -> pd.DataFrame:
    """Returns values with their intervals as text, in rows and columns by two columns."""
    texts = []
    for one in table.to_dict("records"):
        text = f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        text = text.removesuffix(" [nan, nan]").replace("nan", "-")
        texts.append(text + f" ({one['n']} of {one['n_groups']})" * counts)
    wide = table.assign(text=texts).pivot(index=row, columns=column, values="text")
    names = table[row].unique(), table[column].unique()
    return wide.reindex(index=names[0], columns=names[1]).fillna("")

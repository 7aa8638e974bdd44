"""Where trained weights fail, on windows that they did not learn from: tables and a page."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from xecg.data.store import Store
from xecg.errors import ConfigError, StoreError, WeightsError
from xecg.explain.figures import draw_curves, save_svg
from xecg.explain.relevance import CLASSES
from xecg.files import check_empty, csv_text, whole_folder, write_whole
from xecg.inference.evaluate import Tables, faithfulness_of, rows_to_test, wave_trial
from xecg.inference.explain import inline, template
from xecg.inference.exported import Exported
from xecg.inference.model import NOT_JUDGED, Model, load, predicted
from xecg.metrics.bootstrap import mean, with_intervals
from xecg.metrics.classification import PREVALENCES, classification_report, predictive_value
from xecg.networks.xecgarch import FUSED
from xecg.signal.preprocessing import limit_band
from xecg.signal.quality import JUDGED, window_quality
from xecg.signal.waves import detect_r_peaks

GROUPINGS = {  # column of the windows: what the page calls it
    "rhythm": "rhythm",
    "beats": "annotated beats",
    "lead": "lead",
    "source": "source",
    "quality_band": f"quality (below {JUDGED:g} a window cannot be judged)",
    "age_band": "age in years",
    "sex": "sex",
    "branches": "what the branches say, each at 0.5",
    "person": "person",
}
OFTEN = 0.05  # share of false AF above which a person is counted
TRUTHS = {1: "AF", 0: "non-AF", -1: "left out"}
_BEATS = {"paced": "/f", "PVC": "VE", "SVEB": "AaJSejn", "bundle branch block": "LR"}  # in WFDB
_BANDS: dict[str, tuple[list[float], list[str]]] = {
    "quality": ([0, JUDGED, 0.75], [f"below {JUDGED:g}", f"{JUDGED:g} to 0.75", "from 0.75"]),
    "age": ([0, 18, 40, 60, 80], ["below 18", "18 to 39", "40 to 59", "60 to 79", "from 80"]),
}
_KNOWN = ["record", "group", "lead", "source", "start_s", "rhythm", "af", "age", "sex"]
_PIECE = 1024  # windows
_WORST = 20
NOISES = {"electrode motion": (1.0, 8.0), "muscle": (5.0, 45.0)}  # bands in Hz
LEVELS = (np.inf, 24, 12, 6, 0)  # signal to noise in dB
_FULL = 8**-0.5  # deviation of noise as strong as QRS complexes that fill the range (0 dB)


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
    the branches say, person), noise.csv and waves.csv (some windows with noise; what branches look
    at and use). Quality is that of stored windows.

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

    Raises XECGError if a setting, a store, the weights or a folder cannot be used.
    """
    check_empty(out)
    faithful = faithfulness_of(faithfulness) if faithfulness else {}
    model = load(weights, operating_point=operating_point, threshold=threshold)
    if isinstance(model.network, Exported):
        raise WeightsError(f"--weights {weights}: expected weights, found an exported file")
    chosen = _chosen(stores, model, split)
    with whole_folder(out) as new:
        tested = [judged_windows(model, store, rows) for store, (rows, _) in chosen.items()]
        tables = tables_of(pd.concat(tested, ignore_index=True), model)
        for name, trial in {"noise": noise_trial, "waves": wave_trial}.items() if trials else ():
            drawn = {store: draw(store, rows, trials) for store, (rows, _) in chosen.items()}
            found = ({"store": _title(s)} | row for s in drawn for row in trial(model, s, drawn[s]))
            tables[name] = pd.DataFrame(found)
        for name, table in tables.items():
            write_whole(new / f"{name}.csv", csv_text(table))
        if report:
            sections = [_section(of, origin, tables, new) for of, (_, origin) in chosen.items()]
            report.parent.mkdir(parents=True, exist_ok=True)
            _write_page(report, model, sections, faithful)
    for store, (rows, origin) in chosen.items():
        of_store = tables["metrics"][tables["metrics"]["store"] == _title(store)]
        text = with_intervals(of_store, "metric", "part").to_string(index_names=False)
        print(f"{_title(store)}: {len(rows)} windows, {origin}\n{text}\n")
    print(f"Everything is in {out}")


def _chosen(
    paths: list[Path], model: Model, split: str
) -> dict[Store, tuple[NDArray[np.int64], str]]:
    """Rows of each store that are tested, and what kind of windows they are."""
    stores = [Store.open(path) for path in paths]
    if len({*map(_title, stores)}) < len(stores):
        found = ", ".join(map(str, paths))
        raise ConfigError(f"stores: expected folders of different names, found {found}")
    chosen = {store: rows_to_test(store, {model.weights: model.info}, split) for store in stores}
    for store, (rows, _) in chosen.items():
        if not (store.index["af"].to_numpy()[rows] >= 0).any():
            raise StoreError(f"{store.path}: expected windows that are AF or not, found none")
    return chosen


def _title(store: Store) -> str:
    """The name of a store in tables and on the page: that of its folder."""
    return store.path.resolve().name


def draw(store: Store, rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Draws windows of both classes, half of ``n`` each if there are as many, rising."""
    generator, af = np.random.default_rng(0), store.index["af"].to_numpy()[rows]
    return np.sort(np.concatenate([generator.permutation(rows[af == c])[: n // 2] for c in (0, 1)]))


def noise_trial(model: Model, store: Store, rows: NDArray[np.int64]) -> Iterator[dict[str, Any]]:
    """Yields, by noise, level and truth, which windows can be judged, and which are called AF.

    The power of the noise is relative to that of QRS complexes, peak-to-peak squared / 8, which
    are taken to fill the window's range. R peaks are detected anew.
    """
    rate, generator = model.preprocessing.sampling_rate, np.random.default_rng(0)
    signals, index = store.signals[rows], store.index.take(rows)
    groups, af = index["group"].to_numpy(dtype=np.str_), index["af"].to_numpy()
    for noise, band in NOISES.items():
        white = generator.standard_normal(signals.shape)
        added = np.stack([limit_band(one, rate, *band) for one in white])
        added *= _FULL / added.std(axis=1, keepdims=True)
        for level in LEVELS:
            noisy = model.preprocessing.scale(signals + added * 10 ** (-level / 20))
            beats = [detect_r_peaks(one, rate) for one in noisy]
            pairs = zip(noisy, beats, strict=True)
            quality = np.array([window_quality(x, x, r, rate).value for x, r in pairs])
            classes, _ = model.calls(model.p_af(noisy))
            judged, called = (quality >= JUDGED) & (classes != NOT_JUDGED), classes == "AF"
            for code in np.unique(af[af >= 0]):
                about = {"noise": noise, "level_db": level, "truth": CLASSES[code]}
                of_class, among = af == code, (af == code) & judged
                yield about | {"measure": "judged"} | vars(mean(judged[of_class], groups[of_class]))
                if among.any():
                    of_judged = vars(mean(called[among], groups[among]))
                    yield about | {"measure": "of these called AF"} | of_judged


def judged_windows(model: Model, store: Store, rows: NDArray[np.int64]) -> pd.DataFrame:
    """Returns what is known of windows of a store, and what the model says: a row each."""
    rate, said = model.preprocessing.sampling_rate, []
    names = {FUSED: "p_af"} | {branch: f"p_af_{branch}" for branch in model.branches}
    pieces = np.array_split(rows, 1 + len(rows) // _PIECE)
    for some in tqdm(pieces, _title(store), disable=None):
        signals, beats = store.signals[some], [store.r_peaks(row) for row in some]
        pairs, p_af = zip(signals, beats, strict=True), model.p_af(signals)
        quality = [window_quality(x, x, peaks, rate).value for x, peaks in pairs]
        columns = {name: p_af[part] for part, name in names.items()}
        said.append(pd.DataFrame({"quality": quality} | columns))
    known = store.index.take(rows).reset_index(drop=True)
    windows = known[_KNOWN].join(pd.concat(said, ignore_index=True))
    windows = windows.rename(columns={"group": "person"})
    windows.insert(0, "store", _title(store))
    classes, _ = model.calls({part: windows[name].to_numpy() for part, name in names.items()})
    windows["predicted"] = np.where(windows["quality"] < JUDGED, NOT_JUDGED, classes)
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
    kinds = {name for name, codes in _BEATS.items() if {*codes} & {*symbols}}
    if "paced" in kinds:
        return "paced"
    if ectopic := [name for name in ("PVC", "SVEB") if name in kinds]:
        return " and ".join(ectopic)
    return "bundle branch block" if kinds else {"": "", "N": "only normal"}.get(symbols, "other")


def tables_of(windows: pd.DataFrame, model: Model) -> dict[str, pd.DataFrame]:
    """Returns all tables by name, of :func:`judged_windows`."""
    metrics = pd.DataFrame(_metrics(windows, model))
    fused = metrics[metrics["part"].str.startswith(FUSED)]
    at = fused.pivot(index=["store", "part", "threshold"], columns="metric", values="value")
    at = at[["sensitivity", "specificity"]].reset_index()
    for prevalence in PREVALENCES:
        pairs = zip(at["sensitivity"], at["specificity"], strict=True)
        at[f"ppv_at_{prevalence:g}"] = [predictive_value(*pair, prevalence) for pair in pairs]
    return {
        "windows": windows,
        "metrics": metrics,
        "operating_points": at,
        "subgroups": pd.DataFrame(_subgroups(windows)),
    }


def _metrics(windows: pd.DataFrame, model: Model) -> Iterator[dict[str, Any]]:
    """Metrics of each part of the network at its thresholds, and of windows that can be judged."""
    parts = [(branch, f"p_af_{branch}", 0.5) for branch in model.branches]
    parts += [(name, "p_af", model.threshold) for name in (FUSED, f"{FUSED}, judged")]
    points = model.info.operating_points.items()
    parts += [(f"{FUSED}, {name}", "p_af", point["threshold"]) for name, point in points]
    for store, table in windows[windows["af"] >= 0].groupby("store", sort=False):
        for part, column, threshold in parts:
            rows = table[table["predicted"] != NOT_JUDGED] if part.endswith("judged") else table
            about = {"store": store, "part": part, "threshold": threshold}
            of = rows[column], rows["af"], rows["person"]
            found = classification_report(*of, threshold=threshold) if len(rows) else {}
            yield from (about | {"metric": metric} | vars(one) for metric, one in found.items())


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


def _write_page(page: Path, model: Model, sections: list[Any], faithfulness: Tables) -> None:
    card = model.weights.with_suffix(".md")
    facts = {"card": card.read_text(encoding="utf-8") if card.is_file() else ""}
    html = partial(pd.DataFrame.to_html, border=0, na_rep="", index_names=False)
    about = {"model": model, "sections": sections, "often": OFTEN, "faithfulness": faithfulness}
    write_whole(page, template("test.html.j2").render(facts, html=html, **about))


def _section(store: Store, origin: str, tables: Tables, folder: Path) -> dict[str, Any]:
    name = _title(store)
    of = {key: t[t["store"] == name].drop(columns="store") for key, t in tables.items()}
    windows, subgroups = of["windows"], of["subgroups"]
    people = subgroups[(subgroups["by"] == "person") & (subgroups["truth"] == "non-AF")]
    others = subgroups[subgroups["by"] != "person"]
    figure = save_svg(draw_curves(windows[windows["af"] >= 0]), folder / f"{name}.svg")
    counts = windows.groupby("truth").agg(
        windows=("person", "size"), persons=("person", "nunique"), records=("record", "nunique")
    )
    worst = people[people["value"] > 0].nlargest(_WORST, "value").set_index("group")
    return {
        "name": name,
        "info": store.info,
        "origin": origin,
        "counts": counts.reindex(list(TRUTHS.values())).dropna().astype(int),
        "persons": windows["person"].nunique(),
        "often": int((people["value"] > OFTEN).sum()),
        "of": len(people),
        "metrics": with_intervals(of["metrics"], "metric", "part"),
        "points": of["operating_points"].set_index("part").round(3),
        "figure": inline(figure)["src"],
        "subgroups": [
            (says, with_intervals(rows, "group", "truth", counts=True).filter([*TRUTHS.values()]))
            for by, says in GROUPINGS.items()
            if len(rows := others[others["by"] == by])
        ],
        "trials": {name: _trial(of[name]) for name in ("noise", "waves") if name in of},
        "worst": worst[["n", "value"]].round(3),
    }


def _trial(table: pd.DataFrame) -> pd.DataFrame:
    """Noise: a row a noise and level; waves: a row a measure, a column a branch and class."""
    row, kind = table["measure"], table.get("branch")
    if kind is None:
        row, kind = table["noise"] + table["level_db"].map(", {:g} dB".format), row
    texts = table.assign(row=row, column=kind + ", " + table["truth"])
    return with_intervals(texts, "row", "column")

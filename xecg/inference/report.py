"""The page of ``xecg test --weights``: what one needs to defend a model with, or to refuse it."""

from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from xecg.data.store import Store
from xecg.explain.paper import INK, QUIET_INK, save_figure
from xecg.files import write_whole
from xecg.inference.evaluate import REPORT, tidy
from xecg.inference.explain import inline
from xecg.inference.failures import GROUPINGS, OFTEN, TRUTHS, title, with_intervals
from xecg.inference.model import Model
from xecg.metrics.bootstrap import mean
from xecg.networks.xecgarch import FUSED

_COLOURS = {FUSED: INK, "morphology": "#7d0048", "rhythm": "#1f6f8b"}
_BINS, _WORST = 10, 20


def write_page(
    page: Path,
    folder: Path,
    model: Model,
    provenance: Mapping[str, Any],
    origins: Mapping[Store, str],
    tables: Mapping[str, pd.DataFrame],
    faithfulness: Path | None = None,
) -> None:
    """Writes the page, and its figures into the folder of the tables.

    ``origins`` says of each store what kind of windows were tested; ``tables`` are those of
    :func:`xecg.inference.failures.tables_of`.
    """
    loader, card = PackageLoader("xecg.inference"), model.weights.with_suffix(".md")
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    html = partial(pd.DataFrame.to_html, border=0, na_rep="", index_names=False)
    facts: dict[str, Any] = {"model": model, "provenance": provenance, "often": OFTEN}
    facts |= {"html": html, "version": version("xecg-lightning")}
    facts["card"] = card.read_text(encoding="utf-8") if card.is_file() else ""
    facts["sections"] = [_section(*one, model, tables, folder) for one in origins.items()]
    if faithfulness:
        facts["faithfulness"] = (faithfulness / REPORT).read_text(encoding="utf-8")
        facts["drawn"] = [inline(path)["src"] for path in sorted(faithfulness.glob("*.png"))]
    write_whole(page, environment.get_template("test.html.j2").render(facts))


def _section(
    store: Store, origin: str, model: Model, tables: Mapping[str, pd.DataFrame], folder: Path
) -> dict[str, Any]:
    """What the page says of a store."""
    name = title(store)
    of = {key: t[t["store"] == name].drop(columns="store") for key, t in tables.items()}
    windows, people = of["windows"], of["people"]
    figure = save_figure(draw(of, model), folder / f"{name}.svg", overwrite=True)
    counts = windows.groupby("truth").agg(
        windows=("person", "size"), persons=("person", "nunique"), records=("record", "nunique")
    )
    points = of["operating_points"].set_index("part")
    worst = of["records"].sort_values(["false_af", "missed_af"], ascending=False).head(_WORST)
    return {
        "name": name,
        "info": store.info,
        "origin": origin,
        "counts": counts.reindex(list(TRUTHS.values())).dropna().astype(int),
        "persons": len(people),
        "often": int((people["false_af_share"] > OFTEN).sum()),
        "of": int((people["non_af"] > 0).sum()),
        "metrics": with_intervals(of["metrics"], "metric", "part"),
        "points": points.round(3),
        "figure": inline(figure)["src"],
        "subgroups": [
            (says, with_intervals(rows, "group", "truth", counts=True).filter([*TRUTHS.values()]))
            for by, says in GROUPINGS.items()
            if len(rows := of["subgroups"][of["subgroups"]["by"] == by])
        ],
        "trials": {name: _trial(of[name]) for name in ("noise", "waves") if name in of},
        "worst": worst[worst["false_af"] + worst["missed_af"] > 0].set_index("record").round(3),
    }


def _trial(table: pd.DataFrame) -> pd.DataFrame:
    """Noise: a row a noise and level; waves: a row a measure, a column a branch and class."""
    row, kind = table["measure"], table.get("branch")
    if kind is None:
        row, kind = table["noise"] + table["level_db"].map(", {:g} dB".format), row
    texts = table.assign(row=row, column=kind + ", " + table["truth"])
    return with_intervals(texts, "row", "column")


def draw(of: Mapping[str, pd.DataFrame], model: Model) -> Figure:
    """Draws ROC curves, a reliability diagram and the records with most false AF of a store."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    roc, reliability, bars = figure.subplots(1, 3)
    windows = of["windows"][of["windows"]["af"] >= 0]
    for axes in (roc, reliability, bars):
        tidy(axes)
    _draw_roc(roc, windows, model, of["operating_points"])
    _draw_reliability(reliability, windows)
    records = of["records"].nlargest(_WORST, "false_af")[::-1]
    places, names = np.arange(len(records)), records["record"].astype(str)
    shown = ("called AF", "called_af", "#7d0048", 0.2), ("AF", "af", "#c9cdd4", -0.2)
    for label, column, colour, shift in shown:
        width = records[column] / records["windows"]
        bars.barh(places + shift, width, 0.4, color=colour, label=label)
    bars.set_yticks(places, [name[-18:].replace("$", r"\$") for name in names], fontsize=6)
    bars.set_xlabel("share of windows")
    bars.legend(frameon=False, fontsize=7)
    return figure


def _draw_roc(axes: Axes, windows: pd.DataFrame, model: Model, points: pd.DataFrame) -> None:
    for part in (FUSED, *model.branches):
        p_af = windows["p_af" if part == FUSED else f"p_af_{part}"]
        af = windows["af"].to_numpy()[np.argsort(-p_af.to_numpy(), kind="stable")]
        rates = [np.cumsum(af == label) / max((af == label).sum(), 1) for label in (0, 1)]
        axes.plot(*rates, color=_COLOURS.get(part), linewidth=1.2, label=part)
    axes.plot(1 - points["specificity"], points["sensitivity"], "o", color=INK, markersize=4)
    axes.set(xlabel="1 - specificity", ylabel="sensitivity", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(frameon=False, fontsize=7, loc="lower right")


def _draw_reliability(axes: Axes, windows: pd.DataFrame) -> None:
    axes.plot([0, 1], [0, 1], color=QUIET_INK, linewidth=0.7)
    for _, rows in windows.groupby((windows["p_af"] * _BINS).astype(int).clip(upper=_BINS - 1)):
        found, x = mean(rows["af"] == 1, rows["person"]), rows["p_af"].mean()
        axes.vlines(x, found.low, found.high, color=INK, linewidth=0.9)
        axes.plot(x, found.value, "o", color=INK, markersize=1.5 + np.log10(found.n))
    axes.set(xlabel="mean probability of AF", ylabel="share of AF", xlim=(0, 1), ylim=(-0.02, 1.02))

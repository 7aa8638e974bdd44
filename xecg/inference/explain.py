"""Explanations of many records: arrays, pictures, a table, and a page that collects them."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, Template

from xecg.errors import ConfigError, check_ranges
from xecg.explain.pictures import PIXELS_PER_MM, save_page
from xecg.explain.relevance import WAVES, enrichment_column, wave_title
from xecg.files import move_files, whole_file
from xecg.inference.model import NOT_JUDGED, Identity, Maps, load, load_once, spread
from xecg.inference.records import Made, Problem, made_in_parts, read_items, write_part

NO_PEAK = -1
"""Fills the rows of R peaks of windows that have fewer than another one."""

SUMMARY, PAGE, ERRORS = "summary.csv", "index.html", "errors.csv"
_FILES = "files"  # folder beside the parts
_PICTURES = "pictures"  # in the attributes of a part's table
_CODES = {"AF": 1, "non-AF": 0, NOT_JUDGED: -1}
_PIECE = 16  # records at most
_LONGEST_NAME = 240  # bytes, so that ".sheet100.png" fits
_FEW = 8  # records that this process has explained before others have started
_PER_SHEET = 2  # windows
_SHOWN = 20  # records whose pictures the page holds; it links to those of the others


def explain(
    paths: list[Path],
    out: Path,
    *,
    weights: str | Path = "xecgarch",
    attribution: str = "innvestigate",
    operating_point: str | None = None,
    threshold: float | None = None,
    lead: str | None = None,
    sampling_rate: float | None = None,
    picture: Literal["png", "svg"] = "png",
    draw: int = 12,
    effects: bool = False,
    overwrite: bool = False,
    jobs: int | None = None,
    cluster: str | None = None,
) -> int:
    """Shows where each branch looks in the windows of ECGs, for the class it predicts.

    Of each record RECORD.npz (signal as the network saw it, sampling_rate, start_s, p_af,
    p_af_<branch>, quality, predicted: 1 AF, 0 non-AF, -1 cannot be judged, r_peaks filled up with
    -1, relevance_<branch>) and pictures on ECG paper; of all index.html and summary.csv, with every
    relevance statistic, such as morphology_enrichment_p, the share of relevance / share of time of
    a wave (in AF, P is the place where a P wave would be). Records that cannot be explained, and
    windows that cannot be used, are listed in errors.csv; the exit status is 1 if a record is
    missing. A killed command continues when it is given again. Not a medical device. See also:
    xecg explain evaluate, xecg explain effects (a record of such a name is ./evaluate).

    Args:
        paths: ECGs, or folders of them: WFDB, HL7 aECG, MUSE XML, SCP-ECG, DICOM, EDF, ISHNE,
            Kardia JSON, Apple Health CSV (by the extra formats); CSV and NPY with --sampling_rate.
        out: Folder for all of it, new or empty.
        weights: Name of released weights, weights file, folder of a run, or user/model of the hub.
        attribution: innvestigate, zbox, lrp_epsilon, gradient, input_x_gradient,
            integrated_gradients (by captum), or a class path.
        operating_point: Threshold of the weights: sensitive, balanced (by default) or specific.
        threshold: Probability above which a window is called AF, in its place.
        lead: Name of the lead; by default II, MLII, I, or the first.
        sampling_rate: Sampling rate in Hz of CSV and NPY files, whose columns are leads.
        picture: Kind of the pictures.
        draw: Number of windows of a record to draw at most, evenly spread; 0 draws none.
        effects: Add to summary.csv what each branch uses; see xecg.explain.wave_effects.
        overwrite: Replace files of an earlier run in the folder.
        jobs: Number of processes; one per core by default, this one alone for few records.
        cluster: Address or scheduler file of a dask cluster, in place of processes.

    Returns the number of records that cannot be explained; raises XECGError if nothing can be.
    """
    _check(out, draw, overwrite)
    model = load(weights, operating_point=operating_point, threshold=threshold)
    model.explainer(attribution)  # refuses a method that is not there
    work = partial(explain_piece, model.identity, attribution, lead, picture, draw, effects)
    how = _PIECE, _FEW, jobs, cluster, sampling_rate
    with made_in_parts(work, paths, out, *how) as made:
        made.write(made.folder / _FILES / SUMMARY)
        about = {"weights": model.weights.name, "attribution": attribution, "draw": draw}
        write_page(made.folder / _FILES, _entries(made), model.branches, made.failures, **about)
        move_files(made.folder / _FILES, out)
        made.report(out / ERRORS)
    return len(made.failures)


def _check(out: Path, draw: int, overwrite: bool) -> None:
    check_ranges("--", draw=(draw, 0))
    if out.is_file() or out.is_mount():  # from parts beside it nothing moves to another disk
        raise ConfigError(f"--out {out} is a file or a whole disk; expected a folder, new or empty")
    if out.exists() and any(out.iterdir()) and not overwrite:
        raise ConfigError(f"--out {out} is not empty; name another folder, or pass --overwrite")


def explain_piece(
    weights: Identity,
    attribution: str,
    lead: str | None,
    picture: str,
    draw: int,
    effects: bool,
    items: Sequence[str],
    path: Path,
) -> None:
    """Explains the records of a piece; writes their files beside the part, then the part."""
    model = load_once(weights)
    explainer = model.explainer(attribution)
    problems: list[Problem] = []
    pictures: dict[str, list[str]] = {}
    tables = []
    for windows in read_items(items, model.preprocessing, lead, problems):
        if max(map(len, windows.record.encode().split(b"/"))) > _LONGEST_NAME:
            problems.append(Problem(windows.record, "its name is too long for a file", True))
            continue
        maps, record = model.maps([windows], explainer, effects), windows.record
        file = path.parent / _FILES / f"{record}.npz"
        file.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(file, "wb") as opened:
            np.savez_compressed(opened, **_arrays(maps))
        rows, pictures[record] = spread(len(maps), draw), []
        for number, start in enumerate(range(0, len(rows), _PER_SHEET), start=1):
            name = f"{record}.{picture}" if number == 1 else f"{record}.sheet{number}.{picture}"
            shown = maps.drawable(rows[start : start + _PER_SHEET])
            save_page(shown, path.parent / _FILES / name)
            pictures[record].append(name)
        tables.append(maps.table)
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()
    table.attrs[_PICTURES] = pictures
    write_part(table, problems, path)


def _arrays(maps: Maps) -> dict[str, Any]:
    """What is kept of a record; each is as long as there are windows, but for the rate."""
    r_peaks = np.full((len(maps), max(map(len, maps.r_peaks))), NO_PEAK, dtype=np.int64)
    for row, peaks in zip(r_peaks, maps.r_peaks, strict=True):
        row[: len(peaks)] = peaks
    columns = ("start_s", "p_af", *(f"p_af_{branch}" for branch in maps.relevance), "quality")
    return {
        "signal": maps.signal,
        "sampling_rate": np.array(maps.sampling_rate),
        **{name: maps.table[name].to_numpy() for name in columns},
        "predicted": maps.table["predicted"].map(_CODES).to_numpy(np.int64),
        "r_peaks": r_peaks,
        **{f"relevance_{branch}": relevance for branch, relevance in maps.relevance.items()},
    }


def _entries(made: Made) -> list[dict[str, Any]]:
    """Each record of the page; rows of the summary only of those that it does not only link to."""
    entries: list[dict[str, Any]] = []
    for table in made.tables():
        for record, rows in table.groupby("record", sort=False):
            entry: dict[str, Any] = {"record": record, "windows": len(rows)}
            entry["af"] = int((rows["predicted"] == "AF").sum())
            entry["pictures"] = table.attrs[_PICTURES][record]
            entry["rows"] = rows.to_dict("records") if len(entries) < _SHOWN else []
            entries.append(entry)
    return entries


def write_page(
    folder: Path,
    entries: Sequence[Mapping[str, Any]],
    branches: Sequence[str],
    failures: Mapping[str, str],
    **about: object,
) -> Path:
    """Writes ``index.html``, with the pictures of the records that have rows, and returns its path.

    ``about`` names the ``weights``, the ``attribution`` and the most windows to ``draw``.
    """
    page = template("page.html.j2").stream(
        entries=entries,
        most_windows=max(entry["windows"] for entry in entries),
        failures=failures,
        branches=branches,
        **about,
        probabilities={"p_af": "together"} | {f"p_af_{branch}": branch for branch in branches},
        enrichments={wave: enrichment_column(wave) for wave in WAVES},
        in_af=wave_title("P", "AF"),
        inline=lambda picture: inline(folder / picture),
    )
    with whole_file(folder / PAGE) as file:
        page.dump(file)
    return folder / PAGE


def template(name: str) -> Template:
    """A page to be filled, which knows the version."""
    loader, known = PackageLoader("xecg.inference"), {"version": version("xecg-lightning")}
    environment = Environment(loader=loader, autoescape=True, trim_blocks=True)
    return environment.get_template(name, globals=known)


def inline(picture: Path) -> dict[str, str]:
    """Source and style of an image that holds a picture; a PNG keeps its printed size."""
    content, kind, style = picture.read_bytes(), "svg+xml", ""
    if picture.suffix == ".png":
        kind, style = "png", f"width:{int.from_bytes(content[16:20]) / PIXELS_PER_MM:.1f}mm"
    return {"src": f"data:image/{kind};base64,{b64encode(content).decode()}", "style": style}

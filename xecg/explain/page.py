"""One HTML page that holds everything it shows: pictures inline, no scripts, nothing fetched."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from xecg.errors import DataError
from xecg.explain.pictures import FUSED
from xecg.explain.relevance import WAVES, wave_title
from xecg.files import whole_file
from xecg.html_page import inline_image, page_head

_LEGEND = (
    "Each trace is coloured by the relevance (deep Taylor decomposition) that a branch gave it "
    "for the class it predicts: thin slate is low, thick magenta is high. Enrichment is the share "
    "of the relevance in a wave divided by the wave's share of the time: 1 is chance."
)
_IN_AF = f"† {wave_title('P', 'AF')}: in atrial fibrillation there is no P wave."


@dataclass(frozen=True)
class WindowResult:
    """What the page's table tells of one window.

    Args:
        start_s: Where the window starts in the record, in seconds.
        predicted: Predicted class, ``"non-AF"`` or ``"AF"``.
        p_af: Probability of AF, under ``"fused"`` and by branch.
        enrichment: By branch and wave; NaN where it was not measured.
    """

    start_s: float
    predicted: str
    p_af: Mapping[str, float]
    enrichment: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class PageEntry:
    """A record: its windows, and the PNG or SVG files that show them."""

    record: str
    windows: Sequence[WindowResult]
    pictures: Sequence[Path]


def write_page(
    path: Path | str,
    entries: Sequence[PageEntry],
    *,
    title: str,
    note: str = "",
    failures: Mapping[str, str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the page whole; pictures are read one at a time.

    Args:
        path: The page's file.
        entries: A section for each.
        title: Heading of the page.
        note: What else the reader should know: the weights, the rules, the date.
        failures: Records that could not be explained, and why.
        overwrite: Replace a file that exists.

    Returns:
        The path.

    Raises:
        DataError: The file exists, or a picture is neither PNG nor SVG.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise DataError(f"{path} exists: choose another name or allow it to be overwritten.")
    with whole_file(path) as file:
        file.writelines(_page(entries, title, note, failures or {}))
    return path


def _page(
    entries: Sequence[PageEntry], title: str, note: str, failures: Mapping[str, str]
) -> Iterator[str]:
    yield f"{page_head(title)}<p>{_LEGEND}</p>\n"
    if note:
        yield f'<p class="note">{escape(note)}</p>\n'
    if failures:
        yield from _failures(failures)
    if len(entries) > 1:
        yield from _contents(entries)
    for number, entry in enumerate(entries):
        yield from _section(number, entry)
    yield "</body></html>\n"


def _failures(failures: Mapping[str, str]) -> Iterator[str]:
    yield f'<div class="failed"><p>{len(failures)} not explained:</p><ul>\n'
    for record, reason in failures.items():
        yield f"<li><b>{escape(record)}</b>: {escape(reason)}</li>\n"
    yield "</ul></div>\n"


def _contents(entries: Sequence[PageEntry]) -> Iterator[str]:
    yield "<nav><table><thead><tr><th>record</th><th>windows</th><th>predicted AF</th></tr>"
    yield "</thead>\n"
    for number, entry in enumerate(entries):
        af = sum(window.predicted == "AF" for window in entry.windows)
        yield (
            f'<tr><td><a href="#record-{number}">{escape(entry.record)}</a></td>'
            f"<td>{len(entry.windows)}</td><td>{af}</td></tr>\n"
        )
    yield "</table></nav>\n"


def _section(number: int, entry: PageEntry) -> Iterator[str]:
    heading = '<h2 class="pictured">' if entry.pictures else "<h2>"  # pictures print the name
    yield f'<section id="record-{number}">{heading}{escape(entry.record)}</h2>\n'
    for picture in entry.pictures:
        yield inline_image(picture, f"ECG of record {entry.record}, coloured by relevance")
    if entry.windows:
        yield from _table(entry.windows)
    yield "</section>\n"


def _table(windows: Sequence[WindowResult]) -> Iterator[str]:
    probabilities = list(dict.fromkeys(name for window in windows for name in window.p_af))
    branches = list(dict.fromkeys(name for window in windows for name in window.enrichment))
    yield '<div class="wide"><table><thead><tr><th rowspan="2">start (s)</th>'
    yield '<th rowspan="2">predicted</th>'
    yield f'<th class="first" colspan="{len(probabilities)}">p(AF)</th>'
    for branch in branches:
        yield (f'<th class="first" colspan="{len(WAVES)}">enrichment, {escape(branch)} branch</th>')
    yield "</tr><tr>"
    yield from _headings(probabilities)
    for _ in branches:
        yield from _headings(WAVES)
    yield "</tr></thead>\n"
    for window in windows:
        yield f"<tr><td>{window.start_s:g}</td><td>{escape(window.predicted)}</td>"
        yield from _cells([_number(window.p_af.get(name), 3) for name in probabilities])
        for branch in branches:
            yield from _cells(_enrichments(window, branch))
        yield "</tr>\n"
    yield "</table></div>\n"
    if any(window.predicted == "AF" for window in windows):
        yield f'<p class="note">{_IN_AF}</p>\n'


def _headings(names: Sequence[str]) -> Iterator[str]:
    for column, name in enumerate(names):
        yield f"<th{_first(column)}>{escape('together' if name == FUSED else name)}</th>"


def _cells(texts: Sequence[str]) -> Iterator[str]:
    for column, text in enumerate(texts):
        yield f"<td{_first(column)}>{text}</td>"


def _first(column: int) -> str:
    return ' class="first"' if column == 0 else ""


def _enrichments(window: WindowResult, branch: str) -> list[str]:
    """The cells of one branch, marked where P is not a P wave."""
    values = window.enrichment.get(branch, {})
    texts = {wave: _number(values.get(wave), 2) for wave in WAVES}
    if wave_title("P", window.predicted) != "P":
        texts["P"] += "<sup>†</sup>"
    return list(texts.values())


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or math.isnan(value) else f"{value:.{digits}f}"

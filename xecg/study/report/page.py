"""The page of a report: one HTML file that holds everything it shows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from xecg.html_page import inline_image, page_head
from xecg.study.report.tables import ShownTable

_STYLE = """
figure { margin: 1.5rem 0 } figcaption { max-width: 60rem; color: #565d68; font-size: .875rem }
caption { text-align: left; padding: .8rem 0 .3rem; color: #565d68; max-width: 60rem }
summary { cursor: pointer; color: #35599a } details { margin: .5rem 0 }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .3rem }
@media print { figure { break-inside: avoid } section { padding: 0 13.5mm } }
"""


@dataclass(frozen=True)
class PageFigure:
    """A figure of the page.

    Args:
        picture: PNG or SVG.
        caption: What it shows.
    """

    picture: Path
    caption: str


@dataclass(frozen=True)
class Block:
    """A figure or tables under a heading; tables that only few want are folded away.

    Args:
        title: Heading.
        figures: Shown first.
        tables: Shown after them.
        folded: Shown when they are asked for.
        notes: Paragraphs above everything.
    """

    title: str
    figures: Sequence[PageFigure] = ()
    tables: Sequence[ShownTable] = ()
    folded: Sequence[ShownTable] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page with its blocks."""

    title: str
    blocks: Sequence[Block]


def report_page(
    title: str, notes: Sequence[str], unfinished: Sequence[str], sections: Sequence[Section]
) -> str:
    """The whole page as text.

    Args:
        title: Its heading.
        notes: Paragraphs below it.
        unfinished: What is missing; a box says so.
        sections: In order.
    """
    return "".join(_page(title, notes, unfinished, sections))


def _page(
    title: str, notes: Sequence[str], unfinished: Sequence[str], sections: Sequence[Section]
) -> Iterator[str]:
    yield page_head(title, _STYLE)
    yield from (f"<p>{escape(note)}</p>\n" for note in notes)
    if unfinished:
        yield f'<div class="failed"><p>{len(unfinished)} cells are not finished:</p><ul>\n'
        yield from (f"<li>{escape(cell)}</li>\n" for cell in unfinished)
        yield "</ul></div>\n"
    for section in sections:
        yield f"<section><h2>{escape(section.title)}</h2>\n"
        for block in section.blocks:
            yield from _block(block)
        yield "</section>\n"
    yield "</body></html>\n"


def _block(block: Block) -> Iterator[str]:
    if block.title:
        yield f"<h3>{escape(block.title)}</h3>\n"
    yield from (f"<p>{escape(note)}</p>\n" for note in block.notes)
    for figure in block.figures:
        image = inline_image(figure.picture, figure.caption)
        yield f"<figure>{image}<figcaption>{escape(figure.caption)}</figcaption></figure>\n"
    yield from (table.html() for table in block.tables)
    if block.folded:
        tables = "".join(table.html() for table in block.folded)
        yield f"<details><summary>Tables</summary>\n{tables}</details>\n"

"""What HTML pages of results share: their look, and pictures that they hold inline."""

from base64 import b64encode
from html import escape
from pathlib import Path

from xecg.errors import DataError

_STYLE = """
@page { size: A4 landscape; margin: 0 }
body { margin: 0 auto; padding: 1.5rem; max-width: 297mm; color: #2b2f36; background: #fff;
       font: 15px/1.5 system-ui, sans-serif }
h1 { font-size: 1.6rem; margin: 0 0 .5rem } h2 { font-size: 1.25rem; margin: 2.5rem 0 .5rem }
p { max-width: 48rem } a { color: #35599a }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem }
th, td { padding: .25rem .7rem; text-align: right; border-bottom: 1px solid #e4e6ea }
th { font-weight: 600; color: #565d68 } th:first-child, td:first-child { text-align: left }
thead tr:first-child th[colspan] { text-align: center }
.first { border-left: 1px solid #c9cdd4 } .note { color: #565d68 }
sup { position: absolute; line-height: 1 } nav { margin-top: 1.5rem }
.wide { overflow-x: auto } img { display: block; max-width: 100%; height: auto; margin: 0 0 1rem }
.failed { border-left: 4px solid #7d0048; padding-left: 1rem }
.failed ul { margin: 0 }
@media print { body { padding: 0 } body > *, section > :not(img) { margin-left: 13.5mm }
               h1 { margin-top: 13.5mm } section { break-before: page; margin-left: 0 }
               h2.pictured { display: none } img { max-width: none } }
"""


def page_head(title: str, style: str = "") -> str:
    """The beginning of a page up to its heading, without scripts; nothing is fetched.

    Args:
        title: Heading of the page.
        style: Further CSS.
    """
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{_STYLE}{style}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
    )


def inline_image(picture: Path, alt: str) -> str:
    """A PNG or SVG file as part of the page; a PNG that states its resolution keeps its size.

    Args:
        picture: The file.
        alt: What it shows, for those who cannot see it.

    Raises:
        DataError: It is neither PNG nor SVG.
    """
    kinds = {".png": "image/png", ".svg": "image/svg+xml"}
    if picture.suffix not in kinds:
        raise DataError(f"Expected a picture that ends in .png or .svg, found {picture}.")
    content = picture.read_bytes()
    width = _png_width_mm(content)
    style = f' style="width:{width:.1f}mm"' if width else ""
    source = f"data:{kinds[picture.suffix]};base64,{b64encode(content).decode()}"
    return f'<img alt="{escape(alt)}"{style} src="{source}">\n'


def _png_width_mm(content: bytes) -> float | None:
    """Printed width of a PNG that states its resolution (chunk pHYs, pixels per metre)."""
    place = content.find(b"pHYs", 0, 1000)
    if not content.startswith(b"\x89PNG") or place < 0:
        return None
    pixels, per_metre = (int.from_bytes(content[at : at + 4]) for at in (16, place + 4))
    return 1000 * pixels / per_metre

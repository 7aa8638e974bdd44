"""Tables in Markdown."""

from collections.abc import Sequence


def markdown_table(lines: Sequence[Sequence[str]]) -> str:
    """The cells of a table as Markdown; the first line is its head."""
    head, *others = lines
    rows = [head, ["---"] * len(head), *others]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)

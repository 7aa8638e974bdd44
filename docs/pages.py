"""What the documentation site takes from elsewhere: the model cards beside the weights."""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the cards of the released weights as pages."""
    for card in sorted((ROOT / "xecg" / "weights").glob("*.md")):
        text = card.read_text(encoding="utf-8").replace("](../../docs/", "](../")
        files.append(File.generated(config, f"cards/{card.name}", content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leads links to files of the repository to their pages; others are left as text."""
    del page, config, files
    markdown = re.sub(r"\]\(\.\./xecg/weights/([\w.]+)\)", r"](cards/\1)", markdown)
    return re.sub(r"\[([^]]+)\]\(\.\./(?![A-Z]+\.md)[^)]*\)", r"\1", markdown)

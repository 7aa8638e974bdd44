"""The comparison with other packages is data; its page is made from it.

``python tests/docs/test_comparison.py`` writes docs/COMPARISON.md anew from docs/comparison.csv.
"""

from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parents[2] / "docs"
MARK = "<!-- made by tests/docs/test_comparison.py from comparison.csv -->\n"
BEYOND = "what it has that xecg has not"


def read() -> pd.DataFrame:
    return pd.read_csv(DOCS / "comparison.csv", keep_default_na=False)


def page(cells: pd.DataFrame) -> str:
    """The part of the page that follows from the cells: a table, what others have, the sources."""
    table = cells.pivot(index="feature", columns="package", values="value")
    table = table.loc[cells["feature"].unique(), cells["package"].unique()]
    beyond = table.loc[BEYOND].drop("xecg")
    table = table.drop(BEYOND)
    rows = [["", *table.columns], ["---"] * (table.shape[1] + 1), *table.reset_index().to_numpy()]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    lines += ["", "## What others have that xecg has not"]
    lines += [f"- **{package}**: {text}." for package, text in beyond.items()]
    lines += ["", "## Where it was seen"]
    for package, of in cells[cells["source"] != ""].groupby("package", sort=False):
        lines += ["", f"### {package}"]
        lines += [
            f"- {feature}: {source}" for feature, source in of[["feature", "source"]].to_numpy()
        ]
    return "\n".join(lines) + "\n"


def test_the_page_is_made_from_the_data() -> None:
    text = (DOCS / "COMPARISON.md").read_text()
    assert text.split(MARK)[1] == page(read())


def test_every_feature_has_a_cell_and_a_source_for_every_package() -> None:
    cells = read()
    n_packages = cells["package"].nunique()
    assert (cells.groupby("feature")["package"].nunique() == n_packages).all()
    assert not cells.duplicated(["feature", "package"]).any()
    own = cells["package"] == "xecg"
    filled = cells[~(own & (cells["feature"] == BEYOND))]
    assert (filled[["value", "source"]] != "").all(axis=None)


def test_the_files_that_the_cells_of_xecg_name_are_there() -> None:
    cells = read()
    own = cells[(cells["package"] == "xecg") & (cells["source"] != "")]
    files = [source for source in own["source"] if not source.startswith("searched for")]
    assert not [file for file in files if not (DOCS.parent / file).exists()]


if __name__ == "__main__":
    written = DOCS / "COMPARISON.md"
    written.write_text(written.read_text().split(MARK)[0] + MARK + page(read()))

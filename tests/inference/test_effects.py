"""``xecg explain effects``: a row for each branch, class, method and filling."""

from pathlib import Path

import pandas as pd
import pytest

from xecg import cli
from xecg.data.store import Store


def test_effects_are_measured_for_each_branch_class_method_and_filling(
    synthetic_store: Store, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "effects.csv"
    words = ["explain", "effects", synthetic_store.path, "--weights", weights, "--out", out]
    words += ["--split", "all", "--windows", "40", "--methods", "innvestigate", "lrp_epsilon"]
    words += ["--fillings", "line", "stretch"]
    assert cli.main([*map(str, words)]) == 0
    report, table = capsys.readouterr().out, pd.read_csv(out)
    assert report.startswith("40 windows")
    numbers = table.groupby(["branch", "class"])["measure"].value_counts().unstack()
    assert (numbers == [2 * 2, 2 * 6, 2 * 4, 2 * 6]).all(axis=None)
    assert set(numbers.columns) == {"agreement", "effect", "enrichment", "flips"}
    known = table.dropna(subset=["low"])
    assert (known["low"] <= known["value"] + 1e-9).all()
    assert table[table["measure"] == "flips"]["value"].dropna().between(0, 1).all()
    nowhere = ["explain", "effects", synthetic_store.path, "--weights", weights, "--windows", 0]
    assert cli.main([*map(str, nowhere), "--split", "all", "--out", str(out)]) == 1

"""What a finished cell's test found, in a line."""

from pathlib import Path

import pytest

from xecg.study.results import accuracy_of, fused_accuracies

HEAD = "test_set,part,metric,value,low,high,n,n_groups\n"
ROWS = """ours,fused,accuracy,0.9123,0.8,1,100,10
ours,fused,f1,0.7,0.6,0.8,100,10
ours,rhythm,accuracy,0.5,0.4,0.6,100,10
mitdb,fused,accuracy,0.8,0.7,0.9,100,10
"""


def test_fused_accuracy_by_test_set(tmp_path: Path) -> None:
    (tmp_path / "test_metrics.csv").write_text(HEAD + ROWS)
    assert fused_accuracies(tmp_path) == {"ours": 0.9123, "mitdb": 0.8}
    assert accuracy_of(tmp_path) == ", fused accuracy 0.912 (ours), 0.800 (mitdb)"


@pytest.mark.parametrize("text", [None, HEAD, HEAD + "ours,p_wave,f1,0.9,0.8,1,10,10\n"])
def test_pretraining_has_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "test_metrics.csv").write_text(text)
    assert accuracy_of(tmp_path) == ""

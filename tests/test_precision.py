"""The arithmetic that is chosen, and why."""

import pytest
import torch

from xecg import precision


@pytest.mark.parametrize(("multiplies", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_cpu_uses_bfloat16_where_it_multiplies_it(
    multiplies: bool, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(precision, "_cpu_multiplies_bfloat16", lambda: multiplies)
    chosen, reason = precision.default_precision("auto")
    assert chosen == expected
    assert "bfloat16" in reason


def test_another_accelerator_gets_float32() -> None:
    assert precision.default_precision("tpu")[0] == "32-true"


def test_this_processor_can_be_asked() -> None:
    assert precision._cpu_multiplies_bfloat16() in (True, False)

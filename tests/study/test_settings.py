"""The config of a study: what it says, and what is said about one that is wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xecg.errors import ConfigError
from xecg.study.plan import Explanations, Fit, fits_of, read_settings


def test_a_config_is_read(write_config: Callable[..., Path]) -> None:
    settings = read_settings(
        write_config(explain={"rules": "zbox", "sets": ["mitdb"], "max_windows": 5})
    )
    assert settings.folder == Path("ladder")
    assert (settings.seeds, settings.frozen_layers, settings.scratch) == ((0,), (0, 3), True)
    assert settings.pretraining_seeds == "first"
    assert settings.pretraining["rhythm"] == "rr_rhythm"
    assert settings.finetuning == Fit((Path("finetune.yaml"),), {"model.channels": 4})
    assert settings.explain == Explanations("zbox", ("mitdb",), 5)
    assert set(fits_of(settings)) == {"finetuning", "pretraining.morphology"}


def test_what_is_not_said_has_a_default(write_config: Callable[..., Path]) -> None:
    settings = read_settings(write_config(scratch="gone"))
    assert settings.scratch
    assert settings.explain == Explanations()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"folder": "gone"}, "the key folder is missing"),
        ({"seed": [0]}, "unknown seed; the keys here are folder, seeds"),
        ({"seeds": []}, "seeds: expected one or more"),
        ({"seeds": [0, 0]}, "seeds: expected different numbers"),
        ({"seeds": 3}, "seeds: expected a list of whole numbers from 0 to 4294967295, found 3"),
        ({"seeds": [-1]}, "seeds: expected a list of whole numbers"),
        ({"frozen_layers": [0, 9]}, "frozen_layers: expected a list of whole numbers from 0 to 8"),
        ({"frozen_layers": [True]}, "frozen_layers: expected a list of whole numbers"),
        ({"frozen_layers": [], "scratch": False}, "nothing to train"),
        ({"scratch": "yes"}, "scratch: expected true or false, found 'yes'"),
        ({"pretraining_seeds": "all"}, "pretraining_seeds: expected first or each, found 'all'"),
        ({"pretraining": {"rhythm": "a"}}, "pretraining: morphology: expected keys with values"),
        ({"pretraining": "pwave"}, "pretraining: expected keys with values, found 'pwave'"),
        ({"finetuning": {"configs": []}}, "finetuning: configs: expected one config"),
        ({"finetuning": {"configs": ["no.yaml"]}}, "finetuning: configs: found no file no.yaml"),
        (
            {"finetuning": {"configs": ["finetune.yaml"], "arguments": [1]}},
            "finetuning: arguments: expected names with values",
        ),
        (
            {"finetuning": {"configs": ["finetune.yaml"], "arguments": {"seed_everything": 3}}},
            "finetuning: arguments: seed_everything is what the study sets",
        ),
        ({"explain": {"rules": "lrp"}}, "explain: rules: expected innvestigate or zbox"),
        ({"explain": {"max_windows": 0}}, "explain: max_windows: expected a whole number from 1"),
        ({"explain": {"sets": "mitdb"}}, "explain: sets: expected a list of texts"),
    ],
)
def test_a_mistake_is_named_by_its_key(
    write_config: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    path = write_config(**changes)
    with pytest.raises(ConfigError) as raised:
        read_settings(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)


@pytest.mark.parametrize("text", [None, "- a\n- b\n", "seeds: [", "1: 2\n"])
def test_a_file_that_is_no_config_is_told(tmp_path: Path, text: str | None) -> None:
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml: "):
        read_settings(path)

"""What a study asks for, and what is said about a config that is wrong."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import ConfigError
from xecg.study.run import Fit, Study, cells_of, read_study

FIT = Fit([Path("fit.yaml")], {"model.channels": 4})
HOW = st.sampled_from([FIT, "released"])
STUDIES = st.builds(
    Study,
    folder=st.just(Path("study")),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True),
    frozen_layers=st.lists(st.integers(0, 8), min_size=1, unique=True),
    pretraining=st.fixed_dictionaries({"morphology": HOW, "rhythm": HOW}),
    finetuning=st.just(FIT),
    scratch=st.booleans(),
)


def ladder(**changes):
    settings = {
        "folder": Path("study"),
        "seeds": [5, 1],
        "frozen_layers": [0, 8],
        "pretraining": {"morphology": FIT, "rhythm": FIT},
        "finetuning": FIT,
    }
    return Study(**{**settings, **changes})


def names(cells):
    return [cell.name for cell in cells]


def test_cells_are_named_after_what_they_are():
    assert names(cells_of(ladder())) == [
        "pretrain-morphology-seed5",
        "pretrain-rhythm-seed5",
        "frozen0-seed5",
        "frozen8-seed5",
        "scratch-seed5",
        "frozen0-seed1",
        "frozen8-seed1",
        "scratch-seed1",
    ]
    frozen, scratch = cells_of(ladder())[-2:]
    assert frozen.needs == ("pretrain-morphology-seed5", "pretrain-rhythm-seed5")
    assert scratch.needs == ()


@given(STUDIES)
def test_a_plan_can_be_done_in_its_order(study):
    cells = cells_of(study)
    assert len({*names(cells)}) == len(cells)
    for number, cell in enumerate(cells):
        assert {*cell.needs} <= {*names(cells[:number])}
    needed = {name for cell in cells for name in cell.needs}
    assert needed == {name for name in names(cells) if name.startswith("pretrain")}
    rungs = len(study.frozen_layers) + study.scratch
    assert len(cells) - len(needed) == rungs * len(study.seeds)


def test_flags_say_what_a_cell_is():
    study = ladder(pretraining={"morphology": FIT, "rhythm": "rr"})
    pretrain, frozen, _, scratch, *_ = cells_of(study)
    flags = frozen.flags
    assert flags[0] == "--config=fit.yaml"
    assert "--model.channels=4" in flags
    few = cells_of(ladder(finetuning=Fit([], {"test_windows.explain": 7})))[-1]
    assert "--test_windows.explain=7" in few.flags
    weights = "study/cells/pretrain-morphology-seed5/weights.safetensors"
    assert weights in " ".join(flags)
    assert {
        "--freezing.frozen_layers=0",
        "--seed_everything=5",
        "--test_windows.explain=null",
    } <= {*flags}
    assert "--freezing.frozen_layers=0" in scratch.flags
    assert "rr" not in " ".join(scratch.flags)
    assert not any("test_windows" in flag for flag in pretrain.flags)


CONFIG = {
    "folder": "ladder",
    "seeds": [0],
    "frozen_layers": [0, 3],
    "pretraining": {"morphology": {"configs": ["pretrain.yaml"]}, "rhythm": "rr_rhythm"},
    "finetuning": {"configs": ["finetune.yaml"], "arguments": {"model.channels": 4}},
}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"folder": None}, "folder"),
        ({"seed": [0]}, "seed"),
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "seeds"),
        ({"seeds": 3}, "seeds"),
        ({"seeds": [-1]}, "seeds"),
        ({"frozen_layers": ["deep"]}, "frozen_layers"),
        ({"frozen_layers": [], "scratch": False}, "frozen_layers"),
        ({"scratch": "maybe"}, "scratch"),
        ({"pretraining": "pwave"}, "pretraining"),
        (
            {"finetuning": {"configs": ["a"], "arguments": {"seed_everything": 3}}},
            "seed_everything",
        ),
        ({"reference": {"accuracy_range": [0.8]}}, "accuracy_range"),
    ],
)
def test_a_mistake_is_named_with_its_file(changes, named, tmp_path):
    path = tmp_path / "study.yaml"
    settings = {key: value for key, value in {**CONFIG, **changes}.items() if value is not None}
    path.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match=rf"study\.yaml(?s:.)*{named}"):
        read_study(path)


@pytest.mark.parametrize("text", [None, "- a\n- b\n", "seeds: [", "1: 2\n"])
def test_a_file_that_is_no_config_is_named(text, tmp_path):
    path = tmp_path / "study.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"study\.yaml"):
        read_study(path)


def test_a_config_is_read_with_its_defaults(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text(yaml.safe_dump(CONFIG | {"reference": {"accuracy_range": [0.8, 0.9]}}))
    study = read_study(path)
    assert study.finetuning == Fit([Path("finetune.yaml")], {"model.channels": 4})
    assert study.pretraining["rhythm"] == "rr_rhythm"
    assert study.scratch
    assert study.reference.accuracy_range == (0.8, 0.9)

"""Which cells a study has, in which order, and which of them a process makes."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xecg.errors import ConfigError
from xecg.study.plan import Cell, Explanations, Fit, StudySettings, choose, plan

FIT = Fit((Path("fit.yaml"),))
HOW = st.sampled_from([FIT, "released"])
SETTINGS = st.builds(
    StudySettings,
    folder=st.just(Path("study")),
    seeds=st.lists(st.integers(0, 99), min_size=1, max_size=4, unique=True).map(tuple),
    frozen_layers=st.lists(st.integers(0, 8), unique=True).map(tuple),
    scratch=st.booleans(),
    pretraining=st.fixed_dictionaries({"morphology": HOW, "rhythm": HOW}),
    pretraining_seeds=st.sampled_from(["first", "each"]),
    finetuning=st.just(FIT),
    explain=st.just(Explanations()),
)


def ladder(**changes: object) -> StudySettings:
    settings = {
        "folder": Path("study"),
        "seeds": (5, 1),
        "frozen_layers": (0, 8),
        "scratch": True,
        "pretraining": {"morphology": FIT, "rhythm": FIT},
        "pretraining_seeds": "first",
        "finetuning": FIT,
        "explain": Explanations(),
    }
    return StudySettings(**{**settings, **changes})  # type: ignore[arg-type]


def names(cells: list[Cell]) -> list[str]:
    return [cell.name for cell in cells]


def test_cells_are_named_after_what_they_are() -> None:
    assert names(plan(ladder())) == [
        "pretrain-morphology-seed5",
        "pretrain-rhythm-seed5",
        "frozen0-seed5",
        "frozen8-seed5",
        "scratch-seed5",
        "frozen0-seed1",
        "frozen8-seed1",
        "scratch-seed1",
    ]
    frozen = plan(ladder())[-2]
    assert (frozen.kind, frozen.frozen_layers, frozen.seed) == ("finetune", 8, 1)
    assert frozen.needs == ("pretrain-morphology-seed5", "pretrain-rhythm-seed5")
    assert (plan(ladder())[-1].frozen_layers, plan(ladder())[-1].needs) == (None, ())


def test_a_pretraining_for_each_seed() -> None:
    cells = plan(ladder(pretraining_seeds="each", pretraining={"morphology": FIT, "rhythm": "a"}))
    assert names(cells)[:2] == ["pretrain-morphology-seed5", "pretrain-morphology-seed1"]
    assert cells[-2].needs == ("pretrain-morphology-seed1",)


@given(SETTINGS)
def test_a_plan_can_be_done_in_its_order(settings: StudySettings) -> None:
    cells = plan(settings)
    assert len(set(names(cells))) == len(cells)
    for number, cell in enumerate(cells):
        assert set(cell.needs) <= set(names(cells[:number]))
    needed = {name for cell in cells for name in cell.needs}
    assert needed == {cell.name for cell in cells if cell.kind == "pretrain"}
    rungs = len(settings.frozen_layers) + settings.scratch
    assert sum(cell.kind == "finetune" for cell in cells) == rungs * len(settings.seeds)


@pytest.mark.parametrize(
    ("frozen_layers", "seed", "chosen"),
    [
        ("8", 1, ["frozen8-seed1"]),
        ("scratch", 5, ["scratch-seed5"]),
        ("0", None, ["frozen0-seed5", "frozen0-seed1"]),
        (None, 1, ["frozen0-seed1", "frozen8-seed1", "scratch-seed1"]),
    ],
)
def test_some_cells_are_chosen_with_what_they_need(
    frozen_layers: str | None, seed: int | None, chosen: list[str]
) -> None:
    cells = choose(plan(ladder()), frozen_layers, seed)
    needed = ["pretrain-morphology-seed5", "pretrain-rhythm-seed5"]
    assert names(cells) == ([] if chosen == ["scratch-seed5"] else needed) + chosen


def test_all_are_chosen_where_nothing_is_asked_for() -> None:
    assert choose(plan(ladder())) == plan(ladder())


@pytest.mark.parametrize(("frozen_layers", "seed"), [("3", None), ("deep", 1), (None, 7)])
def test_a_cell_that_is_not_planned_is_told(frozen_layers: str | None, seed: int | None) -> None:
    with pytest.raises(ConfigError, match=r"frozen_layers 0, 8, scratch and seeds 5, 1"):
        choose(plan(ladder()), frozen_layers, seed)

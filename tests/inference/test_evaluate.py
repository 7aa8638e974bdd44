"""``xecg explain evaluate``: what it writes, what it says, what it refuses."""

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from xecg import cli
from xecg.data.splits import Split, split_rows
from xecg.data.store import Store
from xecg.errors import ConfigError
from xecg.explain.faithfulness.attributions import METHODS
from xecg.explain.faithfulness.settings import EvaluationSettings
from xecg.inference.evaluate import WindowChoice
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing

Evaluate = Callable[..., int]

FAST = ["--windows", "4", "--steps", "3", "--draws", "2"]


@pytest.fixture
def run(synthetic_store: Store, weights: Path, tmp_path: Path) -> Evaluate:
    """Runs the command on the synthetic store, with whatever else a test asks for."""

    def evaluate(*flags: str | Path, store: Path = synthetic_store.path) -> int:
        common = ["--weights", weights, "--out", tmp_path / "out", *FAST]
        return cli.main(["explain", "evaluate", *map(str, (store, *common, *flags))])

    return evaluate


@pytest.fixture
def other_weights(tmp_path: Path) -> Callable[..., Path]:
    def make(preprocessing: Preprocessing | None = None, branches: tuple[str, ...] = ()) -> Path:
        path = tmp_path / "other.safetensors"
        torch.manual_seed(2)
        network = XECGArch.build(branches or ("morphology", "rhythm"), channels=4)
        settings = (preprocessing or Preprocessing()).to_dict()
        save_weights(network, path, WeightsInfo(describe_branches(network.branches), settings))
        return path

    return make


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_it_writes_tables_and_figures_and_prints_the_report(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "areas.csv",
        "curves.csv",
        "curves.png",
        "faithfulness.md",
        "gains.csv",
        "randomisation.csv",
        "randomisation.png",
    }
    report = (out / "faithfulness.md").read_text()
    assert capsys.readouterr().out == f"{report}\n"
    assert report.startswith("Weights small.safetensors; 4 windows (test) of ")
    assert "Segments of 20 ms, 3 steps." in report
    areas = rows(out / "areas.csv")
    assert {row["method"] for row in areas} == set(METHODS)
    assert {row["windows"] for row in areas if row["predicted"] == "all"} == {"4"}
    assert f"{float(areas[0]['value']):.3f} [{float(areas[0]['low']):.3f}, " in report


def test_methods_and_the_kind_of_figure_can_be_chosen(run: Evaluate, tmp_path: Path) -> None:
    assert run("--methods", "random", "dtd_zbox", "random", "--format", "svg") == 0
    areas = rows(tmp_path / "out" / "areas.csv")
    assert list(dict.fromkeys(row["method"] for row in areas)) == ["random", "dtd_zbox"]
    assert (tmp_path / "out" / "curves.svg").read_text().startswith("<?xml")


def test_the_same_seed_gives_the_same_files(run: Evaluate, tmp_path: Path) -> None:
    for name, seed in (("first", "1"), ("second", "1"), ("third", "2")):
        flags = ("--methods", "random", "gradient", "--seed", seed)
        assert run("--out", tmp_path / name, *flags) == 0
    for file in ("areas.csv", "curves.csv", "randomisation.csv", "faithfulness.md", "curves.png"):
        first, second, third = (
            (tmp_path / name / file).read_bytes() for name in ("first", "second", "third")
        )
        assert first == second
        assert first != third


def test_several_weights_are_compared(
    run: Evaluate, weights: Path, other_weights: Callable[..., Path], tmp_path: Path
) -> None:
    assert run("--weights", weights, other_weights(), "--methods", "gradient", "random") == 0
    agreement = rows(tmp_path / "out" / "agreement.csv")
    assert {row["method"] for row in agreement} == {"gradient"}
    assert {row["networks"] for row in agreement} == {"2"}
    report = (tmp_path / "out" / "faithfulness.md").read_text()
    assert report.startswith("Weights small.safetensors, other.safetensors;")
    assert "between the maps of 2 networks" in report


def test_windows_come_from_the_held_out_part_unless_told_otherwise(synthetic_store: Store) -> None:
    index = synthetic_store.index
    held_out = split_rows(index, Split(seed=3))["test"]
    np.testing.assert_array_equal(WindowChoice(1000, "test", 3).rows(index), held_out)
    np.testing.assert_array_equal(WindowChoice(1000, "all").rows(index), np.arange(len(index)))
    drawn = WindowChoice(10, "all", seed=1).rows(index)
    assert len(set(drawn.tolist())) == 10
    assert (np.diff(drawn) > 0).all()
    assert drawn.tolist() != WindowChoice(10, "all", seed=2).rows(index).tolist()


def test_a_folder_that_holds_something_is_left_alone(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    assert run() == 1
    assert "out is not empty; name another folder" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes"]


def test_a_folder_that_cannot_be_made_is_named(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run("--out", tmp_path / "file" / "out") == 1
    assert "file/out: cannot be made" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "saliency"], "found 'saliency'"),
        (["--windows", "0"], "at least one window, found --windows 0"),
        (["--steps", "0"], "steps must be at least 1"),
        (["--segment_ms", "0"], "longer than 0 ms"),
        (["--weights", "nothing"], "found no file nothing"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(
    run: Evaluate,
    flags: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(*flags) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_windows_that_were_made_otherwise_are_refused(
    run: Evaluate, other_weights: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--weights", other_weights(Preprocessing(high_hz=30.0))) == 1
    message = capsys.readouterr().err
    assert "high_hz=30.0" in message
    assert "high_hz=40.0" in message
    assert "Prepare the database again" in message


def test_weights_that_do_not_go_together_are_refused(
    run: Evaluate,
    weights: Path,
    other_weights: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--weights", weights, weights) == 1
    assert "the same file is given twice" in capsys.readouterr().err
    assert run("--weights", weights, other_weights(branches=("rhythm",))) == 1
    assert "expected the branches morphology, rhythm" in capsys.readouterr().err


def test_a_store_that_is_none_is_refused(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(store=tmp_path) == 1
    assert "expected a prepared store" in capsys.readouterr().err


def test_a_store_without_held_out_windows_says_so(
    run: Evaluate, synthetic_store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(synthetic_store.path, store)
    one_group(store)
    assert run(store=store) == 1
    assert "no window in the part 'test'; pass --split all" in capsys.readouterr().err


def one_group(store: Path) -> None:
    """Makes all windows of a store one person's, whom the split does not hold out."""
    with np.load(store / "index.npz") as file:
        columns = dict(file)
    columns["group"] = np.full_like(columns["group"], columns["group"][0])
    np.savez(store / "index.npz", **columns)


def test_a_record_called_evaluate_can_still_be_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "./evaluate", "--out", "out", "--weights", "nothing"]) == 1
    assert "found no file nothing" in capsys.readouterr().err


def test_it_is_listed_and_has_a_help_text_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert "explain evaluate" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["explain", "evaluate", "--help"])
    text = capsys.readouterr().out
    assert text.startswith("usage: xecg explain evaluate ")
    for method in METHODS:
        assert method in " ".join(text.split())


def test_integrated_gradients_without_captum_are_refused_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    where = "xecg.explain.faithfulness.integrated_gradients.find_spec"
    monkeypatch.setattr(where, lambda name: None)
    with pytest.raises(ConfigError, match="captum"):
        EvaluationSettings()
    assert EvaluationSettings(methods=("gradient",)).methods == ("gradient",)

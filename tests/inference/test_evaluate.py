"""``xecg explain evaluate`` and ``effects``: what they write, what they say, what they refuse."""

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from xecg import cli
from xecg.data.splits import keys
from xecg.data.store import Store
from xecg.errors import WeightsError
from xecg.explain import faithfulness
from xecg.explain.faithfulness import CONTROLS, METHODS
from xecg.inference import evaluate as module
from xecg.inference.evaluate import evaluate
from xecg.networks.weights import WeightsInfo, describe_branches, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.signal.preprocessing import Preprocessing

Evaluate = Callable[..., int]

FAST = ["--windows", "4", "--split", "all"]


@pytest.fixture
def run(
    synthetic_store: Store, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Evaluate:
    """Runs the command on the synthetic store, with whatever else a test asks for."""
    monkeypatch.setattr(faithfulness, "STEPS", 3)
    monkeypatch.setattr(faithfulness, "DRAWS", 2)

    def evaluate(*flags: str | Path, store: Path = synthetic_store.path) -> int:
        common = ["--out", tmp_path / "out", *FAST]
        named = [] if "--weights" in flags else ["--weights", weights]
        return cli.main(["explain", "evaluate", *map(str, (store, *common, *named, *flags))])

    return evaluate


@pytest.fixture
def other_weights(tmp_path: Path) -> Callable[..., Path]:
    def make(
        preprocessing: Preprocessing | None = None,
        branches: tuple[str, ...] = (),
        learnt: torch.Tensor | None = None,
    ) -> Path:
        path = tmp_path / "other.safetensors"
        torch.manual_seed(2)
        network = XECGArch.build(branches or ("morphology", "rhythm"), channels=4)
        settings = (preprocessing or Preprocessing()).to_dict()
        info = WeightsInfo(describe_branches(network.branches), settings, learnt=learnt)
        save_weights(network, path, info)
        return path

    return make


def test_it_writes_tables_and_prints_them(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {"areas.csv", "randomisation.csv"}
    said = capsys.readouterr().out
    assert re.match(r"4 windows \([0-4] in AF\) of ", said)
    assert "whether the weights learnt from them is not known" in said
    areas = pd.read_csv(out / "areas.csv")
    assert set(areas.method) == {*METHODS, *CONTROLS}
    assert set(areas.n) == {4}
    assert f"{areas.value[0]:.3f} [{areas.low[0]:.3f}, " in said


def test_methods_can_be_chosen(run: Evaluate, tmp_path: Path) -> None:
    assert run("--methods", "zbox", "gradient", "zbox") == 0
    areas = pd.read_csv(tmp_path / "out" / "areas.csv")
    assert list(areas.method.unique()) == ["zbox", "gradient", *CONTROLS]


def test_the_same_seed_gives_the_same_files(run: Evaluate, tmp_path: Path) -> None:
    for name, seed in (("first", "1"), ("second", "1"), ("third", "2")):
        assert run("--out", tmp_path / name, "--methods", "gradient", "--seed", seed) == 0
    for file in ("areas.csv", "randomisation.csv"):
        first, second, third = (
            (tmp_path / name / file).read_bytes() for name in ("first", "second", "third")
        )
        assert first == second
        assert first != third


def test_several_weights_are_compared(
    run: Evaluate, weights: Path, other_weights: Callable[..., Path], tmp_path: Path
) -> None:
    assert run("--weights", weights, other_weights(), "--methods", "gradient") == 0
    agreement = pd.read_csv(tmp_path / "out" / "agreement.csv")
    assert set(agreement.method) == {"gradient"}
    assert set(agreement.networks) == {2}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[np.ndarray, np.ndarray]]:
    """Windows and groups that were evaluated; evaluation ends there."""
    found: list[tuple[np.ndarray, np.ndarray]] = []

    def stop(networks: object, x: np.ndarray, groups: np.ndarray, *_: object) -> None:
        found.append((x, groups))
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "evaluate_maps", stop)
    return found


def test_windows_are_of_persons_whom_no_weights_learnt_from(
    synthetic_store: Store,
    other_weights: Callable[..., Path],
    asked: list[tuple[np.ndarray, np.ndarray]],
    tmp_path: Path,
) -> None:
    index = synthetic_store.index
    some = index.take(np.flatnonzero(index.group != index.group[0])[::7])
    learnt = torch.from_numpy(np.unique(keys(synthetic_store.info.identity, some)))
    weights = [str(other_weights(learnt=learnt))]
    with pytest.raises(KeyboardInterrupt):
        evaluate(synthetic_store.path, tmp_path / "out", weights=weights, windows=10_000)
    ((_, groups),) = asked
    unseen = sorted(set(index.group) - set(some.group))
    assert sorted(set(groups)) == unseen
    assert len(groups) == np.isin(index.group, unseen).sum()


def test_windows_are_drawn_by_the_seed(
    synthetic_store: Store,
    weights: Path,
    asked: list[tuple[np.ndarray, np.ndarray]],
    tmp_path: Path,
) -> None:
    for seed in (1, 1, 2):
        with pytest.raises(KeyboardInterrupt):
            evaluate(
                synthetic_store.path,
                tmp_path / "out",
                weights=[str(weights)],
                split="all",
                windows=10,
                seed=seed,
            )
    first, again, other = (x for x, _ in asked)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert len(np.unique(first, axis=0)) == 10


def test_weights_that_do_not_say_what_they_learnt_from_are_no_test(
    synthetic_store: Store, weights: Path, tmp_path: Path
) -> None:
    with pytest.raises(WeightsError, match=r"small\.safetensors.*--split all"):
        evaluate(synthetic_store.path, tmp_path / "out", weights=[str(weights)])
    assert not (tmp_path / "out").exists()


def test_a_store_that_was_all_learnt_from_is_no_test_and_named_as_such(
    run: Evaluate,
    synthetic_store: Store,
    other_weights: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    learnt = keys(synthetic_store.info.identity, synthetic_store.index)
    weights = other_weights(learnt=torch.from_numpy(np.unique(learnt)))
    assert run("--weights", weights, "--split", "unseen") == 1
    assert "found none; pass --split all" in capsys.readouterr().err
    assert run("--weights", weights, "--methods", "gradient") == 0
    n = len(synthetic_store)
    assert f"from all {n} windows, {n} of them learnt from" in capsys.readouterr().out


def test_a_folder_that_holds_something_is_left_alone(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes").write_text("mine")
    assert run() == 1
    assert "out is no empty folder; name another one" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes"]


def test_a_folder_that_cannot_be_made_is_named(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run("--out", tmp_path / "file" / "out") == 1
    assert "file/out: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--methods", "saliency"], "found 'saliency'"),
        (["--windows", "0"], "windows: expected 1 or more, found 0"),
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
    assert "high_hz 30.0" in message
    assert "high_hz 40.0" in message
    assert "Prepare the database again" in message


def test_weights_that_do_not_go_together_are_refused(
    run: Evaluate,
    weights: Path,
    other_weights: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run("--weights", weights, other_weights(branches=("rhythm",))) == 1
    assert "expected the branches morphology, rhythm" in capsys.readouterr().err


def test_a_store_that_is_none_is_refused(
    run: Evaluate, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(store=tmp_path) == 1
    assert "expected a prepared store" in capsys.readouterr().err


def test_a_record_called_evaluate_can_still_be_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["explain", "./evaluate", "--out", "out", "--weights", "nothing"]) == 1
    assert "found no file nothing" in capsys.readouterr().err


def test_its_help_names_methods_and_splits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        cli.main(["explain", "evaluate", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for word in (*METHODS, "unseen", "all"):
        assert word in text


def test_integrated_gradients_without_captum_are_refused_before_anything_is_written(
    run: Evaluate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    assert run() == 1
    assert not (tmp_path / "out").exists()


def test_effects_are_measured_for_each_branch_class_method_and_filling(
    synthetic_store: Store, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "effects.csv"
    words = ["explain", "effects", synthetic_store.path, "--weights", weights, "--out", out]
    words += ["--split", "all", "--windows", "40", "--methods", "innvestigate", "lrp_epsilon"]
    words += ["--fillings", "line", "stretch"]
    assert cli.main([*map(str, words)]) == 0
    report, table = capsys.readouterr().out, pd.read_csv(out)
    assert report.startswith("40 windows (20 in AF) of ")
    numbers = table.groupby(["branch", "class"])["measure"].value_counts().unstack()
    assert (numbers == [2 * 2, 2 * 6, 2 * 4, 2 * 6]).all(axis=None)
    assert set(numbers.columns) == {"agreement", "effect", "enrichment", "flips"}
    known = table.dropna(subset=["low"])
    assert (known["low"] <= known["value"] + 1e-9).all()
    assert table[table["measure"] == "flips"]["value"].dropna().between(0, 1).all()
    nowhere = ["explain", "effects", synthetic_store.path, "--weights", weights, "--windows", 0]
    assert cli.main([*map(str, nowhere), "--split", "all", "--out", str(out)]) == 1

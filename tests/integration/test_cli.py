"""The command: what a run leaves behind, flags, resuming, errors."""

import csv
import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from xecg.cli import main
from xecg.networks.weights import load_xecgarch
from xecg.run_folder import WholeCheckpoints
from xecg.runs import RunCLI
from xecg.tasks import AFClassifier

ROOT = Path(__file__).parents[2]
SCRATCH = str(ROOT / "configs" / "finetune_scratch.yaml")
EMA_OF_5 = '--trainer.callbacks={"class_path": "EMAWeightAveraging", "init_args": {"decay": 5}}'
SMALL = [
    "--model.channels=4",
    "--freezing.allow_random=true",
    "--data.windows_per_epoch=128",
    "--trainer.max_epochs=2",
    "--trainer.enable_progress_bar=false",
    "--trainer.callbacks=null",
]
NAMES = ("best", "last")


def fit(*flags: str) -> int:
    return main(["fit", "--config", SCRATCH, *SMALL, *flags])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_run_leaves_everything_in_its_folder(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--freezing.frozen_layers=3", "--seed_everything=5") == 0
    (folder,) = (workplace / "runs" / "finetune_scratch").iterdir()
    names = {path.name for path in folder.iterdir()}
    expected = {"config.yaml", "metrics.csv", "checkpoints", "wandb", "weights.safetensors"}
    assert expected | {"test_metrics.csv"} <= names
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert config["freezing"]["frozen_layers"] == 3
    assert config["seed_everything"] == 5
    parts = {row["part"] for row in rows(folder / "test_metrics.csv")}
    assert parts == {"morphology", "rhythm", "fused"}
    assert list(folder.glob("wandb/offline-run-*/*.wandb"))
    output = capsys.readouterr().out
    assert "morphology" in output
    assert "fused" in output
    assert output.rstrip().endswith(f"Everything is in runs/finetune_scratch/{folder.name}")


def test_the_best_checkpoint_is_the_one_tested_and_released(workplace: Path) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false") == 0
    network, info = load_xecgarch("run/weights.safetensors")
    best = torch.load("run/checkpoints/best.ckpt", weights_only=True)
    for key, value in network.state_dict().items():
        assert torch.equal(value, best["state_dict"][f"network.{key}"])
    assert info.provenance["epoch"] == best["epoch"]
    assert info.preprocessing["sampling_rate"] == 250.0
    assert info.provenance["task"] == "AFClassifier"
    assert info.provenance["data"][0]["split"]["train"] == 0.7
    assert info.learnt is not None


def test_test_and_predict_use_a_checkpoint(workplace: Path) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false") == 0
    saved = ["--config", "run/config.yaml", "--ckpt_path", "run/checkpoints/best.ckpt"]
    assert main(["test", *saved]) == 0  # as docs/RESULTS.md prints it: no folder is named
    (folder,) = Path("runs/run_test").iterdir()
    assert rows(folder / "test_metrics.csv") == rows(Path("run/test_metrics.csv"))
    assert main(["test", *saved, "--run_folder=again"]) == 0
    assert rows(Path("again/test_metrics.csv")) == rows(Path("run/test_metrics.csv"))
    assert main(["predict", *saved, "--run_folder=predicted"]) == 0
    predictions = rows(Path("predicted/predictions_synthetic.csv"))
    assert [*predictions[0]] == [
        *("record", "group", "lead", "start_s"),
        *("p_af_morphology", "p_af_rhythm", "p_af", "af"),
    ]
    n = int(rows(Path("run/test_metrics.csv"))[0]["n"])
    assert len(predictions) == n
    right = [(float(row["p_af"]) > 0.5) == (row["af"] == "1") for row in predictions]
    accuracy = sum(right) / n
    reported = next(
        float(row["value"])
        for row in rows(Path("run/test_metrics.csv"))
        if (row["part"], row["metric"]) == ("fused", "accuracy")
    )
    assert accuracy == pytest.approx(reported, abs=1e-6)


def test_a_calibrated_checkpoint_is_tested_and_written(workplace: Path) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false") == 0
    saved = ["--config", "run/config.yaml", "--ckpt_path", "run/checkpoints/best.ckpt"]
    assert main(["calibrate", *saved, "--run_folder=mended", "--model.prevalence=0.3"]) == 0
    before, after = (load_xecgarch(f"{run}/weights.safetensors")[0] for run in ("run", "mended"))
    x = torch.rand(3, 1, 2500)
    for name, logits in after(x).items():
        assert not torch.allclose(logits, before(x)[name])
        assert torch.equal(after.branches[name](x), before.branches[name](x))
    provenance = load_xecgarch("mended/weights.safetensors")[1].provenance
    assert provenance["prevalence"] == 0.3
    points = provenance["operating_points"]
    assert set(points) == {"sensitive", "balanced", "specific"}
    table = [row for row in rows(Path("mended/test_metrics.csv")) if row["metric"] == "sensitivity"]
    found = {row["part"]: float(row["value"]) for row in table}
    windows = rows(Path("mended/windows/synthetic.csv"))
    for name, point in points.items():
        called = [float(w["p_af"]) > point["threshold"] for w in windows if w["af"] == "1"]
        assert found[f"fused, {name}"] == pytest.approx(sum(called) / len(called), abs=1e-5)


@pytest.mark.parametrize("named", [True, False])
def test_a_resumed_run_ends_as_if_it_had_never_stopped(named: bool, workplace: Path) -> None:
    steep = ["--model.optimizer.lr=0.05", "--model.dropout=0.1", "--trainer.logger=CSVLogger"]
    steep += ["--trainer.logger.save_dir=.", "--trainer.logger.name=", "--trainer.logger.version="]
    assert fit("--run_folder=whole", "--trainer.max_epochs=5", *steep) == 0
    assert fit("--run_folder=part", "--trainer.max_epochs=4", *steep) == 0
    state = torch.load("part/checkpoints/last.ckpt", weights_only=True)
    best = torch.load("part/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] < state["epoch"] == 3  # the last is not the best
    assert load_xecgarch("part/weights.safetensors")[1].provenance["epoch"] == best["epoch"]
    folder = ["--run_folder=part"] if named else []
    last = "--ckpt_path=part/checkpoints/last.ckpt"
    assert fit(*folder, "--trainer.max_epochs=5", last, *steep) == 0
    for name in NAMES:
        part, whole = (
            torch.load(f"{run}/checkpoints/{name}.ckpt", weights_only=True)
            for run in ("part", "whole")
        )
        assert part["epoch"] == whole["epoch"]
        for key, value in whole["state_dict"].items():
            assert torch.equal(part["state_dict"][key], value)
    for table in ("test_metrics.csv", "metrics.csv"):
        assert Path("part", table).read_bytes() == Path("whole", table).read_bytes()


def test_flags_change_what_they_name(workplace: Path) -> None:
    flags = ["--model.optimizer.lr=0.02", "--freezing.frozen_layers={morphology: 2, rhythm: 5}"]
    assert fit(*flags, "--run_folder=run", "--trainer.logger=false") == 0
    state = torch.load("run/checkpoints/last.ckpt", weights_only=True)
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == 0.02


def test_frozen_blocks_stay_as_they_were_pretrained(workplace: Path) -> None:
    assert fit("--run_folder=before", "--trainer.logger=false") == 0
    branches = ["morphology", "rhythm"]
    weights = [f"--model.pretrained.{name}=before/weights.safetensors" for name in branches]
    frozen = ["--freezing.frozen_layers=8", "--run_folder=after", "--trainer.logger=false"]
    assert fit(*weights, *frozen) == 0
    before, after = (load_xecgarch(f"{run}/weights.safetensors")[0] for run in ("before", "after"))
    for key, value in after.branches.state_dict().items():
        assert torch.equal(value, before.branches.state_dict()[key])
    heads = after.heads.state_dict()
    assert not all(torch.equal(v, before.heads.state_dict()[k]) for k, v in heads.items())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--freezing.frozen_layers=9"], "from 0 (none) to 8"),
        (["--freezing.frozen_layers={tempo: 3}"], "morphology, rhythm"),
        (["--model.pretrained.morphology=nowhere"], "found no file nowhere"),
        (["--data.stores=stores/nothing"], "stores/nothing"),
    ],
)
def test_mistakes_are_told_before_training(
    flags: list[str], message: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit(*flags, "--trainer.logger=false") == 1
    error = capsys.readouterr().err
    last = error.strip().splitlines()[-1]
    assert last.startswith("xecg: ")
    assert message in last


def test_a_refused_run_leaves_nothing_behind(workplace: Path) -> None:
    before = sorted(Path().rglob("*"))
    for flags in ("--data.stores=nowhere", "--freezing.frozen_layers=9", "--model.channels=0"):
        assert fit(flags, "--run_folder=run") == 1
        assert fit(flags) == 1
    # Which makes its folder at once.
    assert fit("--freezing.frozen_layers=9", "--trainer.logger=MLFlowLogger") == 1
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("flag", "nearest"),
    [
        ("--model.optimzer.lr=0.1", "--model.optimizer.lr"),
        ("--freezing.frozen_layer=5", "--freezing.frozen_layers"),  # a prefix is no flag
        ("--data.stors=x", "--data.stores"),
        ("--trainer.max_epoch=3", "--trainer.max_epochs"),
    ],
)
def test_a_misspelt_flag_is_answered_with_the_real_one(
    flag: str, nearest: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        fit(flag)
    assert ended.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) <= 5
    assert f"Did you mean {nearest}?" in lines


@pytest.mark.parametrize(
    ("flag", "name"),
    [
        ("--trainer.enable_checkpointing=false", "enable_checkpointing"),
        ("--trainer.max_epochs=0", "max_epochs"),
        ("--checkpoint.save_top_k=0", "save_top_k"),
        ("--trainer.limit_test_batches=0", "limit_test_batches"),
        ("--trainer.limit_test_batches=0.0001", "limit_test_batches"),
        ("--trainer.val_check_interval=0", "val_check_interval"),
        ("--trainer.max_time=00:00:00:00", "max_time"),
        ("--trainer.max_epochs=-5", "max_epochs"),  # Lightning says so
        ("--model.optimizer.lr=-1", "learning rate"),  # PyTorch says so
        (EMA_OF_5, "decay"),  # what the parser calls says so
        ("--data.stores=[]", "stores"),
    ],
)
def test_a_run_that_could_not_be_tested_is_refused_before_training(
    flag: str, name: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--run_folder=run", flag) == 1
    assert name in capsys.readouterr().err.strip().splitlines()[-1]
    assert not Path("run").exists()


@pytest.mark.parametrize(
    "flag", ["limit_val_batches=0", "max_steps=1", "check_val_every_n_epoch=5"]
)
def test_without_validation_the_last_weights_are_tested_and_written(
    flag: str, workplace: Path
) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false", f"--trainer.{flag}") == 0
    assert rows(Path("run/test_metrics.csv"))
    load_xecgarch("run/weights.safetensors")


@pytest.mark.parametrize(("given", "found"), [("1", 1), ("1.0", 1.0), ("0.5", 0.5)])
def test_a_limit_of_one_is_one_batch(given: str, found: float, workplace: Path) -> None:
    keys = [f"limit_{part}_batches" for part in ("train", "val", "test", "predict")]
    flags = [f"--trainer.{key}={given}" for key in keys]
    with ExitStack() as held:
        cli = RunCLI("fit", ["--config", SCRATCH, *SMALL, *flags], held)
        for key in keys:
            assert (value := getattr(cli.trainer, key)) == found
            assert type(value) is type(found)


@pytest.mark.parametrize("name", ["WANDB_MODE", "WANDB_DISABLED"])
def test_w_and_b_can_be_switched_off(
    name: str, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, {"WANDB_MODE": "disabled"}.get(name, "true"))
    assert fit("--run_folder=run", "--trainer.limit_train_batches=1", "--trainer.max_epochs=1") == 0
    assert Path("run/metrics.csv").is_file()
    assert not list(Path().rglob("wandb"))


def test_a_training_that_diverges_ends_at_once(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false", "--model.optimizer.lr=1e30") == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("xecg: training diverged")
    assert "step 1" in error
    assert "1e+30" in error
    assert not list(Path().rglob("*.safetensors"))
    for path in Path("run").rglob("*.ckpt"):
        assert torch.isfinite(torch.load(path)["state_dict"]["network.heads.rhythm.weight"]).all()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_says_so_and_keeps_its_last_checkpoint(
    number: int, status: int, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = WholeCheckpoints.save_checkpoint

    def stopped(*arguments: Any, **options: Any) -> None:
        save(*arguments, **options)
        os.kill(os.getpid(), number)

    # Python ignores ctrl-C where it is started in the background.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patched:
        patched.setattr(WholeCheckpoints, "save_checkpoint", stopped)
        assert fit("--run_folder=run", "--trainer.logger=false") == status
    signal.signal(signal.SIGINT, before)
    kept = next(Path("run/checkpoints").iterdir())
    assert fit(f"--ckpt_path={kept}", "--trainer.logger=false") == 0


@pytest.mark.parametrize(
    ("verb", "part"),
    [("test", "test"), ("validate", "val"), ("predict", "predict"), ("calibrate", "val")],
)
def test_a_verb_without_a_batch_is_refused(
    verb: str, part: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = AFClassifier(channels=4)
    content = {"state_dict": task.state_dict(), "epoch": 0, "global_step": 1}
    torch.save(content | {"pytorch-lightning_version": "2.6"}, "c.ckpt")
    flags = [f"--trainer.limit_{part}_batches=0", "--ckpt_path=c.ckpt"]
    assert main([verb, "--config", SCRATCH, *SMALL, *flags]) == 1
    assert f"limit_{part}_batches" in capsys.readouterr().err.strip().splitlines()[-1]
    assert [path.name for path in Path().iterdir()] == ["c.ckpt"]


@pytest.mark.parametrize("verb", ["test", "validate", "predict", "calibrate"])
def test_a_checkpoint_is_needed(
    verb: str, workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([verb, "--config", SCRATCH, *SMALL]) == 1
    assert "--ckpt_path" in capsys.readouterr().err
    assert not list(Path().iterdir())


def test_a_checkpoint_of_another_network_is_refused(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false", "--trainer.max_epochs=1") == 0
    last = "--ckpt_path=run/checkpoints/last.ckpt"
    wider = ["--config", SCRATCH, *SMALL, "--model.channels=8", last]
    for verb in ("fit", "test", "validate", "predict"):
        assert main([verb, *wider]) == 1
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("xecg: the checkpoint holds")
    assert [path.name for path in Path().iterdir()] == ["run"]


def test_a_run_is_not_continued_in_another_folder(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fit("--run_folder=run", "--trainer.logger=false") == 0
    assert fit("--run_folder=other", "--ckpt_path=run/checkpoints/last.ckpt") == 1
    assert "run_folder other" in capsys.readouterr().err
    assert not Path("other").exists()


def test_a_used_run_folder_is_refused(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    Path("run/precious.txt").write_text("mine")
    assert fit("--run_folder=run") == 1
    assert "run_folder run is not empty" in capsys.readouterr().err
    assert [path.name for path in Path("run").iterdir()] == ["precious.txt"]


def imported_by(*arguments: str) -> set[str]:
    code = (
        "import sys; from xecg.cli import main\n"
        f"try: main({list(arguments)!r})\n"
        "except SystemExit: pass\n"
        "print('MODULES', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.rpartition("MODULES")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("data", "list")])
def test_verbs_on_files_import_neither_torch_nor_lightning(arguments: tuple[str, ...]) -> None:
    assert not {"torch", "lightning", "wandb"} & imported_by(*arguments)


def test_help_begins_with_what_one_changes_most() -> None:
    command = [sys.executable, "-m", "xecg.cli", "fit", "--help"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    for flag in ("--model.optimizer.lr", "--data.stores", "--freezing.frozen_layers"):
        assert flag in printed
    assert "--trainer.accelerator" not in printed
    assert "--help=all" in printed


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("xecg ")


def test_an_unknown_verb_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clasify", "x"]) == 2
    assert "xecg classify" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("data", "list"), ("--help",)])
def test_a_reader_that_has_seen_enough_is_no_error(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "xecg.cli", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141

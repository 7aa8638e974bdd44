"""Every config runs, and begins by saying what it does and how long it takes."""

from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from xecg.cli import main
from xecg.data.databases import get_database
from xecg.data.prepare import prepare
from xecg.runs import RunCLI
from xecg.study.run import cells_of, read_study

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "configs").glob("study*.yaml"))
CONFIGS = sorted({*(ROOT / "configs").glob("*.yaml")} - {*STUDIES})
DATA_CONFIGS = sorted((ROOT / "configs" / "data").glob("*.yaml"))
ALL_CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
RECIPES = sorted((ROOT / "configs" / "recipe").glob("*.yaml"))
TASK_OF = {"pwave_real": "pretrain_pwave", "rr_real": "pretrain_rr", "pretrain": "pretrain_rr"}
REAL = ("cinc2017", "ludb", "qtdb", "mitdb", "ptbxl", "svdb", "afpdb", "aftdb")


@pytest.mark.parametrize("path", ALL_CONFIGS, ids=lambda path: path.stem)
def test_a_config_begins_with_what_it_does(path: Path) -> None:
    assert path.read_text().startswith("# ")
    assert yaml.safe_load(path.read_text())


def test_data_and_recipe_share_no_setting() -> None:
    for path in DATA_CONFIGS:
        assert set(yaml.safe_load(path.read_text())) == {"data"}
    for path in RECIPES:
        assert "data" not in yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_runs_and_keeps_the_callbacks_of_the_config(path: Path, workplace: Path) -> None:
    config = ROOT / "configs" / f"{TASK_OF.get(path.stem, 'finetune_frozen3')}.yaml"
    flags = ["--config", str(config), "--config", str(path), "--trainer.fast_dev_run", "1"]
    with ExitStack() as held:
        callbacks = RunCLI("fit", flags, held).trainer.callbacks
    names = {type(callback).__name__ for callback in callbacks}
    assert "EMAWeightAveraging" in names
    assert ("RelevanceLogger" in names) == ("finetune" in config.stem)
    assert main(["fit", *flags]) == 0


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_runs(path: Path, workplace: Path) -> None:
    assert main(["fit", "--config", str(path), "--trainer.fast_dev_run", "1"]) == 0


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_cell_of_a_study_has_arguments_that_a_fit_takes(
    path: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workplace / "configs").symlink_to(ROOT / "configs")
    cells = cells_of(read_study(path))
    assert len(cells) > 3
    last_of_each_kind = {cell.name.split("-")[1]: cell for cell in cells}
    for cell in last_of_each_kind.values():
        with pytest.raises(SystemExit) as ended:
            main(["fit", *cell.flags, "--print_config"])
        assert ended.value.code == 0


@pytest.fixture(scope="session")
def real_stores(xecg_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few records of each real database, prepared."""
    folder = tmp_path_factory.mktemp("real")
    for name in REAL:
        limit = {"cinc2017": 120, "ludb": 20, "ptbxl": 60, "svdb": 4, "afpdb": 8}.get(name)
        database = get_database(name, xecg_data / name)
        prepare(database, folder / name, limit=limit)
    prepare(get_database("challenge", xecg_data / "xfusemap"), folder / "xfusemap")
    return folder


@pytest.mark.parametrize("path", DATA_CONFIGS, ids=lambda path: path.stem)
def test_a_data_config_runs_on_real_ecgs(
    path: Path, real_stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stores").symlink_to(real_stores)
    config = ROOT / "configs" / f"{TASK_OF.get(path.stem, 'finetune_frozen3')}.yaml"
    flags = ["--config", str(config), "--config", str(path), "--trainer.fast_dev_run", "1"]
    assert main(["fit", *flags]) == 0

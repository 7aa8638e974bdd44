"""Beginning a study and going on with it."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xecg.errors import ConfigError, StudyError
from xecg.study.beginning import begin
from xecg.study.fit_arguments import fit_arguments
from xecg.study.plan import plan, read_settings

WriteConfig = Callable[..., Path]


def test_a_study_keeps_its_settings_and_copies_of_the_configs(write_config: WriteConfig) -> None:
    folder, settings = begin(read_settings(write_config()))
    assert folder.path == Path("ladder")
    assert read_settings(folder.settings) == settings
    Path("finetune.yaml").write_text("trainer: {max_epochs: 99}\n")
    configs = [
        Path(flag.removeprefix("--config="))
        for cell in plan(settings)
        for flag in fit_arguments(cell, settings, folder)
        if flag.startswith("--config=")
    ]
    assert {path.parent for path in configs} == {folder.configs}
    assert all("max_epochs: 3" in path.read_text() for path in configs)


def test_the_same_settings_go_on(write_config: WriteConfig) -> None:
    first = begin(read_settings(write_config()))
    again = begin(read_settings(write_config()))
    assert again[1] == first[1]


def test_it_goes_on_by_its_own_settings_wherever_it_was_moved(
    write_config: WriteConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(read_settings(write_config()))
    Path("ladder").rename("moved")
    Path("finetune.yaml").write_text("changed: since\n")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    folder, settings = begin(read_settings(Path("../moved/study.yaml")))
    assert folder.path == Path("../moved")
    assert all(path.is_file() for path in settings.finetuning.configs)


def test_more_seeds_and_depths_are_added(write_config: WriteConfig) -> None:
    begin(read_settings(write_config(seeds=[1], scratch=False)))
    _, settings = begin(read_settings(write_config(seeds=[0, 1], frozen_layers=[1, 3])))
    assert settings.seeds == (1, 0)  # the first one pre-trained for all
    assert settings.frozen_layers == (0, 1, 3)
    assert settings.scratch
    assert read_settings(Path("ladder/study.yaml")) == settings
    _, fewer = begin(read_settings(write_config(seeds=[0], frozen_layers=[], scratch=True)))
    assert fewer == settings


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"pretraining_seeds": "each"}, "pretraining_seeds"),
        (
            {"pretraining": {"morphology": "pwave_morphology", "rhythm": "rr_rhythm"}},
            "pretraining.morphology.configs[0]",
        ),
        ({"finetuning": {"configs": ["pretrain.yaml"]}}, "finetuning.configs[0]"),
        (
            {
                "finetuning": {
                    "configs": ["finetune.yaml", "pretrain.yaml"],
                    "arguments": {"model.channels": 4},
                }
            },
            "finetuning.configs[1]",
        ),
        (
            {"finetuning": {"configs": ["finetune.yaml"], "arguments": {"model.channels": 8}}},
            "finetuning.arguments.model.channels",
        ),
        ({"finetuning": {"configs": ["finetune.yaml"]}}, "finetuning.arguments.model.channels"),
        ({"explain": {"max_windows": 3}}, "explain.max_windows"),
    ],
)
def test_what_finished_cells_depend_on_cannot_be_changed(
    write_config: WriteConfig, changes: dict[str, Any], key: str
) -> None:
    begin(read_settings(write_config()))
    kept = Path("ladder/study.yaml").read_text()
    with pytest.raises(ConfigError) as raised:
        begin(read_settings(write_config(**changes)))
    assert f"another {key}," in str(raised.value)
    assert "--config ladder/study.yaml" in str(raised.value)
    assert Path("ladder/study.yaml").read_text() == kept


def test_a_config_that_was_edited_is_told(write_config: WriteConfig) -> None:
    begin(read_settings(write_config()))
    Path("pretrain.yaml").write_text("trainer: {max_epochs: 4}\n")
    with pytest.raises(ConfigError, match=r"another pretraining\.morphology\.configs\[0\]"):
        begin(read_settings(write_config()))


def test_a_folder_that_holds_something_else_is_refused(write_config: WriteConfig) -> None:
    Path(write_config()).exists()
    Path("ladder").mkdir()
    Path("ladder/mine.txt").write_text("mine")
    with pytest.raises(StudyError, match="ladder: holds something but no study"):
        begin(read_settings(write_config()))
    assert [path.name for path in Path("ladder").iterdir()] == ["mine.txt"]


def test_processes_that_begin_at_once_share_the_study(write_config: WriteConfig) -> None:
    given = read_settings(write_config())
    barrier, begun = threading.Barrier(8), []

    def race() -> None:
        barrier.wait()
        begun.append(begin(given))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 8
    assert all(settings == begun[0][1] for _, settings in begun)
    assert {path.name for path in Path().iterdir()} == {
        "ladder",
        "study.yaml",
        "pretrain.yaml",
        "finetune.yaml",
    }


def test_a_copy_without_empty_folders_goes_on(write_config: WriteConfig) -> None:
    folder, _ = begin(read_settings(write_config()))
    folder.claims.rmdir()
    begin(read_settings(write_config()))
    assert folder.claims.is_dir()


def test_a_folder_that_cannot_be_made_is_told(write_config: WriteConfig) -> None:
    write_config()
    Path("ladder").write_text("a file")
    with pytest.raises(StudyError, match="ladder: cannot be made"):
        begin(read_settings(write_config()))

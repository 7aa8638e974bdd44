"""Beginning a study, or going on with it: the same settings, or more seeds and depths."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from xecg.errors import ConfigError, StudyError
from xecg.files import write_whole
from xecg.study.folder import StudyFolder
from xecg.study.plan import Fit, StudySettings, fits_of, read_settings, settings_as_yaml

_HEAD = "# The settings of this study. It goes on with: xecg study --config <this file>\n"


def begin(settings: StudySettings) -> tuple[StudyFolder, StudySettings]:
    """Make the folder of a study, or take up the one that is there.

    The folder keeps copies of the configs of ``xecg fit``, with which every cell is made, so that
    editing a config does not change a study that has begun.

    Args:
        settings: As the user gave them. Seeds, depths and training from scratch that the study
            does not have yet are added to it; those that it has stay.

    Returns:
        The folder, and the study's settings.

    Raises:
        StudyError: The folder cannot be made, or holds something else.
        ConfigError: Something differs that finished cells depend on.
    """
    folder = StudyFolder(settings.folder)
    if not folder.settings.exists() and _make_whole(folder, settings):
        return folder, read_settings(folder.settings)
    folder.make()  # a copy of a study may lack folders that held nothing
    begun = read_settings(folder.settings)
    _refuse_changes(begun, settings)
    merged = _with_more(begun, settings)
    if merged != begun:
        write_whole(folder.settings, _HEAD + settings_as_yaml(merged))
    return folder, merged


def _make_whole(folder: StudyFolder, settings: StudySettings) -> bool:
    """Make the folder under another name, then rename it; False if somebody else was first.

    Raises:
        StudyError: There is something else.
    """
    place = folder.path.absolute()
    making = StudyFolder(place.with_name(f".{place.name}.{uuid.uuid4().hex}"))
    making.make()
    kept = _with_copies(replace(settings, folder=making.path), making)
    for key, fit in fits_of(settings).items():
        for path, copy in zip(fit.configs, fits_of(kept)[key].configs, strict=True):
            write_whole(copy, path.read_bytes())
    write_whole(making.settings, _HEAD + settings_as_yaml(kept))
    try:
        making.path.rename(folder.path)
    except OSError as error:
        shutil.rmtree(making.path)
        if folder.settings.exists():
            return False
        if folder.path.is_dir():
            what = "holds something but no study; name another one"
        else:
            what = f"cannot be made ({error})"
        raise StudyError(f"folder {folder.path}: {what}") from error
    return True


def _refuse_changes(begun: StudySettings, given: StudySettings) -> None:
    """Compare settings but for seeds, depths and training from scratch."""
    kept, wanted = dict(_comparable(begun)), dict(_comparable(given))
    for key in {**kept, **wanted}:
        if kept.get(key) != wanted.get(key):
            raise ConfigError(
                f"{begun.folder}: the study began with another {key}, with which these cells "
                f"would not go together; name another folder, or go on as it began with "
                f"--config {StudyFolder(begun.folder).settings}"
            )


def _comparable(settings: StudySettings) -> Iterator[tuple[str, Any]]:
    """Keys and values; configs by what they hold."""
    yield "pretraining_seeds", settings.pretraining_seeds
    for branch, how in settings.pretraining.items():
        if not isinstance(how, Fit):
            yield f"pretraining.{branch}", how
    for key, fit in fits_of(settings).items():
        for number, path in enumerate(fit.configs):
            yield f"{key}.configs[{number}]", path.read_text()
        for name, value in fit.arguments.items():
            yield f"{key}.arguments.{name}", value
    for name, value in vars(settings.explain).items():
        yield f"explain.{name}", value


def _with_more(begun: StudySettings, given: StudySettings) -> StudySettings:
    """The study with added cells; its first seed stays the first, which may have pre-trained."""
    return replace(
        begun,
        seeds=tuple(dict.fromkeys((*begun.seeds, *given.seeds))),
        frozen_layers=tuple(sorted({*begun.frozen_layers, *given.frozen_layers})),
        scratch=begun.scratch or given.scratch,
    )


def _with_copies(settings: StudySettings, folder: StudyFolder) -> StudySettings:
    """The settings with the places of the copies in place of the configs."""
    copied = {
        key: replace(
            fit,
            configs=tuple(
                folder.configs / f"{key}-{number}-{path.name}"
                for number, path in enumerate(fit.configs)
            ),
        )
        for key, fit in fits_of(settings).items()
    }
    pretraining = {
        branch: copied.get(f"pretraining.{branch}", how)
        for branch, how in settings.pretraining.items()
    }
    return replace(settings, pretraining=pretraining, finetuning=copied["finetuning"])

"""What a study says of itself."""

import time
from collections.abc import Callable

import pytest
from study_folders import Study

from xecg.errors import StudyError
from xecg.study.status import look_at, status_text


def test_every_cell_has_a_state(begin_study: Callable[..., Study]) -> None:
    study = begin_study({"scratch-seed0": "fail"}, seeds=[0, 1])
    study.runner(wait=False).run(study.cells[:4])
    claim = study.runner().claims.take("frozen0-seed1")
    assert claim is not None
    now = time.time()
    states = {state.cell.name: state for state in look_at(study.folder, study.cells, now + 90)}
    claim.release()
    assert {name: state.state for name, state in states.items()} == {
        "pretrain-morphology-seed0": "done",
        "frozen0-seed0": "done",
        "frozen3-seed0": "done",
        "scratch-seed0": "failed",
        "frozen0-seed1": "running",
        "frozen3-seed1": "open",
        "scratch-seed1": "open",
    }
    assert states["frozen0-seed0"].note.endswith("fused accuracy 0.900 (ours)")
    assert states["scratch-seed0"].note == "xecg: the store is not there"
    assert states["frozen0-seed1"].note.endswith("(1 min 30 s)")
    text = status_text(study.folder, list(states.values()))
    lines = text.splitlines()
    assert lines[0].split() == ["cell", "state"]
    assert len(lines) == 1 + 7 + 2
    assert lines[-1].startswith("ladder: 3 of 7 cells done, 1 running, 1 failed, 2 open; time left")


def test_what_waits_for_a_failed_cell_says_so(begin_study: Callable[..., Study]) -> None:
    study = begin_study({"pretrain-morphology-seed0": "fail"}, scratch=False)
    study.run()
    states = look_at(study.folder, study.cells)
    assert [state.state for state in states] == ["failed", "open", "open"]
    assert states[1].note == "needs pretrain-morphology-seed0, which failed"
    assert "time left: not known" in status_text(study.folder, states)


def test_a_study_that_is_done_has_no_time_left(begin_study: Callable[..., Study]) -> None:
    study = begin_study(frozen_layers=[])
    study.run()
    text = status_text(study.folder, look_at(study.folder, study.cells))
    assert text.splitlines()[-1] == "ladder: 1 of 1 cells done, 0 running, 0 failed, 0 open"


def test_a_damaged_cell_is_told(begin_study: Callable[..., Study]) -> None:
    study = begin_study(frozen_layers=[])
    study.run()
    (study.folder.cell("scratch-seed0") / "cell.yaml").write_text("kind: [")
    with pytest.raises(StudyError, match=r"scratch-seed0/cell\.yaml: cannot be read"):
        look_at(study.folder, study.cells)

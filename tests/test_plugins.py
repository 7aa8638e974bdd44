"""Names: registered ones, entry points, class paths."""

import pytest

from xecg.errors import ConfigError, UnknownNameError
from xecg.plugins import Registry


def test_a_name_finds_what_was_registered() -> None:
    things: Registry[int] = Registry("things")
    things.register("one", 1)
    assert things["one"] == 1
    assert list(things) == ["one"]
    assert "two" not in things


def test_a_name_is_given_once() -> None:
    things: Registry[int] = Registry("things")
    things.register("one", 1)
    things.register("one", 1)
    with pytest.raises(ConfigError, match="one"):
        things.register("one", 2)


def test_an_entry_point_of_another_package_is_found(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "theirs.py").write_text("THING = 7\n")
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xecg.things]\nseven = theirs:THING\n")
    monkeypatch.syspath_prepend(tmp_path)
    things: Registry[int] = Registry("things")
    assert things["seven"] == 7
    assert list(things) == ["seven"]


def test_a_class_path_needs_no_registration() -> None:
    assert Registry[float]("things")["math.pi"] == pytest.approx(3.14159, abs=1e-5)


@pytest.mark.parametrize("name", ["nothing", "math.nothing", "no_package.Thing"])
def test_an_unknown_name_is_refused(name: str) -> None:
    with pytest.raises(UnknownNameError, match=name):
        Registry[int]("things")[name]

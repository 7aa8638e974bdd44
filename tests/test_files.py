"""Files are there whole or not at all."""

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from xecg.errors import ConfigError, DataError, UnwritableError, XECGError
from xecg.files import (
    SUMS,
    check_sums,
    csv_text,
    read_settings,
    whole_file,
    write_sums,
    write_whole,
)


def test_content_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "one")
    write_whole(path, b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_digests_are_those_of_sha256sum_and_may_be_made_by_it(tmp_path: Path) -> None:
    (run := tmp_path / "run").mkdir()
    (run / "windows").mkdir()
    for name in ("config.yaml", "windows/a.csv", "windows/b.csv", "metrics.csv"):
        (run / name).write_text(name)
    write_sums(run)
    subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=run, check=True)
    check_sums(run)
    (run / "windows" / "b.csv").write_text("changed")
    with pytest.raises(DataError, match=r"windows/b\.csv") as refused:
        check_sums(run)
    command = str(refused.value).partition("(cd ")[2][:-1]
    subprocess.run(f"cd {command}", shell=True, check=True)
    check_sums(run)


@pytest.mark.parametrize("name", [SUMS, "config.yaml"])
def test_a_pipe_among_results_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "config.yaml").touch()
    write_sums(tmp_path)
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=name):
        check_sums(tmp_path)


@pytest.mark.parametrize(("mode", "content"), [("w", "né\n"), ("wb", b"n\x00")])
def test_a_file_is_there_when_it_is_complete(
    tmp_path: Path, mode: str, content: str | bytes
) -> None:
    path = tmp_path / "f"
    with whole_file(path, mode) as file:
        file.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_text("before")

    def fail() -> None:
        with whole_file(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows beyond 1,000 bytes, the one that pytest may write to neither."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "f"
    write_whole(path, "before")
    with full_disk(), pytest.raises(UnwritableError, match=str(path)):
        write_whole(path, "x" * 2000)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", [XECGError, OSError])  # the user is told; callers may add why
def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=r"no.f: cannot be written"):
        write_whole(tmp_path / "no" / "f", "")


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n" for before, name in pairwise("abcdefgh")
)


def test_settings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: &lead [II, µV]\nb: *lead\n", encoding="utf-8")
    assert read_settings(path) == {"a": ["II", "µV"], "b": ["II", "µV"]}


@pytest.mark.parametrize(
    "content",
    [
        "# µV".encode("latin-1"),
        "a: 1".encode("utf-16"),
        bytes(range(256)),
        b"a: 1\x00",
        b"a: !!python/object/apply:os.system ['touch pwned']",
        b"a:\n\tb: 1",
        b"a: &a {b: *a}",
        b"a: *unknown",
        b"[" * 5000,
        b"a: !!bool maybe",
        b"a: !!int ''",
        b"a: !!timestamp hello",
        b"a: " + b"1:" * 3000 + b"1.0",
        b"a:\n  b: 1\n  b: 2",
        b"a: " + b"x" * 2_000_000,
        BOMB.encode(),
        None,
    ],
)
def test_what_is_no_file_of_settings_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=str(path)):
        read_settings(path)


def test_settings_that_are_not_there_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(ConfigError, match=str(path)):
            read_settings(path)


def test_a_table_holds_no_formulas() -> None:
    run = [
        "=1+1",
        "@sum",
        "+x",
        "-x",
        "-2+cmd|x!A0",
        "-1*A1",
        "-.5+1",
        " =1",
        "\ufeff=1",
        "\uff1d1",
    ]
    texts = [*run, "-1.5", "-.5", "-2e-05", "A,b", "plain"]
    table = pd.DataFrame({"record": texts, "p": len(texts) * [0.123456789]})
    lines = csv_text(table).splitlines()
    assert lines[0] == "record,p"
    names = [f"'{text}" for text in run] + ["-1.5", "-.5", "-2e-05", '"A,b"', "plain"]
    assert lines[1:] == [f"{name},0.123457" for name in names]

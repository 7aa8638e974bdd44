import pytest

from xecg.errors import ConfigError
from xecg.inference.whole_file import whole_file


@pytest.mark.parametrize(("mode", "content"), [("w", "né\n"), ("wb", b"n\x00")])
def test_the_file_is_there_when_it_is_complete(tmp_path, mode, content):
    path = tmp_path / "f"
    with whole_file(path, mode) as file:
        file.write(content)
        assert not path.exists()
    assert path.read_bytes() == (content if mode == "wb" else content.encode())
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_what_was_there_before(tmp_path):
    path = tmp_path / "f"
    path.write_text("before")

    def fail():
        with whole_file(path) as file:
            file.write("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(ConfigError, match=r"f: cannot be written"), whole_file(tmp_path / "no/f"):
        pass

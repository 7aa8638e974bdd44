import os

from xecg.data.store import file_digest


def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.hea").write_text("one")
    (tmp_path / "sub" / "b.dat").write_text("two two")
    return tmp_path


def test_says_number_and_size(tmp_path):
    assert file_digest(folder(tmp_path)).startswith("2 files, 10 bytes, ")


def test_same_files_same_digest_whatever_is_hidden(tmp_path):
    before = file_digest(folder(tmp_path))
    (tmp_path / ".lock").write_text("")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "c").write_text("x")
    assert file_digest(tmp_path) == before


def test_every_change_is_seen(tmp_path):
    digests = [file_digest(folder(tmp_path))]
    os.utime(tmp_path / "a.hea", ns=(1, 1))
    digests.append(file_digest(tmp_path))
    (tmp_path / "sub" / "b.dat").rename(tmp_path / "b.dat")
    digests.append(file_digest(tmp_path))
    (tmp_path / "b.dat").rename(tmp_path / "c.dat")
    digests.append(file_digest(tmp_path))
    (tmp_path / "c.dat").unlink()
    digests.append(file_digest(tmp_path))
    assert len(set(digests)) == len(digests)

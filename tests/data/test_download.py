"""Fetching from a local server that behaves as PhysioNet does, and as it should not."""

import contextlib
import hashlib
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from xecg.cli import main
from xecg.data import download as download_module
from xecg.data.databases import DATABASES, get_database
from xecg.data.download import fetch
from xecg.errors import ConfigError, DataError


class Server:
    """Files by path; ``log`` has the paths that were asked for, the other attributes are faults."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.log: list[str] = []
        self.cut_once: dict[str, int] = {}
        self.answer_once: dict[str, int] = {}
        self.seconds_per_chunk = 0.0

    def publish(self, name: str = "SHA256SUMS.txt") -> None:
        lines = [f"{hashlib.sha256(body).hexdigest()} {path}" for path, body in self.files.items()]
        self.files[name] = "\n".join(lines).encode()

    def respond(self, request: BaseHTTPRequestHandler) -> None:
        path = request.path.lstrip("/")
        self.log.append(path)
        if path in self.answer_once:
            return request.send_error(self.answer_once.pop(path))
        if path not in self.files:
            return request.send_error(404)
        body = self.files[path]
        request.send_response(200)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        body = body[: self.cut_once.pop(path, len(body))]
        for i in range(0, len(body), 1 << 16):
            request.wfile.write(body[i : i + (1 << 16)])
            threading.Event().wait(self.seconds_per_chunk)
        return None


@pytest.fixture
def server(monkeypatch):
    faults = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with contextlib.suppress(ConnectionError):  # the one who asked was killed
                faults.respond(self)
            self.close_connection = True

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
    faults.url = f"http://127.0.0.1:{http.server_port}"
    for name in ("mitdb", "qtdb", "ludb", "cinc2017"):
        monkeypatch.setattr(DATABASES[name], "url", faults.url)
    yield faults
    http.shutdown()
    http.server_close()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch):
    monkeypatch.setattr(download_module, "RETRIES", 1)
    monkeypatch.setattr("pooch.core.time.sleep", lambda _: None)


def random_bytes(n: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(n)


@pytest.fixture
def mitdb(server):
    """Two records, and files that nobody wants."""
    for record in ("100", "201"):
        for seed, extension in enumerate(("hea", "dat", "atr")):
            server.files[f"{record}.{extension}"] = random_bytes(200_000, int(record) + seed)
    server.files |= {
        "RECORDS": b"100\n201\n",
        "mitdbdir/intro.htm": b"<p>",
        "x_mitdb/x_108.dat": b"",
    }
    server.publish()
    return server


def fetched(out: Path) -> dict[str, bytes]:
    files = (path for path in out.rglob("*") if path.is_file() and not path.name.startswith("tmp"))
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_the_selected_files_arrive_and_nothing_else(mitdb, tmp_path):
    fetch("mitdb", tmp_path / "mitdb")
    wanted = {path: body for path, body in mitdb.files.items() if re.match(r"RECORDS|\d", path)}
    assert fetched(tmp_path / "mitdb") == wanted


def test_by_default_it_lies_in_data_and_the_next_command_is_named(
    mitdb, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "fetch", "mitdb"]) == 0
    assert (tmp_path / "data/mitdb/100.dat").is_file()
    assert "next: xecg data prepare mitdb --root data/mitdb" in capsys.readouterr().out


def test_complete_files_are_not_fetched_again(mitdb, tmp_path):
    fetch("mitdb", tmp_path)
    mitdb.log.clear()
    fetch("mitdb", tmp_path)
    assert mitdb.log == ["SHA256SUMS.txt"]


@pytest.mark.parametrize("answer", [500, 503, 429])
def test_a_passing_refusal_is_outlasted(mitdb, tmp_path, answer):
    mitdb.answer_once["100.dat"] = answer
    fetch("mitdb", tmp_path)
    assert mitdb.log.count("100.dat") == 2


def test_a_cut_connection_is_tried_again(mitdb, tmp_path):
    mitdb.cut_once["100.dat"] = 70_000
    fetch("mitdb", tmp_path)
    assert (tmp_path / "100.dat").read_bytes() == mitdb.files["100.dat"]


def test_a_killed_process_leaves_no_half_file_and_the_next_one_ends_it(server, tmp_path):
    body = server.files["100.dat"] = random_bytes(4_000_000)
    server.files |= {"100.hea": b"", "100.atr": b"", "RECORDS": b"100\n"}
    server.publish()
    server.seconds_per_chunk = 0.05
    code = (
        "from xecg.data.databases import DATABASES\nfrom xecg.data.download import fetch\n"
        f"DATABASES['mitdb'].url = {server.url!r}; fetch('mitdb', {tmp_path!r})"
    )
    code = code.replace("PosixPath", "__import__('pathlib').Path")
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while "100.dat" not in server.log or len(fetched(tmp_path)) < 3:
        assert time.monotonic() < deadline
        assert process.poll() is None
        threading.Event().wait(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "100.dat").exists()
    server.seconds_per_chunk = 0.0
    server.log.clear()
    fetch("mitdb", tmp_path)
    assert server.log == ["SHA256SUMS.txt", "100.dat"]
    assert (tmp_path / "100.dat").read_bytes() == body


def test_a_file_damaged_on_disk_is_fetched_again(mitdb, tmp_path):
    (tmp_path / "100.dat").write_bytes(b"damaged")
    fetch("mitdb", tmp_path)
    assert (tmp_path / "100.dat").read_bytes() == mitdb.files["100.dat"]


def test_a_file_that_the_server_holds_damaged_is_not_kept(mitdb, tmp_path):
    mitdb.files["201.dat"] = b"damaged" + mitdb.files["201.dat"]
    with pytest.raises(DataError, match=r"1 of 7 files do not match.*201\.dat"):
        fetch("mitdb", tmp_path)
    assert set(fetched(tmp_path)) == {
        "RECORDS", "100.hea", "100.dat", "100.atr", "201.hea", "201.atr"
    }  # fmt: skip


@pytest.fixture
def qtdb(server):
    for extension in ("hea", "dat", "atr", "q1c"):
        server.files[f"sel100.{extension}"] = random_bytes(1_000)
    server.files |= {"RECORDS": b"sel100\n", "sel233.atr": b""}
    server.publish("SHA256SUMS")
    del server.files["sel233.atr"]
    server.files["sel100.hea"] = b"with later signal names"
    return server


def test_headers_known_to_be_newer_than_their_checksums_are_kept(qtdb, tmp_path):
    for _ in range(2):
        fetch("qtdb", tmp_path)
    assert (tmp_path / "sel100.hea").read_bytes() == b"with later signal names"
    assert qtdb.log.count("sel100.hea") == 1


def test_a_listed_file_known_to_be_withdrawn_may_be_missing(qtdb, tmp_path):
    assert "sel233.atr" in qtdb.files["SHA256SUMS"].decode()
    fetch("qtdb", tmp_path)
    assert "sel100.dat" in fetched(tmp_path)
    assert "sel233.atr" not in fetched(tmp_path)


def test_signals_of_qtdb_must_match(qtdb, tmp_path):
    qtdb.files["sel100.dat"] = b"damaged"
    with pytest.raises(DataError, match=r"sel100\.dat"):
        fetch("qtdb", tmp_path)


def test_an_archive_is_unpacked_once(server, tmp_path):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("training2017/A00001.hea", "A00001 0 300 9000\n")
    server.files = {"training2017.zip": buffer.getvalue(), "REFERENCE-v3.csv": b"A00001,N\n"}
    server.publish()
    fetch("cinc2017", tmp_path)
    assert set(fetched(tmp_path)) == {
        "training2017/A00001.hea", "training2017.zip", "REFERENCE-v3.csv"
    }  # fmt: skip
    assert get_database("cinc2017", tmp_path).records() == ["A00001"]
    fetch("cinc2017", tmp_path)
    assert server.log.count("training2017.zip") == 1


def test_a_missing_file_names_its_address(mitdb, tmp_path):
    del mitdb.files["201.atr"]
    with pytest.raises(DataError, match=rf"404.*{mitdb.url}/201\.atr"):
        fetch("mitdb", tmp_path)


def test_no_list_of_checksums_is_an_error(server, tmp_path):
    server.files["RECORDS"] = b"100\n"
    with pytest.raises(DataError, match=r"expected SHA256SUMS\.txt or SHA256SUMS"):
        fetch("mitdb", tmp_path)


def test_another_database_behind_the_address_is_an_error(mitdb, tmp_path):
    with pytest.raises(DataError, match=r"files like data/\*, found none"):
        fetch("ludb", tmp_path)


def test_a_path_out_of_the_folder_is_refused(server, tmp_path):
    server.files["SHA256SUMS.txt"] = b"00 data/../../100.dat\n00 RECORDS\n"
    with pytest.raises(DataError, match="expected paths below"):
        fetch("ludb", tmp_path)


def test_nobody_listening_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(DATABASES["mitdb"], "url", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"http://127.0.0.1:9: .*connection"):
        fetch("mitdb", tmp_path)


def test_a_file_in_place_of_the_folder_is_an_error(mitdb, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written"):
        fetch("mitdb", tmp_path / "file")


@pytest.mark.parametrize("name", ["folder", "synthetic"])
def test_databases_that_cannot_be_downloaded_say_so(tmp_path, name):
    with pytest.raises(DataError, match=f"{name}: expected a published database"):
        fetch(name, tmp_path)


def test_an_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(ConfigError, match="mitdb"):
        fetch("mitbd", tmp_path)


def test_a_database_of_another_package_is_fetched(mitdb, tmp_path, monkeypatch):
    package = tmp_path / "mine.py"
    package.write_text(
        "from xecg.data.databases.physionet import MITDB\n"
        f"class Mine(MITDB):\n    url = {mitdb.url!r}\n    download = ('RECORDS',)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fetch("mine.Mine", tmp_path / "out")
    assert set(fetched(tmp_path / "out")) == {"RECORDS"}

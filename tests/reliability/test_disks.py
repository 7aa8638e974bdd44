"""Full and read-only disks: small file systems of their own, where the tests may mount them.

A command that cannot write ends with status 1 and a sentence with path and reason. What was there
before stays, what it leaves is whole, and with room again it is done when it is given again.
"""

import hashlib
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fuzz_targets  # noqa: F401  (finds fake_study)
import pytest
from fake_study import FakeStudy

from xecg.cli import main
from xecg.data.databases import DATABASES
from xecg.data.databases.synthetic import SyntheticSettings, embedded_store, synthetic_records
from xecg.data.prepare import prepare
from xecg.data.store import Store
from xecg.inference import export
from xecg.networks.weights import WeightsInfo, describe_branches, load_xecgarch, save_weights
from xecg.networks.xecgarch import XECGArch
from xecg.run_folder import read_checkpoint
from xecg.signal.preprocessing import Preprocessing

CONFIGS = Path(__file__).parents[2] / "configs"
FIT = ["fit", "--config", str(CONFIGS / "finetune_scratch.yaml"), "--run_folder={disk}/run"]
FIT += ["--model.channels=4", "--freezing.allow_random=true", "--data.windows_per_epoch=64"]
FIT += ["--trainer.max_epochs=1", "--trainer.enable_progress_bar=false"]
FIT += ["--trainer.callbacks=null"]
SMALL = ["--weights={weights}"]
FEW = ["--resamples=20", "--permutations=20"]
COMMANDS = {
    "prepare": ["data", "prepare", "synthetic", "--root={records}", "--out={disk}/s", "--jobs=1"],
    "classify": ["classify", "{records}", "--out={disk}/p.csv", "--jobs=1", *SMALL],
    "explain": ["explain", "{records}", "--out={disk}/maps", "--draw=1", "--jobs=1", *SMALL],
    "report": ["study", "report", "{study}", "--out={disk}/report", *FEW],
    "test": ["test", "--stores={store}", "--split=all", "--trials=8", "--out={disk}/test", *SMALL],
    "export": ["export", "--out={disk}/model.onnx", *SMALL],
    "fit": FIT,
    "fetch": ["data", "fetch", "cinc2017", "--out={disk}/cinc2017"],
}
SHARES = {  # of the room that is needed
    "export": (0.5,),
    "report": (0.6,),
    "fit": (0.026, 0.2, 0.5, 0.9),  # the first: no room for the table of metrics
}


MADE: dict[str, Any] = {}


class Disk:
    """A file system of 64 MB in memory, with a result of before."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.filler = folder, folder / "filler"
        (folder / "earlier.txt").write_text("kept")

    def free(self) -> int:
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def leave(self, room: int) -> None:
        with self.filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, self.free() - room)

    def make_read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", self.folder], check=True)

    def digests(self) -> dict[str, str]:
        """Of what is neither a lock nor a part, from which a command goes on."""
        paths = [path.relative_to(self.folder) for path in self.folder.rglob("*") if path.is_file()]
        names = [str(path) for path in paths if path != Path("filler")]
        names = [name for name in names if ".parts-" not in name and not name.endswith(".lock")]
        read = {name: (self.folder / name).read_bytes() for name in sorted(names)}
        return {name: hashlib.sha256(content).hexdigest() for name, content in read.items()}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]
    try:
        subprocess.run(mount, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system may be mounted: {getattr(error, 'stderr', '') or error}")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Records, a study, and a published database, on another disk."""
    root = tmp_path_factory.mktemp("inputs")
    few = SyntheticSettings(persons=4, records_per_person=1, duration_s=20.0)
    FakeStudy(depths=(None, 2), seeds=(0,), test_sets=(("t", 40, 20),)).write(root / "study")
    (published := root / "published").mkdir()
    with zipfile.ZipFile(published / "training2017.zip", "w") as archive:
        for number in range(1, 4):
            archive.writestr(f"training2017/A0000{number}.mat", bytes(range(256)) * 800)
    (published / "REFERENCE-v3.csv").write_text("A00001,N\n")
    names = "training2017.zip", "REFERENCE-v3.csv"
    sums = [f"{hashlib.sha256((published / n).read_bytes()).hexdigest()} {n}" for n in names]
    (published / "SHA256SUMS.txt").write_text("\n".join(sums))
    records = synthetic_records(root / "records", few)
    network, weights = XECGArch.build(channels=4), root / "small.safetensors"
    info = WeightsInfo(describe_branches(network.branches), Preprocessing().to_dict(), {})
    save_weights(network, weights, info)
    prepare("synthetic", root / "store", root=records)
    found = {"records": records, "study": root / "study", "published": published}
    found["store"] = root / "store"
    return found | {"weights": weights}


@pytest.fixture
def served(inputs: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    handler = partial(SimpleHTTPRequestHandler, directory=inputs["published"])
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    monkeypatch.setattr(DATABASES["cinc2017"], "url", f"http://127.0.0.1:{http.server_port}")
    yield
    http.shutdown()
    http.server_close()


def _once(name: str, make: Callable[..., Any], *arguments: Any) -> Any:
    """Makes what an exported file holds, or takes that of before: to make it takes long."""
    return MADE.get(name) or MADE.setdefault(name, make(*arguments))


@pytest.fixture
def command(
    request: pytest.FixtureRequest,
    disk: Disk,
    inputs: dict[str, Path],
    served: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[str]:
    """The arguments of a command by name, which writes to the disk."""
    if request.param == "export":
        pytest.importorskip("onnxscript")
        for name in ("explained_program", "_onnx"):
            monkeypatch.setattr(export, name, partial(_once, name, getattr(export, name)))
    if request.param == "fit":
        embedded_store()
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.chdir(tmp_path)
    return [word.format(disk=disk.folder, **inputs) for word in COMMANDS[request.param]]


def refused(
    command: list[str], disk: Disk, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command says in one sentence that it cannot write, and where."""
    capsys.readouterr()
    assert main(command) == 1
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("xecg: ")]
    assert len(said) == 1
    assert str(disk.folder) in said[0]
    assert reason in said[0]


def is_whole(path: Path) -> bool:
    """Whether a file that a fit left before its end can be read; tables of metrics grow."""
    if path.suffix == ".ckpt":
        return bool(read_checkpoint(path))
    return path.suffix in (".yaml", ".csv") or bool(load_xecgarch(path))


@pytest.mark.parametrize("command", COMMANDS, indirect=True)
def test_a_full_disk_is_told_and_nothing_is_lost(command, disk, request, capsys):
    before, room = disk.digests(), disk.free()
    name = request.node.callspec.params["command"]
    assert main(command) == 0
    made, needed = disk.digests(), room - disk.free()
    for share in SHARES.get(name, (0.0, 0.3, 0.6, 0.9)):
        subprocess.run(f"rm -rf {disk.folder}/[!e]* {disk.folder}/.[!.]*", shell=True, check=True)
        assert disk.digests() == before
        disk.leave(int(share * needed))
        refused(command, disk, "No space left on device", capsys)
        left = disk.digests()
        assert before.items() <= left.items()
        changed = {path for path in left if left[path] != made.get(path)}
        if name != "fetch":  # unpacked files have no names of their own while they grow
            assert all(name == "fit" and is_whole(disk.folder / path) for path in changed)
        disk.filler.unlink()
        if name != "fit":  # which continues from a checkpoint
            assert main(command) == 0
            assert disk.digests() == made


@pytest.mark.parametrize("command", COMMANDS, indirect=True)
def test_a_read_only_disk_is_told(command, disk, capsys):
    before = disk.digests()
    disk.make_read_only()
    refused(command, disk, "Read-only file system", capsys)
    assert disk.digests() == before


@pytest.mark.parametrize("command", ["report", "explain"], indirect=True)
def test_a_full_disk_leaves_the_results_of_before(command, disk, request, capsys):
    name = request.node.callspec.params["command"]
    assert main(command) == 0
    before = disk.digests()
    again = [*command, {"report": "--seed=1", "explain": "--attribution=gradient"}[name]]
    again += ["--overwrite"] * (name == "explain")
    disk.leave(8192)
    refused(again, disk, "No space left on device", capsys)
    assert disk.digests() == before


@pytest.mark.parametrize("command", ["prepare"], indirect=True)
def test_a_full_disk_leaves_the_store_that_was_to_be_replaced(command, disk, capsys):
    assert main(command) == 0
    disk.leave(8192)
    other = [*command, "--overwrite", "--preprocessing.high_hz=30"]
    refused(other, disk, "free the space", capsys)
    assert Store.open(disk.folder / "s").info.preprocessing.high_hz != 30


@pytest.mark.parametrize("command", ["fit"], indirect=True)
def test_a_full_disk_is_told_once_where_w_and_b_logs_as_well(command, disk, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    disk.leave(20 * 1024)
    fit = [sys.executable, "-m", "xecg.cli", *command]
    ended = subprocess.run(fit, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    (said,) = [line for line in ended.stderr.splitlines() if line.startswith("xecg: ")]
    assert str(disk.folder) in said

"""Wheel and sdist: what they hold, and that the wheel works where there is no checkout."""

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch

ROOT = Path(__file__).parents[2]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
NEEDED = {  # in the wheel
    "py.typed",
    "weights/xecgarch.safetensors",
    "weights/xecgarch.md",
    "inference/templates/test.html.j2",
    "study/templates/report.html.j2",
}
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("PYTHONPATH", "VIRTUAL_ENV") and not name.startswith("XECG")
}


def run(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both, built of a copy of what is no build and no result."""
    pytest.importorskip("build")
    folder = tmp_path_factory.mktemp("dist")
    source = folder / "source"
    source.mkdir()
    left_out = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for path in ROOT.glob("*"):
        if path.is_file():
            shutil.copy(path, source)
        elif path.name in ("xecg", "tests", "configs", "docs", "benchmarks", "examples"):
            shutil.copytree(path, source / path.name, ignore=left_out)
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
    run(*build, folder=folder)
    return folder


def test_the_sdist_holds_tests_and_configs(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"configs/finetune_frozen3.yaml", "tests/conftest.py", "docs/START.md"} <= names
    assert {"Makefile", "CHANGELOG.md", "CITATION.cff", "LICENSE"} <= names
    assert {f"xecg/{name}" for name in NEEDED} <= names


def test_the_wheel_works_without_the_checkout(dist: Path, tmp_path: Path) -> None:
    pytest.importorskip("pip", reason="pip installs the wheel")
    (wheel,) = dist.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {f"xecg/{name}" for name in NEEDED} <= {*names}
    here = [path.relative_to(ROOT).as_posix() for path in (ROOT / "xecg").rglob("*.py")]
    assert {*here} <= {*names}
    folders = {name.partition("/")[0] for name in names}
    assert folders == {"xecg", f"xecg_lightning-{VERSION}.dist-info"}
    run(sys.executable, "-m", "venv", "--without-pip", "venv", folder=tmp_path)
    (site,) = tmp_path.glob("venv/lib/python*/site-packages")
    # What xecg needs is there already, but for xecg, whose files come first.
    (site / "others.pth").write_text(str(Path(torch.__file__).parents[1]))
    python, xecg = (str(tmp_path / "venv/bin" / name) for name in ("python", "xecg"))
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index")
    run(*pip, str(wheel), folder=tmp_path)
    where = run(python, "-c", "import xecg; print(xecg.__file__)", folder=tmp_path)
    assert Path(where.strip()).is_relative_to(site)
    assert run(xecg, "--version", folder=tmp_path) == f"xecg {VERSION}\n"
    make = "from xecg.signal.synthetic import synthesize; import numpy\n"
    make += "ecg = synthesize('AF', duration_s=30, sampling_rate=500, seed=1)\n"
    make += "numpy.save('ecg.npy', ecg.recording.samples[0])"
    run(python, "-c", make, folder=tmp_path)
    classify = ("classify", "ecg.npy", "--sampling-rate=500", "--out=table.csv")
    run(xecg, *classify, folder=tmp_path)
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 3
    assert (table["p_af"] > 0.5).all()

"""What tests of several packages share: real databases, a small synthetic store."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from xecg.data.databases import get_database
from xecg.data.databases.synthetic import SyntheticSettings, synthetic_records
from xecg.data.prepare import prepare
from xecg.data.store import Store
from xecg.executors import available_cores
from xecg.explain import ATTRIBUTIONS, STATISTICS
from xecg.networks.branch import BRANCHES

# A law holds on a busy machine too: no example fails for being slow. The examples are the same
# each time, so that a change and not chance decides; --hypothesis-profile=search draws others.
for profile, same in (("xecg", True), ("search", False)):
    settings.register_profile(
        profile,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        print_blob=True,
        derandomize=same,
    )
settings.load_profile("xecg")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_SILENT"] = "true"
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests side by side share the cores: more threads would wait for each other.
    n_threads = max(1, available_cores() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
    torch.set_num_threads(n_threads)
    os.environ["OMP_NUM_THREADS"] = str(n_threads)  # of the processes that they start


@pytest.fixture(scope="session", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keeps the embedded ECGs out of the user's cache; processes that tests start inherit it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # made once for all workers
    os.environ["XECG_CACHE"] = str(folder / "cache")


@pytest.fixture(scope="session")
def xecg_data() -> Path:
    """The folder of unpacked real databases that ``XECG_DATA`` names."""
    if "XECG_DATA" not in os.environ:
        pytest.skip("XECG_DATA names no folder with real databases")
    return Path(os.environ["XECG_DATA"])


@pytest.fixture(scope="session")
def real_database(xecg_data: Path) -> Callable[[str], Path]:
    """The folder of one real database by name; the test is skipped where it is not there."""

    def folder(name: str) -> Path:
        path = xecg_data / name
        if not path.is_dir():
            pytest.skip(f"there is no {path}")
        return path

    return folder


@pytest.fixture(scope="session")
def synthetic_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """80 windows of 20 synthetic persons, two of five in AF."""
    folder = tmp_path_factory.mktemp("synthetic")
    settings = SyntheticSettings(persons=20, records_per_person=2, duration_s=20.0)
    synthetic_records(folder / "records", settings)
    database = get_database("synthetic", folder / "records")
    return prepare(database, folder / "store")


@pytest.fixture
def my_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of somebody's own: the blocks of docs/EXTENDING.md, with entry points."""
    guide = (Path(__file__).parents[1] / "docs/EXTENDING.md").read_text()
    package = tmp_path / "my_package"
    package.mkdir()
    for name, code in re.findall(r"```python\n# my_package/(\w+\.py)\n(.*?)```", guide, re.S):
        (package / name).write_text(code)
    (group,) = re.findall(r"\[project\.entry-points\.\"(.*?)\"\]", guide)
    (entry,) = re.findall(r"`(wide) = \"(.*?)\"`", guide)
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my_package\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[{group}]\n{' = '.join(entry)}\n"
        "[xecg.attributions]\nocclusion = my_package.attributions:Occlusion\n"
        "[xecg.statistics]\npeak_share = my_package.statistics:peak_share\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    registries = ATTRIBUTIONS, BRANCHES, STATISTICS

    def forget() -> None:
        for registry in registries:
            registry.__dict__.pop("_installed", None)  # as in a new process
        for name in [name for name in sys.modules if name.split(".")[0] == "my_package"]:
            del sys.modules[name]

    forget()
    yield package
    forget()

"""`xecg view`: the page in a real browser that has no window."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from shutil import which

import numpy as np
import pytest

from xecg.cli import main
from xecg.explain.pictures import draw_page
from xecg.inference.model import load
from xecg.inference.records import read_windows
from xecg.signal.synthetic import synthesize
from xecg.signal.wfdb import write_recording
from xecg.view import explained_window

BROWSER = which("chromium") or which("chromium-browser") or which("google-chrome")
SPACE = Path(__file__).parents[1] / "examples/space/app.py"
OTHER_PICTURE = """before =>
    [...document.querySelectorAll('img')].at(-1)?.getAttribute('src') != before"""


def write(folder, name, rhythm="N", duration_s=10.0):
    ecg = synthesize(rhythm, duration_s=duration_s, seed=3, name=name)
    return write_recording(ecg.recording, folder)


@pytest.fixture
def serve():
    """Starts a command that serves the page; gives its address."""
    started = []

    def start(command, port):
        alone = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
        started.append(subprocess.Popen(command, env=alone))  # nicegui looks for these
        for _ in range(600):
            assert started[-1].poll() is None
            with socket.socket() as found:
                if found.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}/"
            time.sleep(0.2)
        raise TimeoutError

    yield start
    for process in started:
        process.terminate()
        process.wait(30)


@pytest.fixture
def page():
    """A page of the browser, with the hosts that it asked."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    pytest.importorskip("nicegui", reason="nicegui is the page's library")
    if not BROWSER:
        pytest.skip("no Chromium is installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1000})
        page.set_default_timeout(60_000)
        page.hosts = set()
        page.on("request", lambda request: page.hosts.add(request.url.split("/")[2]))
        yield page
        browser.close()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def picture(page):
    """The address of the last picture: the one before it fades out in front of it."""
    return page.locator("img").last.get_attribute("src")


def test_a_dropped_ecg_is_explained_stepped_through_and_saved(tmp_path, serve, page):
    first, port = write(tmp_path / "given", "long", duration_s=30.0), free_port()
    command = [sys.executable, "-m", "xecg.cli", "view", str(first), "--no-browser"]
    page.goto(serve([*command, "--port", str(port)], port))
    page.get_by_text("Window 1 of 3").wait_for()
    assert page.get_by_text("Nothing leaves this computer").count() == 1
    before = picture(page)
    page.get_by_text("next", exact=True).click()
    page.get_by_text("Window 2 of 3").wait_for()
    page.wait_for_function(OTHER_PICTURE, arg=before)
    dropped = write(tmp_path, "dropped", "AF")
    files = [dropped.with_suffix(ending) for ending in (".hea", ".dat")]
    page.locator("input[type=file]").set_input_files(files)
    page.get_by_text("Window 1 of 1").wait_for()
    with page.expect_download() as saved:
        page.get_by_text("save picture").click()
    assert saved.value.suggested_filename == "dropped-window1.png"
    assert saved.value.path().read_bytes().startswith(b"\x89PNG")
    for label, choice in (("explained class", "non-AF"), ("rules", "gradient")):
        before = picture(page)
        page.get_by_label(label).click()
        page.get_by_role("option", name=choice, exact=True).click()
        page.wait_for_function(OTHER_PICTURE, arg=before)
    page.locator("input[type=file]").set_input_files(files[:1])
    page.get_by_role("alert").wait_for()
    assert page.hosts == {f"127.0.0.1:{port}"}


def test_the_space_serves_the_same_page(serve, page, tmp_path):
    port = free_port()
    app = SPACE.read_text().replace("7860", str(port)).replace("0.0.0.0", "localhost")
    (tmp_path / "app.py").write_text(app)
    page.goto(serve([sys.executable, str(tmp_path / "app.py")], port))
    page.get_by_text("ECGs are sent to the server of this page").wait_for()


def test_a_window_is_explained_for_a_class_by_other_rules(tmp_path):
    model = load()
    lead = read_windows(write(tmp_path, "r", duration_s=20.0), model.preprocessing)
    predicted = explained_window(model, lead, 1, "innvestigate")
    assert predicted.start_s == 10
    for_af, by_gradient = (
        explained_window(model, lead, 1, rules, "AF") for rules in ("innvestigate", "gradient")
    )
    texts = [text.get_text() for text in draw_page([for_af]).axes[0].texts]
    assert sum("evidence for AF" in text for text in texts) == 2
    assert predicted.p_af == for_af.p_af
    for branch in model.branches:
        assert not np.array_equal(predicted.relevance[branch], for_af.relevance[branch])
        assert not np.array_equal(by_gradient.relevance[branch], for_af.relevance[branch])


def test_a_path_without_ecgs_is_refused(tmp_path, capsys):
    assert main(["view", str(tmp_path / "nowhere"), "--no-browser"]) == 1
    assert "nowhere" in capsys.readouterr().err

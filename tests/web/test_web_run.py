"""The server over a real run: the command, the page in a browser, and the Space."""

import base64
import importlib.metadata
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import zipfile

import pytest
from packaging.requirements import Requirement

pytest.importorskip("gradio", reason="the extra web is not installed")
from configs import engravings
from gen_jax.common import config as config_lib
from gen_jax.data.text.tokenizer import train_tokenizer
from gen_jax.runs import layout, weights
from gen_jax.tasks import build_task
from tests.forks import call
from tests.moved import moved
from tests.processes import environment, start
from tests.tasks.test_contract import filled

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
# Imports only what the requirements of a Space bring along, then runs its app.py.
_RESTRICTED = """
import importlib.abc, importlib.metadata, json, runpy, sys

allowed = set(json.loads(sys.argv[1]))
owners = importlib.metadata.packages_distributions()

class Refusing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        names = owners.get(name.split(".")[0], [])
        if names and not allowed & {n.lower().replace("_", "-") for n in names}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing())
sys.path.insert(0, ".")
runpy.run_path("app.py", run_name="__main__")
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """An exported run of debug size: no training is needed to have one."""
    workdir = layout.make(tmp_path_factory.mktemp("runs") / "run")
    config = engravings.get_config("debug")
    params, extra = filled(build_task(config.task.to_dict()))
    weights.save(workdir / layout.WEIGHTS, {"params": moved(params, 0.1), "extra": extra})
    (workdir / layout.CONFIG).write_text(config_lib.to_json(config))
    train_tokenizer(["a grey owl", "a cat"], 300).save(workdir / layout.TOKENIZER)
    return workdir


@pytest.fixture(scope="module")
def address(run):
    """The address of a server that the command started."""
    process = start("serve", f"--run={run}", "--port=0")
    try:
        line = process.stdout.readline()
        assert line.startswith("page "), line + process.stderr.read()[-2000:]
        yield line.split()[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def ask(address, path="/healthz", **body):
    data = json.dumps(body).encode() if body else None
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(address + path, data, headers)) as answer:
        return json.load(answer)


@pytest.mark.slow
def test_a_real_run_repeats_its_bytes_whatever_is_asked_beside(address):
    answers = {}

    def generate(name, **body):
        answers[name] = ask(address, "/v1/generate", **body)

    threads = [
        threading.Thread(target=generate, args=("several",), kwargs={"seed": 3, "num": 5}),
        threading.Thread(target=generate, args=("alone",), kwargs={"seed": 5}),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    generate("again", seed=3, num=5)
    generate("prompted", seed=5, prompt="a cat", temperature=1.5)
    assert answers["again"] == answers["several"]
    assert answers["several"]["images"][2] == answers["alone"]["images"][0]
    assert answers["prompted"]["images"][0] != answers["alone"]["images"][0]
    assert answers["prompted"]["settings"]["temperature"] == 1.5
    for image in answers["several"]["images"]:
        assert base64.b64decode(image["png_base64"]).startswith(b"\x89PNG")
        assert isinstance(image["caption"], str)
    with pytest.raises(urllib.error.HTTPError, match="422"):
        ask(address, "/v1/generate", seed=-5)
    assert ask(address)["model"] == answers["alone"]["model"]


class Page:
    """The page in a browser."""

    def __init__(self, driver, downloads):
        self.driver, self.downloads = driver, downloads

    def one(self, selector):
        from selenium.webdriver.common.by import By

        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def until(self, condition, seconds=15):
        """Waits for a value that is true, and returns it; elements may be replaced meanwhile."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while True:
            try:
                if value := condition():
                    return value
            except WebDriverException:
                pass
            assert time.monotonic() < end, self.driver.page_source[-3000:]
            time.sleep(0.05)

    def caption(self):
        return self.one("#caption").text

    def toast(self):
        return self.one("[data-testid=toast-body]").text

    def fill(self, selector, text):
        from selenium.webdriver.common.keys import Keys

        field = self.one(selector)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(Keys.DELETE)
        field.send_keys(text)

    def press(self, selector):
        self.driver.execute_script("arguments[0].click()", self.one(selector))

    def value(self, selector):
        return self.one(selector).get_property("value")


@pytest.fixture(scope="module")
def page(address, tmp_path_factory):
    """The page, loaded from a link with a seed."""
    if not CHROMIUM or not DRIVER:
        pytest.skip("chromium and chromium-driver (apt-get) are not installed")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--window-size=1280,1000", f"--user-data-dir={profile}"),
    ):
        options.add_argument(argument)
    downloads = tmp_path_factory.mktemp("downloads")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        driver.get(f"{address}/?seed=7&num=2")
        yield Page(driver, downloads)
    finally:
        driver.quit()


@pytest.mark.slow
def test_the_page_in_a_browser(page):
    # A link fills the page and generates.
    page.until(lambda: "seed 7" in page.caption())
    first = page.caption()
    assert page.value("#seed textarea, #seed input") == "7"
    page.until(lambda: page.one("#gallery img"))

    # Another seed gives another caption, and the first one again the same.
    page.press("#new")
    page.until(lambda: page.caption() != first)
    assert page.value("#seed textarea, #seed input") != "7"
    page.fill("#seed textarea, #seed input", "7")
    page.press("#same")
    page.until(lambda: page.caption() == first)
    page.press("#share")
    link = page.until(lambda: page.value("#link textarea, #link input"))
    assert re.search(r"/\?seed=7&num=2&temperature=", link)

    page.press("#download")
    (path,) = page.until(lambda: list(page.downloads.glob("*.zip")))
    with zipfile.ZipFile(path) as file:
        rows = json.loads(file.read("manifest.json"))["images"]
        assert [row["seed"] for row in rows] == [7, 8]
        assert set(file.namelist()) == {"manifest.json", *(row["file"] for row in rows)}

    # Absurd input gives a short message, and the page goes on.
    for field, text, words in (
        ("#seed textarea, #seed input", "-5", "Seed=-5: expected a whole number"),
        ("#seed textarea, #seed input", "text", "Seed=text: expected a whole number"),
        ("#prompt textarea", "x" * 301, "The prompt has 301 characters; expected at most 300"),
    ):
        page.fill(field, text)
        page.press("#same")
        page.until(lambda expected=words: expected in page.toast())
        assert "Traceback" not in page.driver.page_source
        page.press("[data-testid=toast-close]")
    page.fill("#prompt textarea", "")
    page.fill("#seed textarea, #seed input", "8")
    page.press("#same")
    page.until(lambda: "seed 8" in page.caption())


def closure(names):
    """Returns the distributions that these bring along, in lower case with dashes."""
    included, waiting = set(), list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in included:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        included.add(name)
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return included


@pytest.mark.slow
def test_the_space_runs_with_its_own_requirements_alone(run, tmp_path):
    space = tmp_path / "space"
    done = call("serve", f"--run={run}", f"--space={space}", "--title=Old: prints")
    assert done.returncode == 0, done.stderr[-2000:]
    import yaml

    front = yaml.safe_load((space / "README.md").read_text().split("---\n")[1])
    assert front["title"] == "Old: prints" and front["sdk"] == "gradio"
    assert (space / front["app_file"]).is_file()
    lines = (space / "requirements.txt").read_text().splitlines()
    assert f"gradio=={front['sdk_version']}" in lines
    assert not list(space.rglob("__pycache__")) and not (space / "gen_jax" / "weights").exists()

    allowed = closure(line.split("==")[0] for line in lines)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", _RESTRICTED, json.dumps(sorted(allowed))],
        cwd=space,
        env=environment(GRADIO_SERVER_PORT=str(port), PYTHONPATH="", PATH=os.environ["PATH"]),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        result = _answer(process, f"http://127.0.0.1:{port}")
        assert result["model"]["name"] == "run" and result["images"][0]["seed"] == 7
    finally:
        process.kill()
        process.communicate()


def _answer(process, address):
    """Waits for the server of a Space and generates."""
    for _ in range(600):
        if process.poll() is not None:
            raise AssertionError(process.stderr.read()[-3000:])
        try:
            return ask(address, "/v1/generate", seed=7)
        except urllib.error.URLError:
            time.sleep(0.1)
    raise AssertionError("no answer")

"""The page in a real browser: Debian's chromium and chromium-driver."""

import contextlib
import json
import pathlib
import shutil
import time

import pytest

from kd_tf import documents, files
from kd_tf.evaluation.report import load_report, render_report
from tests.evaluation.report.workdirs import HOSTILE, make_workdir, opened

pytestmark = pytest.mark.slow
_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@contextlib.contextmanager
def chromium(folder: pathlib.Path):
    """A headless browser that logs its console and every request."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("chromium: not installed; apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="chromium: needs selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in (*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    session = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield session
    finally:
        session.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> tuple[pathlib.Path, str]:
    """The page of a run with 2,000 pseudo-labelled images and 500 evaluated ones."""
    folder = tmp_path_factory.mktemp("chromium")
    workdir = str(folder / "run")
    make_workdir(workdir, num_train=2000, num_eval=500)
    path = folder / "report.html"
    render_report(load_report([workdir], open_source=opened), path=str(path))
    return path, workdir


def test_page_of_2000_images_is_below_8_mb(page):
    assert page[0].stat().st_size < 8e6


def test_page_in_chromium(page, tmp_path):
    path, workdir = page
    models = documents.read_json(files.join(workdir, "evaluate", "metrics.json"))["models"]
    with chromium(tmp_path) as browser:
        browser.get("about:blank")
        browser.get_log("performance")
        start = time.perf_counter()
        browser.get(path.as_uri())
        seconds = time.perf_counter() - start

        assert _requests(browser) == {path.as_uri()}
        _click_through_a_gallery(browser)
        assert _requests(browser) == set()
        assert browser.get_log("browser") == []
        for name, metrics in models.items():
            for key in ("AP", "AP50", "AP75", "APs", "APm", "AR100"):
                cell = f'td[data-model="{name}"][data-metric="{key}"]'
                assert _text(browser, cell) == f"{metrics[key]:.3f}", (name, key)
        caption = _text(browser, "#g1-side_by_side ~ .strip figcaption")
        assert caption == f"{HOSTILE}clear/000000.jpg"
        assert _overflow(browser, width=390) <= 0
        assert _overflow(browser, width=1280) <= 0
    assert seconds < 3.0


def _requests(browser) -> set[str]:
    """What was asked of anyone since the last call, data URIs left out."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    return {url for url in urls if not url.startswith("data:")}


def _click_through_a_gallery(browser) -> None:
    def click(selector: str) -> None:
        browser.find_element("css selector", selector).click()

    # Scrolled by hand: the page scrolls smoothly, and a moving button cannot be clicked.
    browser.execute_script(
        "document.documentElement.style.scrollBehavior = 'auto';"
        "document.querySelector('#g1-side_by_side').scrollIntoView();"
    )
    assert not browser.execute_script("return document.getElementById('viewer').open")
    click("#g1-side_by_side ~ .strip button.open")
    assert _text(browser, "#viewer .title").startswith(f"1 of 12 · {HOSTILE}")
    seen = set()
    for number in range(2, 13):
        click("#viewer .next")
        title = _text(browser, "#viewer .title")
        assert title.startswith(f"{number} of 12 · ")
        seen.add(title)
    assert len(seen) == 11
    click("#viewer .next")
    assert _text(browser, "#viewer .title").startswith("1 of 12")
    click("#viewer .previous")
    assert _text(browser, "#viewer .title").startswith("12 of 12")
    panels = browser.find_elements("css selector", "#viewer .panel svg use")
    assert len(panels) == 3
    click("#viewer .close")
    assert not browser.execute_script("return document.getElementById('viewer').open")


def _text(browser, selector: str) -> str:
    script = "return document.querySelector(arguments[0]).textContent.trim()"
    return browser.execute_script(script, selector)


def _overflow(browser, *, width: int) -> int:
    """Pixels by which the page is wider than the window."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    return browser.execute_script("return document.documentElement.scrollWidth - innerWidth")

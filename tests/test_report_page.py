"""The report in a real browser: headless Chromium, driven as a reader would. Skipped where there is none."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from sowa.cli.app import run
from sowa.core.calibration import verdict_of
from sowa.detector.prediction import Prediction
from sowa.metrics import image_curves
from sowa.report import Plot, Summary, Table, open_report
from sowa.synthetic import generate

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="no Chromium with its driver (Debian: apt install chromium chromium-driver)"
)
IMAGES = 150
EVIL = '<img src=x onerror="window.harmed=1">.png'

# The lowest contrast of any text that is shown, and whose.
CONTRAST = """
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
const rgb = (colour) => {
  canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => {
  const [x, y, z] = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = rgb(getComputedStyle(e).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255];
};
let worst = [99, ""];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  if (!own || !e.checkVisibility() || e.tagName === "SCRIPT" || e.tagName === "STYLE") continue;
  const style = getComputedStyle(e);
  const [a, b] = [light(rgb(e instanceof SVGElement ? style.fill : style.color)), light(behind(e))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < worst[0]) worst = [ratio, e.outerHTML.slice(0, 80)];
}
return worst;
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Address of a report of generated images in two categories: all four kinds of verdict, some unlike names."""
    file = tmp_path_factory.mktemp("report") / "r.html"
    made = [generate("capsule", defect_type=kind, size=96, seed=seed) for seed, kind in enumerate(("hole", None))]
    labels = [int(number % 3 == 0) for number in range(IMAGES)]
    ratios = np.random.default_rng(0).uniform(0.5, 1.2, IMAGES) + 0.4 * np.array(labels)
    with open_report(file, IMAGES) as writer:
        for number, (ratio, label) in enumerate(zip(ratios, labels, strict=True)):
            piece = made[0] if label else made[1]
            grid = np.full((4, 6, 6), 0.1, np.float32)
            grid[:, 2:4, 1:3] = ratio / 4
            anomaly_map = np.kron(grid.sum(axis=0), np.ones((16, 16), np.float32))
            name = f"parts/{EVIL}" if number == 7 else f"parts/{number:03d}.png"
            anomalous, mask = bool(ratio > 1), anomaly_map > 1
            judged = (name, ratio / (1 + ratio), ratio, 99.0, 1.0, anomalous, verdict_of(ratio, 1.0, (0.9, 1.1)))
            verdict = (*judged, anomaly_map, mask, grid, 1.0, 0.1, piece.image)
            category = "capsule" if number % 2 else "pill"
            writer.add(Prediction(*verdict), category=category, label=label, true_mask=piece.mask)
        plots = [Plot(kind, curve, "area 0.5") for kind, curve in image_curves(ratios, labels).items()]
        table = Table(["category", "shots", *("metric",) * 8], [["pill", 1, *("0.5000 ± 0.1000",) * 8]])
        facts = {"Backbone": "mini", "Data set": "a/very/long/name/without/any/space/" * 4}
        about = ("Evaluation report", "parts", "today", facts, {"": ["a.png"]}, [("b.png", "b.png is empty")])
        writer.finish(
            Summary(*about, {"Metrics": table}, {"pill": plots, "capsule": plots}, "sowa test " + "--flag " * 40)
        )
    return file.as_uri()


@pytest.fixture(scope="module")
def chromium() -> Iterator[webdriver.Chrome]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--window-size=1200,900",
    ):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def reader(chromium: webdriver.Chrome, page: str) -> webdriver.Chrome:
    """A browser that has just opened the report."""
    chromium.get_log("browser")
    chromium.get_log("performance")
    chromium.get(page)
    return chromium


def until(driver: webdriver.Chrome, script: str) -> Any:
    """Waits for a script to return something true, and returns it."""
    return WebDriverWait(driver, 10, poll_frequency=0.05).until(lambda d: d.execute_script(script))


def count(driver: webdriver.Chrome, selector: str) -> int:
    return len(driver.find_elements(By.CSS_SELECTOR, selector))


def choose(driver: webdriver.Chrome, filter_name: str) -> None:
    labels = driver.find_elements(By.CSS_SELECTOR, "#kinds label")
    next(label for label in labels if label.text.startswith(filter_name)).click()


def shown(driver: webdriver.Chrome) -> str:
    return driver.find_element(By.ID, "shown").text


@pytest.fixture
def emulate(chromium: webdriver.Chrome) -> Iterator[Callable[..., None]]:
    """Calls the browser's own interface; undone after the test."""
    yield lambda command, **values: chromium.execute_cdp_cmd(f"Emulation.{command}", values)
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def test_it_opens_without_an_error_and_asks_the_network_for_nothing(reader: webdriver.Chrome, page: str) -> None:
    reader.execute_script("document.getElementById('cards').scrollIntoView()")
    until(reader, "return [...document.images].slice(0, 9).every((image) => image.complete && image.naturalWidth)")
    events = [json.loads(entry["message"])["message"] for entry in reader.get_log("performance")]
    sent = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert page in sent
    assert {url for url in sent if not url.startswith("data:")} == {page}
    assert reader.get_log("browser") == []


def test_a_name_of_markup_does_nothing(reader: webdriver.Chrome) -> None:
    reader.find_element(By.ID, "name").send_keys("onerror")
    assert until(reader, "return document.querySelectorAll('.card').length") == 1
    reader.find_element(By.CSS_SELECTOR, ".frame").click()
    assert reader.find_element(By.CSS_SELECTOR, "#stage h3").text == f"parts/{EVIL}"
    assert reader.execute_script("return [window.harmed, document.querySelector('[src=x]')]") == [None, None]
    assert reader.get_log("browser") == []


def test_filters_show_what_they_say(reader: webdriver.Chrome) -> None:
    assert shown(reader) == f"{IMAGES} of {IMAGES}"
    everything = {"Missed": ".missed", "False alarms": ".alarm", "Errors": ".missed, .alarm", "Unsure": ".unsure"}
    for name, kinds in everything.items():
        choose(reader, name)
        number = int(shown(reader).split()[0])
        assert 0 < number < 60  # one chunk, so all of them are there
        assert count(reader, ".card") == number == sum(count(reader, f"#cards {kind}") for kind in kinds.split(", "))
    choose(reader, "Missed")
    missed = count(reader, ".card")
    reader.find_element(By.CSS_SELECTOR, "#category option:nth-child(2)").click()
    notes = [card.text for card in reader.find_elements(By.CSS_SELECTOR, ".card")]
    assert 0 < len(notes) < missed
    assert all("capsule" in note for note in notes)


def test_a_search_by_name_narrows_down_and_says_when_nothing_fits(reader: webdriver.Chrome) -> None:
    field = reader.find_element(By.ID, "name")
    field.send_keys("PARTS/01")
    assert shown(reader) == f"10 of {IMAGES}"
    assert count(reader, ".card") == 10
    field.send_keys("zzz")
    assert shown(reader) == "No image fits"
    assert count(reader, ".card") == 0


def test_a_click_enlarges_and_the_heat_can_be_faded(reader: webdriver.Chrome) -> None:
    reader.find_elements(By.CSS_SELECTOR, ".frame")[2].click()
    dialog = reader.find_element(By.ID, "enlarged")
    assert dialog.is_displayed()
    assert dialog.find_element(By.ID, "place").text == f"3 of {IMAGES}"
    small = reader.execute_script("return document.querySelector('.chunk .image').clientWidth")
    assert reader.execute_script("return document.querySelector('#stage .image').clientWidth") > 2 * small
    opacity = "return getComputedStyle(document.querySelector('#stage .heat')).opacity"
    assert reader.execute_script(opacity) == "0.65"
    dialog.find_element(By.CSS_SELECTOR, ".heat-range").send_keys(Keys.HOME, Keys.ARROW_RIGHT)
    assert reader.execute_script(opacity) == "0.01"
    assert dialog.find_element(By.ID, "place").text == f"3 of {IMAGES}"  # the arrows were the slider's
    assert dialog.find_element(By.CSS_SELECTOR, "svg").is_displayed()
    dialog.find_element(By.CSS_SELECTOR, ".outline-box").click()
    assert not dialog.find_element(By.CSS_SELECTOR, "svg").is_displayed()
    dialog.find_element(By.ID, "next").click()
    assert dialog.find_element(By.ID, "place").text == f"4 of {IMAGES}"
    dialog.find_element(By.ID, "close").click()
    assert not dialog.is_displayed()


def test_the_keyboard_alone_does_it_all(reader: webdriver.Chrome) -> None:
    reader.find_element(By.ID, "name").send_keys(Keys.TAB * 4)  # past category, heat and outlines
    focused = reader.switch_to.active_element
    assert focused.get_attribute("class") == "frame"
    name = focused.get_attribute("aria-label") or ""
    focused.send_keys(Keys.ENTER)
    heading = reader.find_element(By.CSS_SELECTOR, "#stage h3")
    assert heading.text in name
    place = reader.find_element(By.ID, "place")
    for key, expected in ((Keys.ARROW_RIGHT, 2), (Keys.ARROW_RIGHT, 3), (Keys.ARROW_LEFT, 2), (Keys.ARROW_LEFT, 1)):
        reader.switch_to.active_element.send_keys(key)
        assert place.text == f"{expected} of {IMAGES}"
    reader.switch_to.active_element.send_keys(Keys.ARROW_LEFT)  # there is none before the first
    assert place.text == f"1 of {IMAGES}"
    reader.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(reader, "return !document.getElementById('enlarged').open")
    assert reader.switch_to.active_element.get_attribute("aria-label") == name


def test_images_come_when_they_are_scrolled_near_and_go_again(reader: webdriver.Chrome) -> None:
    assert count(reader, ".card") < IMAGES
    last = "document.querySelector('.chunk:last-child .card:last-child img')"
    assert reader.execute_script(f"return {last}") is None
    height = reader.execute_script("return document.documentElement.scrollHeight")
    reader.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    until(reader, f"return {last} && {last}.complete && {last}.naturalWidth > 0")
    assert reader.execute_script("return document.documentElement.scrollHeight") == pytest.approx(height, rel=0.02)
    reader.execute_script("scrollTo(0, 0)")
    until(reader, f"return !{last}")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("enlarged", [False, True])
def test_all_text_is_readable_in_both_schemes(
    scheme: str, enlarged: bool, reader: webdriver.Chrome, emulate: Callable[..., None]
) -> None:
    emulate("setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    if enlarged:
        reader.find_element(By.CSS_SELECTOR, ".frame").click()
    ratio, whose = reader.execute_script(CONTRAST)
    assert ratio >= 4.5, whose
    paper = reader.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", [375, 768, 1200])
def test_nothing_reaches_beyond_the_window(width: int, reader: webdriver.Chrome, emulate: Callable[..., None]) -> None:
    emulate("setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=width < 500)
    assert reader.execute_script("return document.documentElement.scrollWidth") <= width
    reader.find_element(By.CSS_SELECTOR, ".frame").click()
    sizes = "const d = document.getElementById('enlarged'); return [d.scrollWidth, d.clientWidth, d.offsetWidth]"
    inner, client, outer = reader.execute_script(sizes)
    assert inner <= client <= outer <= width


def test_it_prints_the_first_images_without_the_filters(reader: webdriver.Chrome, emulate: Callable[..., None]) -> None:
    assert base64.b64decode(reader.print_page()).startswith(b"%PDF")
    emulate("setEmulatedMedia", media="print")
    assert not reader.find_element(By.ID, "tools").is_displayed()
    assert sum(card.is_displayed() for card in reader.find_elements(By.CSS_SELECTOR, ".card")) == 24


def test_without_scripts_the_first_images_are_there(
    chromium: webdriver.Chrome, page: str, emulate: Callable[..., None]
) -> None:
    emulate("setScriptExecutionDisabled", value=True)
    chromium.get(page)
    assert count(chromium, "#cards > .card") == 24
    assert not chromium.find_element(By.ID, "tools").is_displayed()


def test_everything_has_a_name_for_those_who_don_t_see_it(reader: webdriver.Chrome) -> None:
    assert count(reader, "img:not([alt])") == 0
    assert count(reader, "svg:not([aria-label]):not([aria-hidden])") == 0
    nameless = "return [...document.querySelectorAll('button, input, select')].filter((e) => !(e.ariaLabel || "
    assert reader.execute_script(nameless + "e.textContent.trim() || e.labels?.[0]?.textContent.trim()))") == []


def test_the_report_of_a_real_run_opens(
    chromium: webdriver.Chrome, tiny_backbone: str, dataset: Path, tmp_path: Path
) -> None:
    flags = ["--dataset", "mvtec", "--root", str(dataset), "--backbone", tiny_backbone, "--k-shot", "1", "--seeds", "0"]
    assert run(["test", *flags, "--report", str(tmp_path / "r.html")]) == 0
    chromium.get_log("browser")
    chromium.get((tmp_path / "r.html").as_uri())
    assert count(chromium, ".card") == len(list(dataset.glob("*/test/*/*.png")))
    assert count(chromium, ".plot") == 2 * 4
    assert chromium.get_log("browser") == []

"""Recording where people look: the session, its server over a real socket, and the page in a real browser."""

from __future__ import annotations

import json
import queue
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import numpy as np
import pytest
import test_report_page as report_page
import uvicorn
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from test_report_page import CONTRAST, until

from sowa.cli.console import Console
from sowa.cli.gaze import record_to_file
from sowa.errors import InputError
from sowa.extensions.gaze.fixations import Fixation, Viewing, read_csv, write_csv
from sowa.extensions.gaze.record.server import LARGEST, bind, create_app
from sowa.extensions.gaze.record.session import MOST_CLICKS, Lens, Session, stimuli

chromium = report_page.chromium  # a fixture
emulate = report_page.emulate  # a fixture
in_a_browser = report_page.pytestmark
SIZES = {"a.png": (60, 80), "b/a.png": (50, 200), "c.jpg": (64, 64)}  # (H, W)
LOOKS = [Fixation(1, 2, 30), Fixation(4.5, 5.5, 60), Fixation(7, 8, 90)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three images of fine stripes, one in a folder of its own, and a file that is none of them."""
    root = tmp_path_factory.mktemp("images")
    for name, (height, width) in SIZES.items():
        (root / name).parent.mkdir(exist_ok=True)
        stripes = np.indices((height, width)).sum(axis=0) % 2 * 255
        Image.fromarray(stripes.astype(np.uint8)).save(root / name)
    (root / "secret.txt").write_text("secret")
    return root


def refuse(name: str, why: str) -> None:
    raise AssertionError(f"{name}: {why}")


@pytest.fixture
def session(folder: Path, tmp_path: Path) -> Session:
    return Session(stimuli(folder, refuse), tmp_path / "gaze.csv", "Ada")


def test_images_are_called_as_they_lie_below_the_folder(folder: Path, tmp_path: Path) -> None:
    assert {each.name: each.size for each in stimuli(folder, refuse)} == SIZES
    assert [each.name for each in stimuli(folder / "b" / "a.png", refuse)] == ["a.png"]
    (tmp_path / "broken.png").write_bytes(b"no image")
    Image.new("L", (3, 4)).save(tmp_path / "good.png")
    skipped: list[str] = []
    assert [each.name for each in stimuli(tmp_path, lambda name, why: skipped.append(name))] == ["good.png"]
    assert skipped == ["broken.png"]
    with pytest.raises(InputError, match="holds no image that can be read"):
        stimuli(tmp_path / "broken.png", lambda name, why: None)
    with pytest.raises(InputError, match="have one name"):
        stimuli(folder / "**" / "a.png", refuse)


def test_a_session_goes_on_where_it_stopped(session: Session) -> None:
    write_csv(session.csv_path, [Viewing("b/a.png", "Ada", (LOOKS[0],)), Viewing("a.png", "Bo", (LOOKS[0],))])
    again = Session(session.images, session.csv_path, " Ada ")
    assert (again.next, again.recorded) == (0, 1)
    again.add(0, LOOKS)
    assert again.next == 2
    assert Session(session.images, session.csv_path, "Ada").next == 2
    assert Session(session.images, session.csv_path, "Cy").next == 0
    again.add(2, LOOKS)
    assert (again.next, again.recorded) == (None, 3)
    found = read_csv(session.csv_path).viewings
    assert found[-1] == Viewing("c.jpg", "Ada", tuple(LOOKS))
    assert len(found) == 4


@pytest.mark.parametrize(
    ("number", "clicks", "told"),
    [
        (1, LOOKS, "isn't the next one, which is 0"),
        (-1, LOOKS, "isn't the next one"),
        (0, LOOKS[:2], "2 clicks, needed are 3 to"),
        (0, LOOKS * MOST_CLICKS, "3000 clicks"),
        (0, [*LOOKS, Fixation(80, 5, 1)], "(80, 5) isn't on an image 80 wide and 60 high"),
        (0, [*LOOKS, Fixation(5, 60, 1)], "(5, 60) isn't on"),
        (0, [*LOOKS, Fixation(-0.5, 5, 1)], "(-0.5, 5) isn't on"),
        (0, [*LOOKS, Fixation(float("nan"), 5, 1)], "(nan, 5) isn't on"),
    ],
)
def test_what_cannot_be_is_not_recorded(session: Session, number: int, clicks: list[Fixation], told: str) -> None:
    with pytest.raises(InputError) as caught:
        session.add(number, clicks)
    assert told in str(caught.value)
    assert (session.next, session.csv_path.exists()) == (0, False)


@pytest.mark.parametrize("observer", ["", "  ", "x" * 101, "a\nb", "simulated-01"])
def test_names_that_no_observer_has_are_refused(folder: Path, tmp_path: Path, observer: str) -> None:
    with pytest.raises(InputError, match="observer is"):
        Session(stimuli(folder, refuse), tmp_path / "gaze.csv", observer)


@pytest.mark.parametrize("wrong", [{"radius": 0}, {"radius": 1.1}, {"blur": 0.3}, {"least": 0}])
def test_a_lens_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="allowed"):
        Lens(**wrong)


@contextmanager
def served(session: Session, finished: Callable[[], None] = lambda: None) -> Iterator[str]:
    """Serves a session on a free port of this machine; gives its address."""
    with bind("127.0.0.1", 0) as listening:
        config = uvicorn.Config(create_app(session, finished), log_level="error", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


@pytest.fixture
def address(session: Session) -> Iterator[str]:
    with served(session) as found:
        yield found


@pytest.fixture(scope="module")
def untouched(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, str]]:
    """A session that nothing is ever recorded in, and its address."""
    session = Session(stimuli(folder, refuse), tmp_path_factory.mktemp("untouched") / "gaze.csv", "Ada")
    with served(session) as found:
        yield session, found


def ask(url: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers of an answer; a POST where there are data."""
    request = urllib.request.Request(url, data, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def message(clicks: list[Fixation]) -> bytes:
    return json.dumps({"clicks": [{"x": c.x, "y": c.y, "duration_ms": c.duration_ms} for c in clicks]}).encode()


def send(address: str, number: object, data: bytes, kind: str = "application/json") -> tuple[int, Any]:
    status, body, _ = ask(f"{address}images/{number}/clicks", data, Content_Type=kind)
    return status, json.loads(body)


def test_clicks_are_written_when_an_image_is_done(session: Session, address: str) -> None:
    status, told = send(address, 0, message(LOOKS))
    assert (status, told["recorded"], told["image"]["number"]) == (200, 1, 1)
    assert (told["image"]["width"], told["image"]["height"]) == (200, 50)
    assert told["image"]["radius"] == pytest.approx(0.06 * 200)
    assert list(read_csv(session.csv_path).viewings) == [Viewing("a.png", "Ada", tuple(LOOKS))]
    assert json.loads(ask(address + "session")[1]) == told


@pytest.mark.parametrize(
    ("number", "data", "told"),
    [
        (1, message(LOOKS), "isn't the next one"),
        (99, message(LOOKS), "isn't the next one"),
        ("one", message(LOOKS), ""),
        (0, message([*LOOKS, Fixation(80, 5, 1)]), "isn't on an image"),
        (0, message([*LOOKS, Fixation(float("nan"), 5, 1)]), "clicks.3.x"),
        (0, message([*LOOKS, Fixation(5, float("inf"), 1)]), "clicks.3.y"),
        (0, message([*LOOKS, Fixation(5, 5, -1)]), "clicks.3.duration_ms"),
        (0, message([*LOOKS, Fixation(5, 5, None)]), "clicks.3.duration_ms"),
        (0, b'{"clicks": [{"x": "5", "y": 5, "duration_ms": 1}]}', "clicks.0.x"),
        (0, message(LOOKS).replace(b'"clicks"', b'"image": "b/a.png", "clicks"'), "image"),
        (0, b"{", "Invalid JSON"),
        (0, message([]), "0 clicks"),
        (0, message(LOOKS * MOST_CLICKS), ""),
        (0, b" " * (LARGEST + 1) + message(LOOKS), "larger than"),
    ],
)
def test_messages_that_are_not_right_change_nothing(
    untouched: tuple[Session, str], number: object, data: bytes, told: str
) -> None:
    session, address = untouched
    status, answer = send(address, number, data)
    assert status == 422
    assert told in str(answer["detail"])
    assert (session.next, session.csv_path.exists()) == (0, False)


def test_no_other_site_can_record_or_look(untouched: tuple[Session, str]) -> None:
    session, address = untouched
    assert send(address, 0, message(LOOKS), kind="text/plain")[0] == 422
    assert ask(address + "session", Host="evil.example")[0] == 400
    assert not session.csv_path.exists()
    status, _, headers = ask(address)
    assert status == 200
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers


def test_images_alone_are_served_sharp_and_blurred(untouched: tuple[Session, str]) -> None:
    found, address = {}, untouched[1]
    for kind in ("sharp", "blurred"):
        status, body, headers = ask(f"{address}images/1/{kind}")
        assert (status, headers["content-type"]) == (200, "image/png")
        with Image.open(BytesIO(body)) as image:
            found[kind] = np.asarray(image.convert("L"), dtype=float)
    assert found["sharp"].shape == (50, 200)
    assert found["sharp"].std() == pytest.approx(127.5)
    assert found["blurred"].std() < 5
    assert found["blurred"].mean() == pytest.approx(127.5, abs=3)
    paths = ("images/3/sharp", "images/-1/sharp", "images/0/deep", "images/0", "images/..%2Fsecret.txt/sharp")
    for path in (*paths, "secret.txt", "a.png", "server.py", "page/page.html", "docs", "openapi.json", "../session.py"):
        status, body, _ = ask(address + path)
        assert status in (404, 422), path
        assert b"secret" not in body.replace(b"secret.txt", b"")


def test_a_large_image_is_sent_blurred_as_a_small_one(tmp_path: Path) -> None:
    Image.effect_noise((1000, 500), 90).save(tmp_path / "a.png")
    with served(Session(stimuli(tmp_path, refuse), tmp_path / "gaze.csv", "Ada")) as address:
        body = ask(f"{address}images/0/blurred")[1]
    with Image.open(BytesIO(body)) as image:
        assert image.size == (200, 100)


class Told(Console):
    """A console that hands on what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.notes: queue.Queue[str] = queue.Queue()
        self.events: list[dict[str, Any]] = []

    def note(self, text: str) -> None:
        self.notes.put(text)

    def say(self, text: str, **event: Any) -> None:
        self.events.append(event)


def test_the_command_says_where_and_ends_with_the_last_image(folder: Path, tmp_path: Path) -> None:
    console, out = Told(), tmp_path / "gaze.csv"
    write_csv(out, [Viewing("a.png", "Ada", tuple(LOOKS))])
    arguments = (folder, out, "Ada", Lens(least=1), "127.0.0.1", 0, console)
    thread = threading.Thread(target=record_to_file, args=arguments)
    thread.start()
    note = console.notes.get(timeout=20)
    while not note.startswith("open "):
        note = console.notes.get(timeout=20)
    for number in (1, 2):
        assert send(note.split()[1], number, message(LOOKS[:1]))[0] == 200
    thread.join(timeout=20)
    assert not thread.is_alive()
    record_to_file(*arguments)  # nothing is left to do, so nothing is served
    assert [(event["recorded"], event["new"]) for event in console.events] == [(3, 2), (3, 0)]
    assert [viewing.image for viewing in read_csv(out).viewings] == ["a.png", "b/a.png", "c.jpg"]


def test_a_port_that_is_taken_is_named(folder: Path, tmp_path: Path) -> None:
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} can't be used"):
            record_to_file(folder, tmp_path / "gaze.csv", "Ada", Lens(), "127.0.0.1", port, Console())
    with pytest.raises(InputError, match="port is 70000"):
        bind("127.0.0.1", 70000)


STARTED = "return document.getElementById('told').textContent === 'Click where you want to look'"
READY = STARTED + " && document.getElementById('stage').style.visibility === ''"


def start(driver: webdriver.Chrome, address: str) -> None:
    driver.get_log("browser")
    driver.get(address)
    until(driver, "return !document.getElementById('start').disabled")
    driver.find_element(By.ID, "start").click()
    until(driver, READY)


def click(driver: webdriver.Chrome, right: float, down: float) -> tuple[float, float]:
    """Clicks on the stage, at parts of its width and height; gives where in these it was, the mouse being on pixels."""
    box = driver.execute_script("return document.getElementById('stage').getBoundingClientRect().toJSON()")
    x, y = round(box["x"] + right * box["width"]), round(box["y"] + down * box["height"])
    actions = ActionChains(driver, duration=0)
    actions.w3c_actions.pointer_action.move_to_location(x, y)
    actions.click().perform()
    return (x - box["x"]) / box["width"], (y - box["y"]) / box["height"]


def take_next(driver: webdriver.Chrome, number: int) -> None:
    driver.find_element(By.ID, "next").click()
    until(driver, f"return document.getElementById('place').textContent.startsWith('{number} of')")
    until(driver, READY)


@in_a_browser
def test_clicks_land_where_they_were_made_at_any_window_size(
    chromium: webdriver.Chrome, emulate: Callable[..., None], session: Session, address: str
) -> None:
    start(chromium, address)
    assert chromium.find_element(By.ID, "place").text == "1 of 3"
    before = chromium.execute_script("return performance.now()")
    expected = [click(chromium, 0.25, 0.25), click(chromium, 0.9, 0.5)]
    emulate("setDeviceMetricsOverride", width=390, height=780, deviceScaleFactor=2, mobile=True)
    expected.append(click(chromium, 0.5, 0.75))
    take_next(chromium, 2)
    viewing = read_csv(session.csv_path).viewings[0]
    found = [(each.x / 80, each.y / 60) for each in viewing.fixations]
    assert np.array(found) == pytest.approx(np.array(expected), abs=0.002)
    durations = [each.duration_ms or 0 for each in viewing.fixations]
    assert min(durations) > 0
    assert sum(durations) <= chromium.execute_script("return performance.now()") - before
    assert chromium.get_log("browser") == []


@in_a_browser
def test_a_click_makes_a_round_region_sharp_and_the_rest_stays_blurred(
    chromium: webdriver.Chrome, emulate: Callable[..., None], session: Session, address: str
) -> None:
    start(chromium, address)
    click(chromium, 0.5, 0.5)
    take = chromium.find_element(By.ID, "stage").screenshot_as_png
    with Image.open(BytesIO(take)) as image:
        seen = np.asarray(image.convert("L"), dtype=float)
    height, width = seen.shape
    rows, columns = np.indices(seen.shape)
    away = np.hypot(columns - width / 2, rows - height / 2) / (width * session.lens.radius)
    assert seen[(away > 0.75) & (away < 0.9)].std() > 30
    assert seen[(away > 1.2) & (away < 3)].std() < 10


@in_a_browser
def test_while_the_page_is_hidden_nobody_looks(chromium: webdriver.Chrome, session: Session, address: str) -> None:
    start(chromium, address)
    before, page = chromium.execute_script("return performance.now()"), chromium.current_window_handle
    click(chromium, 0.2, 0.5)
    chromium.switch_to.new_window("tab")
    until(chromium, "return performance.now() > 400")
    chromium.close()
    chromium.switch_to.window(page)
    click(chromium, 0.4, 0.5)
    click(chromium, 0.6, 0.5)
    take_next(chromium, 2)
    passed = chromium.execute_script("return performance.now()") - before
    looked = sum(each.duration_ms or 0 for each in read_csv(session.csv_path).viewings[0].fixations)
    assert 0 < looked < passed - 350


@in_a_browser
def test_the_keyboard_alone_does_it_all(chromium: webdriver.Chrome, session: Session, address: str) -> None:
    chromium.get(address)
    until(chromium, "return !document.getElementById('start').disabled")
    chromium.switch_to.active_element.send_keys(Keys.ENTER)
    for number in range(3):
        until(chromium, f"return document.getElementById('place').textContent === '{number + 1} of 3'")
        until(chromium, READY)
        stage = chromium.switch_to.active_element
        stage.send_keys(Keys.ENTER)  # nothing was looked at
        stage.send_keys(Keys.SPACE, Keys.ARROW_RIGHT, Keys.SPACE, Keys.ARROW_UP, Keys.SPACE, Keys.ENTER)
    until(chromium, "return !document.getElementById('finished').hidden")
    assert "Thank you" in chromium.find_element(By.ID, "finished").text
    viewings = read_csv(session.csv_path).viewings
    assert [(each.x, each.y) for each in viewings[0].fixations] == [(40, 30), (41.6, 30), (41.6, 28.4)]
    assert [viewing.image for viewing in viewings] == list(SIZES)


@in_a_browser
def test_a_page_that_is_loaded_again_goes_on(chromium: webdriver.Chrome, session: Session, address: str) -> None:
    session.add(0, LOOKS)
    chromium.get(address)
    until(chromium, "return !document.getElementById('start').disabled")
    assert chromium.find_element(By.ID, "recorded").text == "You have seen 1 of 3 images; 2 to go."
    chromium.find_element(By.ID, "start").click()
    until(chromium, READY)
    assert chromium.find_element(By.ID, "place").text == "2 of 3"


@in_a_browser
def test_too_few_looks_and_a_refusal_are_told_and_nothing_is_lost(
    chromium: webdriver.Chrome, session: Session, address: str
) -> None:
    start(chromium, address)
    told = chromium.find_element(By.ID, "told")
    click(chromium, 0.5, 0.5)
    chromium.find_element(By.ID, "next").click()
    assert told.text == "Look at 2 more places"
    click(chromium, 0.4, 0.5)
    click(chromium, 0.3, 0.5)
    session.csv_path.mkdir()  # can't be written any more
    chromium.find_element(By.ID, "next").click()
    until(chromium, "return document.getElementById('told').textContent.startsWith('Not saved: ')")
    session.csv_path.rmdir()
    take_next(chromium, 2)
    assert len(read_csv(session.csv_path).viewings[0].fixations) == 3


@in_a_browser
def test_everything_can_be_read_and_has_a_name(
    chromium: webdriver.Chrome, emulate: Callable[..., None], address: str
) -> None:
    chromium.get(address)
    until(chromium, "return !document.getElementById('start').disabled")
    ratio, whose = chromium.execute_script(CONTRAST)
    assert ratio >= 4.5, whose
    start(chromium, address)
    for width in (320, 1200):
        emulate("setDeviceMetricsOverride", width=width, height=600, deviceScaleFactor=1, mobile=width < 500)
        inner = "return [document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
        assert chromium.execute_script(inner) == [width, 600]
        assert chromium.find_element(By.ID, "next").is_displayed()
    ratio, whose = chromium.execute_script(CONTRAST)
    assert ratio >= 4.5, whose
    stage = chromium.find_element(By.ID, "stage")
    assert stage.accessible_name == "Image 1 of 3, blurred"
    assert chromium.find_element(By.ID, "next").accessible_name == "Next image"

"""The pages of `sowa detect test --report` and `sowa classify test --report`, as files and in a real browser."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
from PIL import Image

from sowa.cli.app import run
from sowa.report import Table
from sowa.report.task import MOST, Card, TaskPage, write_task_page
from sowa.synthetic.scenes import Inventory, write_scenes

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
EVIL = '<img src=x onerror="document.title=1">'


def page(cards: int = 3, **changes: object) -> TaskPage:
    image = np.full((30, 40, 3), 120, np.uint8)
    parts = {
        "title": "Detection",
        "subject": EVIL,
        "made": "today",
        "figures": {"mAP50": "0.500"},
        "facts": {"Backbone": EVIL},
        "classes": Table(["class", "mAP50"], [[EVIL, "0.1"]]),
        "legend": "White: what is there.",
        "cards": [Card(f"{EVIL}/{place}.png", image, "1 missed", EVIL, place == 0) for place in range(cards)],
        "skipped": [(EVIL, "broken")],
    }
    return TaskPage(**{**parts, **changes})


def test_names_are_words_and_nothing_else(tmp_path):
    write_task_page(page(), tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert "<img src=x" not in text
    assert "<img src=x" in unescape(text)
    assert len(re.findall("<article", text)) == 3
    assert "script-src" not in text
    assert "<script" not in text


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium (Debian: apt install chromium)")
def test_a_browser_shows_every_image(tmp_path):
    path = tmp_path / "page.html"
    write_task_page(page(), path)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shot = ["--window-size=900,1400", f"--screenshot={tmp_path / 'page.png'}", path.as_uri()]
    subprocess.run([CHROMIUM, *flags, *shot], check=True, capture_output=True, timeout=120)
    with Image.open(tmp_path / "page.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    grey = (np.abs(pixels - 120) < 6).all(axis=2)
    assert grey.sum() > 3 * 100 * 100  # three photographs, enlarged to their column


def test_detect_test_writes_a_page(tiny_backbone, tmp_path, capsys):
    root = write_scenes(tmp_path / "scenes", Inventory({}), {"train": 4, "val": 2, "test": 3}, size=64)
    data, out = f"--dataset coco --root {root}", tmp_path / "model.safetensors"
    line = f"detect train {data} --backbone {tiny_backbone} --phrases --out {out} --epochs 1 --width 16"
    assert run(shlex.split(line)) == 0
    line = f"detect test {data} --model {out} --query star ring --report {tmp_path / 'page.html'}"
    assert run(shlex.split(line)) == 0
    text = (tmp_path / "page.html").read_text()
    assert len(re.findall("<article", text)) == 3
    assert "mAP50" in text


def test_classify_test_writes_a_page_with_the_surest_errors_first(tiny_backbone, tmp_path, capsys):
    random = np.random.default_rng(0)
    for kind in ("dark", "light"):
        for place in range(4):
            (tmp_path / "data" / kind).mkdir(parents=True, exist_ok=True)
            level = random.integers(0, 100, (64, 64, 3)) + (0 if kind == "dark" else 150)
            Image.fromarray(level.astype(np.uint8)).save(tmp_path / "data" / kind / f"{place}.png")
    line = f"classify test --root {tmp_path / 'data'} --names dark,light --backbone {tiny_backbone}"
    assert run(shlex.split(f"{line} --report {tmp_path / 'page.html'}")) == 0
    text = (tmp_path / "page.html").read_text()
    kinds = re.findall(r'<article class="card (\w*)', text)
    assert len(kinds) == 8
    assert kinds == sorted(kinds, reverse=True)  # what is wrong is "missed"
    assert "Confusion matrix" in text


def test_a_page_shows_no_more_images_than_a_browser_likes(tmp_path):
    write_task_page(page(cards=MOST + 1), tmp_path / "page.html")
    assert len(re.findall("<article", (tmp_path / "page.html").read_text())) == MOST

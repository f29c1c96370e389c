"""A large report: seconds to write, memory, bytes, and how fast Chromium opens, filters and scrolls it.

python benchmarks/report.py [--images 1000,5000]
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from few_shot import RESULTS, stamp
from selenium import webdriver

from sowa.detector.prediction import Prediction
from sowa.report import Summary, open_report
from sowa.synthetic import generate

CATEGORIES = ("capsule", "woven_fabric", "wood", "ceramic_tile", "brushed_metal", "printed_board")
SIDE, GRID, ANOMALOUS = 384, 24, 10  # pixels, patches, one in so many images
OPENED = """
const [page] = performance.getEntriesByType("navigation");
const [paint] = performance.getEntriesByName("first-contentful-paint");
return [paint.startTime, page.domInteractive, page.domContentLoadedEventEnd];
"""
FILTERED = """
const done = arguments[0], start = performance.now(), field = document.getElementById("name");
field.value = "hole";
field.dispatchEvent(new Event("input"));
requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
"""
SCROLLED = """
const done = arguments[0], field = document.getElementById("name");
field.value = "";
field.dispatchEvent(new Event("input"));
const end = document.documentElement.scrollHeight, start = performance.now();
let y = 0, frames = 0;
const step = () => {
  scrollTo(0, (y += 600));
  frames++;
  if (y < end) requestAnimationFrame(step);
  else done([(performance.now() - start) / frames, document.querySelectorAll(".card").length]);
};
requestAnimationFrame(step);
"""


def write(path: Path, count: int) -> tuple[float, float]:
    """Seconds, and by how many MB the most memory in use has grown meanwhile."""
    random = np.random.default_rng(0)
    pieces = [generate(name, size=SIDE, seed=seed).image for seed in range(4) for name in CATEGORIES]
    before, started = peak(), time.perf_counter()
    with open_report(path, count) as writer:
        for number in range(count):
            anomalous = number % ANOMALOUS == 0
            level_maps = random.random((4, GRID, GRID), dtype=np.float32) * 0.25 + 0.15
            y, x = random.integers(0, GRID - 4, 2)
            level_maps[:, y : y + 4, x : x + 4] += 1.2 * random.random(dtype=np.float32) * anomalous
            anomaly_map = cv2.resize(level_maps.sum(axis=0), (SIDE, SIDE)).astype(np.float32)
            raw, image = float(anomaly_map.max()), np.roll(pieces[number % len(pieces)], number, axis=1)
            name, mask = f"parts/{'hole' if anomalous else 'good'}/{number:05d}.png", anomaly_map > 1.8
            verdict = (raw / (raw + 1.8), raw, 99.0, 1.8, raw > 1.8, anomaly_map, mask, level_maps, 1.8, 0.1, image)
            true_mask = np.zeros(mask.shape, bool)
            true_mask[16 * y : 16 * (y + 4), 16 * x : 16 * (x + 4)] = anomalous
            writer.add(Prediction(name, *verdict), label=int(anomalous), true_mask=true_mask)
        writer.finish(Summary("Evaluation report", "generated", "", {}))
    return time.perf_counter() - started, peak() - before


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def read(path: Path) -> list[Any]:
    """Milliseconds to first paint, interactive, DOMContentLoaded, filtered, per frame; cards left in the page."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    driver.get(path.as_uri())
    found = [*driver.execute_script(OPENED), driver.execute_async_script(FILTERED)]
    found += driver.execute_async_script(SCROLLED)
    driver.quit()
    return [round(value) for value in found]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", default="1000,5000")
    lines = [
        "# The report of many images",
        "",
        stamp(),
        f"Generated images of {SIDE} pixels, {GRID} x {GRID} patches, four levels; headless Chromium, a cold start.",
        "",
        "    python benchmarks/report.py",
        "",
        "| images | written, s | memory grown, MB | file, MB | first paint, ms | interactive | DOMContentLoaded | "
        "filter | frame while scrolling | cards in the page at the end |",
        "|---" * 10 + "|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for count in map(int, parser.parse_args().images.split(",")):
            path = Path(folder, f"{count}.html")
            seconds, memory = write(path, count)
            size = path.stat().st_size / 1e6
            cells = [count, f"{seconds:.1f}", f"{memory:.0f}", f"{size:.1f}", *read(path)]
            lines.append(f"| {' | '.join(map(str, cells))} |")
            print(lines[-1], flush=True)
    (RESULTS / "report.md").write_text("\n".join([*lines, ""]))


if __name__ == "__main__":
    main()

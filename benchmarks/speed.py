"""How fast: the bare encoder, the method computed plainly, this package, and its exports, in interleaved rounds.

    python benchmarks/speed.py [--backbone NAME] [--batch 1,8] [--rounds N] [--work DIR]

The paper's network with random weights by default: speed doesn't ask what a network has learned. Everything sees the
same pictures with the same number of threads. In each round every contender runs once; the table gives the median over
rounds and the median of the ratios within a round. Exports are kept in DIR and used again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from few_shot import RESULTS, stamp
from numpy.typing import NDArray
from plain import plain_maps

from sowa import Sowa
from sowa.devices import autocast, choose_device
from sowa.export import export
from sowa.runtime import ExportedSowa
from sowa.synthetic import generate

SHOTS = 4
Run = Callable[[NDArray[np.uint8]], Any]
EXPORTS = (
    ("onnxruntime fp32", "onnx", "fp32", "fp32"),
    ("openvino fp32", "openvino", "fp32", "fp32"),
    ("openvino bf16", "openvino", "fp32", "bf16"),
    ("openvino int8", "openvino", "int8", "fp32"),
    ("openvino int8, rest bf16", "openvino", "int8", "bf16"),
)


def parts(count: int, size: tuple[int, int], first: int) -> NDArray[np.uint8]:
    """Generated pictures (N, H, W, 3)."""
    return np.stack([generate("wood", size=size, seed=first + index, style_seed=1).image for index in range(count)])


def fitted(backbone: str, precision: Any) -> Sowa:
    detector = Sowa.from_pretrained(backbone, precision=precision)
    detector.trained = True  # random adapters and prompts take as long as trained ones
    return detector.fit(list(parts(SHOTS, detector.image_size, 100)))


def encoder(detector: Sowa, precision: Any) -> Run:
    """The frozen vision transformer as open_clip runs it: one feature per picture, no level read."""

    @torch.inference_mode()
    def run(images: NDArray[np.uint8]) -> Any:
        with autocast(detector.device, precision):
            return detector.network.backbone.visual(detector.normalise(images))

    return run


def contenders(backbone: str, work: Path) -> tuple[dict[str, Run], Sowa]:
    full, half = fitted(backbone, "fp32"), fitted(backbone, "bf16")
    found: dict[str, Run] = {
        "bare encoder, fp32": encoder(full, "fp32"),
        "bare encoder, bf16": encoder(full, "bf16"),
        "method computed plainly, fp32": lambda images: plain_maps(full, images),
        "sowa, torch fp32": lambda images: full.judge(full.observe(images)).numpy().maps,
        "sowa, torch bf16": lambda images: half.judge(half.observe(images)).numpy().maps,
    }
    references = parts(2, full.image_size, 200)
    for name, format, precision, computed in EXPORTS:
        folder = work / f"{backbone.replace(':', '-').replace('/', '-')}-{format}-{precision}"
        if not (folder / "metadata.json").is_file():
            # Random weights aren't made to be rounded: how far int8 is off is measured with trained ones.
            export(full, folder, format, precision, pictures=list(references), tolerance=1e9)
        engine = ExportedSowa.load(folder, precision=computed, threads=torch.get_num_threads()).engine
        found[f"sowa, {name}"] = lambda images, engine=engine: engine(images).maps
    return found, full


def measure(runs: dict[str, Run], images: NDArray[np.uint8], rounds: int) -> dict[str, list[float]]:
    """Seconds per picture of every round, after one that isn't counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run(images)
            took = (time.perf_counter() - started) / len(images)
            if round_:
                seconds[name].append(took)
        print(f"round {round_}: " + ", ".join(f"{name} {found[-1]:.3f}" for name, found in seconds.items() if found))
    return seconds


def table(seconds: dict[str, list[float]]) -> list[str]:
    base = {name: np.array(found) for name, found in seconds.items()}
    against = ["bare encoder, fp32", "bare encoder, bf16", "method computed plainly, fp32", "sowa, torch bf16"]
    titles = ["bare encoder fp32", "bare encoder bf16", "plain fp32", "sowa torch bf16"]
    lines = ["| | s/picture (rounds) | " + " | ".join(f"time / {title}" for title in titles) + " |", "|---" * 6 + "|"]
    for name, found in base.items():
        ratios = [f"{np.median(found / base[other]):.2f}" for other in against]
        rounds = f"{np.median(found):.3f} ({found.min():.3f} to {found.max():.3f})"
        lines.append(f"| {name} | {rounds} | " + " | ".join(ratios) + " |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="ViT-L-14-336:random")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("build/speed"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    runs, detector = contenders(arguments.backbone, arguments.work)
    name = arguments.backbone.partition(":")[0]
    text = [
        f"# Speed: {name}",
        "",
        stamp(),
        f"{SHOTS} references, device {choose_device('auto')}, {torch.get_num_threads()} threads, "
        f"{' x '.join(map(str, detector.image_size))} pixels, {arguments.rounds} interleaved rounds.",
        "",
        f"    python benchmarks/speed.py --backbone {arguments.backbone} --batch {arguments.batch}",
    ]
    for batch in (int(part) for part in arguments.batch.split(",")):
        images = parts(batch, detector.image_size, 0)
        off = float(np.abs(plain_maps(detector, images[:1]) - runs["sowa, torch fp32"](images[:1])).max())
        print(f"batch {batch}; plain and ours differ by {off:.1e}")
        text += ["", f"## Batch {batch}", "", *table(measure(runs, images, arguments.rounds))]
        (RESULTS / f"speed-{name}.md").write_text("\n".join([*text, ""]))


if __name__ == "__main__":
    main()

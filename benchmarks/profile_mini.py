"""Where the time of an image goes, with `mini`: parts of the detector in torch, kinds of node in its OpenVINO export.

    python benchmarks/profile_mini.py [--batch 8] [--work DIR]

Four references, and JPEG images of 640 x 480 as in scaling.py. Each part is timed by itself while the whole runs;
times are medians of rounds, in milliseconds an image. The export is kept in DIR and used again.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import openvino
import torch
from few_shot import RESULTS, stamp
from numpy.typing import NDArray
from scaling import jpeg_images
from torch import nn

from sowa import Sowa
from sowa.cli.allocator import keep_freed_memory
from sowa.core.config import Settings
from sowa.core.scoring import judge_few_shot
from sowa.data.batches import read_batches
from sowa.data.sources import image_sources as listed
from sowa.export import export

ROUNDS, SHOTS = 7, 4
PRECISIONS = ("fp32", "bf16")
KINDS = 12  # of nodes that have a row
OUTSIDE = ("reading JPEG, resizing", "the network", "memory bank", "scores and maps")
Images = NDArray[np.uint8]
Times = dict[str, float]


class Clock:
    """Milliseconds of each part since it was last read."""

    def __init__(self) -> None:
        self.spent: defaultdict[str, float] = defaultdict(float)

    def count(self, name: str, started: float) -> None:
        self.spent[name] += 1000 * (time.perf_counter() - started)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.count(name, started)

    def watch(self, name: str, module: nn.Module) -> None:
        """Counts what ``module`` takes to a part."""
        started: list[float] = []
        module.register_forward_pre_hook(lambda *_: started.append(time.perf_counter()))
        module.register_forward_hook(lambda *_: self.count(name, started.pop()))

    def read(self) -> Times:
        spent = dict(self.spent)
        self.spent.clear()
        return spent


def watched(detector: Sowa) -> Clock:
    """A clock of the networks that a detector with `mini` runs."""
    clock, visual = Clock(), detector.encoder.network.backbone.visual
    stem = visual.conv1
    parts: dict[str, list[Any]] = {
        "EfficientNet-Lite2": [stem.entry, stem.fine, stem.middle, stem.coarse, stem.deep, stem.head],
        "TinyViT, first stages": [stem.outline],
        "TinyViT, last stages": [stem.segment],
        "transformer blocks": list(visual.transformer.resblocks),
        "adapters": list(detector.encoder.network.adapters),
    }
    for name, modules in parts.items():
        for module in modules:
            clock.watch(name, module)
    return clock


def in_torch(detector: Sowa, batch: int, folder: Path) -> Times:
    """Of an image of a batch, from its file to its map, each part by itself."""
    assert detector.bank_ is not None
    clock, rounds = watched(detector), []
    for number in range(ROUNDS + 1):
        with clock.part("reading JPEG, resizing"):
            images = next(iter(batches(folder, detector, batch)))
        with torch.inference_mode():
            with clock.part("the network"):
                observation = detector.encoder.encode(images)
            with clock.part("memory bank"):
                distances = detector.bank_.distances(observation.patches, None, detector.encoder.precision)
            with clock.part("scores and maps"):
                judge_few_shot(
                    observation, distances, detector.encoder.config, zero_shot_weight=detector.bank_.zero_shot_weight
                )
        spent = clock.read()
        inside = sum(value for name, value in spent.items() if name not in OUTSIDE)
        spent["the rest of the network"] = spent.pop("the network") - inside
        if number:
            rounds.append({name: value / batch for name, value in spent.items()})
    return {name: median(one[name] for one in rounds) for name in rounds[0]}


def batches(folder: Path, detector: Sowa, batch: int) -> Iterator[Images]:
    for read in read_batches(listed(folder), detector.image_size, batch, []):
        yield read.images


def in_openvino(model: Path, images: Images, precision: str) -> Times:
    """Of an image of a batch, by the kind of node."""
    config = {"INFERENCE_PRECISION_HINT": {"fp32": "f32"}.get(precision, precision), "PERF_COUNT": True}
    config |= {"INFERENCE_NUM_THREADS": torch.get_num_threads(), "PERFORMANCE_HINT": "LATENCY"}
    request = openvino.Core().compile_model(str(model), "CPU", config).create_infer_request()
    rounds: list[Times] = []
    for _ in range(ROUNDS + 1):
        request.infer([images])
        spent: defaultdict[str, float] = defaultdict(float)
        for node in request.profiling_info:
            spent[node.node_type] += node.real_time.total_seconds() * 1000 / len(images)
        rounds.append(spent)
    return {name: median(one[name] for one in rounds[1:]) for name in rounds[0]}


def table(title: str, columns: dict[str, Times]) -> list[str]:
    """Milliseconds and shares, columns for each precision; those rows that take most, in the order of the last."""
    lines = [f"| {title} | " + " | ".join(f"{name}, ms | share" for name in columns) + " |"]
    lines.append("|---" * (2 * len(columns) + 1) + "|")
    totals, last = [sum(times.values()) for times in columns.values()], list(columns.values())[-1]
    names = sorted(last, key=lambda name: -last[name])[:KINDS]
    rows = {name: [times.get(name, 0.0) for times in columns.values()] for name in names}
    if len(last) > KINDS:
        rows["all others"] = [total - sum(told) for total, *told in zip(totals, *rows.values(), strict=True)]
    for name, spent in rows.items():
        cells = [f"{value:.1f} | {value / total:.0%}" for value, total in zip(spent, totals, strict=True)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return [*lines, "| together | " + " | ".join(f"{total:.1f} | " for total in totals) + "|", ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--work", type=Path, default=Path("build/profile"))
    arguments = parser.parse_args()
    keep_freed_memory()
    arguments.work.mkdir(parents=True, exist_ok=True)
    folder = jpeg_images(arguments.work / f"images-{arguments.batch}", arguments.batch)
    normal = sorted(jpeg_images(arguments.work / "normal", SHOTS).iterdir())
    detectors = {
        name: Sowa.from_pretrained("mini", settings=Settings(precision=name)).fit(normal) for name in PRECISIONS
    }
    made = arguments.work / "export"
    if not made.is_dir():
        export(detectors["fp32"], made, "openvino")
    images = next(iter(batches(folder, detectors["fp32"], arguments.batch)))
    text = ["# Where the time goes: mini", "", stamp()]
    text += [f"{SHOTS} references, batch {arguments.batch}, {torch.get_num_threads()} threads; medians of {ROUNDS}."]
    text += ["", f"    python benchmarks/profile_mini.py --batch {arguments.batch}", ""]
    text += table("torch", {name: in_torch(one, arguments.batch, folder) for name, one in detectors.items()})
    text += table("OpenVINO", {name: in_openvino(made / "model.xml", images, name) for name in PRECISIONS})
    (RESULTS / "profile-mini.md").write_text("\n".join(text).rstrip() + "\n")


if __name__ == "__main__":
    main()

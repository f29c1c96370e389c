"""How fast: the bare encoder, the method computed plainly, this package, its exports and the peers, interleaved.

    python benchmarks/speed.py [--backbone NAME] [--batch 1,8] [--rounds N] [--work DIR]
    python benchmarks/speed.py --memory [--backbone NAME] [--batch 1,8] [--work DIR]

The paper's network with random weights by default: speed doesn't ask what a network has learned. Everything of ours
sees the same images, everything has the same number of threads. In each round every contender runs once; the table
gives the median over rounds and the median of the ratios within a round. Exports and the peers' environment are kept in
DIR and used again. With --memory, instead, each of ours and the peers judges a batch in a process of its own, and the
table gives the most that it ever held.
"""

from __future__ import annotations

import argparse
import copy
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peers
import torch
from few_shot import RESULTS, stamp
from numpy.typing import NDArray
from plain import plain_maps

from sowa import Sowa
from sowa.cli.allocator import keep_freed_memory
from sowa.core.config import Settings
from sowa.detector.exported import ExportedSowa
from sowa.encoders.devices import choose_device
from sowa.export import export
from sowa.model.mini import MiniBackbone
from sowa.synthetic import generate

HERE = Path(__file__).parent  # where a process of its own finds peers.py
SHOTS = 4
Run = Callable[[NDArray[np.uint8]], Any]
EXPORTS = (
    ("onnxruntime fp32", "onnx", "fp32", "fp32"),
    ("openvino fp32", "openvino", "fp32", "fp32"),
    ("openvino bf16", "openvino", "fp32", "bf16"),
    ("openvino int8", "openvino", "int8", "fp32"),
    ("openvino int8, rest bf16", "openvino", "int8", "bf16"),
)
AGAINST = {
    "bare encoder, fp32": "encoder fp32",
    "bare encoder, bf16": "encoder bf16",
    "method computed plainly, fp32": "plain fp32",
    peers.NAMES[0]: "WinCLIP",
    "sowa, torch bf16": "torch bf16",
}
MEMORY = """
import sys
import numpy as np
kind, path, precision, batch = sys.argv[1:]
if kind == "torch":
    from sowa import Sowa
    detector = Sowa.load(path, precision=precision)
else:
    from sowa.detector.exported import ExportedSowa
    detector = ExportedSowa.load(path, precision=precision)
detector._judged(np.zeros((int(batch), *detector.image_size, 3), np.uint8))
from peers import peak
print(peak())
"""


def parts(count: int, size: tuple[int, int], first: int) -> NDArray[np.uint8]:
    """Generated images (N, H, W, 3)."""
    return np.stack([generate("wood", size=size, seed=first + index, style_seed=1).image for index in range(count)])


def fitted(detector: Sowa) -> Sowa:
    detector.encoder.trained = True  # random adapters and prompts take as long as trained ones
    return detector.fit(list(parts(SHOTS, detector.image_size, 100)))


def encoder(detector: Sowa, dtype: torch.dtype) -> Run:
    """The frozen vision transformer as open_clip runs it, all of it in one type: one feature per image, no level.

    open_clip can't run the stem of ``mini``, so that is run as a backbone of ours.
    """
    backbone = detector.encoder.network.backbone
    network = copy.deepcopy(backbone if isinstance(backbone, MiniBackbone) else backbone.visual).to(dtype)

    @torch.inference_mode()
    def run(images: NDArray[np.uint8]) -> Any:
        return network(detector.encoder.normalise(images).to(dtype))

    return run


def peer(python: Path) -> dict[str, Run]:
    """The peers, in a process that waits while it isn't asked."""
    command = [python, Path(peers.__file__)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )

    def ask(name: str, batch: int) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{name} {batch}\n")
        process.stdin.flush()
        float(process.stdout.readline())

    assert process.stdout is not None
    if process.stdout.readline().strip() != "ready":
        raise SystemExit(f"the peers don't start: {command}")
    return {name: lambda images, name=name: ask(name, len(images)) for name in peers.NAMES}


def contenders(backbone: str, work: Path) -> tuple[dict[str, Run], Sowa, dict[str, tuple[str, Path, str]]]:
    """What runs, the detector in fp32, and for each of ours what `MEMORY` needs."""
    full = fitted(Sowa.from_pretrained(backbone, settings=Settings(precision="fp32")))
    half = fitted(Sowa(full.encoder.at_precision("bf16")))
    stem = backbone.replace(":", "-").replace("/", "-")
    file = full.save(work / f"{stem}.sowa")
    found: dict[str, Run] = {
        "bare encoder, fp32": encoder(full, torch.float32),
        "bare encoder, bf16": encoder(full, torch.bfloat16),
        "method computed plainly, fp32": lambda images: plain_maps(full, images),
        **peer(peers.install(work / "peers")),
        "sowa, torch fp32": lambda images: full.judge(full.encoder.encode(images)).numpy().maps,
        "sowa, torch bf16": lambda images: half.judge(half.encoder.encode(images)).numpy().maps,
    }
    ours = {f"sowa, torch {precision}": ("torch", file, precision) for precision in ("fp32", "bf16")}
    references = list(parts(2, full.image_size, 200))
    for name, format, precision, computed in EXPORTS:
        folder = work / f"{stem}-{format}-{precision}"
        if not (folder / "metadata.json").is_file():
            # Random weights aren't made to be rounded: how far int8 is off is measured with trained ones.
            export(full, folder, format, precision, images=references, tolerance=1e9)
        engine = ExportedSowa.load(folder, precision=computed, threads=torch.get_num_threads()).engine
        found[f"sowa, {name}"] = lambda images, engine=engine: engine(images).maps
        ours[f"sowa, {name}"] = ("export", folder, computed)
    return found, full, ours


def measure(runs: dict[str, Run], images: NDArray[np.uint8], rounds: int) -> dict[str, list[float]]:
    """Seconds per image of every round, after one that isn't counted."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for round_ in range(rounds + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run(images)
            took = (time.perf_counter() - started) / len(images)
            if round_:
                seconds[name].append(took)
        told = ", ".join(f"{name} {found[-1]:.3f}" for name, found in seconds.items() if found)
        print(f"round {round_}: {told or 'to warm up'}", flush=True)
    return seconds


def table(seconds: dict[str, list[float]]) -> list[str]:
    base = {name: np.array(found) for name, found in seconds.items()}
    titles = " | ".join(f"time / {title}" for title in AGAINST.values())
    lines = [f"| | s/image (rounds) | {titles} |", "|---" * (len(AGAINST) + 2) + "|"]
    for name, found in base.items():
        ratios = " | ".join(f"{np.median(found / base[other]):.2f}" for other in AGAINST)
        rounds = f"{np.median(found):.3f} ({found.min():.3f} to {found.max():.3f})"
        lines.append(f"| {name} | {rounds} | {ratios} |")
    return lines


def memory(ours: dict[str, tuple[str, Path, str]], python: Path, batches: list[int]) -> list[str]:
    """A table of peaks in MiB."""
    lines = ["| | " + " | ".join(f"batch {batch}" for batch in batches) + " |", "|---" * (len(batches) + 1) + "|"]
    commands: dict[str, list[Any]] = {
        name: [sys.executable, "-W", "ignore", "-c", MEMORY, *what] for name, what in ours.items()
    }
    commands |= {name: [python, peers.__file__, "--memory", name] for name in peers.NAMES}
    for name, command in commands.items():
        told = [
            subprocess.check_output([*command, str(batch)], text=True, stderr=subprocess.DEVNULL, cwd=HERE)
            for batch in batches
        ]
        lines.append(f"| {name} | " + " | ".join(text.split()[-1] for text in told) + " |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="ViT-L-14-336:random")
    parser.add_argument("--batch", default="1,8")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--work", type=Path, default=Path("build/speed"))
    arguments = parser.parse_args()
    arguments.work = arguments.work.absolute()
    keep_freed_memory()  # as every command of ours does; it serves all that runs in this process
    arguments.work.mkdir(parents=True, exist_ok=True)
    batches = [int(part) for part in arguments.batch.split(",")]
    runs, detector, ours = contenders(arguments.backbone, arguments.work)
    name = arguments.backbone.partition(":")[0]
    out = RESULTS / (f"memory-{name}.md" if arguments.memory else f"speed-{name}.md")
    text = [
        f"# {'Memory' if arguments.memory else 'Speed'}: {name}",
        "",
        stamp(),
        f"{SHOTS} references, device {choose_device('auto')}, {torch.get_num_threads()} threads, "
        f"{' x '.join(map(str, detector.image_size))} pixels"
        + ("; MiB." if arguments.memory else f", {arguments.rounds} interleaved rounds."),
        f"Peers: {peers.PACKAGES[0].replace('==', ' ')}; WinCLIP's ViT-B-16-plus at 240 pixels, PatchCore's Wide "
        "ResNet-50 at 224.",
        "",
        f"    python benchmarks/speed.py{' --memory' * arguments.memory} --backbone {arguments.backbone} "
        f"--batch {arguments.batch}",
        "",
    ]
    if arguments.memory:
        text += memory(ours, peers.install(arguments.work / "peers"), batches)
    for batch in () if arguments.memory else batches:
        images = parts(batch, detector.image_size, 0)
        off = float(np.abs(plain_maps(detector, images[:1]) - runs["sowa, torch fp32"](images[:1])).max())
        text += [f"## Batch {batch}", "", *table(measure(runs, images, arguments.rounds)), ""]
        text += [f"The plain computation's map differs from ours (torch fp32) by at most {off:.1e}.", ""]
        out.write_text("\n".join(text))
    out.write_text("\n".join(text).rstrip() + "\n")


if __name__ == "__main__":
    main()

"""From files on disk to saved scores with `mini`: start-up, images a second, memory as images and references grow.

    python benchmarks/scaling.py [--images 100,1000,10000] [--references 1,10,100,1000] [--work DIR]

Every run is a command as a user types it, in a process of its own: seconds are of the whole process, memory the most
that it held. Images are generated, JPEG, 640 x 480; of more than IMAGES the same ones come again under other names.
What was measured is kept in DIR, so a run that was stopped goes on where it was; so it should be an empty one.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from few_shot import RESULTS, once, stamp

from sowa.encoders.devices import choose_precision
from sowa.synthetic import generate

IMAGES, SIZE, ROUNDS = 200, (480, 640), 5
COUNTS, REFERENCES = "100,1000,10000", "1,10,100,1000"
EXPORTS = (("onnx", "fp32"), ("openvino", "fp32"), ("openvino", "int8"))

# As `sowa`, and at the end the most memory that it held.
COMMAND = """
import atexit
from peers import peak
from sowa.cli.app import main
atexit.register(lambda: print(peak()))
main()
"""


def jpeg_images(folder: Path, count: int) -> Path:
    """A folder of so many JPEG files."""
    if folder.is_dir() and len(list(folder.iterdir())) == count:
        return folder
    made = folder.parent / "made"
    made.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True)
    for index in range(count):
        file = made / f"{index % IMAGES}.jpg"
        if not file.exists():
            image = generate("brushed_metal", size=SIZE, seed=index, style_seed=1).image
            cv2.imwrite(str(file), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        link = folder / f"{index:05d}.jpg"
        link.unlink(missing_ok=True)
        os.link(file, link)
    return folder


def run(*arguments: object) -> tuple[float, int]:
    """Seconds and peak memory in MiB of a command."""
    command = [sys.executable, "-c", COMMAND, *map(str, arguments)]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"failed: {' '.join(command)}\n{done.stderr}")
    peak = int(done.stdout.split()[-1])
    print(f"{' '.join(map(str, arguments))}: {seconds:.2f} s, {peak} MiB", flush=True)
    return seconds, peak


def measured(work: Path, name: str, *arguments: object) -> tuple[float, int]:
    """As `run`; once for each name."""
    found = once(work / "rows" / f"{name}.json", lambda: dict(zip(("seconds", "MiB"), run(*arguments), strict=True)))
    return found["seconds"], found["MiB"]


def detectors(work: Path) -> dict[str, tuple[object, ...]]:
    """What `sowa predict` is told of one fitted on four images, and of its exports."""
    file = work / "mini.sowa"
    measured(work, "fit", "fit", "--normal", jpeg_images(work / "normal", 4), "--out", file)
    found: dict[str, tuple[object, ...]] = {"torch": ("--model", file)}
    for format, precision in EXPORTS:
        folder = work / f"mini-{format}-{precision}"
        flags = ("--model", file, "--out", folder, "--format", format, "--precision", precision)
        measured(work, f"export-{format}-{precision}", "export", *flags)
        found[f"{format} {precision}"] = ("--model", folder)
    if choose_precision("auto", torch.device("cpu")) == "bf16":
        found["openvino fp32, computed in bf16"] = (*found["openvino fp32"], "--precision", "bf16")
    return found


def start_up(models: dict[str, tuple[object, ...]], work: Path) -> list[str]:
    one = next(jpeg_images(work / "one", 1).iterdir())
    commands: dict[str, tuple[object, ...]] = {"sowa info": ("info",)}
    for name, model in models.items():
        commands[f"sowa predict, one image, {name}"] = ("predict", one, *model)
    lines = ["", "## From a cold start", "", "| command | s (rounds) | peak MiB |", "|---|---|---|"]
    told: dict[str, list[tuple[float, int]]] = {name: [] for name in commands}
    for round_ in range(ROUNDS):
        for name, arguments in commands.items():
            told[name].append(measured(work, f"start-{round_}-{name}", *arguments))
    for name, found in told.items():
        seconds = [one[0] for one in found]
        lines.append(
            f"| {name} | {np.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f}) "
            f"| {max(one[1] for one in found)} |"
        )
    return lines


def by_images(models: dict[str, tuple[object, ...]], work: Path, counts: list[int]) -> list[str]:
    title = "| images | model | s | images/s, start-up included | images/s beyond the first row | peak MiB |"
    lines = [
        "",
        "## Images: `sowa predict FOLDER --model M --json FILE`, batch 8",
        "",
        title,
        "|---|---|---|---|---|---|",
    ]
    first: dict[str, float] = {}
    for count in counts:
        folder = jpeg_images(work / f"images-{count}", count)
        for name, model in models.items():
            if count > 1000 and name != "openvino int8":
                continue  # one is enough to see whether memory grows
            flags = (*model, "--json", work / "scores.jsonl")
            seconds, peak = measured(work, f"images-{count}-{name}", "predict", folder, *flags)
            first.setdefault(name, seconds)
            beyond = f"{(count - counts[0]) / (seconds - first[name]):.1f}" if count > counts[0] else "–"
            lines.append(f"| {count} | {name} | {seconds:.1f} | {count / seconds:.1f} | {beyond} | {peak} |")
    return lines


def by_references(work: Path, counts: list[int]) -> list[str]:
    title = "| references | fit, s | peak MiB | file, MiB | predict 100, s | peak MiB | with faiss, s | peak MiB |"
    lines = ["", "## References: `sowa fit --normal FOLDER`, `sowa predict FOLDER`", "", title, "|---" * 8 + "|"]
    shown = jpeg_images(work / "images-100", 100)
    for count in counts:
        file = work / f"references-{count}.sowa"
        name, flags = f"references-{count}", ("predict", shown, "--model", file, "--json", work / "scores.jsonl")
        fit, fit_peak = measured(work, f"{name}-fit", "fit", "--normal", jpeg_images(work / name, count), "--out", file)
        judge, judge_peak = measured(work, f"{name}-exact", *flags)
        faiss, faiss_peak = measured(work, f"{name}-faiss", *flags, "--search", "faiss")
        size = file.stat().st_size // 2**20
        lines.append(
            f"| {count} | {fit:.1f} | {fit_peak} | {size} | {judge:.1f} | {judge_peak} | {faiss:.1f} | {faiss_peak} |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("build/scaling"))
    parser.add_argument("--images", default=COUNTS)
    parser.add_argument("--references", default=REFERENCES)
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    counts, references = ([int(n) for n in text.split(",")] for text in (arguments.images, arguments.references))
    work.mkdir(parents=True, exist_ok=True)
    models = detectors(work)
    text = [
        "# From files to scores, with `mini`",
        "",
        f"{stamp()} {torch.get_num_threads()} threads; JPEG images of {SIZE[1]} x {SIZE[0]}, four references.",
        "",
        f"    python benchmarks/scaling.py --images {arguments.images} --references {arguments.references}",
    ]
    parts = (
        lambda: start_up(models, work),
        lambda: by_images(models, work, counts),
        lambda: by_references(work, references),
    )
    for part in parts:
        text += part()
        (RESULTS / "scaling.md").write_text("\n".join([*text, ""]))


if __name__ == "__main__":
    main()

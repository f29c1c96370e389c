"""What precision costs: AUROC of the same detector in torch and exported, on real images.

    python benchmarks/exports.py --data DIR [--work DIR]

DIR as in few_shot.py. `mini`, four references, seed 0; exports as `sowa export` makes them, with its own comparison.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from few_shot import DATASETS, RESULTS, stamp, thinned
from numpy.typing import NDArray

from sowa import Sowa
from sowa.core.config import Settings
from sowa.core.types import ABNORMAL, NORMAL, Judgement, Sample
from sowa.data import load
from sowa.data.batches import read_batches
from sowa.data.images import read_mask_at
from sowa.data.sources import sample_sources
from sowa.detector.exported import ExportedSowa
from sowa.export import export
from sowa.metrics import PixelMetrics, image_metrics

SHOTS, BATCH = 4, 8
EXPORTS = (
    ("onnx", "fp32", "fp32"),
    ("onnx", "fp16", "fp32"),
    ("onnx", "int8", "fp32"),
    ("openvino", "fp32", "fp32"),
    ("openvino", "fp32", "bf16"),
    ("openvino", "int8", "fp32"),
    ("openvino", "int8", "bf16"),
    ("torch", "fp32", "fp32"),
)
Judge = Callable[[NDArray[np.uint8]], Judgement]


def in_torch(detector: Sowa) -> Judge:
    return lambda images: detector.judge(detector.encoder.encode(images)).numpy()


def contenders(file: Path, references: list[str], work: Path) -> dict[str, tuple[Judge, str]]:
    """Each with what its own comparison found."""
    original = Sowa.load(file, settings=Settings(precision="fp32"))
    found: dict[str, tuple[Judge, str]] = {"torch fp32": (in_torch(original), "–")}
    found["torch bf16"] = (in_torch(Sowa.load(file, settings=Settings(precision="bf16"))), "–")
    for format, precision, computed in EXPORTS:
        folder = work / f"{file.stem}-{format}-{precision}"
        if not (folder / "metadata.json").is_file():
            export(original, folder, format, precision, images=references)
        exported = ExportedSowa.load(folder, precision=computed)
        compared = exported.metadata.comparison
        name = f"{format} {precision}" + (", computed in bf16" if computed == "bf16" else "")
        found[name] = (exported.engine, f"{compared['raw_score']:.1e}, {compared['anomaly_map']:.1e}")
    return found


def measured(judge: Judge, samples: list[Sample], size: tuple[int, int]) -> tuple[float, float, NDArray[np.float32]]:
    """Image AUROC, pixel AUROC and raw scores (N,)."""
    wanted = sample_sources(samples)
    by_name = {str(sample.image_path): sample for sample in samples}
    scores: list[NDArray[np.float32]] = []
    pixels = PixelMetrics(image_rates=False)
    for batch in read_batches(wanted, size, BATCH, []):
        judged = judge(batch.images)
        scores.append(judged.raw_scores)
        for source, anomaly_map in zip(batch.sources, judged.maps, strict=True):
            pixels.update(anomaly_map, read_mask_at(by_name[source.name].mask_path, size))
    raw = np.concatenate(scores)
    labels = [int(sample.label == ABNORMAL) for sample in samples]
    image = image_metrics(raw.tolist(), labels).image_AUROC
    return float(image), float(pixels.compute().pixel_AUROC), raw


def rows(dataset: str, folder: str, category: str, data: Path, work: Path) -> list[str]:
    samples = thinned(load(dataset, data / folder, category))
    train = [str(s.image_path) for s in samples if s.split == "train" and s.label == NORMAL]
    test = [s for s in samples if s.split == "test"]
    detector = Sowa.from_pretrained("mini", settings=Settings(precision="fp32")).fit(train, k_shot=SHOTS)
    file = detector.save(work / f"{category}.sowa")
    lines = [
        "",
        f"## {category}: {len(test)} images",
        "",
        "| | image AUROC | pixel AUROC | raw score off (mean, largest) | label flips | comparison by `export` |",
        "|---|---|---|---|---|---|",
    ]
    base: tuple[float, float, NDArray[np.float32]] | None = None
    threshold = detector.calibration_.threshold
    for name, (judge, compared) in contenders(file, detector.references_, work).items():
        found = measured(judge, test, detector.image_size)
        base = found if base is None else base
        off = np.abs(found[2] - base[2]) / threshold
        flips = int(np.sum((found[2] > threshold) != (base[2] > threshold)))
        lines.append(
            f"| {name} | {found[0]:.4f} ({found[0] - base[0]:+.4f}) | {found[1]:.4f} ({found[1] - base[1]:+.4f}) "
            f"| {off.mean():.1e}, {off.max():.1e} | {flips} | {compared} |"
        )
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, default=Path("build/exports"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    text = [
        "# What precision costs",
        "",
        stamp(),
        "",
        "    python benchmarks/exports.py --data DATA",
        "",
        f"`mini`, {SHOTS} references, seed 0. In brackets: against torch in fp32. Differences of raw scores and maps",
        "are parts of the threshold; the last column is what the export's own comparison found on views of the",
        "references (score, map).",
    ]
    for dataset, folder, category in DATASETS:
        text += rows(dataset, folder, category, arguments.data, arguments.work)
        (RESULTS / "exports.md").write_text("\n".join([*text, ""]))


if __name__ == "__main__":
    main()

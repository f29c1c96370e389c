"""What comparing an image with itself is worth where there is no reference, by `mini`.

    python benchmarks/zero_shot.py --data DIR --corpus DIR

DIR as in few_shot.py, with ``auxiliary``; the corpus holds ``objects/<category>``, of which those held out of training
are taken, with generated damage on every second image. Adapters and prompts were trained on the
auxiliary data; generated products and the three data sets of few_shot.py were never seen. Up to fifty images of
either kind each.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from few_shot import DATASETS, RESULTS, stamp
from numpy.typing import NDArray
from references import AUXILIARY

from sowa import Sowa
from sowa.core.scoring import few_shot_scores, self_distances
from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data import list_images, load, read_image, resize_image
from sowa.metrics import image_metrics
from sowa.synthetic import CATEGORIES, DAMAGE_TYPES, damage, defect_types, generate

HOLD_OUT = Path(__file__).parents[1] / "pretrain" / "hold_out.txt"
STYLE, PIECES, MANY, BATCH, OBJECTS = 17_000_001, 12, 50, 8, 6
WEIGHTS = (0.0, 1.0, 2.0, 4.0)
Image = NDArray[np.uint8]
Labelled = Iterator[tuple[Image, bool]]


def generated(category: str, style: int) -> Labelled:
    """A product's images and whether each shows a defect."""
    kinds = defect_types(category)
    for piece in range(PIECES):
        yield generate(category, seed=piece, style_seed=style).image, False
        kind = kinds[piece % len(kinds)]
        yield generate(category, defect_type=kind, seed=PIECES + piece, style_seed=style).image, True


def objects(corpus: Path, size: tuple[int, int]) -> Labelled:
    """Photographs of things, every second one damaged."""
    for number, name in enumerate(HOLD_OUT.read_text().split("\n")):
        for index, path in enumerate(list_images(corpus / "objects" / name)[:OBJECTS] if name else ()):
            image = resize_image(read_image(path), size)
            kind = DAMAGE_TYPES[(number + index) % len(DAMAGE_TYPES)]
            yield (damage(image, kind, seed=index).image, True) if index % 2 else (image, False)


def real(samples: Sequence[Sample], size: tuple[int, int]) -> Labelled:
    for label in (NORMAL, ABNORMAL):
        of_label = [sample for sample in samples if sample.label == label]
        for index in np.unique(np.linspace(0, len(of_label) - 1, MANY).astype(int)):
            yield resize_image(read_image(of_label[index].image_path), size), label == ABNORMAL


def measure(detector: Sowa, sources: Labelled) -> dict[str, tuple[float, float]]:
    """Image AUROC and balanced accuracy at the boundary, of each weight and of the image's own patches alone."""
    images, labels = (np.stack(part) for part in zip(*sources, strict=True))
    published, own = list[float](), list[float]()
    _weigh(detector, 0.0)
    for start in range(0, len(images), BATCH):
        seen = detector.encoder.encode(images[start : start + BATCH])
        published += detector.judge(seen).raw_scores.tolist()
        own += few_shot_scores(self_distances(seen.patches)).tolist()
    told = {}
    for weight in WEIGHTS:
        scores = np.array(published) + weight * np.array(own)
        _weigh(detector, weight)
        above = scores > detector.zero_shot_calibration.threshold
        accuracy = 0.5 * (above[labels].mean() + (~above[~labels]).mean())
        told[f"{weight:g}"] = (float(image_metrics(scores, labels).image_AUROC), accuracy)
    return told | {"itself alone": (float(image_metrics(own, labels).image_AUROC), np.nan)}


def _weigh(detector: Sowa, weight: float) -> None:
    """Sets what an image's own patches count."""
    network = detector.encoder.network
    prompt = dataclasses.replace(network.config.prompt, self_weight=weight)
    network.config = dataclasses.replace(network.config, prompt=prompt)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--corpus", required=True, type=Path)
    arguments = parser.parse_args()
    detector = Sowa.from_pretrained("mini")
    size, data, shipped = detector.image_size, arguments.data, detector.encoder.network.config.prompt.self_weight
    products = [generated(name, STYLE + index) for index, name in enumerate(CATEGORIES)]
    rows: dict[str, list[Labelled]] = {f"{len(products)} generated products": products}
    rows["objects held out, damaged"] = [objects(arguments.corpus, size)]
    rows |= {name: [real(load("pairs", f"{data}/auxiliary", name), size)] for name in AUXILIARY}
    rows |= {name: [real(load(kind, f"{data}/{folder}", name), size)] for kind, folder, name in DATASETS}
    lines = []
    for name, parts in rows.items():
        found = [measure(detector, part) for part in parts]
        cells = [_cell([one[column] for one in found]) for column in found[0]]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    titles = [*(f"weight {weight:g}" for weight in WEIGHTS), "itself alone"]
    text = ["# An image compared with itself", "", stamp(), *__doc__.split("\n\n")[2].splitlines(), ""]
    text += ["    python benchmarks/zero_shot.py --data DATA --corpus CORPUS", ""]
    text += ["Image AUROC / balanced accuracy at the boundary that a detector without references has. Weight 0 is the"]
    text += [f"prompts alone, as published; {shipped:g} is what `mini` ships with.", ""]
    text += ["| | " + " | ".join(titles) + " |", "|---" * (len(titles) + 1) + "|", *lines]
    (RESULTS / "zero-shot.md").write_text("\n".join(text) + "\n")


def _cell(found: Sequence[tuple[float, float]]) -> str:
    auroc, accuracy = np.mean(found, axis=0)
    return f"{auroc:.3f}" + ("" if np.isnan(accuracy) else f" / {accuracy:.3f}")


if __name__ == "__main__":
    main()

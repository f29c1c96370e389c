"""Boxes without training against the components of true masks, beside the plain way: components above the threshold.

    python benchmarks/instances.py --data DIR

DIR as in few_shot.py. Four references. A box is right where it overlaps a component that no surer box has taken, with
an intersection over union of 0.3 or 0.5; components smaller than 0.00014 of the image don't count. Every second
generated image has a second defect. Constants of `sowa.detector.instances` were chosen on another product line
(style seed 12_000_001), on KolektorSDD, SDU fibre lay-up, glass edges and DeepPCB.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
from few_shot import DATASETS, RESULTS, stamp
from numpy.typing import NDArray

from sowa import Prediction, Sowa
from sowa.core.types import ABNORMAL, NORMAL
from sowa.data import load
from sowa.data.images import read_image, read_mask_at
from sowa.data.sampling import draw
from sowa.detector.instances import LEAST, instances
from sowa.detector.render import enlarge_mask
from sowa.synthetic import CATEGORIES, DAMAGE_TYPES, damage, defect_types, generate

STYLE, SHOTS, PER_DEFECT, GOOD = 12_000_002, 4, 2, 4  # a product line that nothing else generates
SEED, SECOND, THIRD = 2000, 100, 1000  # first pieces of the defects, of a second defect, and of good test images
REAL_GOOD, REAL_BAD = 30, 60  # test images of a real product at most
SPECK = 1.4e-4
OVERLAPS = (0.3, 0.5)

Boxes = tuple[NDArray[np.float64], NDArray[np.float64]]  # (n, 4) and how sure each is, (n,)
Shown = tuple[NDArray[np.uint8], NDArray[np.bool_]]  # an image and its mask


@dataclass
class Tally:
    """Of one way: ``boxes`` on defective images, true ``components``, ``right`` boxes for each overlap, ``false``
    boxes on each good image, and ``seconds`` for each image."""

    boxes: int = 0
    components: int = 0
    right: list[int] = field(default_factory=lambda: [0] * len(OVERLAPS))
    false: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def add(self, found: Boxes, true: NDArray[np.float64]) -> None:
        if not len(true):
            self.false.append(len(found[0]))
            return
        self.boxes, self.components = self.boxes + len(found[0]), self.components + len(true)
        for place, least in enumerate(OVERLAPS):
            self.right[place] += right(found, true, least)

    def cells(self) -> list[str]:
        shares = [(hits / max(self.boxes, 1), hits / max(self.components, 1)) for hits in self.right]
        values = [f"{value:.3f}" for p, r in shares for value in (p, r, 2 * p * r / max(p + r, 1e-9))]
        return [*values, f"{np.mean(self.false):.2f}", f"{1000 * np.mean(self.seconds):.1f}"]


def components(mask: NDArray[np.bool_], least: float = 0.0) -> NDArray[np.float64]:
    """Boxes (n, 4) of what is connected and covers ``least`` of the image."""
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    stats = stats[1:][stats[1:, cv2.CC_STAT_AREA] >= least * mask.size]
    return np.concatenate([stats[:, :2], stats[:, :2] + stats[:, 2:4]], axis=1).astype(np.float64)


def right(found: Boxes, true: NDArray[np.float64], least: float) -> int:
    """How many boxes overlap a component of their own, the surest choosing first."""
    left, hits = list(range(len(true))), 0
    for box in found[0][np.argsort(-found[1], kind="stable")]:
        overlaps = [overlap(box, true[index]) for index in left]
        if overlaps and max(overlaps) >= least:
            left.pop(int(np.argmax(overlaps)))
            hits += 1
    return hits


def overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    inside = np.prod((np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])).clip(min=0))
    return float(inside / (np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - inside))


def plain(prediction: Prediction, patches: float = 0.0) -> Boxes:
    """Components of the mask, but for those that cover fewer ``patches``; as sure as the map is high in them."""
    rows, columns = prediction.level_maps.shape[1:]
    mask = enlarge_mask(prediction.mask, prediction.image.shape[:2]) > 0
    corners = components(mask, patches / (rows * columns))
    high, wide = (of / at for of, at in zip(prediction.anomaly_map.shape, mask.shape, strict=True))
    sure = [
        prediction.anomaly_map[int(y1 * high) : int(y2 * high) + 1, int(x1 * wide) : int(x2 * wide) + 1].max()
        for x1, y1, x2, y2 in corners
    ]
    return corners, np.array(sure, np.float64)


def ours(prediction: Prediction) -> Boxes:
    found = instances(prediction)
    return found.xyxy.astype(np.float64), found.confidence.astype(np.float64)


WAYS: dict[str, Callable[[Prediction], Boxes]] = {
    "components": plain,
    f"components of {LEAST:g} patches and more": partial(plain, patches=LEAST),
    "instances": ours,
}


def generated(category: str) -> tuple[list[NDArray[np.uint8]], Iterator[Shown]]:
    """References, and test images with their masks."""

    def test() -> Iterator[Shown]:
        for piece in range(GOOD):
            made = generate(category, style_seed=STYLE, seed=THIRD + piece)
            yield made.image, made.mask
        for number, defect in enumerate(defect_types(category)):
            for piece in range(PER_DEFECT):
                made = generate(category, style_seed=STYLE, seed=SEED + SECOND * number + piece, defect_type=defect)
                image, mask = made.image, made.mask
                if piece % 2:
                    more = damage(image, DAMAGE_TYPES[(number + piece) % len(DAMAGE_TYPES)], seed=SECOND * number)
                    image, mask = more.image, mask | more.mask
                yield image, mask

    return [generate(category, style_seed=STYLE, seed=piece).image for piece in range(SHOTS)], test()


def real(dataset: str, root: str, category: str) -> tuple[list[NDArray[np.uint8]], Iterator[Shown]]:
    samples = load(dataset, root, category)

    def some(split: str, label: int, at_most: int) -> list[Shown]:
        found = [sample for sample in samples if sample.split == split and sample.label == label]
        images = [(read_image(s.image_path), s.mask_path) for s in draw(found, min(at_most, len(found)), 0)]
        return [(image, read_mask_at(mask, image.shape[:2])) for image, mask in images]

    references = [image for image, _ in some("train", NORMAL, SHOTS)]
    return references, iter(some("test", NORMAL, REAL_GOOD) + some("test", ABNORMAL, REAL_BAD))


def measure(
    detector: Sowa, references: Sequence[NDArray[np.uint8]], test: Iterator[Shown], tallies: dict[str, Tally]
) -> None:
    detector.fit(list(references))
    for image, mask in test:
        prediction, true = detector.predict(image)[0], components(mask, SPECK)
        for name, way in WAYS.items():
            started = time.perf_counter()
            found = way(prediction)
            tallies[name].seconds.append(time.perf_counter() - started)
            tallies[name].add(found, true)


def table(title: str, tallies: dict[str, Tally]) -> list[str]:
    images = len(next(iter(tallies.values())).seconds)
    lines = [f"## {title} ({images} images, {next(iter(tallies.values())).components} components)", ""]
    lines += ["| way | " + " | ".join(f"{n} at {o:g}" for o in OVERLAPS for n in ("precision", "recall", "F1"))]
    lines[-1] += " | boxes on a good image | ms per image |"
    lines += ["|---|" + "---|" * (3 * len(OVERLAPS) + 2)]
    return [*lines, *(f"| {name} | {' | '.join(tally.cells())} |" for name, tally in tallies.items()), ""]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    data = parser.parse_args().data
    detector = Sowa.from_pretrained("mini")
    text = ["# Boxes without training", "", stamp(), *__doc__.split("\n\n")[2].splitlines(), ""]
    text += ["    OMP_NUM_THREADS=1 python benchmarks/instances.py --data DATA", ""]
    made = {name: Tally() for name in WAYS}
    for category in CATEGORIES:
        measure(detector, *generated(category), made)
        print(category, made["instances"].cells(), flush=True)
    text += table("Generated products", made)
    for dataset, folder, category in DATASETS:
        tallies = {name: Tally() for name in WAYS}
        measure(detector, *real(dataset, f"{data}/{folder}", category), tallies)
        text += table(category, tallies)
        print(category, tallies["instances"].cells(), flush=True)
    (RESULTS / "instances.md").write_text("\n".join(text))


if __name__ == "__main__":
    main()

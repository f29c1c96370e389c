"""What looking at some of the tiles is worth: accuracy against the number of tiles, for several orders.

    OMP_NUM_THREADS=1 python benchmarks/glances.py --data DIR --work FOLDER

DIR holds visa/macaroni1 (VisA layout). Every image's tiles are encoded once and kept in FOLDER, then every order is a
replay; a run that was stopped goes on where it was. Generated products are of categories and style seeds that nothing
was learned or chosen on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from few_shot import RESULTS, stamp
from numpy.typing import NDArray

from sowa.core.config import Settings
from sowa.core.files import packaged, read_metadata
from sowa.core.types import NORMAL
from sowa.data import load, read_image, resize_image
from sowa.data.images import read_mask_at
from sowa.data.sampling import draw
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.extensions.glances.features import OVERVIEW_EVIDENCE
from sowa.extensions.glances.game import GlanceState, RecordedImage, ReplayState, TileOrder, load_recordings, play
from sowa.extensions.glances.policy import load_policy
from sowa.extensions.glances.references import FittedReferences
from sowa.extensions.glances.tiles import TileEncoder
from sowa.synthetic.large import ProductLine

REAL = "VisA macaroni1"  # whose rows are seeds
SIZE = (768, 1152)  # of macaroni1: 12 tiles
EVERY = 4  # so many test images of macaroni1 for one that is looked at
SEEDS = (0, 1, 2)
REFERENCES, PATCH_FRACTION = 4, 0.25  # as in training (pretrain/glances.py)
# The earlier products, and macaroni1, had been measured when the first layers were added; the untouched ones hadn't.
EARLIER = {9_200_001: "leather", 9_200_002: "bearing", 9_200_003: "ceramic_tile", 9_200_004: "connector"}
UNTOUCHED = {9_200_021: "ceramic_tile", 9_200_022: "connector", 9_200_023: "painted_steel", 9_200_024: "screw"}
# What had been measured of macaroni1 and of `EARLIER` before, with a third of the tiles at most.
EARLIER_RUN = (
    "macaroni1 and the products seen earlier had been measured before, by a policy that had learned on half as many",
    "products and knew nothing of the first layers. With a third of the tiles at most the image AUROC of macaroni1 |",
    "those products was 0.919 | 0.811 in the learned order (98.5 % | 90.9 % of that of all tiles), 0.824 | 0.797 in",
    "that of saliency, 0.891 | 0.842 in that of the overview's distances. First layers and products were then added by",
    "what they do on the products that the policy learned and was chosen on. Nothing was changed after that, so the",
    "untouched products are those to go by. Four further products had come to 0.931 with all tiles, to 0.910 | 0.924 |",
    "0.910 in those three orders; they weren't measured again.",
)
# How `sowa.extensions.glances.features.OVERVIEW_WEIGHT` was chosen.
CHOSEN = (
    "How much of an overview's distances counts where no tile is encoded was chosen on the 13 products that the policy",
    "had learned and was chosen on. With a third of the tiles the image AUROC (of small defects alone) in the order of",
    "the overview's distances was 0.895 (0.782) with all of it, 0.907 (0.816) with three quarters, as it is, and 0.909",
    "(0.821) with nothing; in that of saliency 0.873 (0.752), 0.885 (0.778) and 0.829 (0.688).",
)
IMAGES = 12  # of a generated product, normal ones, and as many anomalous
DRAWS = 3  # of random orders
RESAMPLED = 1000
SHARES = (1 / 12, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 3 / 4, 1)  # of the tiles
PART = SHARES.index(1 / 3)


def macaroni(data: str, work: Path) -> dict[int, list[RecordedImage]]:
    """Recordings of every fourth test image for each seed."""
    samples = load("visa", f"{data}/visa", "macaroni1")
    test = [sample for sample in samples if sample.split == "test"][::EVERY]
    names = [f"{index:03d}.safetensors" for index in range(len(test))]
    paths = {seed: [work / f"macaroni1-{seed}" / name for name in names] for seed in SEEDS}
    if not all(path.exists() for of in paths.values() for path in of):
        encoder = TileEncoder(TorchEncoder.from_pretrained("mini", settings=Settings(image_size=SIZE, tiled=True)))
        normal = [s.image_path for s in samples if s.split == "train" and s.label == NORMAL]
        drawn = [[resize_image(read_image(path), SIZE) for path in draw(normal, REFERENCES, seed)] for seed in SEEDS]
        fitted = [FittedReferences.fit(encoder, images, patch_fraction=PATCH_FRACTION) for images in drawn]
        for index, sample in enumerate(test):
            if all(of[index].exists() for of in paths.values()):
                continue
            image = read_image(sample.image_path)
            mask = read_mask_at(sample.mask_path, SIZE, image.shape[:2])
            encoded = encoder.encode(resize_image(image, SIZE))
            for seed, references in zip(SEEDS, fitted, strict=True):
                RecordedImage.of(references, encoded, mask).save(paths[seed][index])
    return {seed: [RecordedImage.load(path) for path in of] for seed, of in paths.items()}


def recordings(product: ProductLine, work: Path) -> list[RecordedImage]:
    """Of all test images of a generated product."""

    def references() -> FittedReferences:
        encoder = TileEncoder(
            TorchEncoder.from_pretrained("mini", settings=Settings(image_size=product.size, tiled=True))
        )
        images = [product.reference(index) for index in range(REFERENCES)]
        return FittedReferences.fit(encoder, images, patch_fraction=PATCH_FRACTION)

    paths = [work / product.name / f"{index:03d}.safetensors" for index in range(len(product))]
    return load_recordings(paths, references, product.image)


def at_random(seed: int) -> TileOrder:
    """Tiles as they are drawn. Each image draws anew, so give each its own seed."""
    rng = np.random.default_rng(seed)
    return lambda state: int(rng.choice(np.flatnonzero(state.available)))


def raster(state: GlanceState) -> int:
    """Row by row."""
    return int(state.available.argmax())


def highest(evidence: str) -> TileOrder:
    """By one of `OVERVIEW_EVIDENCE`, the highest first."""
    column = OVERVIEW_EVIDENCE.index(evidence)
    return lambda state: int(np.where(state.available, state.overview_evidence[:, column], -np.inf).argmax())


@dataclass(frozen=True)
class Point:
    """What an order comes to with so many tiles: the share ``tiles`` of them that it encoded, image AUROC, the share of
    the defects ``found`` in them; and of each anomalous image (rows) and each normal one whether it scores higher."""

    tiles: float
    auroc: float
    found: float
    higher: NDArray[np.float64] | None = None


def point(images: Sequence[RecordedImage], glances: int, orders: Sequence[TileOrder]) -> Point:
    """Of recorded images, each played in an order of its own."""
    states = [play(ReplayState(image, glances), order) for image, order in zip(images, orders, strict=True)]
    anomalous = np.array([image.anomalous for image in images])
    pairs = list(zip(images, states, strict=True))
    found = [image.shows_defect[state.order].any() for image, state in pairs if image.anomalous]
    tiles = np.mean([len(state.order) / len(image.layout) for image, state in pairs])
    scores = np.array([state.z_score for state in states])
    bad, good = scores[anomalous][:, None], scores[~anomalous][None]
    higher = (bad > good) + 0.5 * (bad == good)
    return Point(float(tiles), float(higher.mean()), float(np.mean(found)), higher)


def mean(points: Sequence[Point]) -> Point:
    tiles, auroc, found = np.mean([(one.tiles, one.auroc, one.found) for one in points], axis=0).tolist()
    return Point(tiles, auroc, found)


Curves = dict[str, list[Point]]
"""Points for each share of the tiles, of each order."""


def ahead(rows: Sequence[Curves], place: int, same: bool) -> tuple[float, float, float]:
    """Image AUROC of the learned order minus that of saliency, and between what it lies when images are drawn again:
    the middle nine tenths. ``same`` says that all rows are of the same images."""
    random = np.random.default_rng(0)
    parts = [np.asarray(row["learned"][place].higher) - np.asarray(row["saliency"][place].higher) for row in rows]
    parts = [np.mean(parts, axis=0)] if same else parts
    found = [
        np.mean([part[np.ix_(*(random.integers(n, size=n) for n in part.shape))].mean() for part in parts])
        for _ in range(RESAMPLED)
    ]
    low, high = np.quantile(found, (0.05, 0.95))
    return float(np.mean([part.mean() for part in parts])), float(low), float(high)


def curves(images: Sequence[RecordedImage]) -> Curves:
    """Points for each share of the tiles and each order."""
    policy = load_policy()
    orders: dict[str, TileOrder] = {
        "raster": raster,
        "saliency": highest("saliency_peak"),
        "overview's distances": highest("peak"),
        "first layers' distances": highest("early_peak"),
        "either's, the more unusual": highest("highest_peak"),
        "learned": policy.order(may_stop=False),
        "learned, may stop": policy.order(),
    }
    found: Curves = {"random": []}
    count = len(images[0].layout)
    for share in SHARES:
        glances = max(1, round(share * count))
        drawn = [[at_random(DRAWS * index + one) for index in range(len(images))] for one in range(DRAWS)]
        found["random"].append(mean([point(images, glances, each) for each in drawn]))
        for name, order in orders.items():
            found.setdefault(name, []).append(point(images, glances, [order] * len(images)))
    return found


def generated(categories: dict[int, str], work: Path) -> list[Curves]:
    """Curves of a product of each style seed and category, with 25 tiles and small defects alone."""
    products = [
        ProductLine(name, style, (1536, 1536), IMAGES, IMAGES, own_defects=False) for style, name in categories.items()
    ]
    return [curves(recordings(product, work)) for product in products]


def average(rows: Sequence[Curves]) -> Curves:
    return {name: [mean([row[name][place] for row in rows]) for place in range(len(SHARES))] for name in rows[0]}


def table(of: Curves, field: str) -> list[str]:
    lines = ["| order | " + " | ".join(f"{share:.0%}" for share in SHARES) + " |", "|---|" + "---|" * len(SHARES)]
    for name, points in of.items():
        cells = [f"{one.auroc:.3f}" if field == "auroc" else f"{one.found:.0%}" for one in points]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def section(title: str, rows: Sequence[Curves], same: bool) -> list[str]:
    of = average(rows)
    whole = of["raster"][-1].auroc
    kept = {name: points[PART].auroc / whole for name, points in of.items()}
    gains = [ahead(rows, place, same) for place in range(len(SHARES))]
    stops = of["learned, may stop"]
    return [
        "",
        f"## {title}",
        "",
        "Image AUROC for so many of the tiles at most:",
        "",
        *table(of, "auroc"),
        "| learned minus saliency | " + " | ".join(f"{gain:+.3f}" for gain, _, _ in gains) + " |",
        "| in nine of ten draws of as many images | "
        + " | ".join(f"{low:+.3f} to {high:+.3f}" for _, low, high in gains)
        + " |",
        "",
        "Share of the defects of which a tile was looked at that shows at least half as much as the best:",
        "",
        *table(of, "found"),
        "",
        "Where it may stop by itself it looked at " + ", ".join(f"{one.tiles:.0%}" for one in stops) + " of the tiles.",
        f"With a third of the tiles at most, of the image AUROC of all tiles ({whole:.3f}): "
        + ", ".join(f"{name} {share:.1%}" for name, share in kept.items())
        + ".",
    ]


def learning() -> list[str]:
    """The learning curve that the policy's file holds."""
    _, header = read_metadata(packaged("glances.safetensors"))
    lines = [
        "",
        "## Learning curve",
        "",
        f"{len(header['products'])} generated products; after each round of {header['learning']['steps']} glances, on "
        f"{len(header['held_out'])} other products",
        "with a third of the tiles at most. The best round by reward is the policy.",
        "",
        "| round | reward | glances | defects looked at | image AUROC | where it may not stop |",
        "|---|---|---|---|---|---|",
    ]
    for number, one in enumerate(header["curve"], start=1):
        lines.append(
            f"| {number} | {one['reward']:.3f} | {one['glances']:.1f} | {one['found']:.0%} | {one['image_AUROC']:.3f} "
            f"| {one['filled']:.3f} |"
        )
    return lines


def plot(parts: dict[str, Sequence[Curves]], path: Path) -> None:
    figure, axes = plt.subplots(2, len(parts), figsize=(5 * len(parts), 7), squeeze=False, layout="constrained")
    for column, (title, rows) in enumerate(parts.items()):
        for name, points in average(rows).items():
            for row, field in enumerate(("auroc", "found")):
                x, y = ([getattr(one, key) for one in points] for key in ("tiles", field))
                axes[row, column].plot(
                    x, y, marker="o", markersize=3, label=name, linewidth=2 if "learned" in name else 1
                )
        axes[0, column].set(title=title, ylabel="image AUROC")
        axes[1, column].set(xlabel="share of the tiles looked at", ylabel="share of the defects looked at")
    axes[1, -1].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def write(parts: dict[str, Sequence[Curves]]) -> None:
    text = ["# Looking at some of the tiles", "", stamp(), *__doc__.split("\n\n")[2].splitlines(), ""]
    text += ["    OMP_NUM_THREADS=1 python benchmarks/glances.py --data DATA --work WORK", ""]
    text += [
        f"Backbone mini, {REFERENCES} references without views, {PATCH_FRACTION:g} of their patches; mean of products, "
        "or of",
        f"seeds {SEEDS}. Of macaroni1 every {EVERY}th test image, {SIZE[0]} x {SIZE[1]} in 12 tiles.",
        "Scores are those of full tiling, where patches that no tile showed are filled from the overview. A generated",
        f"product has {IMAGES} normal and {IMAGES} anomalous images, so some hundredths of the AUROC are chance.",
        "",
        *EARLIER_RUN,
        "",
        *CHOSEN,
        "",
        "![accuracy against tiles](glances.png)",
    ]
    for title, rows in parts.items():
        text += section(title, rows, same=title == REAL)
    (RESULTS / "glances.md").write_text("\n".join([*text, *learning(), ""]))
    plot(parts, RESULTS / "glances.png")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--work", required=True, type=Path)
    arguments = parser.parse_args()
    real = macaroni(arguments.data, arguments.work)
    write(
        {
            REAL: [curves(images) for images in real.values()],
            "Generated, untouched": generated(UNTOUCHED, arguments.work),
            "Generated, seen earlier": generated(EARLIER, arguments.work),
        }
    )


if __name__ == "__main__":
    main()

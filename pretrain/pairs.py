"""Writes the image and mask pairs on which adapters and prompts are trained, all of which a business may use.

    python pretrain/pairs.py CORPUS DATA OUT HOLD_OUT

OUT gets a folder a category, with ``images`` and ``masks``, as ``sowa train --dataset pairs`` reads them: ball screws
(CC BY-SA 4.0), DeepPCB's tested boards and templates (MIT), generated products, and photographs of Caltech-101 (CC BY
4.0) with and without generated damage. A picture without a defect has an empty mask.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from boards import tested_boards
from episodes import SIZE, Image, images_of
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sowa.data import list_images, load, read_image, read_mask_at, resize_image
from sowa.synthetic import CATEGORIES, DAMAGE_TYPES, damage, defect_types, generate

STYLES = (20_000_001, 20_000_002)  # product lines that nothing else generates
GOOD, BAD = 4, 8  # images of a style
PHOTOGRAPHS = 400
GOOD_SHARE = 1 / 3  # of photographs

Pair = tuple[Image, NDArray[np.bool_]]


def ball_screws(data: Path) -> Iterator[Pair]:
    for sample in load("pairs", data / "auxiliary", "ballscrew"):
        image = read_image(sample.image_path)
        own = (image.shape[0], image.shape[1])
        yield image, read_mask_at(sample.mask_path, own, own)


def boards(data: Path) -> Iterator[Pair]:
    for image, template, mask in tested_boards(data / "deeppcb"):
        yield image, mask
        yield template, np.zeros_like(mask)


def products() -> Iterator[Pair]:
    for category in CATEGORIES:
        for style in STYLES:
            rng, types = np.random.default_rng([style, 3]), defect_types(category)
            for piece in range(GOOD + BAD):
                kind = None if piece < GOOD else types[piece % len(types)]
                severity = float(rng.uniform()) ** 1.5
                made = generate(category, size=SIZE, seed=piece, style_seed=style, defect_type=kind, severity=severity)
                yield made.image, made.mask


def photographs(paths: Sequence[Path], rng: Generator) -> Iterator[Pair]:
    for index in rng.permutation(len(paths))[:PHOTOGRAPHS]:
        image = resize_image(read_image(paths[index]), (SIZE, SIZE))
        if rng.uniform() < GOOD_SHARE:
            yield image, np.zeros((SIZE, SIZE), np.bool_)
        else:
            made = damage(image, str(rng.choice(DAMAGE_TYPES)), seed=int(rng.integers(1 << 31)))
            yield made.image, made.mask


def write(pairs: Iterable[Pair], folder: Path) -> None:
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, (image, mask) in enumerate(pairs):
        PillowImage.fromarray(image).save(folder / "images" / f"{number:04d}.png")
        PillowImage.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"{number:04d}.png")
    print(f"{folder}: {len(list_images(folder / 'images'))} pairs", flush=True)


def main(corpus: Path, data: Path, out: Path, hold_out: list[str]) -> None:
    write(ball_screws(data), out / "ballscrew")
    write(boards(data), out / "deeppcb")
    write(products(), out / "generated")
    write(photographs(images_of(corpus, data, hold_out)["objects"], np.random.default_rng(0)), out / "photographs")


if __name__ == "__main__":
    corpus, data, out, hold_out = (Path(argument) for argument in sys.argv[1:])
    main(corpus, data, out, hold_out.read_text().splitlines())

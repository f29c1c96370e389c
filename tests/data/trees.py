"""Small data sets on disk, in the exact layouts."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image


def image(path: Path, value: int = 90) -> Path:
    """An 8 x 6 image, its folders made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 6, 3), value, np.uint8)).save(path)
    return path


def mask(path: Path, value: int = 255) -> Path:
    """A mask with one pixel of ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 6), np.uint8)
    pixels[3, 3] = value
    Image.fromarray(pixels).save(path)
    return path


def originals(folder: Path, names: Iterable[str]) -> list[Path]:
    return [image(folder / name) for name in names]


def numbered(count: int, suffix: str = ".png") -> list[str]:
    return [f"{index:03d}{suffix}" for index in range(count)]


def mvtec(root: Path) -> Path:
    for category, suffix in (("bottle", ".png"), ("tile", ".JPG")):
        folder = root / category
        originals(folder / "train" / "good", numbered(5, suffix))
        originals(folder / "test" / "good", numbered(2, suffix))
        for defect, count in (("broken", 2), ("scratch", 1)):
            originals(folder / "test" / defect, numbered(count, suffix))
            for name in numbered(count, "_mask.png"):
                mask(folder / "ground_truth" / defect / name)
    (root / "readme.txt").write_text("licence")
    return root


def visa(root: Path) -> Path:
    for category in ("candle", "pcb1"):
        images, masks = root / category / "Data" / "Images", root / category / "Data" / "Masks" / "Anomaly"
        originals(images / "Normal", numbered(5, ".JPG"))
        originals(images / "Anomaly", numbered(3, ".JPG"))
        for index, name in enumerate(numbered(3)):
            mask(masks / name, index + 1)
    return root


def pairs(root: Path, good: int = 3) -> Path:
    """Images 0, 2, 4 are normal (empty mask), 1 and 3 anomalous."""
    for index, stem in enumerate("abcde"):
        image(root / "images" / f"{stem}.jpg")
        mask(root / "masks" / f"{stem}.png", index % 2)
    originals(root / "good", numbered(good))
    return root

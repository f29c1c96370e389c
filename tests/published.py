"""Small data sets on disk, in the layouts in which they are published, and what a loader is to find in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image


def write(folder: Path, *names: str, marked: int = 0) -> None:
    """8 x 6 images, black but for ``marked`` pixels: images, normal masks and masks."""
    folder.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((8, 6), np.uint8)
    pixels[2, :marked] = 255
    for name in names:
        Image.fromarray(pixels).save(folder / name)


def mpdd(root: Path, category: str = "tubes", kind: str = "anomalous") -> Path:
    folder = root / category
    write(folder / "train" / "good", "000.png", "001.png", "002.png")
    write(folder / "test" / "good", "000.png")
    write(folder / "test" / kind, "000.png", "001.png")
    write(folder / "ground_truth" / kind, "000_mask.png", "001_mask.png", marked=1)
    return root


def dtd_synthetic(root: Path) -> Path:
    return mpdd(root, "Woven_001", "bad")


def mvtec2(root: Path) -> Path:
    """An image that strayed among the folders of masks is none to test with."""
    can = root / "can"
    write(can / "train" / "good", "000_regular.png", "001_regular.png", "002_regular.png")
    write(can / "validation" / "good", "000_regular.png", "001_regular.png")
    write(can / "test_public" / "good", "000_regular.png")
    write(can / "test_public" / "bad", "000_overexposed.png")
    write(can / "test_public" / "ground_truth" / "bad", "000_overexposed_mask.png", marked=1)
    write(can / "test_public" / "ground_truth", "overview.png")
    write(can / "test_private", "000_regular.png", "001_regular.png")
    write(can / "test_private_mixed", "000_mixed.png")
    return root


def btad(root: Path) -> Path:
    for category, suffix, mask in (("01", ".bmp", ".png"), ("02", ".png", ".png"), ("03", ".bmp", ".bmp")):
        write(root / category / "train" / "ok", f"0000{suffix}", f"0001{suffix}")
        write(root / category / "test" / "ok", f"0002{suffix}")
        write(root / category / "test" / "ko", f"0000{suffix}", f"0003{suffix}")
        write(root / category / "ground_truth" / "ko", f"0000{mask}", f"0003{mask}", marked=1)
    return root


def dagm(root: Path) -> Path:
    for split, first in (("Train", 576), ("Test", 1)):
        folder = root / "Class1" / split
        numbers = range(first, first + 4)
        write(folder, *(f"{number:04d}.PNG" for number in numbers))
        write(folder / "Label", f"{first + 1:04d}_label.PNG", marked=3)
        rows = [f"{n}\t0\t{n:04d}.PNG\t0\t0" for n in numbers]
        rows[1] = f"{first + 1}\t1\t{first + 1:04d}.PNG\t1\t{first + 1:04d}_label.PNG"
        (folder / "Label" / "Labels.txt").write_text("\n".join(["1", *rows, ""]), encoding="utf-8-sig", newline="\r\n")
    return root


def kolektor(root: Path) -> Path:
    """Part1 of either commutator is anomalous."""
    for item in ("kos01", "kos02"):
        write(root / "KolektorSDD" / item, "Part0.jpg", "Part1.jpg", "Part2.jpg", "Part0_label.bmp", "Part2_label.bmp")
        write(root / "KolektorSDD" / item, "Part1_label.bmp", marked=2)
    return root


def kolektor2(root: Path) -> Path:
    """The first image of either split is anomalous; the stray copies are in the published archive."""
    for split, first in (("train", 10000), ("test", 20000)):
        folder = root / "KolektorSDD2" / split
        write(folder, *(f"{first + n}.png" for n in range(3)), f"{first + 1}_GT.png", f"{first + 2}_GT.png")
        write(folder, f"{first}_GT.png", marked=1)
    write(root / "KolektorSDD2" / "train", "10001 (copy).png", "10001_GT (copy).png")
    return root


def magnetic_tile(root: Path) -> Path:
    tiles = root / "tiles"
    write(tiles / "MT_Free" / "Imgs", "exp1_num_1.jpg", "exp1_num_2.jpg", "exp2_num_1.jpg", "exp1_num_1.png")
    for kind in ("Blowhole", "Break", "Crack", "Fray", "Uneven"):
        write(tiles / f"MT_{kind}" / "Imgs", "exp1_num_7.jpg", "exp3_num_7.jpg")
        write(tiles / f"MT_{kind}" / "Imgs", "exp1_num_7.png", "exp3_num_7.png", marked=1)
    return root


TREES: dict[str, Callable[[Path], Path]] = {
    "mpdd": mpdd,
    "dtd-synthetic": dtd_synthetic,
    "mvtec2": mvtec2,
    "btad": btad,
    "dagm": dagm,
    "kolektor": kolektor,
    "kolektor2": kolektor2,
    "magnetic-tile": magnetic_tile,
}
# per data set: its categories, the counts of the first one, and that one's last anomalous sample below its folder
WHOLE = {
    "mpdd": (
        ["tubes"],
        {("train", 0): 3, ("test", 0): 1, ("test", 1): 2},
        ("test/anomalous/001.png", "ground_truth/anomalous/001_mask.png", "test", "anomalous"),
    ),
    "dtd-synthetic": (
        ["Woven_001"],
        {("train", 0): 3, ("test", 0): 1, ("test", 1): 2},
        ("test/bad/001.png", "ground_truth/bad/001_mask.png", "test", "bad"),
    ),
    "mvtec2": (
        ["can"],
        {("train", 0): 3, ("validation", 0): 2, ("test", 0): 1, ("test", 1): 1, ("test", None): 3},
        (
            "test_public/bad/000_overexposed.png",
            "test_public/ground_truth/bad/000_overexposed_mask.png",
            *("test", "bad"),
        ),
    ),
    "btad": (
        ["01", "02", "03"],
        {("train", 0): 2, ("test", 0): 1, ("test", 1): 2},
        ("test/ko/0003.bmp", "ground_truth/ko/0003.png", "test", "ko"),
    ),
    "dagm": (
        ["Class1"],
        {("train", 0): 3, ("train", 1): 1, ("test", 0): 3, ("test", 1): 1},
        ("Test/0002.PNG", "Test/Label/0002_label.PNG", "test", None),
    ),
    "kolektor": (
        ["KolektorSDD"],
        {("train", 0): 2, ("test", 0): 2, ("test", 1): 2},
        ("kos02/Part1.jpg", "kos02/Part1_label.bmp", "test", None),
    ),
    "kolektor2": (
        ["KolektorSDD2"],
        {("train", 0): 2, ("train", 1): 1, ("test", 0): 2, ("test", 1): 1},
        ("test/20000.png", "test/20000_GT.png", "test", None),
    ),
    "magnetic-tile": (
        ["tiles"],
        {("train", 0): 2, ("test", 0): 1, ("test", 1): 10},
        ("MT_Uneven/Imgs/exp3_num_7.jpg", "MT_Uneven/Imgs/exp3_num_7.png", "test", "Uneven"),
    ),
}

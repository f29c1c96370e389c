"""Scenes for the text queries of ``detection.py``: shapes and things cut out of photographs, on generated surfaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sowa.data import draw, list_images, read_image
from sowa.synthetic.scenes import COLOURS, Inventory, write_scenes

KINDS = {
    "motorbike": "motorbikes",
    "chair": "chair",
    "cup": "cup",
    "butterfly": "butterfly",
    "camera": "camera",
    "cellphone": "cellphone",
    "piano": "grand piano",
    "pizza": "pizza",
}
EDGE, ROUNDS = 6, 4  # pixels around a photograph that are background, and rounds of GrabCut
FILLED = (0.15, 0.8)  # part of the photograph that a thing fills, if it was cut out well
TRAIN_SHARE = 0.67  # of a kind's photographs; the test's are others
UNSEEN_SHARE = 0.2  # of all pairs of colour and kind


def cut_out(image: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """RGBA, cut to the thing; None where what GrabCut finds isn't one."""
    height, width = image.shape[:2]
    mask = np.zeros((height, width), np.uint8)
    cv2.setRNGSeed(0)
    frame, model = (EDGE, EDGE, width - 2 * EDGE, height - 2 * EDGE), np.zeros((1, 65))
    cv2.grabCut(image[..., ::-1].copy(), mask, frame, model, model.copy(), ROUNDS, cv2.GC_INIT_WITH_RECT)
    count, parts, stats, _ = cv2.connectedComponentsWithStats((mask % 2).astype(np.uint8))
    if count < 2:
        return None
    largest = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    x, y, across, down, area = stats[largest]
    if not FILLED[0] <= area / mask.size <= FILLED[1]:
        return None
    alpha = cv2.GaussianBlur((parts == largest).astype(np.float32), (0, 0), 0.8)
    rgba = np.concatenate([image, np.round(alpha * 255).astype(np.uint8)[..., None]], axis=2)
    return rgba[y : y + down, x : x + across]


def inventories(corpus: Path) -> tuple[Inventory, Inventory]:
    """What training scenes are made of, and what test scenes are: other photographs of the same kinds."""
    sides: tuple[dict[str, list[NDArray[np.uint8]]], ...] = ({}, {})
    for kind, folder in KINDS.items():
        found = [
            cut for path in list_images(corpus / "objects" / folder) if (cut := cut_out(read_image(path))) is not None
        ]
        count = round(TRAIN_SHARE * len(found))
        sides[0][kind], sides[1][kind] = found[:count], found[count:]
    return Inventory(sides[0]), Inventory(sides[1])


def unseen_pairs(kinds: Sequence[str], seed: int) -> list[tuple[str, str]]:
    """Pairs of colour and kind that training never shows."""
    pairs = [(colour, kind) for colour in COLOURS for kind in kinds]
    return draw(pairs, round(UNSEEN_SHARE * len(pairs)), seed)


def write(root: Path, corpus: Path, counts: dict[str, int], seed: int) -> list[tuple[str, str]]:
    """Writes all splits, unless they are there; the pairs that training never shows."""
    training, testing = inventories(corpus)
    unseen = unseen_pairs(training.kinds, seed)
    if not (root / "annotations" / "test.json").exists():
        shown = {split: count for split, count in counts.items() if split != "test"}
        write_scenes(root, training, shown, seed=seed, unseen=unseen)
        write_scenes(root, testing, {"test": counts["test"]}, seed=seed + 900_000, unseen=unseen)
    return unseen

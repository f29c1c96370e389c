"""DeepPCB with masks: its boxes say where a tested board differs from its template."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sowa.data import read_image

CHANGED = 60  # grey levels by which a defect differs from the template

Board = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]


def tested_boards(root: Path) -> Iterator[Board]:
    """Each tested board, its template, and the mask (H, W) of its defects.

    Args:
        root: DeepPCB's folder.
    """
    for boxes in sorted(root.rglob("*_not/*.txt")):
        board = boxes.parent.with_name(boxes.parent.name.removesuffix("_not")) / boxes.stem
        tested, template = (read_image(board.with_name(f"{board.name}_{kind}.jpg")) for kind in ("test", "temp"))
        inside = np.zeros(tested.shape[:2], np.bool_)
        for left, top, right, bottom, _ in np.loadtxt(boxes, np.int64, ndmin=2):
            inside[top:bottom, left:right] = True
        yield tested, template, inside & (np.abs(tested.astype(np.int16) - template).max(axis=-1) > CHANGED)

"""Images with boxes around named things, in the layouts that users have: COCO, YOLO, DeepPCB."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sowa.data.boxes.coco import load_coco
from sowa.data.boxes.deeppcb import load_deeppcb
from sowa.data.boxes.sample import BoxSample, BoxSet
from sowa.data.boxes.yolo import load_yolo
from sowa.data.layout import unknown

BOX_FORMATS: dict[str, Callable[[Path], BoxSet]] = {"coco": load_coco, "yolo": load_yolo, "deeppcb": load_deeppcb}

__all__ = ["BOX_FORMATS", "BoxSample", "BoxSet", "load_boxes"]


def load_boxes(dataset: str, root: str | Path) -> BoxSet:
    """The images and boxes of a data set.

    Args:
        dataset: One of `BOX_FORMATS`.
        root: Its folder or file, see the format's module.

    Raises:
        InputError: an unknown format (the message lists what exists), or what the format's module says.
    """
    if dataset not in BOX_FORMATS:
        raise unknown("dataset", dataset, BOX_FORMATS)
    return BOX_FORMATS[dataset](Path(root))

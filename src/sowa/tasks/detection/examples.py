"""Images with boxes as training and evaluation see them: encoded once, in every view.

Shapes: N images, n boxes of an image, L levels, P = h * w patches, D vision width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.progress import Report, silent
from sowa.data.boxes import BoxSample
from sowa.data.sources import ImageSource
from sowa.errors import InputError
from sowa.tasks.encoding import Encoded, LevelEncoder

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """Another way to see images.

    Attributes:
        images: (B, H, W, 3) to what is seen.
        boxes: Where boxes (n, 4) lie then; in parts of the image.
    """

    images: Callable[[Images], Images]
    boxes: Callable[[Tensor], Tensor]


PLAIN = View(lambda images: images, lambda boxes: boxes)
HFLIP = View(lambda images: images[:, :, ::-1], lambda b: torch.stack([1 - b[:, 2], b[:, 1], 1 - b[:, 0], b[:, 3]], 1))
VFLIP = View(lambda images: images[:, ::-1], lambda b: torch.stack([b[:, 0], 1 - b[:, 3], b[:, 2], 1 - b[:, 1]], 1))
HALF = View(lambda images: images[:, ::-1, ::-1], lambda b: 1 - b[:, [2, 3, 0, 1]])
LEFT = View(
    lambda images: np.rot90(images, 1, (1, 2)), lambda b: torch.stack([b[:, 1], 1 - b[:, 2], b[:, 3], 1 - b[:, 0]], 1)
)
RIGHT = View(
    lambda images: np.rot90(images, 3, (1, 2)), lambda b: torch.stack([1 - b[:, 3], b[:, 0], 1 - b[:, 1], b[:, 2]], 1)
)
VIEWS = {"hflip": (HFLIP,), "vflip": (VFLIP,), "rotate90": (LEFT, RIGHT), "rotate180": (HALF,)}


@dataclass(frozen=True)
class EncodedView:
    """N images in one view.

    Attributes:
        tokens: L times (N, P, D) in half precision.
        reference: Those of the references, likewise.
        boxes: Of each image, (n, 4) in patches.
    """

    tokens: tuple[Tensor, ...]
    reference: tuple[Tensor, ...] | None
    boxes: tuple[Tensor, ...]


@dataclass(frozen=True)
class Examples:
    """Images with boxes, encoded.

    Attributes:
        samples: Those that could be read.
        views: What each view shows of them.
        grid: (h, w) patches.
        skipped: Those that couldn't be read, and why.
    """

    samples: tuple[BoxSample, ...]
    views: tuple[EncodedView, ...]
    grid: tuple[int, int]
    skipped: tuple[tuple[str, str], ...]


def check_views(names: Sequence[str], image_size: tuple[int, int]) -> tuple[View, ...]:
    """The views that names stand for, the plain one first.

    Args:
        names: Of `VIEWS`.
        image_size: (H, W) in pixels at which images are seen.

    Raises:
        InputError: an unknown name, or a quarter turn of images that aren't seen as squares.
    """
    for name in names:
        if name not in VIEWS:
            raise InputError(f"augment is {name!r}, allowed are none, or some of {','.join(VIEWS)}")
    if "rotate90" in names and image_size[0] != image_size[1]:
        raise InputError(
            f"rotate90 needs images that are seen as squares, but image size is {image_size[0]} x {image_size[1]}; "
            "leave it out"
        )
    return (PLAIN, *(view for name in dict.fromkeys(names) for view in VIEWS[name]))


def encode_examples(
    encoder: LevelEncoder,
    samples: Sequence[BoxSample],
    views: Sequence[View] = (PLAIN,),
    reference: bool = False,
    batch_size: int = 8,
    report: Report = silent,
) -> Examples:
    """Encodes all images in all views, and their references where these are asked for.

    Args:
        encoder: That reads them.
        samples: The images.
        views: As of `check_views`.
        reference: Whether references are encoded too.
        batch_size: So many images are encoded at once.
        report: Told of the progress.

    Raises:
        InputError: an image has no reference, or none can be read.
    """
    if reference and (bare := [sample for sample in samples if sample.reference is None]):
        raise InputError(f"{bare[0].image_path} has no reference; leave --reference out, or use data that has them")
    good, skipped = _readable(samples, reference)
    if not good:
        first = skipped[0][1] if skipped else "there is none in this split"
        raise InputError(f"none of {len(samples)} images can be read; first problem: {first}")
    total, done = len(views) * (2 if reference else 1) * len(good), 0

    def encode(images: Sequence[ImageSource], view: View) -> Encoded:
        nonlocal done
        before = done
        encoded = encoder.encode(
            images, batch_size, lambda _, count, __: report("encode", before + count, total), view.images
        )
        done += len(images)
        return encoded

    encoded_views = []
    for view in views:
        tested = encode([ImageSource(str(s.image_path), s.image_path) for s in good], view)
        plain = (
            [ImageSource(str(s.reference), s.reference) for s in good if s.reference is not None] if reference else []
        )
        beside = encode(plain, view).tokens if reference else None
        encoded_views.append(
            EncodedView(tested.tokens, beside, tuple(_in_patches(s, view, encoder.grid) for s in good))
        )
    return Examples(tuple(good), tuple(encoded_views), encoder.grid, tuple(skipped))


def _readable(samples: Sequence[BoxSample], reference: bool) -> tuple[list[BoxSample], list[tuple[str, str]]]:
    """Those whose images can be read, and the reasons of the others: all views must have the same images."""
    good, skipped = [], []
    for sample in samples:
        try:
            for path in (sample.image_path, sample.reference if reference else None):
                if path is not None:
                    ImageSource(str(path), path).read()
            good.append(sample)
        except InputError as error:
            skipped.append((str(sample.image_path), str(error)))
    return good, skipped


def _in_patches(sample: BoxSample, view: View, grid: tuple[int, int]) -> Tensor:
    height, width = sample.size
    boxes = torch.tensor(sample.boxes, dtype=torch.float32).reshape(-1, 4)
    parts = view.boxes(boxes / torch.tensor([width, height, width, height]))
    return parts * torch.tensor([grid[1], grid[0], grid[1], grid[0]])

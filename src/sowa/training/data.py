"""What adapters and prompts are trained on: which images are held out, and the batch of every step.

Shapes: B images, H x W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.types import ABNORMAL, Sample
from sowa.data import read_image, read_mask_at, resize_image
from sowa.data.sampling import draw
from sowa.errors import InputError
from sowa.training.config import TrainConfig

TRIES = 10  # images that can't be read, before training gives up
# Image, mask, and whether it's anomalous: a small defect may vanish from the mask when it's shrunk.
_Item = tuple[NDArray[np.uint8], NDArray[np.bool_], int]


def hold_out(samples: Sequence[Sample], config: TrainConfig) -> tuple[list[Sample], list[Sample]]:
    """Images to train on and images to validate on, drawn by category and label so that both hold both kinds.

    Args:
        samples: Labelled images.
        config: For protocol, fraction and seed. "paper" trains on the whole split "test", as the paper does, and
            validates on nothing.

    Raises:
        InputError: no anomalous image with a mask is left to train on.
    """
    usable = [s for s in samples if s.label is not None and (s.label != ABNORMAL or s.mask_path)]
    if config.protocol == "paper":
        training, held_out = [sample for sample in usable if sample.split == "test"], []
    else:
        training, held_out = list[Sample](), list[Sample]()
        for kind in dict.fromkeys((sample.category, sample.label) for sample in usable):
            group = [sample for sample in usable if (sample.category, sample.label) == kind]
            drawn = draw(group, len(group), config.seed)
            count = round(config.validation_fraction * len(drawn))
            training, held_out = training + drawn[count:], held_out + drawn[:count]
    if not any(sample.label == ABNORMAL for sample in training):
        raise InputError(
            f"{len(training)} images to train on and none is anomalous with a mask; give a data set with masks"
        )
    return training, held_out


class Loader:
    """The batch of any step, from the seed and the step's number alone.

    Args:
        samples: Images to train on.
        size: (H, W) in pixels of what comes out.
        config: For batch size, mosaic and seed.
        skipped: Takes the name of every image that can't be read, and why.
    """

    def __init__(
        self, samples: Sequence[Sample], size: tuple[int, int], config: TrainConfig, skipped: list[tuple[str, str]]
    ) -> None:
        self.samples, self.size, self.config, self.skipped = samples, size, config, skipped
        self.steps_per_epoch = -(-len(samples) // config.batch_size)
        self.by_category: dict[str, list[Sample]] = {}
        for sample in samples:
            self.by_category.setdefault(sample.category, []).append(sample)

    def batch(self, step: int) -> tuple[NDArray[np.uint8], Tensor, Tensor, list[str]]:
        """Images (B, H, W, 3) uint8, masks (B, H, W) 0 or 1, labels (B,) 0 or 1, categories."""
        size = self.config.batch_size
        epoch, place = divmod(step, self.steps_per_epoch)
        order = draw(range(len(self.samples)), len(self.samples), self.config.seed + epoch)
        random = np.random.default_rng([self.config.seed, step])
        samples = [self.samples[index] for index in order[place * size : (place + 1) * size]]
        items = [self._item(sample, random) for sample in samples]
        images, masks, labels = zip(*items, strict=True)
        categories = [sample.category for sample in samples]
        return np.stack(images), torch.from_numpy(np.stack(masks)).float(), torch.tensor(labels), categories

    def _item(self, sample: Sample, random: np.random.Generator) -> _Item:
        if random.random() >= self.config.mosaic:
            return self._readable(sample, self.size, random)
        # A mosaic of 2 x 2 images of one category, each drawn anew (METHOD.md section 5).
        top, left = self.size[0] // 2, self.size[1] // 2
        image, mask, label = np.zeros((*self.size, 3), np.uint8), np.zeros(self.size, bool), 0
        for rows in (slice(0, top), slice(top, None)):
            for columns in (slice(0, left), slice(left, None)):
                tile = mask[rows, columns]
                chosen = self._any_of(sample.category, random)
                size = (tile.shape[0], tile.shape[1])
                image[rows, columns], tile[:], anomalous = self._readable(chosen, size, random)
                label |= anomalous
        return image, mask, label

    def _readable(self, sample: Sample, size: tuple[int, int], random: np.random.Generator) -> _Item:
        """The image, or another one of its category in place of a broken one."""
        for _ in range(TRIES):
            item = try_read(sample, size, self.skipped)
            if item:
                return (*item, int(sample.label == ABNORMAL))
            sample = self._any_of(sample.category, random)
        raise InputError(f"{TRIES} images in a row can't be read; last problem: {self.skipped[-1][1]}")

    def _any_of(self, category: str, random: np.random.Generator) -> Sample:
        group = self.by_category[category]
        return group[int(random.integers(len(group)))]


def try_read(
    sample: Sample, size: tuple[int, int], skipped: list[tuple[str, str]]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]] | None:
    """Image and mask of a sample, (H, W, 3) uint8 and (H, W) bool; None where one is broken.

    Args:
        sample: The image.
        size: (H, W) in pixels.
        skipped: Takes the name of what is broken, and why, once.
    """
    try:
        image = read_image(sample.image_path)
        return resize_image(image, size), read_mask_at(sample.mask_path, size, (image.shape[0], image.shape[1]))
    except InputError as error:
        reason = (str(sample.image_path), str(error))
        if reason not in skipped:
            skipped.append(reason)
        return None

"""What a classifier keeps of images: their class features, and the tokens of all levels on a coarse grid.

Shapes: N images, L levels, S x S windows' grid, E joint width, D vision width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.core.progress import Report, silent
from sowa.data.sources import ImageSource
from sowa.errors import InputError
from sowa.tasks.encoding import LevelEncoder

SIDES = (6, 3)  # of the coarse grid, which windows of three divide
CHUNK = 64  # images whose tokens are held in full at a time


@dataclass(frozen=True)
class PooledFeatures:
    """What was seen of N images.

    Attributes:
        features: (N, E), unit vectors.
        tokens: (L, N, S * S, D) in half precision.
        kept: Places of those that could be read.
        skipped: The others, with the reason.
    """

    features: Tensor
    tokens: Tensor
    kept: tuple[int, ...]
    skipped: tuple[tuple[str, str], ...] = ()

    def take(self, places: Sequence[int]) -> PooledFeatures:
        """Some of the images, in that order."""
        return PooledFeatures(
            self.features[list(places)], self.tokens[:, list(places)], tuple(self.kept[p] for p in places)
        )


def side_of(grid: tuple[int, int]) -> int:
    """The side S of the coarse grid for a grid of patches (h, w)."""
    return next((side for side in SIDES if min(grid) >= side), min(grid))


def coarsen(tokens_NPD: Tensor, grid: tuple[int, int]) -> Tensor:
    """Means of neighbouring tokens, (N, S * S, D).

    Args:
        tokens_NPD: (N, P, D).
        grid: (h, w) with h * w = P.
    """
    side = side_of(grid)
    maps = tokens_NPD.float().transpose(1, 2).unflatten(2, grid)
    return F.adaptive_avg_pool2d(maps, (side, side)).flatten(2).transpose(1, 2)


def encode_pooled(
    encoder: LevelEncoder, images: Sequence[ImageSource], batch_size: int = 8, report: Report = silent
) -> PooledFeatures:
    """Encodes images once.

    Args:
        encoder: That reads them.
        images: Not yet read.
        batch_size: So many are encoded at once.
        report: Told of the progress.

    Raises:
        InputError: none can be read.
    """
    parts: list[PooledFeatures] = []
    for start in range(0, len(images), CHUNK):
        parts.append(encode_chunk(encoder, images[start : start + CHUNK], batch_size))
        report("look at images", min(start + CHUNK, len(images)), len(images))
    skipped = tuple(each for part in parts for each in part.skipped)
    kept = tuple(number * CHUNK + place for number, part in enumerate(parts) for place in part.kept)
    if not kept:
        why = skipped[0][1] if skipped else "there is none"
        raise InputError(f"none of {len(images)} images can be read; first problem: {why}")
    features = torch.cat([part.features for part in parts])
    return PooledFeatures(features, torch.cat([part.tokens for part in parts], dim=1), kept, skipped)


def encode_chunk(encoder: LevelEncoder, images: Sequence[ImageSource], batch_size: int) -> PooledFeatures:
    """The same of so few images that all their tokens can be held; of none where none can be read.

    Args:
        encoder: That reads them.
        images: Not yet read.
        batch_size: So many are encoded at once.
    """
    encoded = encoder.encode(images, batch_size)
    tokens = torch.stack([coarsen(level, encoded.grid).half() for level in encoded.tokens])
    return PooledFeatures(F.normalize(encoded.features, dim=-1), tokens, encoded.kept, encoded.skipped)

"""Features of images that are asked for more than once."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from sowa.core.types import Features
from sowa.encoders.base import Encoder


class Encoded:
    """Features of images, each batch encoded once, known by its pixels.

    Args:
        encoder: What encodes them.
        category: Whose prompts are used; by default that of the encoder's settings.
    """

    def __init__(self, encoder: Encoder, category: str | None = None) -> None:
        self.encoder, self.category = encoder, category
        self._features: dict[bytes, Features] = {}

    def __call__(self, images: NDArray[np.uint8]) -> Features:
        """Of images (B, H, W, 3) uint8; they are kept."""
        key = _key(images)
        if key not in self._features:
            self._features[key] = self._encode(images)
        return self._features[key]

    def take(self, images: NDArray[np.uint8]) -> Features:
        """As before, for the last time: they are kept no longer, or not at all."""
        return self._features.pop(_key(images), None) or self._encode(images)

    def _encode(self, images: NDArray[np.uint8]) -> Features:
        return self.encoder.encode(images, categories=self.category and [self.category] * len(images))


def _key(images: NDArray[np.uint8]) -> bytes:
    return sha256(f"{images.shape}".encode() + images.tobytes()).digest()

"""Encoded images in a folder, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.files import make_folder, read_safetensors, write_safetensors
from sowa.encoders.base import Encoder
from sowa.errors import InputError

FORMAT = "sowa-features"


class FeatureFolder:
    """Unit vectors (L, P, E) of images (H, W, 3) uint8 as one encoder sees them, in 16 bits, a file each.

    A file's name is the hash of the pixels and of everything that their vectors depend on, so a folder may serve any
    encoders and products, and nothing is ever mixed.

    Args:
        folder: Is made where it isn't there.
        encoder: Whose vectors they are.

    Raises:
        InputError: the folder can't be made.
    """

    def __init__(self, folder: Path, encoder: Encoder) -> None:
        make_folder(folder)
        self.folder = folder
        depends_on = (encoder.identity, encoder.image_size, encoder.settings.tiled, encoder.precision)
        self.encoder_key = repr(depends_on).encode()
        self.shape = (encoder.levels, math.prod(encoder.grid), encoder.width)

    def read(self, image: NDArray[np.uint8]) -> Tensor | None:
        """The image's vectors, None where they aren't there or the file is broken."""
        try:
            tensors, _ = read_safetensors(self._path(image), FORMAT)
        except InputError:
            return None
        unit_LPE = tensors.get("features", torch.empty(0))
        return unit_LPE if unit_LPE.shape == self.shape and bool(unit_LPE.isfinite().all()) else None

    def write(self, image: NDArray[np.uint8], unit_LPE: Tensor) -> None:
        """Keeps the image's vectors.

        Args:
            image: (H, W, 3) uint8.
            unit_LPE: Its unit vectors, (L, P, E).

        Raises:
            InputError: the file can't be written.
        """
        write_safetensors(self._path(image), {"features": unit_LPE.cpu().contiguous()}, FORMAT, {})

    def _path(self, image: NDArray[np.uint8]) -> Path:
        return self.folder / f"{hashlib.sha256(self.encoder_key + image.tobytes()).hexdigest()[:32]}.safetensors"

"""References of generated wood, encoded by a tiny backbone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sowa
from sowa.core.config import Settings
from sowa.data import read_image, resize_image
from sowa.extensions.glances.references import FittedReferences
from sowa.extensions.glances.tiles import TileEncoder

SIZE = (96, 128)  # of the tiny backbone's 64: 2 x 3 tiles, 6 x 8 patches


@pytest.fixture(scope="session")
def wood(normal: Path) -> list[np.ndarray]:
    """Six normal images; the first three are references."""
    return [resize_image(read_image(path), SIZE) for path in sorted(normal.iterdir())]


@pytest.fixture(scope="session")
def tiled(tiny_backbone: str, wood: list[np.ndarray]) -> sowa.Sowa:
    """A tiled detector without glances."""
    detector = sowa.Sowa.from_pretrained(
        tiny_backbone, settings=Settings(precision="fp32", image_size=SIZE, tiled=True)
    )
    return detector.fit(wood[:3], augment=("hflip",))


@pytest.fixture(scope="session")
def references(tiled: sowa.Sowa, wood: list[np.ndarray]) -> FittedReferences:
    """Its references."""
    return FittedReferences.fit(TileEncoder(tiled.encoder), wood[:3], tiled.bank_, tiled.augment_)

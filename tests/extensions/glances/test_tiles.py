"""Where tiles lie and how they are encoded."""

from __future__ import annotations

import numpy as np
import pytest

import sowa
from sowa.core.config import Settings
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.errors import InputError
from sowa.extensions.glances.references import EarlyFeatureBank
from sowa.extensions.glances.tiles import JoinedTiles, TileEncoder, TileLayout


def test_tiles_know_which_patches_they_cover() -> None:
    layout = TileLayout((4, 5), (3, 3), ((0, 0), (0, 2), (1, 0), (1, 2)))
    assert layout.patches[3].tolist() == [7, 8, 9, 12, 13, 14, 17, 18, 19]
    per_patch = [[1, 1, 2, 1, 1], [2, 2, 4, 2, 2], [2, 2, 4, 2, 2], [1, 1, 2, 1, 1]]
    assert layout.tiles_per_patch.reshape(4, 5).tolist() == per_patch
    bits = np.zeros(20, np.int64)
    for patches, own in zip(layout.patches, layout.bits, strict=True):
        assert not (bits[patches] & own).any()
        bits[patches] |= own
    assert (bits == (1 << layout.tiles_per_patch) - 1).all()
    assert layout.overlaps.sum() == 12
    assert layout.centres.tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]


def test_patches_are_joined_when_all_tiles_are_there(tiled: sowa.Sowa, wood: list[np.ndarray]) -> None:
    encoder = TileEncoder(tiled.encoder)
    expected = np.stack([level[0] for level in tiled.encoder.encode(wood[4][None], prompts=False).patches])
    np.testing.assert_allclose(encoder.encode(wood[4]).joined(encoder.layout), expected, atol=1e-5)
    joined = JoinedTiles(encoder.layout)
    joined.add(0, encoder.tile(wood[4], 0))
    with pytest.raises(ValueError, match="32 patches are in no tile yet"):
        _ = joined.patches


def test_the_last_row_and_column_of_an_odd_grid_are_encoded_too(tiny_backbone: str) -> None:
    encoder = TileEncoder(
        TorchEncoder.from_pretrained(tiny_backbone, settings=Settings(image_size=(80, 112), tiled=True))
    )  # 5 x 7 patches
    plain = np.full((80, 112, 3), 90, np.uint8)
    corner = plain.copy()
    corner[64:, 96:] = 255
    bank = EarlyFeatureBank(encoder.overview(plain).early[None])
    distances = encoder.cells_to_patches(bank.distances(encoder.overview(corner).early))
    assert np.unravel_index(int(distances.argmax()), encoder.layout.grid) == (4, 6)


def test_a_detector_that_isn_t_tiled_has_no_tiles(tiny_backbone: str) -> None:
    with pytest.raises(InputError, match="isn't tiled"):
        TileEncoder(TorchEncoder.from_pretrained(tiny_backbone))

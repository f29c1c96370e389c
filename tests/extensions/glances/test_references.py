"""References whole, in tiles and by the first layers: how far other images lie from them, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import sowa
from extensions.glances.recorded import highest, raster
from sowa.errors import InputError
from sowa.extensions.glances.game import LiveState, play
from sowa.extensions.glances.policy import GlancePolicy
from sowa.extensions.glances.references import EarlyFeatureBank, FittedReferences
from sowa.extensions.glances.tiles import TileEncoder


def test_a_reference_is_compared_without_itself(
    references: FittedReferences, tiled: sowa.Sowa, wood: list[np.ndarray]
) -> None:
    state = play(LiveState(references, wood[1], 6, leave_out=1), raster)
    patches = tiled.encoder.encode(wood[1][None], prompts=False).patches
    expected = tiled.bank_.distances(patches, torch.tensor([1]))[:, 0]
    torch.testing.assert_close(state.distances, expected, atol=1e-5, rtol=1e-4)
    overview, banks = references.encoder.overview(wood[1]), references.banks
    assert banks.overview_distances(overview).max() < 1e-3 < banks.overview_distances(overview, 1).mean()


def test_what_was_fitted_is_kept(references: FittedReferences, wood: list[np.ndarray]) -> None:
    tensors, encoder, bank = references.tensors(), references.encoder, references.banks.tiles
    again = FittedReferences.from_tensors(encoder, bank, tensors)
    first, second = (play(LiveState(each, wood[4], 2), raster).distances for each in (references, again))
    assert torch.equal(first, second)
    overviews, early = tensors["overviews"], tensors["early_features"]
    for wrong in (torch.empty(0), overviews[:, :2], overviews[:, :, 1:]):
        with pytest.raises(InputError, match="overviews are of shape"):
            FittedReferences.from_tensors(encoder, bank, tensors | {"overviews": wrong})
    for wrong in (torch.empty(0), early[:2], early[:, 1:], early[:, :, 1:]):
        with pytest.raises(InputError, match="early features are of shape"):
            FittedReferences.from_tensors(encoder, bank, tensors | {"early_features": wrong})
    for name in ("overviews", "early_features"):
        with pytest.raises(InputError, match="aren't finite"):
            FittedReferences.from_tensors(encoder, bank, tensors | {name: tensors[name] / 0})


def test_a_speck_stands_out_to_the_first_layers(references: FittedReferences, wood: list[np.ndarray]) -> None:
    """Where it lies; a reference is like itself unless it's left out."""
    speck, encoder, banks = wood[1].copy(), references.encoder, references.banks
    speck[40:43, 100:103] = 255
    overview = encoder.overview(speck)
    plain, found = (banks.early_distances(each) for each in (encoder.overview(wood[1]), overview))
    assert np.unravel_index(int((found - plain).argmax()), encoder.layout.grid) in [(2, 6), (3, 6), (2, 7), (3, 7)]
    assert plain.max() < 1e-3 < banks.early_distances(overview, leave_out=1).min()
    (first,) = play(LiveState(references, speck, 1), highest("early_peak")).order
    assert 2 * 8 + 6 in encoder.layout.patches[first]


@given(st.integers(1, 4), st.integers(1, 2), st.integers(0, 99))
def test_early_features_lie_as_far_as_a_plain_loop_finds(count: int, views: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    known = random.normal(size=(count, views * 5, 3)).astype(np.float32)
    cells, left_out = random.normal(size=(5, 3)).astype(np.float32), int(random.integers(count))
    spread = known.std(axis=(0, 1), ddof=1)
    for leave_out in (None, left_out):
        others = [each for index, each in enumerate(known) if index != leave_out]
        expected = [
            min((np.linalg.norm((cell - one) / spread) for each in others for one in each), default=0.0)
            for cell in cells
        ]
        found = EarlyFeatureBank(torch.from_numpy(known)).distances(torch.from_numpy(cells), leave_out)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_bank_of_its_own_and_a_single_reference(tiled: sowa.Sowa, wood: list[np.ndarray]) -> None:
    for count in (1, 2):
        references = FittedReferences.fit(TileEncoder(tiled.encoder), wood[:count], patch_fraction=0.5)
        assert references.banks.tiles.features.shape[1:3] == (count, 24)
        assert len(play(LiveState(references, wood[4], 2), GlancePolicy().eval().order()).order) <= 2


def test_references_that_are_not_those_of_the_bank(
    references: FittedReferences, tiled: sowa.Sowa, wood: list[np.ndarray]
) -> None:
    with pytest.raises(InputError, match="2 images were given, needed are 3"):
        FittedReferences.fit(references.encoder, wood[:2], tiled.bank_)
    with pytest.raises(InputError, match="0 images"):
        FittedReferences.fit(references.encoder, [])

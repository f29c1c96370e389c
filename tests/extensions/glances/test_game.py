"""The state of an image as tiles are encoded, live and replayed, and recordings' files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import sowa
from extensions.glances.recorded import LAYOUT, at_random, highest, raster, recorded
from sowa.errors import InputError
from sowa.extensions.glances.features import FILE_NAMES
from sowa.extensions.glances.game import LiveState, RecordedImage, ReplayState, defect_fractions, load_recordings, play
from sowa.extensions.glances.policy import load_policy
from sowa.extensions.glances.references import FittedReferences


def test_all_tiles_are_full_tiling(references: FittedReferences, tiled: sowa.Sowa, wood: list[np.ndarray]) -> None:
    state = play(LiveState(references, wood[4], len(references.encoder.layout)), at_random(1))
    assert sorted(state.order) == list(range(6))
    expected = tiled.bank_.distances(tiled.encoder.encode(wood[4][None], prompts=False).patches)[:, 0]
    torch.testing.assert_close(state.distances, expected, atol=1e-5, rtol=1e-4)


def test_a_replay_is_what_was_recorded_live(references: FittedReferences, wood: list[np.ndarray]) -> None:
    image = RecordedImage.of(references, references.encoder.encode(wood[4]))
    plain = (raster, highest("saliency_peak"), highest("peak"), highest("highest_peak"))
    for order in (*plain, load_policy().order(may_stop=False)):
        live, replay = play(LiveState(references, wood[4], 3), order), play(ReplayState(image, 3), order)
        assert live.order == replay.order
        torch.testing.assert_close(live.distances, replay.distances, atol=1e-3, rtol=2e-3)


def test_patches_in_no_encoded_tile_stay_as_the_overview_has_them(
    references: FittedReferences, wood: list[np.ndarray]
) -> None:
    views = [play(LiveState(references, wood[4], glances), raster).distances for glances in (1, 2, 6)]
    assert all(torch.isfinite(view).all() for view in views)
    for before, after in pairwise(views):
        assert (before != after).any()
    inside = references.encoder.layout.patches[1]
    outside = np.setdiff1d(np.arange(48), inside)
    torch.testing.assert_close(views[0][:, outside], views[1][:, outside])


def test_a_tile_that_isn_t_available_can_t_be_chosen() -> None:
    with pytest.raises(ValueError, match="choose another one"):
        play(ReplayState(recorded(0), 3), lambda state: 0)


def test_images_and_glances_that_can_t_be(references: FittedReferences, wood: list[np.ndarray]) -> None:
    with pytest.raises(InputError, match="glances are 0"):
        LiveState(references, wood[0], 0)
    with pytest.raises(InputError, match="image of shape"):
        LiveState(references, wood[0][:64], 2)


def test_a_defect_s_share_of_each_tile() -> None:
    mask = np.zeros((32, 32), bool)
    assert not defect_fractions(mask, LAYOUT).any()
    mask[:4, 6:10] = True  # half in the first tile, half in the second
    assert defect_fractions(mask, LAYOUT)[:3].tolist() == [0.5, 0.5, 0]


def test_a_recording_s_file(references: FittedReferences, wood: list[np.ndarray], tmp_path: Path) -> None:
    mask = np.zeros(wood[5].shape[:2], bool)
    mask[:9, :9] = True
    image = RecordedImage.of(references, references.encoder.encode(wood[5]), mask)
    image.save(tmp_path / "image.safetensors")
    loaded = RecordedImage.load(tmp_path / "image.safetensors")
    assert loaded.layout == image.layout
    assert loaded.anomalous
    assert loaded.shows_defect[0]
    torch.testing.assert_close(loaded.table, image.table)
    np.testing.assert_array_equal(loaded.overview_evidence, image.overview_evidence)
    for field in FILE_NAMES:
        assert np.array_equal(getattr(loaded.statistics, field), getattr(image.statistics, field))


def test_recordings_are_made_once(references: FittedReferences, wood: list[np.ndarray], tmp_path: Path) -> None:
    asked, paths = list[int](), [tmp_path / f"{index}.safetensors" for index in range(2)]

    def image(index: int) -> tuple[np.ndarray, None]:
        asked.append(index)
        return wood[index + 3], None

    first = load_recordings(paths, lambda: references, image)
    paths[0].unlink()
    again = load_recordings(paths, lambda: references, image)
    assert asked == [0, 1, 0]
    torch.testing.assert_close(again[0].table, first[0].table)
    load_recordings(paths, pytest.fail, image)

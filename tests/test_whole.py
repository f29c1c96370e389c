"""Large images are also read as a whole, made as small as the backbone's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import differences, fitted
from numpy.typing import NDArray

import sowa
from sowa.core.config import Settings
from sowa.detector.exported import ExportedSowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.encoders.whole import WholeImage
from sowa.export import export
from sowa.model.backbone import Backbone
from sowa.model.pretrained import build_backbone

LARGE, OWN = (96, 144), (64, 64)  # of the tiny backbone, whose patches are 16 x 16


@pytest.fixture
def reads_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the tiny backbone read its second level of the whole."""
    monkeypatch.setattr(Backbone, "whole_level", 1)


def shown(size: tuple[int, int], count: int = 2) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(256, size=(count, *size, 3), dtype=np.uint8)


def test_mini_reads_what_knows_things_of_the_whole() -> None:
    backbone = build_backbone("mini:random")
    assert backbone.whole_level == 2
    assert build_backbone("mini:random", levels=(1, 2)).whole_level == 1
    assert build_backbone("mini:random", levels=(1, 3)).whole_level is None
    side = backbone.image_size[0]
    found = [
        WholeImage.where_it_tells(backbone, (height, width), tiled)
        for height, width, tiled in ((side, side, False), (304, 304, False), (640, 640, True), (480, 640, False))
    ]
    assert [one is not None for one in found] == [False, False, False, True]


def test_no_other_backbone_reads_it(tiny_backbone: str) -> None:
    assert TorchEncoder.from_pretrained(tiny_backbone).at_size(LARGE).levels == 4


@pytest.mark.usefixtures("reads_whole")
@pytest.mark.parametrize("size", [LARGE, (144, 96), (160, 160)])
def test_a_patch_is_what_the_small_image_shows_above_it(tiny_backbone: str, size: tuple[int, int]) -> None:
    encoder = TorchEncoder.from_pretrained(tiny_backbone, settings=Settings(precision="fp32")).at_size(size)
    images = shown(size)
    *own, whole = encoder.encode(images).patches
    assert encoder.levels == len(own) + 1
    small = {LARGE: (48, 80), (144, 96): (80, 48), (160, 160): (64, 64)}[size]
    pixels = F.interpolate(encoder.normalise(images), size=small, mode="bilinear", antialias=True)
    levels, (height, width) = encoder.network.backbone.patches(pixels)
    on_grid = levels[1].unflatten(1, (height, width)).permute(0, 3, 1, 2)
    expected = F.interpolate(on_grid, size=encoder.grid, mode="nearest-exact").flatten(2).transpose(1, 2)
    torch.testing.assert_close(whole, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.usefixtures("reads_whole")
def test_a_file_keeps_what_was_read_of_the_whole(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    detector = fitted(tiny_backbone, normal, image_size=LARGE)
    assert detector.bank_ is not None
    assert len(detector.bank_.features) == 3
    loaded = sowa.Sowa.load(detector.save(tmp_path / "part.sowa"), settings=Settings(precision="fp32"))
    image = shown(LARGE, 1)[0]
    one, other = detector.predict(image)[0], loaded.predict(image)[0]
    assert one.level_maps.shape == (3, 6, 9)
    assert other.raw_score == pytest.approx(one.raw_score, abs=1e-5)


@pytest.mark.usefixtures("reads_whole")
def test_an_export_reads_it_and_asks_for_the_zero_shot_score(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    detector = fitted(tiny_backbone, normal, image_size=LARGE)
    assert isinstance(detector.encoder, TorchEncoder)
    torch.nn.init.zeros_(detector.encoder.network.backbone.visual.positional_embedding)  # as `mini` has none
    detector.fit(normal, k_shot=4)
    assert detector.bank_ is not None
    detector.bank_.zero_shot_weight = 0.7
    export(detector, tmp_path / "made", "torch")
    assert max(differences(detector, ExportedSowa.load(tmp_path / "made"), shown(LARGE, 3))) < 1e-4


@pytest.mark.usefixtures("reads_whole")
def test_prompts_say_nothing_of_it(tiny_backbone: str, normal: Path) -> None:
    detector = fitted(tiny_backbone, normal, image_size=LARGE)
    features = detector.encoder.encode(shown(LARGE))
    assert detector.bank_ is not None
    assert features.level_maps is not None
    assert len(features.level_maps) == 2
    distances = detector.bank_.distances(features.patches)
    level_maps = detector.judge(features).numpy().level_maps
    np.testing.assert_allclose(level_maps[:, 2], distances[2].unflatten(1, (6, 9)).numpy(), atol=1e-5)
    assert (level_maps[:, 1] > distances[1].unflatten(1, (6, 9)).numpy()).all()

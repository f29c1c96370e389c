"""Every kind of detector can be exported, and its export equals it."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import differences, fitted

import sowa.export.graph
from sowa import Sowa
from sowa.core.config import Settings
from sowa.detector.exported import ExportedSowa
from sowa.export import export
from sowa.extensions.saliency import SaliencyWeight


@pytest.mark.parametrize(
    "kwargs",
    [
        {"extensions": [SaliencyWeight(0.5)]},
        {"trained": False, "image_size": (96, 64)},
        {"image_size": (96, 112), "tiled": True},
    ],
    ids=["saliency", "memory alone, another size", "tiles"],
)
def test_every_kind_of_detector_can_be_exported(tiny_backbone, normal, tmp_path, kwargs):
    detector = fitted(tiny_backbone, normal, **kwargs)
    export(detector, tmp_path / "made", "torch")
    images = np.random.default_rng(1).integers(0, 256, (3, *detector.image_size, 3), dtype=np.uint8)
    assert max(differences(detector, ExportedSowa.load(tmp_path / "made"), images)) < 1e-5


def test_the_embedded_backbone_can_be_exported(normal, tmp_path):
    """On images smaller than its own, which takes a fraction of the time."""
    detector = Sowa.from_pretrained("mini", settings=Settings(precision="fp32", image_size=(96, 128))).fit(
        normal, k_shot=2
    )
    detector.bank_.zero_shot_weight = 0.5
    export(detector, tmp_path / "made", "onnx", tolerance=1e-4)
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 128, 3), dtype=np.uint8)
    assert max(differences(detector, ExportedSowa.load(tmp_path / "made"), images)) < 1e-4


def test_a_large_bank_is_searched_in_parts(prompted, images, tmp_path, monkeypatch):
    monkeypatch.setattr(sowa.export.graph, "CHUNK", 4 * 16 * 16)  # one image of 16 patches at a time
    assert sowa.export.graph.DetectorGraph(prompted).chunks == 4
    export(prompted, tmp_path / "made", "torch")
    assert max(differences(prompted, ExportedSowa.load(tmp_path / "made"), images)) < 1e-5


def test_a_detector_that_computes_in_bf16_and_keeps_some_patches_is_exported_in_fp32(
    tiny_backbone, normal, images, tmp_path
):
    half = Sowa.from_pretrained(tiny_backbone, settings=Settings(precision="bf16")).fit(normal, patch_fraction=0.5)
    export(half, tmp_path / "made", "torch", tolerance=1e-5)
    assert half.encoder.precision == "bf16"
    full = Sowa.load(half.save(tmp_path / "half.sowa"), settings=Settings(precision="fp32"))
    there = ExportedSowa.load(tmp_path / "made")
    assert max(differences(full, there, images)) < 1e-5
    assert max(differences(half, there, images)) > 1e-5

"""Exports equal the detector that they were made of, or aren't made at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import fitted

import sowa.export.graph
from sowa import InputError, Sowa
from sowa.config import SaliencyConfig
from sowa.errors import ExportError
from sowa.export import PRECISIONS, export
from sowa.export.compare import TOLERANCES, compare
from sowa.export.examples import examples
from sowa.runtime import ExportedSowa

FORMATS = [
    ("onnx", "fp32"),
    ("onnx", "fp16"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "fp16"),
    ("openvino", "int8"),
    ("torch", "fp32"),
    ("torch", "fp16"),
]


def differences(detector: Sowa, out: Path, images: np.ndarray) -> list[float]:
    """Largest differences of raw scores, maps and level maps."""
    original, there = detector.judge(detector.observe(images)).numpy(), ExportedSowa.load(out).engine(images)
    return [float(np.abs(a - b).max()) for a, b in zip(original[:3], there[:3], strict=True)]


@pytest.mark.parametrize(("format", "precision"), FORMATS)
def test_an_export_equals_the_original_for_any_batch(prompted, images, exports, format, precision):
    made = exports(format, precision)
    allowed = {"fp32": 1e-5, "fp16": 2e-2, "int8": 0.6}[precision]
    for count in (1, 2, 5):
        assert max(differences(prompted, made, images[:count])) < allowed
    comparison = json.loads((made / "metadata.json").read_text())["comparison"]
    assert comparison["raw_score"] <= comparison["tolerance"]


def test_int8_rounds_and_fp16_halves(exports):
    sizes = {precision: (exports("openvino", precision) / "model.bin").stat().st_size for precision in PRECISIONS}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["int8"] < 0.9 * sizes["fp32"]
    assert "FakeQuantize" in (exports("openvino", "int8") / "model.xml").read_text()


@pytest.mark.parametrize(
    "kwargs",
    [
        {"saliency": SaliencyConfig(memory_weight=0.5)},
        {"trained": False, "image_size": (96, 64)},
        {"image_size": (96, 112), "tiled": True},
    ],
    ids=["saliency", "memory alone, another size", "tiles"],
)
def test_every_kind_of_detector_can_be_exported(tiny_backbone, normal, tmp_path, kwargs):
    detector = fitted(tiny_backbone, normal, **kwargs)
    export(detector, tmp_path / "made", "torch")
    images = np.random.default_rng(1).integers(0, 256, (3, *detector.image_size, 3), dtype=np.uint8)
    assert max(differences(detector, tmp_path / "made", images)) < 1e-5


def test_the_embedded_backbone_can_be_exported(normal, tmp_path):
    """On pictures smaller than its own, which takes a fraction of the time."""
    detector = Sowa.from_pretrained("mini", precision="fp32", image_size=(96, 128)).fit(normal, k_shot=2)
    export(detector, tmp_path / "made", "onnx", tolerance=1e-4)
    images = np.random.default_rng(1).integers(0, 256, (3, 96, 128, 3), dtype=np.uint8)
    assert max(differences(detector, tmp_path / "made", images)) < 1e-4


def test_a_large_bank_is_searched_in_parts(prompted, images, tmp_path, monkeypatch):
    monkeypatch.setattr(sowa.export.graph, "CHUNK", 4 * 16 * 16)  # one picture of 16 patches at a time
    assert sowa.export.graph.DetectorGraph(prompted).chunks == 4
    export(prompted, tmp_path / "made", "torch")
    assert max(differences(prompted, tmp_path / "made", images)) < 1e-5


def test_a_detector_that_computes_in_bf16_and_keeps_some_patches_is_exported_in_fp32(
    tiny_backbone, normal, images, tmp_path
):
    half = Sowa.from_pretrained(tiny_backbone, precision="bf16").fit(normal, keep=0.5)
    export(half, tmp_path / "made", "torch", tolerance=1e-5)
    assert half.precision == "bf16"
    full = Sowa.load(half.save(tmp_path / "half.sowa"), precision="fp32")
    assert max(differences(full, tmp_path / "made", images)) < 1e-5
    assert max(differences(half, tmp_path / "made", images)) > 1e-5


def test_the_metadata_says_how_to_feed_the_graph_and_where_normal_ends(prompted, exported):
    found = json.loads((exported / "metadata.json").read_text())
    assert (found["format"], found["version"], found["runtime"], found["precision"]) == (
        "sowa-export",
        1,
        "onnx",
        "fp32",
    )
    assert found["image_size"] == [64, 64]
    assert found["mean"] == pytest.approx(prompted.network.backbone.mean.flatten().tolist())
    assert found["std"] == pytest.approx(prompted.network.backbone.std.flatten().tolist())
    assert found["boundary"]["threshold"] == prompted.calibration_.threshold
    assert found["detector"]["references"] == prompted.references_
    assert found["comparison"]["pictures"] > 4


def test_predictions_are_those_of_the_original(prompted, exported, judged):
    original, there = prompted.predict(judged), ExportedSowa.load(exported).predict(judged, batch_size=3)
    assert [one.image_path for one in there] == [one.image_path for one in original]
    for one, other in zip(there, original, strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, abs=1e-5)
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.normal_percentile == pytest.approx(other.normal_percentile, abs=0.05)
        assert (one.is_anomalous, one.threshold) == (other.is_anomalous, other.threshold)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)
        np.testing.assert_allclose(one.level_maps, other.level_maps, atol=1e-5)
        assert one.mask.dtype == bool
        assert one.image.shape == other.image.shape


def test_what_differs_is_refused_and_nothing_is_lost(prompted, tmp_path):
    out = tmp_path / "made"
    export(prompted, out, "torch")
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert before.keys() == {"metadata.json", "model.pt2"}
    with pytest.raises(ExportError, match=r"differs from the original by .* allowed are 0.00%.*nothing was written"):
        export(prompted, out, "torch", "fp16", tolerance=0)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    export(prompted, out, "torch", "fp16")
    assert (out / "model.pt2").stat().st_size < len(before["model.pt2"])
    assert list(tmp_path.iterdir()) == [out]


def test_the_comparison_sees_a_wrong_graph(prompted, images):
    def wrong(batch: np.ndarray) -> object:
        found = prompted.judge(prompted.observe(batch)).numpy()
        return found._replace(raw_scores=found.raw_scores + 1, maps=found.maps * np.float32("nan"))

    found = compare(prompted, wrong, images)
    assert found.raw_score == pytest.approx(1 / prompted.calibration_.threshold, rel=1e-4)
    assert not found.within(10)
    assert compare(prompted, lambda batch: prompted.judge(prompted.observe(batch)).numpy(), images).within(0)


def test_examples_are_not_in_the_bank(prompted):
    """Patches of references themselves have no distance, so a rounded graph would differ from it infinitely."""
    shown = examples(prompted)
    assert len(shown) == 16
    assert (prompted.judge(prompted.observe(shown)).raw_scores > 1e-3).all()


def test_wrong_input_is_one_clear_line(prompted, tiny_backbone, normal, tmp_path):
    with pytest.raises(InputError, match="isn't fitted"):
        export(Sowa.from_pretrained(tiny_backbone), tmp_path / "made")
    with pytest.raises(InputError, match="format is 'tflite', allowed are onnx, openvino, torch"):
        export(prompted, tmp_path / "made", "tflite")
    with pytest.raises(InputError, match="precision int8 isn't there for torch"):
        export(prompted, tmp_path / "made", "torch", "int8")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="is there and isn't an export"):
        export(prompted, tmp_path / "mine")
    array = np.zeros((64, 64, 3), np.uint8)
    nameless = Sowa.from_pretrained(tiny_backbone).fit([array, array + 1])
    with pytest.raises(InputError, match=r"references can't be read again .*--pictures"):
        export(nameless, tmp_path / "made")
    export(nameless, tmp_path / "made", "torch", pictures=normal)
    assert TOLERANCES["fp32"] < TOLERANCES["fp16"] < TOLERANCES["int8"]

"""Exports equal the detector that they were made of, or aren't made at all."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import differences

import sowa
from sowa import InputError, Sowa
from sowa.detector.exported import ExportedSowa
from sowa.errors import ExportError
from sowa.export import PRECISIONS, export
from sowa.export.compare import TOLERANCES, compare
from sowa.export.examples import examples

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


@pytest.mark.parametrize(("format", "precision"), FORMATS)
def test_an_export_equals_the_original_for_any_batch(prompted, images, exports, format, precision):
    made = exports(format, precision)
    allowed = {"fp32": 1e-5, "fp16": 2e-2, "int8": 0.6}[precision]
    there = ExportedSowa.load(made)
    for count in (1, 2, 5):
        assert max(differences(prompted, there, images[:count])) < allowed
    comparison = json.loads((made / "metadata.json").read_text())["comparison"]
    assert comparison["raw_score"] <= comparison["tolerance"]


@pytest.mark.parametrize(("format", "precision"), FORMATS)
def test_an_export_tells_nothing_of_the_folders_where_it_was_made(exports, format, precision):
    written = b"".join(file.read_bytes() for file in sorted(exports(format, precision).glob("model*")))
    for package in (sowa, torch):
        assert str(Path(package.__file__).parent).encode() not in written


def test_int8_rounds_and_fp16_halves(exports):
    sizes = {precision: (exports("openvino", precision) / "model.bin").stat().st_size for precision in PRECISIONS}
    assert sizes["fp16"] < 0.6 * sizes["fp32"]
    assert sizes["int8"] < 0.9 * sizes["fp32"]
    whole, half = ((exports("torch", precision) / "model.pt2").stat().st_size for precision in ("fp32", "fp16"))
    assert half < whole
    assert "FakeQuantize" in (exports("openvino", "int8") / "model.xml").read_text()


def test_the_metadata_says_how_to_feed_the_graph_and_where_normal_ends(prompted, exported):
    found = json.loads((exported / "metadata.json").read_text())
    assert (found["format"], found["version"], found["runtime"], found["precision"]) == (
        "sowa-export",
        2,
        "onnx",
        "fp32",
    )
    assert found["image_size"] == [64, 64]
    assert found["mean"] == pytest.approx(prompted.encoder.network.backbone.mean.flatten().tolist())
    assert found["std"] == pytest.approx(prompted.encoder.network.backbone.std.flatten().tolist())
    assert found["boundary"]["threshold"] == prompted.calibration_.threshold
    assert found["detector"]["references"] == prompted.references_
    assert found["comparison"]["images"] > 4


def test_predictions_are_those_of_the_original(prompted, exported, judged):
    original, there = prompted.predict(judged), ExportedSowa.load(exported).predict(judged, batch_size=3)
    assert [one.image_path for one in there] == [one.image_path for one in original]
    for one, other in zip(there, original, strict=True):
        assert one.raw_score == pytest.approx(other.raw_score, abs=1e-5)
        assert one.score == pytest.approx(other.score, abs=1e-4)
        assert one.normal_percentile == pytest.approx(other.normal_percentile, abs=0.05)
        assert (one.is_anomalous, one.verdict, one.threshold) == (other.is_anomalous, other.verdict, other.threshold)
        np.testing.assert_allclose(one.anomaly_map, other.anomaly_map, atol=1e-5)
        np.testing.assert_allclose(one.level_maps, other.level_maps, atol=1e-5)
        assert one.mask.dtype == bool
        assert one.image.shape == other.image.shape


def test_what_differs_is_refused_and_nothing_is_lost(prompted, exports, tmp_path):
    out = tmp_path / "made"
    shutil.copytree(exports("torch", "fp32"), out)
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    assert before.keys() == {"metadata.json", "model.pt2"}
    with pytest.raises(ExportError, match=r"differs from the original by .* allowed are 0.00%.*nothing was written"):
        export(prompted, out, "torch", "fp16", tolerance=0)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert list(tmp_path.iterdir()) == [out]


def test_an_earlier_export_is_replaced_and_images_can_be_given(tiny_backbone, exports, normal, tmp_path):
    out = tmp_path / "made"
    shutil.copytree(exports("onnx", "fp32"), out)
    array = np.zeros((64, 64, 3), np.uint8)
    nameless = Sowa.from_pretrained(tiny_backbone).fit([array, array + 1])
    with pytest.raises(InputError, match=r"references can't be read again .*--images"):
        export(nameless, out, "torch")
    assert (out / "model.onnx").is_file()
    export(nameless, out, "torch", images=normal)
    assert {file.name for file in out.iterdir()} == {"metadata.json", "model.pt2"}
    assert list(tmp_path.iterdir()) == [out]


def test_the_comparison_sees_a_wrong_graph(prompted, images):
    def wrong(batch: np.ndarray) -> object:
        found = prompted.judge(prompted.encoder.encode(batch)).numpy()
        return replace(found, raw_scores=found.raw_scores + 1, maps=found.maps * np.float32("nan"))

    found = compare(prompted, wrong, images)
    assert found.raw_score == pytest.approx(1 / prompted.calibration_.threshold, rel=1e-4)
    assert not found.within(10)
    assert compare(prompted, lambda batch: prompted.judge(prompted.encoder.encode(batch)).numpy(), images).within(0)


def test_examples_are_not_in_the_bank(prompted):
    """Patches of references themselves have no distance, so a rounded graph would differ from it infinitely."""
    shown = examples(prompted)
    assert len(shown) == 16
    assert (prompted.judge(prompted.encoder.encode(shown)).raw_scores > 1e-3).all()


def test_wrong_input_is_one_clear_line(prompted, tiny_backbone, tmp_path):
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
    assert TOLERANCES["fp32"] < TOLERANCES["fp16"] < TOLERANCES["int8"]

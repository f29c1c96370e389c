"""Exported detectors run without torch, from many threads, and trust no file."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sowa import InputError
from sowa.detector.exported import ExportedSowa
from sowa.detector.exported_metadata import ExportedBoundary

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def copied(exported: Path, tmp_path: Path) -> Path:
    """A copy of the export, to be spoilt."""
    return Path(shutil.copytree(exported, tmp_path / "copy"))


def changed(copied: Path, **values: object) -> Path:
    file = copied / "metadata.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))
    return copied


def test_the_threshold_can_be_edited(copied, judged):
    metadata = json.loads((copied / "metadata.json").read_text())
    raised = changed(copied, boundary={**metadata["boundary"], "threshold": 1.9, "pixel_threshold": 7.9})
    for prediction in ExportedSowa.load(raised).predict(judged):
        assert prediction.threshold == 1.9
        assert not prediction.is_anomalous
        assert prediction.score < 0.5
        assert not prediction.mask.any()


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_many_threads_share_one_detector(exports, images, runtime):
    detector = ExportedSowa.load(exports(runtime), threads=1).warm_up()
    alone = [detector.predict(image)[0] for image in images]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda index: detector.predict(images[index % len(images)])[0], range(40)))
    for index, prediction in enumerate(together):
        assert prediction.raw_score == alone[index % len(images)].raw_score
        np.testing.assert_array_equal(prediction.anomaly_map, alone[index % len(images)].anomaly_map)


def test_openvino_may_compute_in_bfloat16(prompted, exports, images):
    there = ExportedSowa.load(exports("openvino"), precision="bf16").engine(images)
    original = prompted.judge(prompted.encoder.encode(images)).numpy()
    np.testing.assert_allclose(there.raw_scores, original.raw_scores, rtol=0.1)


def test_images_come_as_they_do_for_the_original(exported, judged, images, tmp_path):
    detector = ExportedSowa.load(exported)
    assert [one.image_path for one in detector.predict([images[0], images[1]])] == ["array-0000", "array-0001"]
    shutil.copytree(judged, tmp_path / "images")
    (tmp_path / "images" / "broken.png").write_bytes(b"no image")
    found = detector.predict(tmp_path / "images", stream=True, batch_size=2)
    assert len(list(found)) == len(list(judged.rglob("*.png")))
    assert [Path(name).name for name, _ in detector.skipped_] == ["broken.png"]
    with pytest.raises(InputError, match="none of 1 images can be read"):
        detector.predict(tmp_path / "images" / "broken.png")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda copy: (copy / "metadata.json").unlink(), r"metadata.json can't be read .*sowa export"),
        (lambda copy: (copy / "metadata.json").write_text("{"), "isn't understood"),
        (lambda copy: (copy / "metadata.json").write_text("[]"), "its format isn't sowa-export"),
        (lambda copy: changed(copy, version=99), "its version isn't 2"),
        (lambda copy: changed(copy, image_size=[64]), "isn't understood"),
        (lambda copy: changed(copy, image_size=[0, 64]), "image size is 0 x 64"),
        (
            lambda copy: changed(copy, boundary={"threshold": -1, "pixel_threshold": 1, "width": 1, "unsure": [1, 1]}),
            "above 0",
        ),
        (lambda copy: changed(copy, boundary={"threshold": 1}), "isn't understood"),
        (lambda copy: changed(copy, surprise=1), "isn't understood"),
        (lambda copy: changed(copy, runtime="tflite"), "'tflite', allowed are onnx, openvino, torch"),
        (lambda copy: changed(copy, model="../model.onnx"), "a model's files lie beside its metadata"),
        (lambda copy: changed(copy, sha256={"/etc/hostname": "0"}), "a model's files lie beside its metadata"),
        (lambda copy: (copy / "model.onnx").unlink(), r"model.onnx can't be read"),
        (lambda copy: (copy / "model.onnx").write_bytes(b"\0" * 64), r"model.onnx isn't the file that was exported"),
        (lambda copy: (copy / "model.onnx.data").write_bytes(b""), r"model.onnx.data isn't the file"),
    ],
)
def test_a_spoilt_export_is_one_clear_line(copied: Path, spoil: Callable[[Path], object], message: str):
    spoil(copied)
    with pytest.raises(InputError, match=message) as error:
        ExportedSowa.load(copied)
    assert "\n" not in str(error.value)


def test_a_graph_that_no_runtime_reads_is_one_clear_line(copied):
    from sowa.detector.exported_metadata import sha256

    (copied / "model.onnx").write_bytes(b"\0" * 64)
    digests = json.loads((copied / "metadata.json").read_text())["sha256"]
    changed(copied, sha256={**digests, "model.onnx": sha256(copied / "model.onnx")})
    with pytest.raises(InputError, match="can't be opened by onnx on 'cpu'"):
        ExportedSowa.load(copied)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"device": "tpu"}, "device 'tpu' isn't there"),
        ({"precision": "bf16"}, "precision is 'bf16', allowed is fp32, and for openvino bf16"),
        ({"threads": 0}, "threads is 0, allowed is 1 and more"),
    ],
)
def test_wrong_wishes_are_one_clear_line(exported, kwargs, message):
    with pytest.raises(InputError, match=message):
        ExportedSowa.load(exported, **kwargs)


def test_a_missing_runtime_says_what_to_install(exported, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"needs onnxruntime, which isn't there .*pip install onnxruntime"):
        ExportedSowa.load(exported)


def test_a_detector_that_saw_no_normal_image_has_no_percentile():
    assert ExportedBoundary(0.5, 2.0, 0.25, (0.4, 0.6)).normal_percentile(0.3) is None
    table = ExportedBoundary(0.5, 2.0, 0.25, (0.4, 0.6), (0.1, 0.2, 0.4), (10.0, 50.0, 90.0))
    assert [table.normal_percentile(raw) for raw in (0.0, 0.1, 0.3, 9.0)] == [10.0, 10.0, 70.0, 90.0]
    with pytest.raises(ValueError, match="one length"):
        ExportedBoundary(0.5, 2.0, 0.25, (0.4, 0.6), (0.1, 0.2), (10.0,))


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the package alone, and numpy, Pillow, onnxruntime and openvino: what a line has at hand."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", ROOT / "constraints.txt"]
    subprocess.run(
        [*pip, "--no-compile", *constraints, "numpy", "pillow", "array-api-compat", "onnxruntime", "openvino"],
        check=True,
    )
    subprocess.run([*pip, "--no-deps", ROOT], check=True)
    return python


@pytest.mark.slow
def test_no_torch_is_needed(bare_python, prompted, exports, judged):
    code = """
import json, sys
from sowa.detector.exported import ExportedSowa
found = [[p.to_dict() for p in ExportedSowa.load(folder).predict(sys.argv[1])] for folder in sys.argv[2:]]
assert not {"torch", "cv2", "scipy", "pydantic", "safetensors"} & set(sys.modules)
print(json.dumps(found))
"""
    command = [bare_python, "-c", code, judged, exports("onnx"), exports("openvino")]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    original = prompted.predict(judged)
    for there in json.loads(ran.stdout):
        assert [one["image_path"] for one in there] == [one.image_path for one in original]
        for one, other in zip(there, original, strict=True):
            assert one["raw_score"] == pytest.approx(other.raw_score, abs=1e-5)
            assert one["is_anomalous"] == other.is_anomalous

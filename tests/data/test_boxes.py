"""Readers of boxes: what each layout may look like, and what is said of a broken one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sowa.data.boxes import load_boxes
from sowa.data.boxes.sample import ROUNDING, checked
from sowa.errors import InputError


def image(path: Path, width: int = 80, height: int = 60) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), 90, np.uint8)).save(path)
    return path


def coco(root: Path, split: str = "train", box: list[float] | None = None, **changes: object) -> Path:
    image(root / split / "a.png")
    content = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [{"image_id": 7, "category_id": 3, "bbox": box or [10, 20, 30, 15]}],
        "categories": [{"id": 3, "name": "red star"}, {"id": 5, "name": "ring"}],
    } | changes
    file = root / "annotations" / f"{split}.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(content))
    return root


def yolo(root: Path, line: str = "1 0.5 0.5 0.25 0.5", names: str = "[star, ring]") -> Path:
    image(root / "images" / "train" / "a.png")
    image(root / "images" / "val" / "b.png")
    labels = root / "labels" / "train"
    labels.mkdir(parents=True)
    (labels / "a.txt").write_text(line)
    (root / "data.yaml").write_text(f"path: /somewhere/else\ntrain: images/train\nval: images/val\nnames: {names}\n")
    return root


def boards(root: Path, line: str = "10 20 30 40 2", listed: str = "g/a.jpg g/a.txt") -> Path:
    for kind in ("test", "temp"):
        image(root / "g" / f"a_{kind}.jpg")
    (root / "g" / "a.txt").write_text(line)
    (root / "trainval.txt").write_text(listed)
    return root


def test_coco_boxes_are_corners_and_splits_come_from_file_names(tmp_path):
    coco(tmp_path)
    found = load_boxes("coco", coco(tmp_path, "val"))
    assert found.names == ("red star", "ring")
    assert {sample.split for sample in found.samples} == {"train", "validation"}
    assert found.of("train")[0].boxes == ((10, 20, 40, 35),)
    assert found.of("train")[0].labels == ("red star",)
    assert found.of("train")[0].size == (60, 80)


def test_coco_leaves_crowds_out_and_keeps_images_without_boxes(tmp_path):
    crowd = {"image_id": 7, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1}
    found = load_boxes("coco", coco(tmp_path, annotations=[crowd]) / "annotations" / "train.json")
    assert [sample.boxes for sample in found.samples] == [()]


def test_yolo_boxes_are_parts_of_the_image(tmp_path):
    found = load_boxes("yolo", yolo(tmp_path))
    assert found.of("train")[0].boxes == ((30, 15, 50, 45),)
    assert found.of("train")[0].labels == ("ring",)
    assert found.of("validation")[0].boxes == ()


def test_yolo_reads_polygons_and_numbered_names(tmp_path):
    found = load_boxes("yolo", yolo(tmp_path, "0 0.25 0.5 0.5 0.5 0.5 0.75", "{0: star, 1: ring}"))
    assert found.of("train")[0].boxes == ((20, 30, 40, 45),)


def test_deeppcb_has_references_and_six_names(tmp_path):
    found = load_boxes("deeppcb", boards(tmp_path))
    (sample,) = found.samples
    assert sample.labels == ("short",)
    assert sample.split == "train"
    assert sample.reference == tmp_path / "g" / "a_temp.jpg"
    assert len(found.names) == 6


@pytest.mark.parametrize(
    ("dataset", "make", "told"),
    [
        ("coco", lambda root: coco(root, box=[70, 20, 30, 15]), "outside the image of 80 x 60"),
        ("coco", lambda root: coco(root, box=[70, 20, 0, 15]), "is empty"),
        ("coco", lambda root: coco(root, images=[{"id": 7, "file_name": "gone.png"}]), "gone.png, which is in none"),
        ("coco", lambda root: coco(root, categories=[{"id": 3, "name": "a"}, {"id": 4, "name": "a"}]), "there twice"),
        ("coco", lambda root: coco(root, categories=[{"id": 4, "name": "a"}]), "category 3"),
        ("coco", lambda root: coco(root, images="none"), "isn't COCO's"),
        ("coco", lambda root: root, "no *.json"),
        ("yolo", lambda root: yolo(root, "1 0.9 0.5 0.5 0.5"), "outside the image"),
        ("yolo", lambda root: yolo(root, "2 0.5 0.5 0.5 0.5"), "none of the 2 classes"),
        ("yolo", lambda root: yolo(root, "1 0.5 0.5"), "2 numbers behind the class"),
        ("yolo", lambda root: yolo(root, "one 0.5"), "needed are numbers"),
        ("yolo", lambda root: yolo(root, names="[star, star]"), "there twice"),
        ("yolo", lambda root: root, "no *.yaml"),
        ("deeppcb", lambda root: boards(root, "10 20 30 40 7"), "type from 1 to 6"),
        ("deeppcb", lambda root: boards(root, "10 20 90 40 1"), "outside the image"),
        ("deeppcb", lambda root: boards(root, listed="g/b.jpg g/b.txt"), "b_test.jpg, which doesn't exist"),
        ("deeppcb", lambda root: root, "no list of pairs"),
        ("voc", lambda root: root, "'voc'"),
    ],
)
def test_broken_data_is_one_clear_line(tmp_path, dataset, make, told):
    with pytest.raises(InputError, match=r".") as caught:
        load_boxes(dataset, make(tmp_path))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


sides = st.floats(-50, 150)


@given(st.tuples(sides, sides, sides, sides))
def test_a_box_is_inside_its_image_or_refused(box):
    x1, y1, x2, y2 = box
    try:
        left, top, right, bottom = checked(box, (60, 80), "here")
    except InputError:
        assert x2 <= x1 or y2 <= y1 or min(x1, y1) < 0 or x2 > 80 or y2 > 60
    else:
        assert 0 <= left < right <= 80
        assert 0 <= top < bottom <= 60
        assert max(abs(left - x1), abs(top - y1), abs(right - x2), abs(bottom - y2)) <= ROUNDING

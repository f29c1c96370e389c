"""Boxes from anomaly maps, and ``sowa predict --boxes`` as a user types it."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sowa.cli.app import run
from sowa.core.maps import upsample
from sowa.detector.instances import LEAST, SHARE, Instances, instances
from sowa.detector.prediction import Prediction
from sowa.detector.render import BOX, PALETTE, with_boxes
from sowa.errors import InputError

GRID, PATCH = (12, 16), 16
SIZE = (GRID[0] * PATCH, GRID[1] * PATCH)
THRESHOLD = 1.0


def prediction(summed: np.ndarray, size: tuple[int, int] = SIZE, levels: np.ndarray | None = None) -> Prediction:
    """What a detector says of an image of that size whose levels add up to ``summed`` (h, w)."""
    values = summed.astype(np.float32)
    anomaly_map = upsample(torch.from_numpy(values).flatten()[None], values.shape, SIZE)[0].numpy()
    return Prediction(
        image_path="part.png",
        score=0.5,
        raw_score=1.0,
        normal_percentile=None,
        threshold=1.0,
        is_anomalous=True,
        verdict="anomalous",
        anomaly_map=anomaly_map,
        mask=anomaly_map > THRESHOLD,
        level_maps=np.stack([values / 2] * 2) if levels is None else levels.astype(np.float32),
        pixel_threshold=THRESHOLD,
        seconds=0.0,
        source=np.zeros((*size, 3), np.uint8),
    )


def blobs(*places: tuple[int, int], value: float = 3.0) -> np.ndarray:
    """A map (h, w) that is high at these patches."""
    summed = np.full(GRID, 0.1)
    for place in places:
        summed[place] = value
    return summed


def inside(box: np.ndarray, patch: tuple[int, int], size: tuple[int, int] = SIZE) -> bool:
    """Whether a box holds the centre of a patch (row, column)."""
    y, x = ((at + 0.5) * side / many for at, side, many in zip(patch, size, GRID, strict=True))
    return bool(box[0] <= x <= box[2] and box[1] <= y <= box[3])


def test_a_normal_image_has_no_box() -> None:
    found = instances(prediction(blobs(value=THRESHOLD)))
    assert len(found) == 0
    assert found.xyxy.shape == (0, 4)
    assert found.confidence.shape == found.area.shape == (0,)
    assert found.to_dicts() == []


@given(
    places=st.sets(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=1, max_size=8),
    values=st.lists(st.integers(16, 90), min_size=8, max_size=8),
)
def test_separate_blobs_are_as_many_boxes_each_around_its_own(places: set[tuple[int, int]], values: list[int]) -> None:
    patches = [(3 * row + 1, 3 * column + 1) for row, column in sorted(places)]
    summed = blobs()
    for patch, value in zip(patches, values, strict=False):
        summed[patch] = value / 10
    found = instances(prediction(summed))
    assert len(found) == len(patches)
    held = np.array([[inside(box, patch) for patch in patches] for box in found.xyxy])
    assert (held.sum(axis=0) == 1).all()
    assert (held.sum(axis=1) == 1).all()
    assert (np.diff(found.confidence) <= 0).all()


@given(summed=st.integers(0, 10**6), height=st.integers(1, 400), width=st.integers(1, 400))
def test_every_box_lies_inside_the_image_and_holds_its_area(summed: int, height: int, width: int) -> None:
    random = np.random.default_rng(summed)
    found = instances(prediction(random.gamma(0.5, 1.0, GRID), (height, width)))
    left, top, right, bottom = found.xyxy.T
    assert np.all((left >= 0) & (left < right) & (right <= width))
    assert np.all((top >= 0) & (top < bottom) & (bottom <= height))
    assert np.all((found.confidence >= 0.5) & (found.confidence <= 1))
    assert np.all(found.area >= 1)
    assert found.area.sum() <= height * width + len(found)
    np.testing.assert_array_equal(found.xyxy, np.round(found.xyxy))


@given(scale=st.integers(2, 9))
def test_boxes_are_in_pixels_of_the_image_and_not_of_the_network(scale: int) -> None:
    summed = blobs((2, 3), (8, 11), value=4.0)
    small = instances(prediction(summed))
    large = instances(prediction(summed, (SIZE[0] * scale, SIZE[1] * scale)))
    assert np.abs(large.xyxy - scale * small.xyxy).max() <= scale
    np.testing.assert_allclose(large.area, scale**2 * small.area, atol=scale**2)
    np.testing.assert_array_equal(large.confidence, small.confidence)


def bridge(height: float) -> np.ndarray:
    """Two defects of 4.0 and 3.0 with a bridge between them that is that high."""
    summed = blobs()
    summed[5, 3:13] = height
    summed[5, 3], summed[5, 12] = 4.0, 3.0
    return summed


def test_a_weak_bridge_does_not_make_two_defects_one() -> None:
    weak = instances(prediction(bridge(0.9 * SHARE * 3.0)))
    assert len(weak) == 2
    assert [[inside(box, patch) for patch in ((5, 3), (5, 12))] for box in weak.xyxy] == [[True, False], [False, True]]
    strong = instances(prediction(bridge(1.1 * SHARE * 4.0)))
    assert len(strong) == 1
    assert inside(strong.xyxy[0], (5, 3))
    assert inside(strong.xyxy[0], (5, 12))


def test_a_defect_reaches_down_to_a_share_of_its_own_peak_but_never_below_the_threshold() -> None:
    slope = blobs()
    slope[6, 2:14] = [9.0, *np.linspace(8.0, 1.1, 11)]
    plain = instances(prediction(slope))
    assert len(plain) == 1
    end = plain.xyxy[0, 2] / PATCH - 0.5  # the last patch that is held
    assert slope[6, int(np.ceil(end))] < SHARE * 9.0 < slope[6, int(end)]
    faint = prediction(slope / 7)
    assert SHARE * 9.0 / 7 < THRESHOLD
    assert instances(faint).area[0] == pytest.approx(faint.mask.sum(), rel=0.3)


def test_what_hardly_exceeds_the_threshold_is_no_defect() -> None:
    assert len(instances(prediction(blobs((5, 5), value=1.05 * THRESHOLD)))) == 0
    assert len(instances(prediction(blobs((5, 5), value=1.5 * THRESHOLD)))) == 1
    assert LEAST < 1


def test_a_level_that_sees_more_does_not_widen_a_box_alone_but_two_do() -> None:
    summed, wide = blobs((5, 6)), blobs(*((5, column) for column in range(5, 9)))

    def width(*levels: np.ndarray) -> float:
        box = instances(prediction(summed, levels=np.stack(levels))).xyxy[0]
        return float(box[2] - box[0])

    alone = width(summed, summed)
    assert width(summed, wide) == alone
    assert width(wide, wide) > 1.5 * alone
    everywhere = np.ones(GRID)
    assert width(everywhere, everywhere) == pytest.approx(alone + 2 * PATCH, abs=1)


def test_what_a_single_level_shows_is_no_defect_where_the_sum_does_not() -> None:
    levels = np.stack([blobs((5, 6)), blobs((5, 6), (1, 1), value=9.0)])
    found = instances(prediction(blobs((5, 6)), levels=levels))
    assert len(found) == 1
    assert inside(found.xyxy[0], (5, 6))


def test_a_patch_is_where_it_looks_and_not_where_the_enlarged_map_puts_it() -> None:
    found = instances(prediction(blobs((1, 1), (10, 14))))
    for patch, box in zip(((1, 1), (10, 14)), sorted(found.xyxy.tolist()), strict=True):
        centre = np.array([(box[1] + box[3]) / 2, (box[0] + box[2]) / 2])
        np.testing.assert_allclose(centre, (np.array(patch) + 0.5) * PATCH, atol=0.6)


def test_scores_say_how_far_above_the_threshold_and_limits_leave_out() -> None:
    summed = blobs((2, 2), value=2.0) + blobs((8, 8), value=1.4)
    summed[summed < 1] = 0
    found = instances(prediction(summed))
    assert found.confidence == pytest.approx([0.95, 0.84], abs=0.03)  # 2.1 and 1.5 times
    assert len(instances(prediction(summed), min_score=0.9)) == 1
    assert len(instances(prediction(summed), min_area=int(found.area.max()))) == 1
    assert len(instances(prediction(summed), min_area=int(found.area.max()) + 1)) == 0
    for limits, told in (({"min_score": 0.3}, "min_score is 0.3, allowed is 0.5 to 1"), ({"min_area": -1}, "-1")):
        with pytest.raises(InputError, match=told):
            instances(prediction(summed), **limits)


@pytest.mark.parametrize("grid", [(1, 1), (1, 4), (3, 1)])
def test_the_smallest_grids(grid: tuple[int, int]) -> None:
    found = instances(prediction(np.full(grid, 2.0)))
    assert found.xyxy.tolist() == [[0, 0, SIZE[1], SIZE[0]]]
    assert found.area.tolist() == [SIZE[0] * SIZE[1]]


def test_boxes_are_drawn_around_what_they_hold() -> None:
    image = np.full((80, 120, 3), 90, np.uint8)
    boxes = Instances(
        np.array([[40, 30, 60, 50], [0, 0, 120, 80]], np.float32),
        np.array([0.9, 0.6], np.float32),
        np.array([400, 9600]),
    )
    drawn = with_boxes(image, boxes)
    assert (image == 90).all()
    assert (drawn[31:49, 41:59] == 90).all()
    assert (drawn[29, 40:60] == BOX).all()
    assert (drawn[30:50, 60] == BOX).all()
    assert (drawn[4:20, 40:60] == BOX).all(axis=2).any()  # the score above
    empty = Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    np.testing.assert_array_equal(with_boxes(image, empty), image)


def test_each_class_has_a_colour_and_each_box_its_name() -> None:
    image = np.full((120, 200, 3), 90, np.uint8)
    boxes = Instances(
        np.array([[20, 60, 60, 100], [120, 60, 160, 100]], np.float32),
        np.array([0.9, 0.6], np.float32),
        np.array([1600, 1600]),
    )
    drawn = with_boxes(image, boxes, ["scratch", "hole"], [0, 8])
    for left, colour in ((20, PALETTE[0]), (120, PALETTE[1])):
        assert (drawn[70:90, left - 1] == colour).all()
        assert (drawn[45:58, left : left + 40] == colour).all(axis=2).any()  # the name above, on its colour
    assert (with_boxes(image, boxes)[45:58] != drawn[45:58]).any()


@pytest.mark.parametrize("box", [(0, 0, 1, 1), (0, 0, 8, 6), (7, 5, 8, 6)])
def test_boxes_are_drawn_in_the_smallest_images(box: tuple[int, int, int, int]) -> None:
    boxes = Instances(np.array([box], np.float32), np.array([0.7], np.float32), np.array([1]))
    assert with_boxes(np.zeros((6, 8, 3), np.uint8), boxes).shape == (6, 8, 3)


@pytest.fixture(scope="module")
def parts(judged: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several sizes, one with a plain defect."""
    folder = tmp_path_factory.mktemp("parts")
    for index, path in enumerate(sorted(judged.glob("good/*.png"))):
        image = np.array(Image.open(path).convert("RGB").resize((96 + 40 * index, 96)))
        if index == 2:
            image[10:60, 20:90] = (255, 0, 255)
        Image.fromarray(image).save(folder / f"{index}.png")
    return folder


def told(line: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert run(shlex.split(line)) == 0
    return [json.loads(each) for each in capsys.readouterr().out.splitlines()]


def test_boxes_are_in_the_lines_and_on_the_overlays_where_they_are_asked_for(
    detector_file: Path, parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = told(f"predict {parts} --model {detector_file} --out {tmp_path / 'plain'}", capsys)
    boxed = told(f"predict {parts} --model {detector_file} --out {tmp_path / 'boxed'} --boxes", capsys)
    assert all("boxes" not in line for line in plain)
    assert [line["raw_score"] for line in plain] == [line["raw_score"] for line in boxed]
    found = boxed[2]["boxes"]
    assert found
    for box in found:
        assert set(box) == {"score", "xyxy", "area"}
        assert 0 <= box["xyxy"][0] < box["xyxy"][2] <= 176
        assert 0 <= box["xyxy"][1] < box["xyxy"][3] <= 96
    for line, index in zip(boxed, range(3), strict=True):
        overlays = [(tmp_path / kind / f"{index}_overlay.jpg").read_bytes() for kind in ("plain", "boxed")]
        assert (overlays[0] != overlays[1]) == bool(line["boxes"])
        masks = [(tmp_path / kind / f"{index}_mask.png").read_bytes() for kind in ("plain", "boxed")]
        assert masks[0] == masks[1]


def test_exports_tell_the_same_boxes(prompted: object, exported: Path, parts: Path, tmp_path: Path, capsys) -> None:
    original = prompted.save(tmp_path / "wood.sowa")
    as_exported = f"{original} --precision fp32"  # where bf16 is faster, a detector computes so by default
    lines = [told(f"predict {parts} --boxes --model {model}", capsys) for model in (as_exported, exported)]
    assert any(line["boxes"] for line in lines[0])
    for one, other in zip(*lines, strict=True):
        assert [box["xyxy"] for box in one["boxes"]] == [box["xyxy"] for box in other["boxes"]]


def test_boxes_of_an_export_need_no_torch(exported: Path, parts: Path) -> None:
    code = (
        "import sys, sowa.cli.predict\nfrom sowa.detector.exported import ExportedSowa\n"
        "from sowa.detector.instances import instances\n"
        f"for each in ExportedSowa.load({str(exported)!r}).predict({str(parts)!r}): instances(each)\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

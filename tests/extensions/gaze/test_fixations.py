"""Fixations in and out of files, and on images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sowa.errors import InputError
from sowa.extensions.gaze.fixations import (
    Fixation,
    Gaze,
    Viewing,
    append_csv,
    keep_inside,
    match_images,
    read_csv,
    write_csv,
)
from sowa.extensions.gaze.readers import read_gaze

HEADER = "image,x,y,duration_ms,observer\n"
numbers = st.floats(-1e6, 1e6)
fixations = st.builds(Fixation, numbers, numbers, st.none() | st.floats(0, 1e6))
names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1)


def csv_file(folder: Path, text: str) -> Path:
    path = folder / "gaze.csv"
    path.write_text(text, encoding="utf-8")
    return path


@given(st.dictionaries(st.tuples(names, names), st.lists(fixations, min_size=1, max_size=4), min_size=1, max_size=4))
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, made: dict[tuple[str, str], list[Fixation]]
) -> None:
    viewings = [Viewing(*viewed, tuple(found)) for viewed, found in made.items()]
    path = tmp_path_factory.mktemp("csv") / "gaze.csv"
    write_csv(path, viewings[:1])
    for viewing in viewings[1:]:
        append_csv(path, viewing)
    assert list(read_csv(path).viewings) == viewings


def test_columns_come_in_any_order_and_others_are_ignored(tmp_path: Path) -> None:
    text = "\ufeffpupil, observer, y, x, image, duration_ms\r\n3, Ada, 2, 1, a.png, 5\r\n4, Bo, 4, 3, a.png,\r\n"
    text += "5, Ada, 8, 7, a.png, 0\r\n"
    gaze = read_csv(csv_file(tmp_path, text))
    assert gaze.by_image == {
        "a.png": [
            Viewing("a.png", "Ada", (Fixation(1, 2, 5), Fixation(7, 8, 0))),
            Viewing("a.png", "Bo", (Fixation(3, 4, None),)),
        ]
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty; its first line must be image,x,y,duration_ms,observer"),
        (HEADER, "holds no fixation"),
        ("image,x,y,observer\na,1,2,Ada\n", "no column duration_ms, only image, x, y, observer"),
        (HEADER.replace(",", ";"), "no column image, x, y, duration_ms, observer"),
        (HEADER + "a,1,2,3,Ada\na,one,2,3,Ada\n", "line 3: x is 'one', needed is a finite number"),
        (HEADER + "a,1,nan,3,Ada\n", "line 2: y is 'nan'"),
        (HEADER + "a,1,2,inf,Ada\n", "line 2: duration_ms is 'inf'"),
        (HEADER + "a,1,2,-3,Ada\n", "line 2: duration_ms is -3, allowed is 0 and more"),
        (HEADER + "a,1\n", "line 2: observer is empty"),
        (HEADER + ",1,2,3,Ada\n", "line 2: image is empty"),
        (HEADER + '"a' + "x" * 200_000 + '",1,2,3,Ada\n', "is no CSV"),
    ],
)
def test_what_is_wrong_in_a_csv_file_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_csv(csv_file(tmp_path, text))
    assert told in str(caught.value)
    assert "gaze.csv" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_other_bytes_is_no_csv(tmp_path: Path) -> None:
    path = tmp_path / "gaze.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="can't be read as a CSV file"):
        read_csv(path)
    with pytest.raises(InputError, match="can't be read as a CSV file"):
        append_csv(path, Viewing("a", "Ada", (Fixation(1, 2),)))


def test_appending_keeps_what_a_file_holds(tmp_path: Path) -> None:
    path = csv_file(tmp_path, "observer,pupil,image,y,x,duration_ms\nAda,3,a.png,2,1,5")
    append_csv(path, Viewing("b.png", "Bo", (Fixation(10, 20, 30),)))
    assert path.read_text() == "observer,pupil,image,y,x,duration_ms\nAda,3,a.png,2,1,5\nBo,,b.png,20,10,30\n"
    other = csv_file(tmp_path, "name,value\n")
    with pytest.raises(InputError, match="no column image"):
        append_csv(other, Viewing("b.png", "Bo", (Fixation(10, 20, 30),)))
    assert other.read_text() == "name,value\n"


def salicon(**changes: object) -> dict[str, object]:
    image = {"id": 7, "file_name": "COCO_7.jpg", "width": 40, "height": 30, "license": 1}
    annotations = [{"id": 1, "image_id": 7, "worker_id": 3, "fixations": [[1, 1], [30, 40]]}]
    return {"images": [image], "annotations": annotations} | changes


def json_file(folder: Path, data: object) -> Path:
    path = folder / "fixations.json"
    path.write_text(json.dumps(data))
    return path


def test_salicons_rows_and_columns_count_from_1(tmp_path: Path) -> None:
    gaze = read_gaze(json_file(tmp_path, salicon()))
    assert gaze.viewings == (Viewing("COCO_7.jpg", "3", (Fixation(0.5, 0.5), Fixation(39.5, 29.5))),)
    assert keep_inside(gaze, gaze.sizes).outside == {}


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ([], "isn't laid out as SALICON's"),
        ({"images": []}, "KeyError: 'annotations'"),
        (salicon(images=[]), "image_id 7"),
        (salicon(annotations=[]), "holds no fixation"),
        (salicon(annotations=[{"image_id": 7, "worker_id": 3, "fixations": [[1, 2, 3]]}]), "is [1, 2, 3]"),
        (salicon(annotations=[{"image_id": 7, "worker_id": 3, "fixations": [[1, float("nan")]]}]), "is [1, nan]"),
        (salicon(annotations=[{"image_id": 7, "worker_id": 3, "fixations": [["a", "b"]]}]), "isn't laid out"),
    ],
)
def test_other_json_is_refused(tmp_path: Path, data: object, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read_gaze(json_file(tmp_path, data))
    assert told in str(caught.value)


@pytest.fixture
def maps(tmp_path: Path) -> Path:
    """A folder with one fixation map: two pixels of 255, below a folder of its own."""
    values = np.zeros((6, 8), np.uint8)
    values[2, 5] = values[4, 1] = 255
    (tmp_path / "maps" / "a").mkdir(parents=True)
    Image.fromarray(values).save(tmp_path / "maps" / "a" / "0.png")
    return tmp_path / "maps"


def test_pixels_above_0_of_a_map_are_fixations(maps: Path) -> None:
    gaze = read_gaze(maps)
    assert gaze.viewings == (Viewing("a/0", "all", (Fixation(5.5, 2.5), Fixation(1.5, 4.5))),)
    assert gaze.sizes == {"a/0": (6, 8)}
    assert read_gaze(maps, "density").densities == {"a/0": maps / "a" / "0.png"}


def test_maps_of_many_values_are_densities_unless_somebody_says_otherwise(maps: Path) -> None:
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(maps / "1.png")
    with pytest.raises(InputError, match=r"others with several, such as 1\.png"):
        read_gaze(maps)
    assert len(read_gaze(maps, "fixations").by_image["1"][0].fixations) == 47
    (maps / "a" / "0.png").unlink()
    gaze = read_gaze(maps)
    assert (gaze.viewings, gaze.images) == ((), ["1"])
    Image.new("L", (8, 6)).save(maps / "1.jpg")
    with pytest.raises(InputError, match="several maps called 1"):
        read_gaze(maps)


def test_a_reader_is_chosen_by_what_a_path_is(tmp_path: Path) -> None:
    assert read_gaze(csv_file(tmp_path, HEADER + "a,1,2,3,Ada\n")).images == ["a"]
    (tmp_path / "gaze.txt").write_text("")
    for name, told in (("gaze.txt", "is a file of another kind"), ("missing.csv", "doesn't exist")):
        with pytest.raises(InputError, match=told):
            read_gaze(tmp_path / name)


def looked(*places: tuple[float, float]) -> Gaze:
    return Gaze((Viewing("a.png", "Ada", tuple(Fixation(*place) for place in places)),))


def test_a_glance_off_the_image_is_counted_and_left_out() -> None:
    found = keep_inside(looked((0, 0), (39.9, 29.9), (40, 5), (5, -0.1), (5, 5)), {"a.png": (30, 40)})
    assert [(each.x, each.y) for each in found.gaze.viewings[0].fixations] == [(0, 0), (39.9, 29.9), (5, 5)]
    assert found.outside == {"a.png": 2}
    assert found.sentence == "2 fixation(s) outside of 1 image(s) left out"
    assert keep_inside(looked((5, 5)), {"a.png": (30, 40)}).sentence == ""


def test_coordinates_of_something_else_are_refused() -> None:
    with pytest.raises(InputError, match=r"2 of 3 fixations lie outside .* \(40, 5\) on a.png, which is 40 wide"):
        keep_inside(looked((5, 5), (40, 5), (50, 5)), {"a.png": (30, 40)})
    with pytest.raises(InputError, match=r"size of a\.png isn't known"):
        keep_inside(looked((5, 5)), {})


def test_a_name_finds_its_file_by_its_end() -> None:
    files = [Path("parts/a/0.png"), Path("parts/b/0.png"), Path("parts/b/1.png"), Path("parts/b/1.2.png")]
    found, unseen = match_images(["a/0.png", "b\\0", "1", "parts/b/1.2", "2.png", "b/a/0.png"], files)
    assert found == {"a/0.png": files[0], "b\\0": files[1], "1": files[2], "parts/b/1.2": files[3]}
    assert unseen == ["2.png", "b/a/0.png"]
    with pytest.raises(InputError, match=r"0\.png may be parts/a/0\.png or parts/b/0\.png; .*a/0\.png"):
        match_images(["0.png"], files)


def test_two_names_of_one_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a.png and a are both"):
        match_images(["a", "a.png"], [tmp_path / "a.png"])

"""The data sets' layouts, whole and broken."""

import csv
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import trees

from sowa.core.types import Sample
from sowa.data import DATASETS, categories, load
from sowa.errors import InputError


def counts(samples: list[Sample]) -> dict[tuple[str, int | None], int]:
    return dict(Counter((sample.split, sample.label) for sample in samples))


def names(samples: list[Sample], split: str, label: int | None) -> list[str]:
    return [sample.image_path.name for sample in samples if (sample.split, sample.label) == (split, label)]


def test_importing_the_package_is_light() -> None:
    code = "import sys, sowa.data; sys.exit(bool({'torch', 'cv2', 'scipy', 'sklearn'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("dataset", DATASETS)
def test_a_missing_root_is_named(tmp_path: Path, dataset: str) -> None:
    for ask in (load, categories):
        with pytest.raises(InputError, match="nowhere doesn't exist"):
            ask(dataset, tmp_path / "nowhere")
    image = trees.image(tmp_path / "a.png")
    with pytest.raises(InputError, match="is a file"):
        load(dataset, image)


@pytest.mark.parametrize("dataset", DATASETS)
def test_an_empty_root_is_refused(tmp_path: Path, dataset: str) -> None:
    with pytest.raises(InputError, match=r"holds no (image|category), looked for"):
        load(dataset, tmp_path)


def test_unknown_names_list_what_exists_the_closest_first(tmp_path: Path) -> None:
    for ask in (load, categories):
        with pytest.raises(InputError, match="unknown dataset 'visual', there is: visa, btad, dagm, "):
            ask("visual", tmp_path)
    trees.mvtec(tmp_path)
    with pytest.raises(InputError, match="unknown category 'tyle', there is: tile, bottle"):
        load("mvtec", tmp_path, "tyle")
    for index in range(30):
        trees.image(tmp_path / f"c{index}" / "train" / "good" / "a.png")
    with pytest.raises(InputError, match=r"and 12 more$"):
        load("mvtec", tmp_path, "x")


# ---------------------------------------------------------------------------------------------------------- mvtec


def test_mvtec(tmp_path: Path) -> None:
    root = trees.mvtec(tmp_path)
    assert categories("mvtec", root) == ["bottle", "tile"]
    samples = load("mvtec", root, "tile")
    assert counts(samples) == {("train", 0): 5, ("test", 0): 2, ("test", 1): 3}
    assert [sample.defect_type for sample in samples] == [None] * 7 + ["broken", "broken", "scratch"]
    assert samples[-1] == Sample(
        root / "tile/test/scratch/000.JPG",
        "tile",
        "test",
        1,
        root / "tile/ground_truth/scratch/000_mask.png",
        "scratch",
    )
    assert {sample.mask_path for sample in samples[:7]} == {None}
    assert load("mvtec", str(root / "tile")) == samples == load("mvtec", root / "tile", "tile")
    assert Counter(sample.category for sample in load("mvtec", root)) == {"bottle": 10, "tile": 10}


def test_mvtec_mask_may_be_called_as_its_image(tmp_path: Path) -> None:
    masks = trees.mvtec(tmp_path) / "tile" / "ground_truth" / "scratch"
    (masks / "000_mask.png").rename(masks / "000.png")
    assert load("mvtec", tmp_path, "tile")[-1].mask_path == masks / "000.png"


def test_mvtec_missing_masks(tmp_path: Path) -> None:
    masks = trees.mvtec(tmp_path) / "tile" / "ground_truth" / "scratch"
    (masks / "000_mask.png").unlink()
    with pytest.raises(InputError, match=r"scratch/000\.JPG has no mask .*scratch/000_mask\.png: add it"):
        load("mvtec", tmp_path, "tile")
    shutil.rmtree(masks)
    assert [sample.mask_path is None for sample in load("mvtec", tmp_path, "tile")[-3:]] == [False, False, True]


@pytest.mark.parametrize("missing", ["train/good", "test"])
def test_mvtec_missing_folder(tmp_path: Path, missing: str) -> None:
    shutil.rmtree(trees.mvtec(tmp_path) / "tile" / missing)
    with pytest.raises(InputError, match=f"tile/{missing} doesn't exist"):
        load("mvtec", tmp_path, "tile")


def test_mvtec_without_normal_images(tmp_path: Path) -> None:
    shutil.rmtree(trees.mvtec(tmp_path) / "tile" / "train" / "good")
    (tmp_path / "tile" / "train" / "good").mkdir()
    with pytest.raises(InputError, match="train/good holds no image"):
        load("mvtec", tmp_path, "tile")


# ----------------------------------------------------------------------------------------------------------- visa

COLUMNS = ("object", "split", "label", "image", "mask")


def split_rows(category: str = "candle") -> list[list[str]]:
    """Four normal images for training, all others for the test."""
    images = f"{category}/Data/Images"
    normal = [
        [category, "train" if index < 4 else "test", "normal", f"{images}/Normal/{index:03d}.JPG", ""]
        for index in range(5)
    ]
    return normal + [
        [category, "test", "anomaly", f"{images}/Anomaly/{i:03d}.JPG", f"{category}/Data/Masks/Anomaly/{i:03d}.png"]
        for i in range(3)
    ]


def write_csv(path: Path, header: tuple[str, ...], rows: list[list[str]]) -> None:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(header), *rows])


def test_visa_without_split_file(tmp_path: Path) -> None:
    root = trees.visa(tmp_path)
    assert categories("visa", root) == ["candle", "pcb1"]
    samples = load("visa", root, "pcb1")
    assert counts(samples) == {("train", 0): 3, ("test", 0): 2, ("test", 1): 3}
    assert names(samples, "train", 0) == ["000.JPG", "002.JPG", "004.JPG"]
    assert samples[-1].mask_path == root / "pcb1/Data/Masks/Anomaly/002.png"
    assert load("visa", root / "pcb1") == samples
    assert len(load("visa", root)) == 16


def test_visa_with_split_file(tmp_path: Path) -> None:
    root = trees.visa(tmp_path)
    write_csv(root / "split_csv" / "1cls.csv", COLUMNS, split_rows())
    samples = load("visa", root, "candle")
    assert counts(samples) == {("train", 0): 4, ("test", 0): 1, ("test", 1): 3}
    assert samples[-1].mask_path == root / "candle/Data/Masks/Anomaly/002.png"
    assert load("visa", root / "candle") == samples
    with pytest.raises(InputError, match=r"unknown category in .*1cls\.csv 'pcb1', there is: candle"):
        load("visa", root, "pcb1")


def test_visa_defect_types(tmp_path: Path) -> None:
    root = trees.visa(tmp_path)
    rows = [
        ["candle/Data/Images/Normal/000.JPG", "normal", ""],
        ["candle/Data/Images/Anomaly/001.JPG", "melt,hole", ""],
    ]
    write_csv(root / "candle" / "image_anno.csv", ("image", "label", "mask"), rows)
    assert [sample.defect_type for sample in load("visa", root, "candle")[-3:]] == [None, "melt,hole", None]
    write_csv(root / "split_csv" / "1cls.csv", COLUMNS, split_rows())
    assert [sample.defect_type for sample in load("visa", root, "candle")[-3:]] == [None, "melt,hole", None]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (1, "validation", r"line 9: split is 'validation', allowed are train and test"),
        (2, "bad", r"line 9: label is 'bad', allowed are normal and anomaly"),
        (3, "candle/gone.JPG", r"line 9: candle/gone\.JPG isn't a file in"),
        (4, "candle/gone.png", r"line 9: candle/gone\.png isn't a file in"),
        (4, "", r"line 9: the empty path isn't a file in"),
    ],
)
def test_visa_broken_row(tmp_path: Path, column: int, value: str, message: str) -> None:
    root, rows = trees.visa(tmp_path), split_rows()
    rows[-1][column] = value
    write_csv(root / "split_csv" / "1cls.csv", COLUMNS, rows)
    with pytest.raises(InputError, match=message):
        load("visa", root, "candle")


def test_visa_broken_csv(tmp_path: Path) -> None:
    root = trees.visa(tmp_path)
    file = root / "split_csv" / "1cls.csv"
    write_csv(file, COLUMNS[:3], [row[:3] for row in split_rows()])
    with pytest.raises(InputError, match=r"1cls\.csv has no column image, mask, needed are object, split"):
        load("visa", root, "candle")
    file.write_bytes(b"")
    with pytest.raises(InputError, match="has no column object"):
        load("visa", root, "candle")
    file.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="can't be read as CSV in UTF-8"):
        load("visa", root, "candle")


def test_visa_masks(tmp_path: Path) -> None:
    root = trees.visa(tmp_path)
    (root / "candle/Data/Masks/Anomaly/001.png").unlink()
    with pytest.raises(InputError, match=r"Anomaly/001\.JPG has no mask"):
        load("visa", root, "candle")
    shutil.rmtree(root / "candle/Data/Masks")
    assert {sample.mask_path for sample in load("visa", root, "candle")} == {None}


def test_visa_missing_folders(tmp_path: Path) -> None:
    root = trees.visa(tmp_path)
    shutil.rmtree(root / "candle/Data/Images/Anomaly")
    with pytest.raises(InputError, match="Images/Anomaly doesn't exist"):
        load("visa", root, "candle")
    shutil.rmtree(root / "pcb1/Data/Images/Normal")
    (root / "pcb1/Data/Images/Normal").mkdir()
    with pytest.raises(InputError, match="Images/Normal holds no image"):
        load("visa", root, "pcb1")


# ---------------------------------------------------------------------------------------------------------- pairs


def test_pairs(tmp_path: Path) -> None:
    root = trees.pairs(tmp_path / "steel")
    samples = load("pairs", root)
    assert names(samples, "test", 1) == ["b.jpg", "d.jpg"]
    # normal, sorted by path: good/000 good/001 good/002 images/a images/c images/e
    assert names(samples, "train", 0) == ["000.png", "002.png", "c.jpg"]
    assert names(samples, "test", 0) == ["001.png", "a.jpg", "e.jpg"]
    assert all((sample.mask_path is not None) == (sample.label == 1) for sample in samples)
    assert {sample.category for sample in samples} == {"steel"}


def test_pairs_in_several_categories(tmp_path: Path) -> None:
    trees.pairs(tmp_path / "steel")
    shutil.rmtree(trees.pairs(tmp_path / "glass") / "good")
    (tmp_path / "notes").mkdir()
    assert categories("pairs", tmp_path) == ["glass", "steel"]
    assert len(load("pairs", tmp_path, "steel")) == 8
    assert len(load("pairs", tmp_path)) == 13
    with pytest.raises(InputError, match="unknown category 'notes', there is"):
        load("pairs", tmp_path, "notes")


def test_pairs_that_do_not_match(tmp_path: Path) -> None:
    root = trees.pairs(tmp_path)
    trees.image(root / "images" / "lonely.bmp")
    with pytest.raises(InputError, match="image 'lonely' has no mask of the same name"):
        load("pairs", root)
    (root / "images" / "lonely.bmp").unlink()
    for stem in ("x", "y"):
        trees.mask(root / "masks" / f"{stem}.png")
    with pytest.raises(InputError, match=r"mask 'x' \(and 1 more\) has no image of the same name"):
        load("pairs", root)


def test_pairs_with_two_files_of_one_stem(tmp_path: Path) -> None:
    trees.image(trees.pairs(tmp_path) / "images" / "a.png")
    with pytest.raises(InputError, match="share the stem 'a'"):
        load("pairs", tmp_path)


def test_pairs_with_broken_or_no_files(tmp_path: Path) -> None:
    (trees.pairs(tmp_path / "one") / "masks" / "c.png").write_text("no mask")
    with pytest.raises(InputError, match=r"masks/c\.png is broken or not an image"):
        load("pairs", tmp_path / "one")
    for name in ("images", "masks"):
        (tmp_path / "two" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="images holds no image"):
        load("pairs", tmp_path / "two")

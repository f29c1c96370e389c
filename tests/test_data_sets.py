"""The published layouts of single data sets, whole and broken. What all loaders share is in tests/data."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from published import TREES, WHOLE, btad, dagm, dtd_synthetic, kolektor, magnetic_tile, mpdd, mvtec2
from rich.console import Console

from sowa.cli.app import app, run
from sowa.core.types import ABNORMAL, NORMAL, Sample
from sowa.data import DATASETS, categories, choose_references, load, read_mask
from sowa.errors import InputError


def names(samples: list[Sample], split: str, label: int | None) -> list[str]:
    return [sample.image_path.name for sample in samples if (sample.split, sample.label) == (split, label)]


# ------------------------------------------------------------------------------------------------------------ all


@pytest.mark.parametrize("dataset", TREES)
def test_a_whole_data_set(tmp_path: Path, dataset: str) -> None:
    root = TREES[dataset](tmp_path)
    (first, *others), counts, (image, mask, split, kind) = WHOLE[dataset]
    assert categories(dataset, root) == [first, *others]
    samples = load(dataset, root, first)
    assert Counter((sample.split, sample.label) for sample in samples) == counts
    anomalous = [sample for sample in samples if sample.label == ABNORMAL]
    assert anomalous[-1] == Sample(root / first / image, first, split, ABNORMAL, root / first / mask, kind)
    assert all(read_mask(sample.mask_path).any() for sample in anomalous)
    assert {(sample.mask_path, sample.defect_type) for sample in samples if sample.label != ABNORMAL} == {(None, None)}
    assert len({sample.image_path for sample in samples}) == len(samples)
    assert load(dataset, str(root / first)) == samples
    assert load(dataset, root)[: len(samples)] == samples


@pytest.mark.parametrize("dataset", TREES)
def test_an_unknown_category_lists_those_there_are(tmp_path: Path, dataset: str) -> None:
    known = WHOLE[dataset][0][0]
    with pytest.raises(InputError, match=f"unknown category '{known}x', there is: {known}"):
        load(dataset, TREES[dataset](tmp_path), f"{known}x")


@pytest.mark.parametrize(
    ("asked", "given"),
    [
        (asked, given)
        for asked in DATASETS
        for given in TREES
        if asked != "folder" and DATASETS[asked] is not DATASETS[given]
    ],
)
def test_another_data_set_s_layout_is_refused(tmp_path: Path, asked: str, given: str) -> None:
    with pytest.raises(InputError, match="check --root and --dataset") as error:
        load(asked, TREES[given](tmp_path))
    assert "\n" not in str(error.value)


def test_names_may_have_hyphens_or_underscores(tmp_path: Path) -> None:
    root = magnetic_tile(tmp_path)
    assert load("magnetic_tile", root) == load("magnetic-tile", root)
    assert categories("dtd_synthetic", dtd_synthetic(tmp_path)) == ["Woven_001"]


# ------------------------------------------------------------------------------------------------- MVTec AD's kin


def test_btad_masks_are_of_either_format(tmp_path: Path) -> None:
    masks = {category: load("btad", btad(tmp_path), category)[-1].mask_path for category in ("01", "02", "03")}
    assert {category: mask.suffix for category, mask in masks.items()} == {"01": ".png", "02": ".png", "03": ".bmp"}


def test_btad_missing_masks(tmp_path: Path) -> None:
    masks = btad(tmp_path) / "03" / "ground_truth" / "ko"
    (masks / "0003.bmp").unlink()
    with pytest.raises(InputError, match=r"0003\.bmp has no mask .*ground_truth/ko/0003\.png: add it, or remove .*ko "):
        load("btad", tmp_path)
    shutil.rmtree(masks)
    assert [sample.mask_path for sample in load("btad", tmp_path, "03")] == [None] * 5


@pytest.mark.parametrize("dataset", ["mpdd", "mvtec2", "btad"])
def test_train_without_images(tmp_path: Path, dataset: str) -> None:
    category = TREES[dataset](tmp_path) / WHOLE[dataset][0][0]
    for image in category.glob("train/*/*"):
        image.unlink()
    with pytest.raises(InputError, match=r"train/\w+ holds no image: put normal images there"):
        load(dataset, tmp_path)


def test_mvtec2_keeps_validation_and_private_images_apart(tmp_path: Path) -> None:
    samples = load("mvtec2", mvtec2(tmp_path))
    drawn = choose_references(samples, 3, seed=0)
    assert {sample.image_path.parent.parent.name for sample in drawn} == {"train"}
    assert names(samples, "test", None) == ["000_regular.png", "001_regular.png", "000_mixed.png"]


def test_mvtec2_needs_only_train_and_the_public_test_set(tmp_path: Path) -> None:
    can = mvtec2(tmp_path) / "can"
    (can / "validation" / "good").rename(can / "validation" / "normal")
    with pytest.raises(InputError, match="validation/good doesn't exist"):
        load("mvtec2", tmp_path)
    for name in ("validation", "test_private", "test_private_mixed"):
        shutil.rmtree(can / name)
    assert Counter(sample.split for sample in load("mvtec2", tmp_path)) == {"train": 3, "test": 2}
    (can / "test_public" / "ground_truth" / "bad" / "000_overexposed_mask.png").unlink()
    with pytest.raises(InputError, match=r"bad/000_overexposed\.png has no mask .*000_overexposed_mask\.png"):
        load("mvtec2", tmp_path)


# ----------------------------------------------------------------------------------------------------------- DAGM


def test_dagm_without_its_list_goes_by_the_labels(tmp_path: Path) -> None:
    listed = load("dagm", dagm(tmp_path))
    for file in tmp_path.rglob("Labels.txt"):
        file.unlink()
    assert load("dagm", tmp_path) == listed
    (tmp_path / "Class1" / "Test" / "0002.PNG").unlink()
    with pytest.raises(InputError, match=r"Label/0002_label\.PNG has no image in .*Test: add it"):
        load("dagm", tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("9\t0\t0009.PNG\t0\t0", r"line 6: 0009\.PNG isn't a file in .*Test: correct the line or add the file"),
        ("3\t1\t0003.PNG\t1\t0003_label.PNG", r"line 6: 0003_label\.PNG isn't a file in .*Label: correct"),
        ("3\t1\t0003.PNG\t1\t0", r"line 6: 0 isn't a file in .*Label"),
        ("3\t2\t0003.PNG\t0\t0", r"line 6: '3\\t2.*' isn't NUMBER 0\|1 IMAGE 0\|1 LABEL\|0: correct it"),
        ("3", "line 6: '3' isn't NUMBER"),
    ],
)
def test_dagm_broken_line(tmp_path: Path, line: str, message: str) -> None:
    file = dagm(tmp_path) / "Class1" / "Test" / "Label" / "Labels.txt"
    file.write_text(f"{file.read_text(encoding='utf-8-sig')}{line}\n")
    with pytest.raises(InputError, match=message):
        load("dagm", tmp_path)


def test_dagm_list_that_is_no_text_or_empty(tmp_path: Path) -> None:
    file = dagm(tmp_path) / "Class1" / "Train" / "Label" / "Labels.txt"
    file.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match=r"Labels\.txt can't be read as UTF-8 .*: copy it again, or remove it"):
        load("dagm", tmp_path)
    file.write_text("1\n")
    with pytest.raises(InputError, match="Class1/Train holds no image"):
        load("dagm", tmp_path)


def test_dagm_missing_folder(tmp_path: Path) -> None:
    shutil.rmtree(dagm(tmp_path) / "Class1" / "Test" / "Label")
    with pytest.raises(InputError, match="Class1/Test/Label doesn't exist: add it, or check --root and --dataset"):
        load("dagm", tmp_path)


# ------------------------------------------------------------------------------------------------------- Kolektor


def test_kolektor_splits_normal_images_in_turn(tmp_path: Path) -> None:
    samples = load("kolektor", kolektor(tmp_path))
    assert names(samples, "train", NORMAL) == ["Part0.jpg", "Part0.jpg"]
    assert names(samples, "test", NORMAL) == ["Part2.jpg", "Part2.jpg"]
    assert names(samples, "test", ABNORMAL) == ["Part1.jpg", "Part1.jpg"]


@pytest.mark.parametrize(
    ("dataset", "folder", "image", "mask"),
    [("kolektor", "kos02", "Part2.jpg", "Part2_label.bmp"), ("kolektor2", "test", "20002.png", "20002_GT.png")],
)
def test_kolektor_images_and_masks_that_do_not_pair(
    tmp_path: Path, dataset: str, folder: str, image: str, mask: str
) -> None:
    here = TREES[dataset](tmp_path) / WHOLE[dataset][0][0] / folder
    (here / mask).write_bytes(b"no image")
    with pytest.raises(InputError, match=f"{mask} is broken or not an image"):
        load(dataset, tmp_path)
    (here / mask).unlink()
    with pytest.raises(InputError, match=f"{image} has no {Path(mask).stem}.* beside it: add this file, or remove"):
        load(dataset, tmp_path)
    (here / image).rename(here / mask)
    with pytest.raises(InputError, match=f"{mask} has no {Path(image).stem}.* beside it"):
        load(dataset, tmp_path)


@pytest.mark.parametrize(("dataset", "folder"), [("kolektor", "kos02"), ("kolektor2", "test")])
def test_kolektor_empty_folder(tmp_path: Path, dataset: str, folder: str) -> None:
    here = TREES[dataset](tmp_path) / WHOLE[dataset][0][0] / folder
    for file in here.iterdir():
        file.unlink()
    with pytest.raises(InputError, match=f"{folder} holds no image of this data set: add it, or check"):
        load(dataset, tmp_path)


# -------------------------------------------------------------------------------------------------- Magnetic tile


def test_magnetic_tile_split_and_defect_types(tmp_path: Path) -> None:
    samples = load("magnetic-tile", magnetic_tile(tmp_path))
    assert names(samples, "train", NORMAL) == ["exp1_num_1.jpg", "exp2_num_1.jpg"]
    assert names(samples, "test", NORMAL) == ["exp1_num_2.jpg"]
    kinds = Counter(sample.defect_type for sample in samples)
    assert kinds == {None: 3, "Blowhole": 2, "Break": 2, "Crack": 2, "Fray": 2, "Uneven": 2}


def test_magnetic_tile_missing_files(tmp_path: Path) -> None:
    tiles = magnetic_tile(tmp_path) / "tiles"
    (tiles / "MT_Fray" / "Imgs" / "exp3_num_7.png").unlink()
    with pytest.raises(InputError, match=r"MT_Fray/Imgs/exp3_num_7\.jpg has no mask .*exp3_num_7\.png: add it$"):
        load("magnetic-tile", tmp_path)
    for image in (tiles / "MT_Free" / "Imgs").glob("*.jpg"):
        image.unlink()
    with pytest.raises(InputError, match=r"MT_Free/Imgs holds no image NAME\.jpg: put normal images there"):
        load("magnetic-tile", tmp_path)
    shutil.rmtree(tiles / "MT_Free")
    with pytest.raises(InputError, match="MT_Free/Imgs doesn't exist"):
        load("magnetic-tile", tmp_path)


# --------------------------------------------------------------------------------------------------- command line


def test_the_command_line_takes_their_names(tmp_path: Path, tiny_backbone: str) -> None:
    root, out = magnetic_tile(tmp_path), tmp_path / "result.json"
    arguments = ["test", "--root", str(root), "--backbone", tiny_backbone, "--k-shot", "1", "--seeds", "0"]
    assert run([*arguments, "--dataset", "magnetic_tile", "--json", str(out)]) == 0
    (found,) = json.loads(out.read_text())["runs"]
    assert found["category"] == "tiles"
    assert Path(found["references"][0]).parent == root / "tiles" / "MT_Free" / "Imgs"
    assert None not in found["metrics"].values()


@pytest.mark.parametrize("command", ["train", "test"])
def test_help_names_every_data_set(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "console", Console(width=200))
    assert run([command, "--help"]) == 0
    *_, line = (line for line in capsys.readouterr().out.splitlines() if "--dataset" in line)
    assert set(DATASETS) <= set(line.replace(",", " ").split())


def test_the_command_line_refuses_another_layout_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["test", "--dataset", "dagm", "--root", str(mpdd(tmp_path))]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(
        "holds no category, looked for CATEGORY/Train/Label and CATEGORY/Test/Label: check --root and --dataset"
    )

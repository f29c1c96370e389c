"""Plain folders, sources given on the command line, and the choice of references."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import trees
from hypothesis import given
from hypothesis import strategies as st

from sowa.core.types import Sample
from sowa.data import categories, choose_references, draw, expand_source, list_images, load, load_folder, split
from sowa.errors import InputError


def counts(samples: list[Sample]) -> dict[tuple[str, int | None], int]:
    return dict(Counter((sample.split, sample.label) for sample in samples))


# -------------------------------------------------------------------------------------------------------- sources


def test_list_images_is_recursive_and_sorted(tmp_path: Path) -> None:
    wanted = trees.originals(tmp_path, ["B.PNG", "a/z.Tiff", "a/ä.jpeg", "c.jpg"])
    trees.originals(tmp_path, [".hidden.png", ".cache/a.png"])
    (tmp_path / "notes.txt").write_text("no image")
    assert list_images(tmp_path) == sorted(wanted)
    assert list_images(str(tmp_path)) == sorted(wanted)


def test_list_images_follows_links_once(tmp_path: Path) -> None:
    image = trees.image(tmp_path / "store" / "a.png")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "line1").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "back").symlink_to(tmp_path / "store")
    assert list_images(tmp_path / "parts") == [tmp_path / "parts" / "line1" / image.name]


def test_list_images_refuses(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(InputError, match="doesn't exist"):
        list_images("x" * 5000)
    with pytest.raises(InputError, match=r"holds no image, looked for \.bmp .*\.png"):
        list_images(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        list_images(trees.image(tmp_path / "a.png"))


def test_expand_source(tmp_path: Path) -> None:
    first, second, third = trees.originals(tmp_path, ["a.png", "b.JPG", "sub/c.png"])
    odd = tmp_path / "image"
    odd.write_bytes(first.read_bytes())
    (tmp_path / "notes.txt").write_text("no image")
    assert expand_source(first) == [first]
    assert expand_source(str(odd)) == [odd]
    assert expand_source(tmp_path) == [first, second, third]
    assert expand_source(f"{tmp_path}/*") == [first, second, third]
    assert expand_source(f"{tmp_path}/*.png") == [first]
    assert expand_source(f"{tmp_path}/**/*.png") == [first, third]
    assert expand_source(f"{tmp_path}/**") == [first, second, third]
    assert expand_source([second, str(tmp_path / "sub"), f"{tmp_path}/a*"]) == [second, third, first]


def test_a_file_name_may_look_like_a_pattern(tmp_path: Path) -> None:
    path = trees.image(tmp_path / "part[1].png")
    assert expand_source(path) == [path]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.png", r"gone\.png doesn't exist"),
        ("*.png", r"pattern .*\*\.png matches no image, looked for"),
        ("x" * 5000, "doesn't exist"),
    ],
)
def test_expand_source_refuses(tmp_path: Path, source: str, message: str) -> None:
    for given_source in (f"{tmp_path}/{source}", [f"{tmp_path}/{source}"]):
        with pytest.raises(InputError, match=message):
            expand_source(given_source)


def test_expand_source_refuses_an_empty_list() -> None:
    with pytest.raises(InputError, match="the list of images is empty"):
        expand_source([])


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every folder")
def test_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    with pytest.raises(InputError, match="can't be listed"):
        load("folder", tmp_path / "shut")


# --------------------------------------------------------------------------------------------------------- folder


def test_any_folder_of_images_is_normal(tmp_path: Path) -> None:
    trees.originals(tmp_path / "parts", ["a.png", "monday/b.png"])
    samples = load_folder(tmp_path / "parts")
    assert counts(samples) == {("train", 0): 2}
    assert categories("folder", tmp_path / "parts") == ["parts"] == [samples[0].category]
    assert load_folder(tmp_path / "parts", "parts") == samples


def test_the_root_gives_its_name_to_the_category(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trees.image(tmp_path / "parts" / "good" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "parts")
    assert categories("folder", tmp_path / "link") == ["link"]
    monkeypatch.chdir(tmp_path / "parts" / "good")
    assert categories("folder", "..") == ["parts"]
    assert categories("folder", ".") == ["good"]


@pytest.mark.parametrize("name", ["good", "Normal", "OK"])
def test_normal_only_is_all_train(tmp_path: Path, name: str) -> None:
    trees.originals(tmp_path / name, trees.numbered(3))
    assert counts(load_folder(tmp_path)) == {("train", 0): 3}


@pytest.mark.parametrize("names", [("good", "bad"), ("OK", "NG"), ("normal", "abnormal"), ("good", "scratch")])
def test_normal_and_anomalous(tmp_path: Path, names: tuple[str, str]) -> None:
    trees.originals(tmp_path / names[0], trees.numbered(5))
    trees.originals(tmp_path / names[1], trees.numbered(3))
    trees.image(tmp_path / "masks" / "000.png")
    samples = load_folder(tmp_path)
    assert counts(samples) == {("train", 0): 3, ("test", 0): 2, ("test", 1): 3}
    train = [sample.image_path.name for sample in split(samples, "train")]
    assert train == ["000.png", "002.png", "004.png"]
    assert {sample.defect_type for sample in samples} == {None, names[1]}
    assert {sample.category for sample in samples} == {tmp_path.name}


def test_folder_with_train_and_test(tmp_path: Path) -> None:
    trees.originals(tmp_path / "train", ["a.png", "monday/b.png"])
    trees.originals(tmp_path / "test", ["good/a.png", "dent/a.png", "new.png"])
    assert counts(load_folder(tmp_path)) == {("train", 0): 2, ("test", 0): 1, ("test", 1): 1, ("test", None): 1}
    trees.originals(tmp_path / "train", ["good/c.png", "ng/d.png"])
    assert counts(load_folder(tmp_path))["train", 1] == 2  # beside good/, monday/ is a defect type too


def test_folder_reads_mvtec_without_masks(tmp_path: Path) -> None:
    trees.mvtec(tmp_path)
    assert categories("folder", tmp_path) == ["bottle", "tile"]
    samples = load_folder(tmp_path, "tile")
    assert counts(samples) == {("train", 0): 5, ("test", 0): 2, ("test", 1): 3}
    assert {sample.mask_path for sample in samples} == {None}
    assert len(load_folder(tmp_path)) == 20


def test_folder_categories(tmp_path: Path) -> None:
    trees.originals(tmp_path / "cap" / "good", ["a.png"])
    trees.originals(tmp_path / "nut", ["a.png", "b.png"])
    assert categories("folder", tmp_path) == ["cap"]
    assert counts(load_folder(tmp_path, "nut")) == {("train", 0): 2}
    with pytest.raises(InputError, match="unknown category 'nuts', there is: nut, cap"):
        load_folder(tmp_path, "nuts")
    with pytest.raises(InputError, match="unknown category 'good', there is: cap"):
        load_folder(tmp_path / "cap", "good")


def test_folder_refuses(tmp_path: Path) -> None:
    trees.originals(tmp_path / "a" / "bad", ["a.png"])
    with pytest.raises(InputError, match="has no normal images: put them into a folder in it called good or"):
        load_folder(tmp_path / "a")
    trees.pairs(tmp_path / "b")
    with pytest.raises(InputError, match=r"has a folder of masks \(masks\), .*--dataset pairs"):
        load_folder(tmp_path / "b")
    (tmp_path / "c" / "train").mkdir(parents=True)
    with pytest.raises(InputError, match="holds no image"):
        load_folder(tmp_path / "c")
    trees.image(tmp_path / "c" / "a.png")
    with pytest.raises(InputError, match="none in train/ or test/"):
        load_folder(tmp_path / "c")


# ------------------------------------------------------------------------------------------------------- sampling


def samples_of(count: int) -> list[Sample]:
    train = [Sample(Path(f"{index:03d}.png"), "cap", "train", 0) for index in range(count)]
    return [
        *train,
        Sample(Path("t.png"), "cap", "test", 0),
        Sample(Path("x.png"), "cap", "train", 1),
        Sample(Path("u.png"), "cap", "train"),
    ]


@given(st.integers(1, 30), st.integers(0, 2**40), st.data())
def test_references_are_nested_and_independent_of_order(count: int, seed: int, data: st.DataObject) -> None:
    samples = samples_of(count)
    many = data.draw(st.integers(0, count))
    few = data.draw(st.integers(0, many))
    chosen = choose_references(samples, many, seed)
    assert len(chosen) == len(set(chosen)) == many
    assert all((sample.split, sample.label) == ("train", 0) for sample in chosen)
    assert choose_references(samples, few, seed) == chosen[:few]
    assert choose_references(data.draw(st.permutations(samples)), many, seed) == chosen


def test_references_are_those_of_numpys_permutation() -> None:
    chosen = choose_references(samples_of(10), 4, 3)
    expected = np.random.default_rng(3).permutation(10)[:4]
    assert [int(sample.image_path.stem) for sample in chosen] == expected.tolist()
    assert chosen != choose_references(samples_of(10), 4, 4)
    assert draw("abc", 3, 0) == [("abc")[index] for index in np.random.default_rng(0).permutation(3)]


def test_too_many_references() -> None:
    with pytest.raises(InputError, match=r"k-shot is 8, but there are only 5 normal .* choose k-shot 0 to 5"):
        choose_references(samples_of(5), 8, 0)


@pytest.mark.parametrize(("k_shot", "seed"), [(-1, 0), (1, -1)])
def test_negative_numbers_are_refused(k_shot: int, seed: int) -> None:
    with pytest.raises(InputError, match="both must be 0 or more"):
        choose_references(samples_of(5), k_shot, seed)


def test_split() -> None:
    assert len(split(samples_of(2), "train")) == 4
    assert len(split(samples_of(2), "test")) == 1
    with pytest.raises(InputError, match="split is 'val', allowed are train and test"):
        split(samples_of(2), "val")

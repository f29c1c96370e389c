"""What comes before training: `sowa task init`, `sowa data check`, `sowa prompts preview`."""

from __future__ import annotations

import json
import shlex

import cv2
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sowa.cli.app import run
from sowa.data import read_image
from sowa.data.checks import BITS, check, fingerprint, items
from sowa.synthetic import generate


def save(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path, **options)


@pytest.fixture(scope="module")
def images():
    return [generate("wood", size=96, seed=seed, style_seed=seed).image for seed in range(8)]


@pytest.fixture
def folders(tmp_path, images):
    """Two classes in two splits, all images different."""
    for number, image in enumerate(images):
        split, kind = ("train", "test")[number // 4 % 2], ("oak", "ash tree")[number % 2]
        save(tmp_path / "data" / split / kind / f"{number}.png", image)
    return tmp_path / "data"


def test_good_data_has_counts_and_no_problems(folders):
    found = check(items("imagefolder", folders))
    assert found.counts == {"ash tree": {"train": 2, "test": 2}, "oak": {"train": 2, "test": 2}}
    assert found.problems() == {}


def test_broken_twice_and_leaked_images_are_found(folders, images):
    (folders / "train" / "oak" / "broken.png").write_bytes(b"no image")
    (folders / "train" / "oak" / "copy.png").write_bytes((folders / "train" / "oak" / "0.png").read_bytes())
    smaller = cv2.resize(images[1], (70, 70), interpolation=cv2.INTER_AREA)
    save(folders / "test" / "oak" / "again.jpg", smaller, quality=80)
    found = check(items("imagefolder", folders)).problems()
    assert {what: len(examples) for what, examples in found.items()} == {"broken": 1, "same_file": 1, "leaked": 1}
    assert {path.rsplit("/", 1)[1] for path in found["leaked"][0]} == {"1.png", "again.jpg"}
    assert "broken.png" in found["broken"][0][0]


def test_the_same_file_in_two_splits_is_leaked_too(folders):
    (folders / "test" / "oak" / "copy.png").write_bytes((folders / "train" / "oak" / "0.png").read_bytes())
    assert check(items("imagefolder", folders)).problems().keys() == {"same_file", "leaked"}


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.floats(0.5, 1.5), st.integers(40, 200))
def test_a_fingerprint_survives_scaling_and_brightness_and_tells_others_apart(seed, light, side):
    random = np.random.default_rng(seed)
    one, two = (cv2.resize(random.random((7, 7, 3), np.float32), (128, 128)) for _ in range(2))
    seen = [np.clip(image * 160, 0, 255).astype(np.uint8) for image in (one, two)]
    changed = cv2.resize(np.clip(one * 160 * light, 0, 255).astype(np.uint8), (side, side))
    assert (fingerprint(seen[0]) != fingerprint(changed)).sum() <= BITS
    assert (fingerprint(seen[0]) != fingerprint(seen[1])).sum() > BITS


def test_images_without_structure_are_not_called_alike(tmp_path):
    for number in range(4):
        save(tmp_path / "ab"[number % 2] / f"{number}.png", np.full((30, 30, 3), 10 * number, np.uint8))
    assert check(items("imagefolder", tmp_path)).problems() == {}


def test_check_tells_counts_and_problems(folders, tmp_path, capsys):
    (folders / "train" / "oak" / "copy.png").write_bytes((folders / "train" / "oak" / "0.png").read_bytes())
    line = f"data check --dataset imagefolder --root {folders} --json {tmp_path / 'found.json'}"
    assert run(shlex.split(line)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1]) == {
        "event": "data check",
        "images": 9,
        "without_boxes": 0,
        "same_file": 1,
    }
    assert "1 group(s) of images that are the same file" in err
    assert json.loads((tmp_path / "found.json").read_text())["counts"]["oak"] == {"train": 3, "test": 2}


def test_check_knows_the_data_sets_of_anomaly_detection(dataset):
    found = check(items("mvtec", dataset))
    assert found.counts["wood: good"] == {"train": 6, "test": 3}


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_the_configuration_is_what_the_command_reads_when_it_is_filled_in(task, tmp_path, capsys):
    out = tmp_path / f"{task}.yaml"
    assert run(["task", "init", task, "--out", str(out)]) == 0
    text = out.read_text()
    assert run([task, "train", "--config", str(out)]) == 2  # what is needed is still empty
    filled = yaml.safe_load(text)
    needed = {"dataset": "coco", "root": "images", "out": "weights.safetensors"}
    assert {name for name, value in filled.items() if value is None} <= needed.keys()
    out.write_text(yaml.safe_dump({name: needed.get(name, value) for name, value in filled.items()}))
    capsys.readouterr()
    assert run([task, "train", "--config", str(out), "--print-config"]) == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["root"] == "images"
    assert printed["seed"] == 0
    assert all(line.startswith("#") or ":" in line for line in text.splitlines() if line)
    assert run(["task", "init", task, "--out", str(out)]) == 2  # never over a file that's there


def test_preview_shows_which_words_are_close(tiny_backbone, tmp_path, capsys):
    words = tmp_path / "words.txt"
    words.write_text("red\nhole\nblue thing\n")
    line = f"prompts preview --names 'hole, big crack' --words {words} --backbone {tiny_backbone}"
    assert run(shlex.split(f"{line} --out {tmp_path / 'heat.png'} --json {tmp_path / 'alike.json'}")) == 0
    found = json.loads((tmp_path / "alike.json").read_text())
    assert found["names"] == ["hole", "big crack"]
    assert np.diag(found["among"]) == pytest.approx([1, 1], abs=1e-3)
    assert found["with_words"][0][1] == pytest.approx(1, abs=1e-3)
    assert read_image(tmp_path / "heat.png").std() > 10
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["nearest"]["hole"].startswith("big crack")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("data check --dataset voc --root .", "'voc'"),
        ("data check --dataset imagefolder --root gone", "doesn't exist"),
        ("prompts preview --names ','", "--names are []"),
        ("prompts preview --names a,a", "--names are ['a', 'a']"),
        ("prompts preview --names a --template '{} {x}' --backbone {tiny}", "isn't understood"),
        ("task init segment", "segment"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(line, told, tiny_backbone, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(shlex.split(line.replace("{tiny}", tiny_backbone))) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith("sowa: ")
    assert told in error[-1]

"""``sowa detect`` as a user types it."""

from __future__ import annotations

import json
import shlex

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from sowa.cli.app import run
from sowa.data import read_image
from sowa.synthetic.scenes import Inventory, write_scenes

FAST = "--epochs 1 --batch-size 3 --width 16 --precision fp32"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes")
    return write_scenes(root, Inventory({}), {"train": 4, "val": 2, "test": 2}, size=64)


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    """Four boards with a white square that the reference doesn't have."""
    root = tmp_path_factory.mktemp("boards")
    for index in range(4):
        board = np.zeros((64, 64, 3), np.uint8)
        Image.fromarray(board).save(root / f"{index}_temp.jpg")
        board[10 * index : 10 * index + 12, 20:32] = 255
        Image.fromarray(board).save(root / f"{index}_test.jpg")
        (root / f"{index}.txt.boxes").write_text(f"20 {10 * index} 32 {10 * index + 12} {1 + index % 2}")
    (root / "pairs.txt").write_text("".join(f"{index}.jpg {index}.txt.boxes\n" for index in range(4)))
    return root


@pytest.fixture(scope="module")
def model(scenes, tiny_backbone, tmp_path_factory):
    out = tmp_path_factory.mktemp("model") / "scenes.safetensors"
    line = f"detect train --dataset coco --root {scenes} --backbone {tiny_backbone} --phrases --out {out} {FAST}"
    assert run(shlex.split(line)) == 0
    return out


def test_what_was_trained_is_measured_and_used(model, scenes, tmp_path, capsys):
    out = tmp_path / "result.json"
    assert run(shlex.split(f"detect test --model {model} --dataset coco --root {scenes} --json {out}")) == 0
    told = json.loads(out.read_text())
    assert told["split"] == "test"
    assert told["images"] == 2
    assert {"mAP50", "mAP50-95", "mAP50 small", "threshold", "false_alarms"} <= told.keys()
    capsys.readouterr()
    line = f"detect predict {scenes / 'test'} --model {model} --query ring 'red star' --least-score 0.01"
    assert run(shlex.split(f"{line} --out {tmp_path / 'drawn'} --coco {tmp_path / 'coco.json'}")) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["boxes"]) > 0 for line in lines] == [True, True]
    assert {box["label"] for line in lines for box in line["boxes"]} <= {"ring", "red star"}
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["00000_boxes.jpg", "00001_boxes.jpg"]
    assert read_image(drawn[0]).shape == (64, 64, 3)
    coco = COCO(tmp_path / "coco.json")
    assert len(coco.anns) == sum(len(line["boxes"]) for line in lines)


def test_info_tells_what_a_model_holds(model, capsys):
    assert run(["info", str(model), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "sowa-detect"
    assert told["image size"] == "64 x 64"
    assert all(len(name.split()) == 3 for name in told["classes"])
    assert any(line.startswith("mAP50 ") for line in told["held-out metrics"])


def test_a_query_that_is_nowhere_returns_nothing(model, scenes, capsys):
    line = f"detect predict {scenes / 'test'} --model {model} --query ring --least-score 0.999"
    assert run(shlex.split(line)) == 0
    assert [json.loads(line)["boxes"] for line in capsys.readouterr().out.splitlines()] == [[], []]


def test_references_are_a_second_input(boards, tiny_backbone, tmp_path, capsys):
    out, data = tmp_path / "boards.safetensors", f"--dataset deeppcb --root {boards}"
    line = f"detect train {data} --reference --held-out 0.5 --augment rotate90 --backbone {tiny_backbone} --out {out}"
    assert run(shlex.split(f"{line} {FAST}")) == 0
    assert run(shlex.split(f"detect test {data} --model {out} --json {tmp_path / 'a.json'}")) == 0
    told = json.loads((tmp_path / "a.json").read_text())
    assert told["split"] == "held out in training"
    assert told["images"] == 2
    capsys.readouterr()
    line = f"detect predict {boards}/0_test.jpg --model {out} --reference {boards}/0_temp.jpg --least-score 0.01"
    assert run(shlex.split(line)) == 0
    assert json.loads(capsys.readouterr().out)["boxes"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("train --dataset coco --root {root}/gone --out {out}", "no *.json"),
        ("train --dataset voc --root {root} --out {out}", "voc"),
        ("train --dataset coco --root {root} --out {out} --epochs 0", "epochs 0"),
        ("train --dataset coco --root {root} --out {out} --held-out 1", "held-out is 1"),
        ("train --dataset coco --root {root} --out {out} --reference", "has no reference"),
        ("train --dataset coco --root {root} --out {out} --augment tilt", "augment is 'tilt'"),
        ("train --dataset coco --root {root} --out {out} --image-size 50", "multiples of the patch"),
        ("predict {root}/test --model {model} --query ''", "queries are"),
        ("predict {root}/test --model {model} --query a a", "queries are"),
        ("predict {root}/gone --model {model}", "doesn't exist"),
        ("predict {root}/test --model {model} --reference {root}/test", "leave --reference out"),
        ("predict {root}/test --model {root}/annotations/test.json", "truncated or wasn't written"),
        ("test --model {model} --dataset yolo --root {root}", "no *.yaml"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(line, told, model, scenes, tiny_backbone, tmp_path, capsys):
    out = tmp_path / "x.safetensors"
    words = shlex.split("detect " + line.format(root=scenes, model=model, out=out))
    if "--out" in words:
        words += ["--backbone", tiny_backbone]
    assert run(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("sowa: ")
    assert told in error
    assert not list(tmp_path.iterdir())

"""What a hostile or careless user types: exit code 2, one line that says what is wrong, nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import sowa
from sowa.cli.app import run
from sowa.core.files import VERSIONS
from sowa.errors import InputError

EARLIER = b"what an earlier run wrote"
LONG = "x" * 300


@pytest.fixture(scope="module")
def weights_file(tiny_backbone: str, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    arguments = ["train", "--dataset", "mvtec", "--root", str(dataset), "--category", "wood"]
    assert run([*arguments, "--backbone", tiny_backbone, "--adapter.window-size", "4", "--out", str(path)]) == 0
    return path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must be refused; returns the one line that it says."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert code == 2, (code, captured.err)
        lines = [line for line in captured.err.splitlines() if not line.startswith('{"event": "progress"')]
        assert len(lines) == 1, lines
        assert lines[0].startswith("sowa: ")
        assert len(lines[0]) > 15
        assert "Traceback" not in captured.err
        assert not captured.out.strip()
        return lines[0]

    return call


@pytest.fixture
def fit_refused(refused: Any, tiny_backbone: str, normal: Path, tmp_path: Path) -> Callable[..., str]:
    """``sowa fit`` with a wrong flag; an earlier detector under ``--out`` stays as it was."""
    out = tmp_path / "out" / "part.sowa"
    out.parent.mkdir()
    out.write_bytes(EARLIER)

    def call(*flags: object) -> str:
        given = {str(flag).partition("=")[0] for flag in flags}
        defaults = {"--normal": normal, "--backbone": tiny_backbone, "--out": out}
        arguments = [part for flag, value in defaults.items() if flag not in given for part in (flag, value)]
        line: str = refused("fit", *arguments, *flags)
        assert out.read_bytes() == EARLIER
        assert [path.name for path in out.parent.iterdir()] == ["part.sowa"]
        return line

    return call


@pytest.fixture
def predict_refused(refused: Any, detector_file: Path, normal: Path, tmp_path: Path) -> Callable[..., str]:
    """``sowa predict`` with a wrong flag; earlier results stay as they were and nothing is added."""
    results = tmp_path / "results"
    results.mkdir()
    for name in ("r.jsonl", "000_overlay.jpg"):
        (results / name).write_bytes(EARLIER)

    def call(source: object = normal, *flags: object) -> str:
        given = {str(flag).partition("=")[0] for flag in flags}
        defaults = {"--model": detector_file, "--out": results, "--json": results / "r.jsonl"}
        arguments = [part for flag, value in defaults.items() if flag not in given for part in (flag, value)]
        line: str = refused("predict", source, *arguments, *flags)
        assert {path.name: path.read_bytes() for path in results.iterdir()} == {
            "r.jsonl": EARLIER,
            "000_overlay.jpg": EARLIER,
        }
        return line

    return call


@pytest.fixture
def wood(dataset: Path, tmp_path: Path) -> Path:
    """A category that a test may spoil."""
    return Path(shutil.copytree(dataset / "wood", tmp_path / "data" / "wood"))


@pytest.fixture
def test_refused(refused: Any, dataset: Path, tiny_backbone: str, tmp_path: Path) -> Callable[..., str]:
    """``sowa test`` with a wrong flag; an earlier result stays as it was."""
    out = tmp_path / "result.json"
    out.write_bytes(EARLIER)

    def call(*flags: object) -> str:
        given = {str(flag).partition("=")[0] for flag in flags}
        defaults = {"--dataset": "mvtec", "--root": dataset, "--backbone": tiny_backbone, "--json": out}
        defaults |= {"--k-shot": "1", "--seeds": "0"}
        arguments = [part for flag, value in defaults.items() if flag not in given for part in (flag, value)]
        line: str = refused("test", *arguments, *flags)
        assert out.read_bytes() == EARLIER
        return line

    return call


# Commands and flags


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nonsense"], "nonsense"),
        (["--nonsense"], "nonsense"),
        (["predict"], "predict"),
        (["fit"], "--normal"),
        (["predict"], "source"),
        (["train", "--dataset", "mvtec", "--root", "x"], "--out"),
        (["test", "--dataset", "mvtec"], "--root"),
        (["fit", "--normal"], "--normal"),
        (["info", "a", "b", "c"], ""),
        (["doctor", "--loud"], "--loud"),
        (["demo", "--size", "large"], "--size"),
        (["fit", "--config"], "--config"),
        (["fit", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["fit", "-c", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_a_wrong_command_or_a_missing_flag_is_named(refused: Any, arguments: list[str], words: str) -> None:
    assert words in refused(*arguments)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--k-shot=0", "1 to 6"),
        ("--k-shot=-1", "1 to 6"),
        ("--k-shot=7", "1 to 6"),
        ("--k-shot=two", "two"),
        ("--k-shot=", "k-shot"),
        ("--seed=one", "one"),
        ("--seed=-1", "-1"),
        ("--image-size=10", "10 x 10"),
        ("--image-size=0x0", "0 x 0"),
        ("--image-size=0", "0 x 0"),
        ("--image-size=-5", "-5 x -5"),
        ("--image-size=abc", "abc"),
        ("--image-size=65", "16 x 16"),
        ("--image-size=64x65", "64 x 65"),
        ("--image-size=64x", "64x"),
        ("--image-size=64x64x64", "64x64x64"),
        ("--image-size=", "image-size"),
        ("--batch-size=0", "batch size"),
        ("--batch-size=-1", "batch size"),
        ("--batch-size=many", "many"),
        ("--device=abacus", "abacus"),
        ("--precision=int3", "int3"),
        ("--nonsense=1", "--nonsense"),
        ("nonsense", "nonsense"),
        ("--backbone=nonsense", "nonsense"),
        ("--backbone=ViT-L-14-33", "ViT-L-14-336"),
        ("--backbone=ViT-B-32:nonsense", "nonsense"),
        ("--backbone=mini:nonsense", "nonsense"),
        ("--backbone=", "backbone"),
        (f"--backbone={LONG}", "backbone"),
        ("--patch-fraction=0", "patch fraction is 0.0"),
        ("--patch-fraction=1.01", "patch fraction is 1.01"),
        ("--patch-fraction=nan", "patch fraction is nan"),
        ("--model=nowhere.safetensors", "nowhere.safetensors"),
        (f"--model={LONG}", ""),
        ("--normal=nowhere", "nowhere"),
        ("--normal=nowhere/*.png", "nowhere/*.png"),
        (f"--normal={LONG}", "doesn't exist"),
        ("--normal=/dev/zero", "/dev/zero"),
        ("--config=nowhere.yaml", "nowhere.yaml"),
    ],
)
def test_a_wrong_flag_of_fit_is_refused_and_the_old_detector_stays(fit_refused: Any, flag: str, words: str) -> None:
    assert words in fit_refused(flag)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_isn_t_there_is_refused_with_a_way_out(fit_refused: Any) -> None:
    assert "--device auto" in fit_refused("--device=cuda")


def test_a_model_that_is_missing_is_called_a_missing_file_and_no_unknown_backbone(fit_refused: Any) -> None:
    line = fit_refused("--model=nowhere.safetensors")
    assert "did you mean mini" not in line


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--batch-size=0", "batch size"),
        ("--batch-size=-1", "batch size"),
        ("--device=abacus", "abacus"),
        ("--precision=int3", "int3"),
        ("--search=nonsense", "nonsense"),
        ("--nonsense=1", "--nonsense"),
        ("--model=nowhere.sowa", "nowhere.sowa"),
        ("--model=.", "no file"),
        (f"--model={LONG}", ""),
    ],
)
def test_a_wrong_flag_of_predict_is_refused_and_old_results_stay(
    predict_refused: Any, normal: Path, flag: str, words: str
) -> None:
    assert words in predict_refused(normal, flag)


@pytest.mark.parametrize("source", ["nowhere", "nowhere/**/*.png", "/dev/zero", LONG])
def test_a_wrong_source_of_predict_is_refused_and_old_results_stay(predict_refused: Any, source: str) -> None:
    predict_refused(source)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--dataset=nonsense", "mvtec"),
        ("--category=wod", "wood"),
        ("--root=nowhere", "nowhere"),
        ("--dataset=visa", "category"),
        ("--dataset=pairs", "category"),
        ("--k-shot=0,x", "0,x"),
        ("--k-shot=", "k-shot"),
        ("--k-shot=-1", "-1"),
        ("--k-shot=7", "6"),
        ("--k-shot=1,,2", "1,,2"),
        ("--seeds=one", "one"),
        ("--seeds=", "seeds"),
        ("--seeds=-1", "-1"),
        ("--seeds=0.5", "0.5"),
        ("--batch-size=0", "batch size"),
        ("--scoring=guess", "guess"),
        ("--aupro=guess", "guess"),
        ("--image-size=10", "10 x 10"),
        ("--backbone=nonsense", "nonsense"),
        ("--nonsense=1", "nonsense"),
    ],
)
def test_a_wrong_flag_of_test_is_refused_and_the_old_result_stays(test_refused: Any, flag: str, words: str) -> None:
    assert words in test_refused(flag)


# Images


def test_an_empty_folder_is_refused(fit_refused: Any, predict_refused: Any, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "holds no image" in fit_refused("--normal", tmp_path / "empty")
    assert "holds no image" in predict_refused(tmp_path / "empty")


def broken_images(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "empty.png").touch()
    (folder / "text.png").write_text("no image")
    (folder / "zip.jpg").write_bytes(b"PK\x03\x04" + bytes(100))
    whole = folder / "whole.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)).save(whole)
    (folder / "truncated.png").write_bytes(whole.read_bytes()[:2000])
    whole.unlink()
    return folder


def test_a_folder_with_broken_images_alone_is_refused(fit_refused: Any, predict_refused: Any, tmp_path: Path) -> None:
    folder = broken_images(tmp_path / "broken")
    assert "none of 4 images can be read" in fit_refused("--normal", folder)
    assert "none of 4 images can be read" in predict_refused(folder)


def test_some_broken_images_are_counted_and_the_rest_judged(
    detector_file: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = broken_images(tmp_path / "parts")
    (folder / "good.png").write_bytes((normal / "000.png").read_bytes())
    assert run(["predict", str(folder), "--model", str(detector_file), "--json", str(tmp_path / "r.jsonl")]) == 0
    assert "4 broken image(s) skipped" in capsys.readouterr().err
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1


def test_more_shots_than_readable_images_are_refused(fit_refused: Any, normal: Path, tmp_path: Path) -> None:
    folder = broken_images(tmp_path / "parts")
    (folder / "good.png").write_bytes((normal / "000.png").read_bytes())
    assert "only 1 of 5 images can be read, needed are 2" in fit_refused("--normal", folder, "--k-shot=2")


def test_a_file_name_with_a_line_break_doesn_t_break_the_one_line(predict_refused: Any, tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "two\nlines.png").write_bytes(b"broken")
    predict_refused(tmp_path / "parts")


def test_a_pipe_or_a_folder_in_the_place_of_a_file_doesn_t_hang(
    fit_refused: Any, predict_refused: Any, refused: Any, normal: Path, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    assert "isn't a file" in predict_refused(pipe)
    assert "isn't a file" in fit_refused("--normal", pipe)
    for place in (pipe, tmp_path):
        assert "no file" in predict_refused(normal, "--model", place)
        assert "no file" in refused("info", place)
        assert "no file" in refused("fit", "--config", place)
        fit_refused("--backbone", place)
        fit_refused("--model", place)


def test_a_mask_of_another_size_is_refused_with_both_sizes(test_refused: Any, wood: Path) -> None:
    mask = wood / "ground_truth" / "hole" / "000_mask.png"
    Image.new("L", (30, 20), 255).save(mask)
    line = test_refused("--root", wood.parent)
    assert "20 x 30" in line
    assert "96 x 96" in line
    assert str(mask) in line


def test_a_broken_mask_is_refused_by_name(test_refused: Any, wood: Path) -> None:
    mask = wood / "ground_truth" / "hole" / "000_mask.png"
    mask.write_bytes(b"broken")
    assert str(mask) in test_refused("--root", wood.parent)


def test_test_images_that_are_all_broken_are_refused(test_refused: Any, wood: Path) -> None:
    for path in (wood / "test").rglob("*.png"):
        path.write_bytes(b"broken")
    assert "none of 10 test images can be read" in test_refused("--root", wood.parent)


def test_only_good_images_can_t_be_tested(test_refused: Any, normal: Path) -> None:
    assert "no labelled test image" in test_refused("--dataset", "folder", "--root", normal)


# Files of ours, and files that aren't


def content(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return load_file(path), file.metadata()


def foreign(path: Path) -> None:
    save_file({"weight": torch.zeros(3)}, path)


def pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"bank": [1, 2, 3]}))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bank", "data")


FILES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.touch(),
    "text": lambda path: path.write_text("a detector"),
    "json": lambda path: path.write_text("{}"),
    "zeros": lambda path: path.write_bytes(bytes(1000)),
    "random": lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)),
    "pickle": pickled,
    "zip": zipped,
    "torch": lambda path: torch.save({"bank": torch.zeros(3)}, path),
    "somebody's safetensors": foreign,
    "huge header": lambda path: path.write_bytes((2**63 - 1).to_bytes(8, "little") + b"{}"),
    "header of 4 GB": lambda path: path.write_bytes((2**32).to_bytes(8, "little") + b"{}"),
    "largest number": lambda path: path.write_bytes(b"\xff" * 8 + b"{}" * 50),
    "header longer than the file": lambda path: path.write_bytes((500).to_bytes(8, "little") + b"{}"),
}


def header_only(path: Path, entry: dict[str, Any]) -> None:
    header = json.dumps(
        {"__metadata__": {"format": "sowa-detector", "version": str(VERSIONS["sowa-detector"])}, "bank": entry}
    ).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(16))


ENTRIES = {
    "astronomic shape": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 16]},
    "astronomic offsets": {"dtype": "F32", "shape": [4], "data_offsets": [0, 2**62]},
    "negative offsets": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]},
    "unknown type": {"dtype": "F7", "shape": [4], "data_offsets": [0, 16]},
    "offsets backwards": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]},
}


@pytest.mark.parametrize("name", [*FILES, *ENTRIES])
def test_a_file_that_is_no_detector_is_refused_everywhere(
    predict_refused: Any, fit_refused: Any, refused: Any, normal: Path, tmp_path: Path, name: str
) -> None:
    path = tmp_path / "part.sowa"
    if name in FILES:
        FILES[name](path)
    else:
        header_only(path, ENTRIES[name])
    assert "part.sowa" in predict_refused(normal, "--model", path)
    assert "part.sowa" in refused("info", path)
    assert "part.sowa" in fit_refused("--model", path)
    assert "part.sowa" in fit_refused("--backbone", path)
    path = path.rename(tmp_path / "part.safetensors")
    assert "part.safetensors" in fit_refused("--model", path)


def test_nothing_is_ever_unpickled(predict_refused: Any, fit_refused: Any, normal: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    path = tmp_path / "trap.sowa"
    path.write_bytes(pickle.dumps(Trap()))
    predict_refused(normal, "--model", path)
    fit_refused("--model", path)
    torch.save({"visual.proj": Trap()}, path)
    fit_refused("--backbone", path)
    assert not (tmp_path / "sprung").exists()


def test_no_advice_of_a_library_to_load_unsafely_is_passed_on(fit_refused: Any, detector_file: Path) -> None:
    """PyTorch's own message recommends to set weights_only to False; a user can't and shouldn't."""
    line = fit_refused("--model", detector_file)
    assert "weights_only" not in line
    assert "arbitrary code" not in line


def test_a_detector_truncated_at_any_length_is_refused(detector_file: Path, tmp_path: Path) -> None:
    whole, path = detector_file.read_bytes(), tmp_path / "part.sowa"
    for length in [*range(0, 64), *range(64, len(whole), 997), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"part\.sowa"):
            sowa.Sowa.load(path)


def test_a_detector_with_something_behind_it_is_refused(detector_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "part.sowa"
    path.write_bytes(detector_file.read_bytes() + b"more")
    with pytest.raises(InputError, match=r"part\.sowa"):
        sowa.Sowa.load(path)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True)
@given(data=st.data())
def test_a_detector_with_a_changed_header_loads_or_is_refused(
    detector_file: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A byte of the header replaced by another: never a crash."""
    whole = bytearray(detector_file.read_bytes())
    end = 8 + int.from_bytes(whole[:8], "little")
    place = data.draw(st.integers(0, end - 1))
    whole[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("changed") / "part.sowa"
    path.write_bytes(whole)
    with suppress(InputError):
        sowa.Sowa.load(path)


@settings(max_examples=60, suppress_health_check=list(HealthCheck), derandomize=True)
@given(bytes_=st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, bytes_: bytes) -> None:
    path = tmp_path_factory.mktemp("random") / "part.sowa"
    path.write_bytes(bytes_)
    with pytest.raises(InputError, match=r"part\.sowa"):
        sowa.Sowa.load(path)


def test_a_file_of_another_version_is_refused_with_both_versions(
    predict_refused: Any, refused: Any, detector_file: Path, normal: Path, tmp_path: Path
) -> None:
    path = tmp_path / "part.sowa"
    tensors, metadata = content(detector_file)
    save_file(tensors, path, metadata=metadata | {"version": "99"})
    for line in (predict_refused(normal, "--model", path), refused("info", path)):
        assert "version 99" in line
        assert f"version {VERSIONS['sowa-detector']}" in line


def test_a_backbone_in_the_place_of_a_detector_is_refused(
    predict_refused: Any, tiny_backbone: str, normal: Path
) -> None:
    assert "wasn't written by this package" in predict_refused(normal, "--model", tiny_backbone)


def test_a_detector_in_the_place_of_weights_is_called_a_detector(
    fit_refused: Any, test_refused: Any, detector_file: Path
) -> None:
    assert "detector" in fit_refused("--model", detector_file).replace(str(detector_file.parent), "")
    assert "detector" in test_refused("--model", detector_file).replace(str(detector_file.parent), "")


def test_weights_under_another_suffix_are_taken_or_refused_as_such(
    weights_file: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``sowa train --out weights`` writes them, so ``sowa fit --model weights`` has to know them."""
    path = Path(shutil.copy(weights_file, tmp_path / "weights"))
    code = run(["fit", "--model", str(path), "--normal", str(normal), "--out", str(tmp_path / "x.sowa")])
    line = capsys.readouterr().err
    assert code == 0 or "safetensors" in line
    assert "weights_only" not in line


HEADER = ["config", "backbone", "trained", "image_size", "category", "calibration", "references", "seed"]
VALUES: list[tuple[str, Any]] = [
    ("image_size", [1]),
    ("image_size", ["a", "b"]),
    ("image_size", [-16, -16]),
    ("image_size", [0, 0]),
    ("image_size", None),
    ("calibration", {"threshold": "x"}),
    ("calibration", {"threshold": -1.0, "pixel_threshold": 0.5}),
    ("calibration", {"threshold": 1.0, "image": {"centre": 0.0, "width": 0.0, "freedom": 4.0}}),
    ("calibration", []),
    ("references", 5),
    ("references", []),
    ("trained", True),
    ("config", []),
    ("config", {"sigma": "x"}),
    ("config", {"nonsense": 1}),
    ("backbone", {}),
    ("backbone", []),
    ("backbone", {"name": 5, "levels": [], "fingerprint": ""}),
    ("backbone", {"name": "nonsense", "levels": [0], "fingerprint": ""}),
]


def spoil(detector_file: Path, path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    tensors, metadata = content(detector_file)
    header = json.loads(metadata["sowa"])
    change(header)
    save_file(tensors, path, metadata=metadata | {"sowa": json.dumps(header)})
    return path


@pytest.mark.parametrize("key", HEADER)
def test_a_detector_whose_header_lacks_something_is_refused(
    detector_file: Path, predict_refused: Any, normal: Path, tmp_path: Path, key: str
) -> None:
    path = spoil(detector_file, tmp_path / "part.sowa", lambda header: header.pop(key))
    assert "part.sowa" in predict_refused(normal, "--model", path)


@pytest.mark.parametrize("key", HEADER)
def test_info_on_a_header_that_lacks_something_doesn_t_crash(detector_file: Path, tmp_path: Path, key: str) -> None:
    path = spoil(detector_file, tmp_path / "part.sowa", lambda header: header.pop(key))
    assert run(["info", str(path)]) in (0, 2)


@pytest.mark.parametrize(("key", "value"), VALUES, ids=str)
def test_a_detector_whose_header_says_something_impossible_is_refused(
    detector_file: Path, predict_refused: Any, normal: Path, tmp_path: Path, key: str, value: Any
) -> None:
    path = spoil(detector_file, tmp_path / "part.sowa", lambda header: header.update({key: value}))
    predict_refused(normal, "--model", path)


@pytest.mark.parametrize("text", ["", "[]", "5", "null", "{", "[" * 100_000], ids=["", "[]", "5", "null", "{", "deep"])
def test_a_detector_whose_header_is_no_object_is_refused(
    detector_file: Path, predict_refused: Any, normal: Path, tmp_path: Path, text: str
) -> None:
    tensors, metadata = content(detector_file)
    save_file(tensors, tmp_path / "part.sowa", metadata=metadata | {"sowa": text})
    assert "part.sowa" in predict_refused(normal, "--model", tmp_path / "part.sowa")


BANKS: dict[str, Callable[[torch.Tensor], dict[str, torch.Tensor]]] = {
    "missing": lambda bank: {},
    "flat": lambda bank: {"bank": bank.flatten()},
    "fewer levels": lambda bank: {"bank": bank[1:].clone()},
    "fewer references": lambda bank: {"bank": bank[:, 1:].clone()},
    "no patches": lambda bank: {"bank": bank[:, :, :0].clone()},
    "narrower": lambda bank: {"bank": bank[..., 1:].clone()},
    "not a number": lambda bank: {"bank": bank * float("nan")},
}


@pytest.mark.parametrize("name", BANKS)
def test_a_memory_bank_that_doesn_t_fit_is_refused(
    detector_file: Path, predict_refused: Any, normal: Path, tmp_path: Path, name: str
) -> None:
    tensors, metadata = content(detector_file)
    save_file(BANKS[name](tensors["bank"]), tmp_path / "part.sowa", metadata=metadata)
    assert "part.sowa" in predict_refused(normal, "--model", tmp_path / "part.sowa")


# Configuration files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("nonsense: 3\n", "nonsense"),
        ("- a\n- b\n", "mapping"),
        ("just text", "mapping"),
        ("a: [\n", ""),
        ("\tx: 1", ""),
        ("k-shot: [1, 2]\n", "k-shot"),
        ("k-shot: {a: 1}\n", "k-shot"),
        ("k-shot: true\n", "k-shot"),
        ("k-shot: 0\n", "k-shot"),
        ("device: abacus\n", "abacus"),
        ("json: true\n", "json"),
        ("fit: {k-shot: 2}\n", "fit"),
        ("1: 2\n", ""),
        ("? [a]\n: b\n", ""),
        ("!!python/object/apply:os.getcwd []\n", ""),
    ],
)
def test_a_wrong_config_file_is_refused(fit_refused: Any, tmp_path: Path, text: str, words: str) -> None:
    config = tmp_path / "fit.yaml"
    config.write_text(text)
    assert words in fit_refused("--config", config)


def test_a_config_file_of_bytes_is_refused_by_name(fit_refused: Any, tmp_path: Path) -> None:
    config = tmp_path / "fit.yaml"
    config.write_bytes(b"\xff\xfe\x00k")
    assert "fit.yaml" in fit_refused("--config", config)


def test_a_config_file_with_a_name_too_long_is_refused(refused: Any) -> None:
    refused("fit", "--config", LONG)


def test_a_config_file_runs_no_code(fit_refused: Any, tmp_path: Path) -> None:
    (tmp_path / "fit.yaml").write_text(f"!!python/object/apply:os.mkdir ['{tmp_path / 'sprung'}']\n")
    fit_refused("--config", tmp_path / "fit.yaml")
    assert not (tmp_path / "sprung").exists()


# Places where nothing can be written


@pytest.mark.parametrize("place", ["file/part.sowa", "file/deeper/part.sowa", "folder", "folder/", ".", "", f"{LONG}"])
def test_a_detector_that_can_t_be_written_is_refused(
    refused: Any, tiny_backbone: str, normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(EARLIER)
    (tmp_path / "folder").mkdir()
    refused("fit", "--normal", normal, "--backbone", tiny_backbone, "--out", place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == EARLIER


@pytest.mark.parametrize("flag", ["--out", "--json"])
@pytest.mark.parametrize("place", ["file/results", LONG])
def test_results_that_can_t_be_written_are_refused(
    refused: Any,
    detector_file: Path,
    normal: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    flag: str,
    place: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(EARLIER)
    flags = [flag, place] if flag == "--json" else [flag, place, "--json", "r.jsonl"]
    refused("predict", normal, "--model", detector_file, *flags)
    assert [path.name for path in tmp_path.rglob("*")] == ["file"]
    assert (tmp_path / "file").read_bytes() == EARLIER


def test_a_file_in_the_place_of_the_folder_of_results_is_refused(
    refused: Any, detector_file: Path, normal: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(EARLIER)
    flags = ["--out", tmp_path / "file", "--json", tmp_path / "r.jsonl"]
    refused("predict", normal, "--model", detector_file, *flags)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("place", ["folder", "."])
def test_a_folder_in_the_place_of_the_json_file_is_refused(
    refused: Any, detector_file: Path, normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    refused("predict", normal, "--model", detector_file, "--json", place)
    assert [path.name for path in tmp_path.rglob("*")] == ["folder"]


def test_a_device_or_pipe_is_never_replaced_by_a_file(
    detector_file: Path, normal: Path, tiny_backbone: str, tmp_path: Path
) -> None:
    """``--json /dev/stdout`` or ``--json /dev/null`` as root must not replace the device; a pipe stands for it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        run(["predict", str(normal / "000.png"), "--model", str(detector_file), "--json", str(pipe)])
        assert pipe.is_fifo()
        run(["fit", "--normal", str(normal), "--backbone", tiny_backbone, "--out", str(pipe)])
        assert pipe.is_fifo()
    finally:
        os.close(reader)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a full disk, writing past ``size`` bytes fails; Python ignores the signal that comes with it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_detector_and_no_temporary_file(fit_refused: Any, detector_file: Path) -> None:
    assert detector_file.stat().st_size > 20_000
    with files_of_at_most(8192):
        assert "can't be written" in fit_refused()


def test_a_full_disk_leaves_the_old_results_and_no_temporary_file(
    refused: Any, detector_file: Path, normal: Path, tmp_path: Path
) -> None:
    lines = tmp_path / "r.jsonl"
    lines.write_bytes(EARLIER)
    with files_of_at_most(700):
        assert "can't be written" in refused("predict", normal, "--model", detector_file, "--json", lines)
    assert lines.read_bytes() == EARLIER
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["r.jsonl"]


@pytest.mark.parametrize("size", [50, 100, 1000])
def test_a_full_disk_leaves_no_half_overlay_or_mask(
    detector_file: Path, normal: Path, tmp_path: Path, size: int
) -> None:
    """Pillow's JPEG writer doesn't notice a full disk when it writes to a path."""
    detector = sowa.Sowa.load(detector_file)
    (prediction,) = detector.predict(normal / "000.png")
    with files_of_at_most(size), pytest.raises(InputError, match="can't be written"):
        prediction.save(tmp_path / "out")
    assert list((tmp_path / "out").glob("*")) == []


def test_a_full_disk_leaves_the_old_evaluation(
    dataset: Path, tiny_backbone: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "result.json"
    out.write_bytes(EARLIER)
    arguments = ["--dataset", "mvtec", "--root", str(dataset), "--backbone", tiny_backbone, "--k-shot", "1"]
    with files_of_at_most(100):
        assert run(["test", *arguments, "--seeds", "0", "--json", str(out)]) == 2
    assert "result.json can't be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert out.read_bytes() == EARLIER


# Interrupted


def test_an_interrupted_predict_leaves_no_half_json_file(detector_file: Path, normal: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle: the earlier lines stay, images that are drawn are whole, nothing temporary remains."""
    parts, out, lines = tmp_path / "parts", tmp_path / "out", tmp_path / "r.jsonl"
    parts.mkdir()
    for index in range(600):
        os.link(normal / "000.png", parts / f"{index:03d}.png")
    lines.write_bytes(EARLIER)
    script = Path(sys.executable).with_name("sowa")
    process = subprocess.Popen(
        [script, "predict", parts, "--model", detector_file, "--out", out, "--json", lines],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 60
    while len(list(out.glob("*.jpg"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    notes = [line for line in errors.splitlines() if not line.startswith("{")]
    assert (process.returncode, notes) == (130, ["sowa: interrupted"])
    assert lines.read_bytes() == EARLIER
    assert not [path for path in tmp_path.rglob("*") if path.name.endswith(".tmp")]
    for drawn in out.iterdir():
        with Image.open(drawn) as image:
            image.load()


def test_an_error_in_the_middle_leaves_the_old_lines(
    detector_file: Path, normal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = tmp_path / "r.jsonl"
    lines.write_bytes(EARLIER)

    def fail(*_: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(sowa.Prediction, "save", fail)
    flags = ["--out", str(tmp_path / "out"), "--json", str(lines)]
    with pytest.raises(RuntimeError, match="in the middle"):
        run(["predict", str(normal), "--model", str(detector_file), *flags])
    assert lines.read_bytes() == EARLIER
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["r.jsonl"]


def test_verdicts_before_an_error_are_kept_under_another_name(
    detector_file: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, lines = sorted(normal.glob("*.png")), tmp_path / "lines.jsonl"
    lines.write_text("before")
    out = tmp_path / "results"
    (out / f"{images[1].stem}_overlay.jpg").mkdir(parents=True)  # the second image's overlay can't be written
    assert run(["predict", str(normal), "--model", str(detector_file), "--out", str(out), "--json", str(lines)]) == 2
    capsys.readouterr()
    assert lines.read_text() == "before"
    kept = (tmp_path / "lines.jsonl.partial").read_text().splitlines()
    assert [json.loads(line)["image_path"] for line in kept] == [str(path) for path in images[:2]]
    assert not list(tmp_path.glob(".*"))

"""Every command and every line of Python in the README runs, on small generated images."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import pytest

import sowa
from sowa.cli.app import app, run
from sowa.synthetic import write_dataset

GROUPS = ("gaze", "detect", "classify", "task", "data", "prompts")
README = Path(__file__).resolve().parents[1] / "README.md"


def command_blocks(text: str) -> list[list[str]]:
    """The `sowa ...` lines of each indented block."""
    blocks = re.findall(r"(?:^ {4}\S.*\n)+", text, flags=re.MULTILINE)
    commands = [[line.strip() for line in block.splitlines() if line.startswith("    sowa ")] for block in blocks]
    return [block for block in commands if block]


def python_blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """The text below a heading of the second level."""
    return README.read_text(encoding="utf-8").split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def commands(heading: str, first: str) -> list[str]:
    """The block below a heading whose first line begins so."""
    (found,) = [block for block in command_blocks(section(heading)) if block[0].startswith(first)]
    return found


TEXT = README.read_text(encoding="utf-8")
PARTS = commands("Use it on your own parts", "sowa fit --normal parts/good")
CALIBRATE = commands("Use it on your own parts", "sowa calibrate")
(ZERO_SHOT,) = commands("Use it on your own parts", "sowa predict parts/new --out")
DATASETS, (BENCHMARK,) = commands("Data sets", "sowa test"), commands("Data sets", "sowa benchmark")
EXPORT = commands("Where torch isn't", "sowa export")
(PYTHON,), (RUNTIME,) = python_blocks(section("Use it on your own parts")), python_blocks(section("Where torch isn't"))


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Metal with a few defects, in the MVTec AD layout: category `bottle`, 64 pixels."""
    root = tmp_path_factory.mktemp("generated")
    write_dataset(root, ["brushed_metal"], train=4, test=(2, 1), size=64)
    (root / "brushed_metal").rename(root / "bottle")
    for kind in ("corrosion", "stain", "dent", "contamination", "discoloration"):
        shutil.rmtree(root / "bottle" / "test" / kind)
        shutil.rmtree(root / "bottle" / "ground_truth" / kind)
    return root


@pytest.fixture
def here(generated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a user: parts/good, parts/new and two data sets."""
    monkeypatch.chdir(tmp_path)
    bottle = generated / "bottle"
    shutil.copytree(bottle / "train" / "good", "parts/good")
    shutil.copytree(bottle / "test" / "good", "parts/new")
    shutil.copytree(generated, "mvtec")
    for folder in ("images", "masks"):
        Path("pairs", folder).mkdir(parents=True)
    shutil.copytree(bottle / "test" / "good", "pairs/good")
    for kind in ("scratch", "hole"):
        shutil.copy(bottle / "test" / kind / "000.png", f"pairs/images/{kind}.png")
        shutil.copy(bottle / "ground_truth" / kind / "000_mask.png", f"pairs/masks/{kind}.png")
    return tmp_path


def type_in(line: str) -> None:
    """Runs a line of the README; DATA stands for the data set that the line names."""
    words = shlex.split(line)[1:]
    if "DATA" in words:
        words[words.index("DATA")] = words[words.index("--dataset") + 1]
    assert run(words) == 0, line


@pytest.fixture(scope="module")
def parts_detector(generated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README's first command makes of two of the parts."""
    root = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        Path("parts/good").mkdir(parents=True)
        for name in ("000.png", "001.png"):
            shutil.copy(generated / "bottle" / "train" / "good" / name, "parts/good")
        type_in(PARTS[0])
    return root / "parts.sowa"


def test_the_commands_for_one_s_own_parts_do_what_is_said(here: Path, parts_detector: Path) -> None:
    assert [line.split()[1] for line in PARTS] == ["fit", "predict"]
    shutil.copy(parts_detector, "parts.sowa")
    type_in(PARTS[1])
    lines = [json.loads(line) for line in (here / "results.jsonl").read_text().splitlines()]
    example = next(line for line in TEXT.splitlines() if line.startswith('    {"image_path"'))
    assert [list(line) for line in lines] == [list(json.loads(example))] * 2
    names = {path.name for path in (here / "results").iterdir()}
    assert names == {f"{stem}_{kind}" for stem in ("000", "001") for kind in ("overlay.jpg", "mask.png")}


def test_a_threshold_is_moved_as_said(here: Path, parts_detector: Path) -> None:
    shutil.copy(parts_detector, "parts.sowa")
    shutil.copytree("parts/new", "parts/more")
    shutil.copytree("parts/good", "parts/judged/good")
    shutil.copytree("mvtec/bottle/test/scratch", "parts/judged/scratch")
    thresholds = []
    for line in CALIBRATE:
        type_in(line)
        thresholds.append(sowa.Sowa.load("parts.sowa").calibration_.threshold)
    assert len(set(thresholds)) == len(CALIBRATE) == 4


def test_images_are_judged_without_a_good_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    type_in(ZERO_SHOT)
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_the_python_does_what_is_said(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON, str(README), "exec"), {})
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert len(list((here / "results").iterdir())) == 4
    assert len(sowa.Sowa.load(here / "parts.sowa").references_) == 4


@pytest.mark.slow
def test_the_commands_for_data_sets_do_what_is_said(here: Path, tiny_backbone: str) -> None:
    """With a tiny backbone, which the weights name; those for one's own parts run with the default."""
    assert [line.split()[1] for line in DATASETS] == ["test", "train", "fit"]
    for line in (*(f"{line} --backbone {tiny_backbone}" for line in DATASETS[:2]), DATASETS[2]):
        type_in(line)
    assert len(json.loads((here / "result.json").read_text())["runs"]) == 1 + 3 * 3
    assert sowa.Sowa.load(here / "parts.sowa").encoder.trained


@pytest.mark.slow
def test_the_benchmark_leaves_its_results_where_it_is_said(here: Path) -> None:
    """On some of the images: MVTec AD alone, judged by the weights that `mini` ships with."""
    (here / "datasets").mkdir()
    (here / "mvtec").rename(here / "datasets" / "mvtec")
    type_in(BENCHMARK.replace("DATASETS", "datasets") + " --no-train --k-shot 0 --seeds 0")
    assert "bottle" in (here / "benchmark" / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_exports_run_as_said(here: Path, tiny_backbone: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a detector with a tiny backbone; `mini` itself is exported in `test_export_kinds.py`."""
    type_in(f"{PARTS[0]} --backbone {tiny_backbone}")
    for line in EXPORT[:2]:
        type_in(line)
    capsys.readouterr()
    type_in(EXPORT[2])
    typed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    writer = cv2.VideoWriter("line.avi", cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64))
    for path in sorted((here / "parts" / "new").iterdir()) * 3:
        writer.write(cv2.imread(str(path)))
    writer.release()
    exec(compile(RUNTIME, str(README), "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in printed] == [
        *(one["image_path"] for one in typed),
        "line.avi#000000",
        "line.avi#000005",
    ]
    original = sowa.Sowa.load("parts.sowa").predict("parts/new")
    for one, other in zip(typed, original, strict=True):
        assert one["raw_score"] == pytest.approx(other.raw_score, rel=0.05)


def test_the_table_of_commands_is_complete() -> None:
    named = re.findall(r"^\| `sowa (\w+)` \|", TEXT, flags=re.MULTILINE)
    assert sorted(named) == sorted(name for name in app if not name.startswith("-"))


PAGES = ["README.md", "docs/SHOTS.md", "docs/ATTENTION.md", "docs/DETECTION.md", "docs/CLASSIFICATION.md"]


@pytest.mark.parametrize("page", PAGES)
def test_flags_in_the_text_exist(page: str) -> None:
    text = (README.parent / page).read_text(encoding="utf-8")
    known = {"--help", "--config", "--print-config"}
    groups = [app, *(app[name] for name in GROUPS)]
    for command in [group[name] for group in groups for name in group if not name.startswith("-")]:
        if command.default_command:
            known |= {name for argument in command.assemble_argument_collection() for name in argument.names}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_linked_exist(page: str) -> None:
    file = README.parent / page
    links = re.findall(r"\]\((?!http)([^)#]+)\)", file.read_text(encoding="utf-8"))
    assert links
    assert [link for link in links if not (file.parent / link).exists()] == []


def test_scripts_in_the_text_exist() -> None:
    scripts = set(re.findall(r"^ {4}(scripts/\w+)$", TEXT, flags=re.MULTILINE))
    assert scripts
    assert [script for script in scripts if not (README.parent / script).exists()] == []

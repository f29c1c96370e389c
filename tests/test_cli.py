"""The command line as a user types it."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

import sowa
from sowa.cli.app import app, run
from sowa.cli.predict import unique_names
from sowa.core.decision import learned_rule
from sowa.evaluation.results import METRICS

KEYS = ["image_path", "score", "raw_score", "threshold", "verdict", "is_anomalous", "seconds", "normal_percentile"]
SCRIPT = Path(sys.executable).with_name("sowa")

COMMON = "--device --precision"
ADAPTER = "depth dropout heads no-value-only position-width value-only window-size"
PROMPT = (
    "abnormal-templates class-names empty-abnormal-templates empty-class-names empty-normal-templates length "
    "map-weight no-text-linear normal-templates self-weight text-linear"
)
OPTIONS = {
    "demo": "--out --seed --size",
    "fit": "--augment --backbone --batch-size --category --coreset --expect --false-positive-rate --fast --glances "
    "--image-size --k-shot --model --no-coreset --no-fast --no-tiled --normal --out --patch-fraction --prior "
    f"--saliency-weight --seed --seconds-per-image --tiled --unsure {COMMON}",
    "calibrate": "--backbone --batch-size --category --dataset --false-positive-rate --missed-cost --model --normal "
    f"--out --prior --root --rule --unsure {COMMON}",
    "predict": "--backbone --batch-size --boxes --defect --examples --json --model --out --report --search --source "
    f"{COMMON}",
    "train": (
        "--backbone --batch-size --category --checkpoint-every --dataset --epochs --gaze --gaze-images --gaze-weight "
        "--image-size --learning-rate --mosaic --out --pixels-per-degree --protocol --root --saliency --seed "
        "--validation-fraction --weight-decay "
        f"--adapter.{ADAPTER.replace(' ', ' --adapter.')} --prompt.{PROMPT.replace(' ', ' --prompt.')} {COMMON}"
    ),
    "test": (
        "--augment --aupro --backbone --batch-size --bootstrap --category --dataset --expect --fast --image-size "
        "--json --k-shot --model --no-fast --no-tiled --report --root --saliency-weight --scoring --seconds-per-image "
        f"--seed --seeds --tiled {COMMON}"
    ),
    "benchmark": (
        "--aupro --backbone --batch-size --datasets --epochs --image-size --k-shot --model --no-train --out --root "
        f"--scoring --seed --seeds --suite {COMMON}"
    ),
    "shots": "--at-most --backbone --batch-size --candidates --category --dataset --draws --fast --folds --image-size "
    "--json --labels --method --model --no-fast --no-tiled --normal --out --patience --root --seconds-per-image --seed "
    f"--tiled --tolerance --work {COMMON}",
    "export": "--backbone --format --model --out --images --precision --tolerance",
    "gaze record": "--blur --host --least --observer --out --port --radius --source",
    "gaze train": "--backbone --batch-size --device --fixations --held-out --model --out --images "
    "--pixels-per-degree --seed --sigma",
    "gaze test": "--backbone --batch-size --device --fixations --model --images --pixels-per-degree --sigma",
    "detect train": "--augment --backbone --batch-size --checkpoint-every --dataset --epochs --held-out --image-size "
    "--learning-rate --no-phrases --no-reference --out --phrases --reference --root --seed --weight-decay --width "
    f"{COMMON}",
    "detect test": f"--backbone --dataset --json --model --query --report --root {COMMON}",
    "detect predict": "--backbone --batch-size --coco --json --least-score --model --out --query --reference --source "
    f"{COMMON}",
    "classify train": "--backbone --batch-size --held-out --image-size --k-shot --names --out --root --seed --steps "
    f"{COMMON}",
    "classify test": "--backbone --batch-size --compare --folders --held-out --image-size --json --k-shot --model "
    f"--names --no-compare --out --report --root --seed --seeds --templates {COMMON}",
    "classify predict": "--backbone --batch-size --image-size --json --model --names --no-other --other --source "
    f"--templates {COMMON}",
    "task init": "--out --task",
    "data check": "--dataset --json --root",
    "prompts preview": "--backbone --json --names --out --template --words",
    "info": "--file --json --no-json",
    "doctor": "--json --no-json",
}


class Result:
    """What a command left behind: exit code, standard output, and standard error without progress events."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out = code, out
        lines = err.splitlines()
        self.events = [json.loads(line) for line in lines if line.startswith("{")]
        self.notes = [line for line in lines if not line.startswith("{")]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def sowa_command(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command line in this process."""

    def call(*arguments: object, code: int = 0) -> Result:
        capsys.readouterr()
        found = run([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert found == code, captured.err
        return Result(found, captured.out, captured.err)

    return call


def in_a_process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [str(argument) for argument in arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
        **options,
    )


@pytest.fixture(scope="module")
def weights_file(tiny_backbone: str, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.safetensors"
    arguments = ["train", "--dataset", "mvtec", "--root", str(dataset), "--backbone", tiny_backbone]
    assert run([*arguments, "--adapter.window-size", "4", "--out", str(path)]) == 0
    return path


# Help and version


@pytest.mark.parametrize("command", OPTIONS)
def test_a_command_has_exactly_these_options(command: str) -> None:
    declared = reduce(lambda commands, name: commands[name], command.split(), app)
    arguments = [argument for argument in declared.assemble_argument_collection() if argument.parse]
    found = {name for argument in arguments for name in argument.names} - {"*", "--adapter", "--prompt"}
    assert found == set(OPTIONS[command].split())


def test_there_are_exactly_these_commands() -> None:
    assert {name for name in app if not name.startswith("-")} == {command.split()[0] for command in OPTIONS}
    for group in ("gaze", "detect", "classify", "task", "data", "prompts"):
        found = {f"{group} {name}" for name in app[group] if not name.startswith("-")}
        assert found == {command for command in OPTIONS if command.startswith(f"{group} ")}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option(command: str, sowa_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "console", Console(width=200))  # or else that of whoever asked first
    text = sowa_command(*command.split(), "--help").out
    assert f"sowa {command}" in text
    for option in OPTIONS[command].split():
        assert option in text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("demo", "side of the generated images in pixels"),
        ("fit", "drawn by the seed"),
        ("calibrate", "of normal images that aren't its references"),
        ("predict", "folder for overlays and masks"),
        ("train", "file for the weights"),
        ("test", "0 is zero-shot"),
        ("benchmark", "names with commas, to judge some of the suite only"),
        ("info", "a *.sowa or *.safetensors file"),
    ],
)
def test_help_says_what_an_option_is_for(
    command: str, words: str, sowa_command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "console", Console(width=200))  # or else that of whoever asked first
    assert words in sowa_command(command, "--help").out


def test_no_command_shows_the_commands(sowa_command: Any) -> None:
    result = sowa_command()
    assert all(command.split()[0] in result.out for command in OPTIONS)
    assert sowa_command("--help").out == result.out


def test_the_version_is_the_package_s(sowa_command: Any) -> None:
    assert sowa_command("--version").out.strip() == sowa.__version__


@pytest.mark.parametrize("command", OPTIONS)
def test_every_flag_has_one_line_of_help_and_a_group(command: str) -> None:
    declared = reduce(lambda commands, name: commands[name], command.split(), app)
    for argument in declared.assemble_argument_collection(parse_docstring=True):
        if argument.parse and not argument.children:
            text = argument.parameter.help or ""
            assert 5 < len(text) <= 110, argument.name
            assert "\n" not in text
            assert [group.name for group in argument.parameter.group] in (["Parameters"], ["Advanced"])


def test_advanced_flags_stand_below_the_others(sowa_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "console", Console(width=200))
    _, basic, advanced = re.split("─ (?:Parameters|Advanced) ─", sowa_command("fit", "--help").out)
    assert all(flag in basic for flag in ("--normal", "--out", "--k-shot", "--image-size"))
    assert all(flag in advanced for flag in ("--device", "--precision", "--batch-size", "--backbone", "--seed"))


def test_help_shows_the_commands_in_groups_and_two_examples(sowa_command: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "console", Console(width=200))
    text = sowa_command("--help").out
    titles = re.findall("╭─ (.*?) ─", text)
    assert titles == ["Inspect", "Measure", "Train", "Other tasks", "Tools", "Options"]
    panels = [re.findall(r"^│ (\w+) ", panel, flags=re.MULTILINE) for panel in text.split("╭─ ")[1:]]
    assert panels[:5] == [
        ["demo", "fit", "calibrate", "predict"],
        ["test", "benchmark", "shots"],
        ["train"],
        ["detect", "classify", "gaze"],
        ["export", "info", "doctor", "data", "prompts", "task"],
    ]
    assert [line.split()[:2] for line in text.rstrip().splitlines()[-2:]] == [["sowa", "fit"], ["sowa", "predict"]]


def test_the_examples_of_the_help_are_commands(sowa_command: Any) -> None:
    for line in sowa_command("--help").out.rstrip().splitlines()[-2:]:
        assert sowa_command(*line.split()[1:], "--print-config").out


def test_the_command_line_starts_without_torch_and_numpy() -> None:
    code = "import sys, sowa.cli.app; print({'torch', 'numpy', 'cv2', 'pydantic'} & set(sys.modules))"
    done = in_a_process(sys.executable, "-c", code)
    assert done.stdout.strip() == "set()", done.stderr


@pytest.mark.parametrize(("arguments", "heavy"), [(["fit", "--help"], "torch numpy"), (["info"], "torch")])
def test_help_and_info_answer_without_heavy_imports(arguments: list[str], heavy: str) -> None:
    code = f"import sys; from sowa.cli.app import run; run({arguments}); print(set({heavy.split()}) & set(sys.modules))"
    done = in_a_process(sys.executable, "-c", code)
    assert done.stdout.splitlines()[-1] == "set()", done.stderr


# fit


def test_fit_writes_a_detector_and_says_so_in_one_json_line(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "wood.sowa"
    result = sowa_command("fit", "--normal", normal, "--backbone", tiny_backbone, "--out", out)
    (line,) = result.lines
    assert set(line) == {
        *("event", "out", "references", "image_size", "seconds_per_image", "threshold", "false_alarms", "missed")
    }
    assert line["image_size"] == [64, 64]
    assert 0 < line["seconds_per_image"] < 60
    assert (line["event"], line["out"]) == ("fit", str(out))
    loaded = sowa.Sowa.load(out)
    assert loaded.references_ == line["references"]
    assert loaded.calibration_.threshold == line["threshold"]
    assert result.notes == []
    assert result.events[-1]["event"] == "progress"
    assert [path.name for path in out.parent.iterdir()] == ["wood.sowa"]


@pytest.mark.parametrize(
    "flags",
    [
        ["--k-shot", "2", "--seed", "1", "--image-size", "96x64", "--batch-size", "1"],
        ["--k_shot", "2", "--seed", "1", "--image_size", "96x64", "--batch_size", "1"],
        ["--k-shot=2", "--seed=1", "--image-size=96x64", "--batch-size=1"],
        ["--k_shot=2", "--seed=1", "--image_size=96X64", "--batch_size=1"],
    ],
)
def test_flags_may_have_hyphens_or_underscores_and_an_equals_sign(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path, flags: list[str]
) -> None:
    out = tmp_path / "wood_1.sowa"
    sowa_command("fit", f"--normal={normal}", "--backbone", tiny_backbone, f"--out={out}", *flags)
    loaded = sowa.Sowa.load(out)
    drawn = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=2, seed=1).references_
    assert (loaded.references_, loaded.seed_, loaded.image_size) == (drawn, 1, (96, 64))


def test_underscores_in_values_stay(sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    out = tmp_path / "a_b" / "c_d.sowa"
    sowa_command("fit", "--normal", normal, "--backbone", tiny_backbone, f"--out={out}")
    assert out.is_file()


@pytest.mark.parametrize("kind", ["file", "pattern"])
def test_fit_takes_a_file_or_a_pattern(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path, kind: str
) -> None:
    source = normal / ("000.png" if kind == "file" else "00[01].png")
    result = sowa_command("fit", "--normal", source, "--backbone", tiny_backbone, "--out", tmp_path / "x.sowa")
    assert len(result.lines[0]["references"]) == (1 if kind == "file" else 2)


def test_fit_takes_options_that_reach_the_detector(
    sowa_command: Any, weights_file: Path, normal: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.sowa"
    flags = ["--category", "object", "--device", "cpu", "--precision", "bf16", "--model", weights_file]
    sowa_command("fit", "--normal", normal, "--out", out, *flags)
    loaded = sowa.Sowa.load(out)
    assert (loaded.encoder.category, loaded.encoder.trained) == ("object", True)


def test_fit_counts_broken_images(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path, judged: Path
) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.png").write_bytes(b"broken")
    (tmp_path / "parts" / "b.png").write_bytes((normal / "000.png").read_bytes())
    result = sowa_command(
        "fit", "--normal", tmp_path / "parts", "--backbone", tiny_backbone, "--out", tmp_path / "x.sowa"
    )
    assert [note for note in result.notes if note.startswith("1 broken image(s) skipped") and "a.png" in note]
    assert len(result.lines[0]["references"]) == 1


# predict


def test_predict_writes_json_lines_overlays_and_masks(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    out, lines = tmp_path / "results", tmp_path / "deep" / "er" / "results.jsonl"
    result = sowa_command("predict", judged, "--model", detector_file, "--out", out, "--json", lines)
    assert result.out == ""
    found = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    expected = sowa.Sowa.load(detector_file).predict(judged)
    assert [list(line) for line in found] == [KEYS] * 10
    assert [line["image_path"] for line in found] == [prediction.image_path for prediction in expected]
    for line, prediction in zip(found, expected, strict=True):
        assert line["raw_score"] == pytest.approx(prediction.raw_score, abs=2e-6)
        assert line["is_anomalous"] == prediction.is_anomalous
    names = sorted(path.name for path in out.iterdir())
    assert len(names) == 20
    assert sum(name.endswith("_overlay.jpg") for name in names) == 10
    assert sum(name.endswith("_mask.png") for name in names) == 10
    kinds = ("anomalous", "unsure", "normal")
    counted = ", ".join(f"{sum(p.verdict == kind for p in expected)} {kind}" for kind in kinds)
    assert result.notes == [f"10 images judged, {counted}; overlays in {out}"]
    assert result.events[-1] | {"seconds": 0} == {
        "event": "progress",
        "label": "predict",
        "done": 10,
        "total": 10,
        "seconds": 0,
    }


def test_predict_without_files_prints_json_lines_alone(sowa_command: Any, detector_file: Path, judged: Path) -> None:
    result = sowa_command("predict", judged / "good" / "000.png", "--model", detector_file)
    assert [list(line) for line in result.lines] == [KEYS]
    assert result.lines[0]["image_path"] == str(judged / "good" / "000.png")


@pytest.mark.slow
def test_predict_without_a_model_judges_zero_shot_with_the_embedded_one(sowa_command: Any, judged: Path) -> None:
    lines = sowa_command("predict", judged).lines
    assert len(lines) == 10
    # Up to 1 for the probability, up to 2 for the distance of each of four levels, which counts twice.
    threshold = pytest.approx(0.5 + 2 * 4 * learned_rule().self_boundary)
    assert all(0 < line["raw_score"] < 17 and line["threshold"] == threshold for line in lines)


def test_predict_takes_patterns_options_and_its_source_as_a_flag(
    sowa_command: Any, detector_file: Path, judged: Path
) -> None:
    flags = ["--model", detector_file, "--batch-size", "2", "--device", "cpu", "--precision", "fp32"]
    assert len(sowa_command("predict", f"{judged}/good/*.png", *flags).lines) == 3
    assert len(sowa_command("predict", "--source", judged / "good", *flags).lines) == 3
    assert len(sowa_command("predict", *flags, judged / "good").lines) == 3


def test_predict_skips_broken_images_and_counts_them(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    for name in ("a.png", "c.png"):
        (tmp_path / name).write_bytes((judged / "good" / "000.png").read_bytes())
    (tmp_path / "b.png").write_bytes(b"broken")
    result = sowa_command("predict", tmp_path, "--model", detector_file)
    assert [Path(line["image_path"]).name for line in result.lines] == ["a.png", "c.png"]
    assert result.notes[0].startswith("1 broken image(s) skipped:")
    assert "b.png" in result.notes[0]
    assert result.events[-1]["done"] == result.events[-1]["total"] == 3


def test_two_runs_over_the_same_folder_do_no_harm(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    arguments = ["predict", judged / "good", "--model", detector_file, "--out", tmp_path / "out"]
    states = []
    for _ in range(2):
        sowa_command(*arguments, "--json", tmp_path / "out" / "r.jsonl")
        states.append({p.name: p.read_bytes() for p in (tmp_path / "out").iterdir() if p.suffix != ".jsonl"})
    assert states[0] == states[1]
    assert len(states[0]) == 6
    assert len((tmp_path / "out" / "r.jsonl").read_text().splitlines()) == 3


def test_results_inside_the_folder_of_images_are_not_judged_the_next_time(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    """Or such an ``--out`` is refused at once; but never silently judged as new parts."""
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "a.png").write_bytes((judged / "good" / "000.png").read_bytes())
    for _ in range(2):
        code = run(["predict", str(parts), "--model", str(detector_file), "--out", str(parts / "results")])
        assert code in (0, 2)
    if code == 0:
        assert sorted(path.name for path in (parts / "results").iterdir()) == ["a_mask.png", "a_overlay.jpg"]


def test_the_same_stem_in_two_folders_gives_two_overlays(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    source = tmp_path / "parts"
    for folder, name in (("a", "0.png"), ("b", "0.png"), ("b", "1.png")):
        (source / folder).mkdir(parents=True, exist_ok=True)
        (source / folder / name).write_bytes((judged / "good" / "000.png").read_bytes())
    Image.new("RGB", (30, 20)).save(source / "b" / "1.jpg")
    sowa_command("predict", source, "--model", detector_file, "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*_overlay.jpg"))) == 4
    assert {"a_0_overlay.jpg", "b_0_overlay.jpg"} <= {path.name for path in (tmp_path / "out").iterdir()}


@pytest.mark.parametrize(
    "paths",
    [
        ["0.png"],
        ["a/0.png", "b/0.png"],
        ["a/0.png", "a/0.jpg"],
        ["a/0.png", "b/0.png", "a_0.png"],
        ["a/0.png", "b/0.png", "c/a_0.png", "a_b/0.png", "a/b/0.png"],
        ["/x/a/0.png", "/y/a/0.png", "/y/a/0.tif", "../a/0.png"],
        ["0.png", "a/0.png", "0.jpg"],
        ["x.tar.png", "x.png", "x.tar.jpg"],
    ],
)
def test_every_image_s_results_have_a_name_of_their_own(paths: list[str]) -> None:
    names = unique_names([Path(path) for path in paths])
    assert len(set(names.values())) == len(paths)
    assert all(name and "/" not in name for name in names.values())


def test_a_lone_image_keeps_its_plain_name() -> None:
    assert unique_names([Path("a/0.png"), Path("b/1.png")]) == {Path("a/0.png"): "0", Path("b/1.png"): "1"}


def test_names_of_any_alphabet_are_written_as_they_are(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    name = "Prüfling 測試 %s{}.png"
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / name).write_bytes((judged / "good" / "000.png").read_bytes())
    lines = tmp_path / "r.jsonl"
    sowa_command("predict", tmp_path / "parts", "--model", detector_file, "--out", tmp_path / "out", "--json", lines)
    assert Path(json.loads(lines.read_text(encoding="utf-8"))["image_path"]).name == name
    assert (tmp_path / "out" / f"{Path(name).stem}_overlay.jpg").is_file()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_a_file_name_that_isn_t_unicode_is_judged_too(
    sowa_command: Any, detector_file: Path, judged: Path, tmp_path: Path
) -> None:
    """Archives from old Windows machines unpack to such names."""
    (tmp_path / "parts").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/parts/\xfc.png")).write_bytes(
        (judged / "good" / "000.png").read_bytes()
    )
    lines = tmp_path / "r.jsonl"
    sowa_command("predict", tmp_path / "parts", "--model", detector_file, "--json", lines)
    assert len(lines.read_text(encoding="utf-8").splitlines()) == 1


def test_an_image_of_one_pixel_is_judged_and_drawn(sowa_command: Any, detector_file: Path, tmp_path: Path) -> None:
    Image.new("L", (1, 1)).save(tmp_path / "dot.png")
    sowa_command("predict", tmp_path / "dot.png", "--model", detector_file, "--out", tmp_path / "out")
    with Image.open(tmp_path / "out" / "dot_overlay.jpg") as drawn:
        assert drawn.size == (1, 1)


# train


def test_train_writes_weights_that_fit_and_test_take(
    sowa_command: Any, weights_file: Path, normal: Path, judged: Path, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "wood.sowa"
    sowa_command("fit", "--model", weights_file, "--normal", normal, "--out", out)
    assert len(sowa_command("predict", judged, "--model", out).lines) == 10
    arguments = ["--dataset", "mvtec", "--root", dataset, "--category", "wood", "--k-shot", "0"]
    result = sowa_command("test", *arguments, "--model", weights_file)
    assert not any("aren't trained" in note for note in result.notes)


def test_train_reports_itself_in_one_json_line(
    sowa_command: Any, tiny_backbone: str, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "w.safetensors"
    flags = ["--category", "wood", "--epochs", "1", "--batch-size", "4", "--adapter.window-size", "4"]
    result = sowa_command(
        "train", "--dataset", "mvtec", "--root", dataset, "--backbone", tiny_backbone, "--out", out, *flags
    )
    line = json.loads(result.out.splitlines()[-1])
    assert (line["event"], line["out"]) == ("train", str(out))
    assert set(line["after"]) == set(METRICS)
    assert out.is_file()


def test_training_with_saliency_says_something_else_than_without(
    sowa_command: Any, tiny_backbone: str, weights_file: Path, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "w.safetensors"
    training = ["train", "--dataset", "mvtec", "--root", dataset, "--backbone", tiny_backbone, "--out", out]
    sowa_command(*training, "--adapter.window-size", "4", "--saliency", "resnet18:random")
    measured = ["test", "--dataset", "mvtec", "--root", dataset, "--category", "wood", "--k-shot", "0,1", "--seed", "0"]
    found = []
    for number, flags in enumerate(
        (["--model", weights_file], ["--model", out], ["--model", out, "--saliency-weight", "0.5"])
    ):
        sowa_command(*measured, *flags, "--json", tmp_path / f"{number}.json")
        found.append([run["metrics"] for run in json.loads((tmp_path / f"{number}.json").read_text())["runs"]])
    assert found[0][0] != found[1][0]  # zero-shot: other adapters
    assert found[1][0] == found[2][0]
    assert found[1][1] != found[2][1]  # with a reference: other distances


# test


def test_test_writes_the_documented_json_and_prints_a_table(
    sowa_command: Any, tiny_backbone: str, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "new" / "result.json"
    result = sowa_command(
        *("test", "--dataset", "mvtec", "--root", dataset, "--backbone", tiny_backbone),
        *("--k-shot", "0,1,2", "--seeds", "0,1", "--json", out),
    )
    found = json.loads(out.read_text())
    assert {"dataset", "backbone", "scoring", "runs", "mean", "images_per_second"} <= set(found)
    assert found["dataset"] == "mvtec"
    assert len(found["runs"]) == 2 * (1 + 2 + 2)
    assert all(name in result.out for name in ("wood", "capsule", "mean", *METRICS))
    assert any("aren't trained" in note for note in result.notes)
    labels = {event["label"] for event in result.events}
    assert {"test wood", "test capsule"} <= labels


@pytest.mark.parametrize(
    "flags", [["--seed", "3"], ["--seeds", "3"], ["--seeds=3"], ["--seed=3", "--batch_size=2", "--image_size=32"]]
)
def test_seed_and_seeds_mean_the_same(
    sowa_command: Any, tiny_backbone: str, dataset: Path, tmp_path: Path, flags: list[str]
) -> None:
    out = tmp_path / "result.json"
    sowa_command(
        *("test", "--dataset", "mvtec", "--root", dataset, "--category", "wood", "--backbone", tiny_backbone),
        *("--k-shot", "1", "--json", out, *flags),
    )
    assert [run["seed"] for run in json.loads(out.read_text())["runs"]] == [3]


def test_scoring_and_aupro_reach_the_evaluation(
    sowa_command: Any, tiny_backbone: str, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    sowa_command(
        *("test", "--dataset", "mvtec", "--root", dataset, "--category", "wood", "--backbone", tiny_backbone),
        *("--k-shot", "1", "--seeds", "0", "--json", out, "--scoring", "paper", "--aupro", "authors"),
    )
    found = json.loads(out.read_text())
    assert (found["scoring"], found["aupro"]) == ("paper", "authors")


def test_bootstrap_adds_intervals_to_the_table_and_the_json(
    sowa_command: Any, tiny_backbone: str, dataset: Path, tmp_path: Path
) -> None:
    out = tmp_path / "result.json"
    arguments = ("test", "--dataset", "mvtec", "--root", dataset, "--category", "wood", "--backbone", tiny_backbone)
    plain = sowa_command(*arguments, "--k-shot", "1", "--seeds", "0", "--json", out)
    assert "intervals" not in json.loads(out.read_text())["runs"][0]
    assert "95 %" not in plain.out
    asked = sowa_command(*arguments, "--k-shot", "1", "--seeds", "0", "--json", out, "--bootstrap", "20")
    (run,) = json.loads(out.read_text())["runs"]
    assert set(run["intervals"]) == set(METRICS)
    low, high = run["intervals"]["pixel_AUROC"]
    assert f"{low:.4f}–{high:.4f}" in asked.out
    assert any("20 resamples" in note for note in asked.notes)


# info, doctor, demo


def test_info_describes_a_detector(sowa_command: Any, detector_file: Path, tiny_backbone: str) -> None:
    text = sowa_command("info", detector_file).out
    assert all(word in text for word in ("sowa-detector", tiny_backbone, "64 x 64", "000.png"))
    facts = json.loads(sowa_command("info", detector_file, "--json").out)
    assert (facts["kind"], facts["seed"]) == ("sowa-detector", 0)
    assert len(facts["references"]) == 6


def test_info_describes_weights(sowa_command: Any, weights_file: Path) -> None:
    facts = json.loads(sowa_command("info", weights_file, "--json").out)
    assert facts["kind"] == "sowa-weights"
    assert "sowa-weights" in sowa_command("info", weights_file).out


def test_info_describes_the_package(sowa_command: Any) -> None:
    text = sowa_command("info").out
    assert all(word in text for word in (sowa.__version__, "mini", "torch", "mvtec", "visa", "pairs", "folder"))
    assert json.loads(sowa_command("info", "--json").out)["sowa"] == sowa.__version__


def test_doctor_finds_this_machine_in_order(sowa_command: Any) -> None:
    facts = json.loads(sowa_command("doctor", "--json").out)
    assert facts["problems"] == []
    assert {"python", "system", "torch"} <= set(facts)


def test_demo_draws_its_overview(sowa_command: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sowa.cli.demo.CATEGORIES", ("brushed_metal",))
    monkeypatch.setattr("sowa.cli.demo.GOOD", 1)
    monkeypatch.setattr("sowa.cli.demo.K_SHOT", 2)
    result = sowa_command("demo", "--out", tmp_path / "demo", "--size", "96", "--seed", "1")
    line = json.loads(result.out.splitlines()[-1])
    assert line["event"] == "demo"
    with Image.open(tmp_path / "demo" / "overview.jpg") as overview:
        assert np.array(overview).std() > 10
    assert (tmp_path / "demo" / "detectors" / "brushed_metal.sowa").is_file()
    assert len(list((tmp_path / "demo" / "overlays" / "brushed_metal").glob("*_overlay.jpg"))) == 8


# --config and --print-config


def test_a_config_file_stands_in_for_flags_and_flags_override_it(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    config, out = tmp_path / "fit.yaml", tmp_path / "x.sowa"
    config.write_text(yaml.safe_dump({"normal": str(normal), "backbone": tiny_backbone, "k-shot": 2, "out": str(out)}))
    for flag in ("--config", "-c"):
        assert len(sowa_command("fit", flag, config).lines[0]["references"]) == 2
    assert len(sowa_command("fit", "--config", config, "--k-shot", "3").lines[0]["references"]) == 3
    assert len(sowa_command("fit", "--k_shot=3", "--config", config).lines[0]["references"]) == 3


def test_a_config_file_may_be_given_with_an_equals_sign(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    config, out = tmp_path / "fit.yaml", tmp_path / "x.sowa"
    config.write_text(yaml.safe_dump({"normal": str(normal), "backbone": tiny_backbone, "out": str(out)}))
    sowa_command("fit", f"--config={config}")
    assert out.is_file()


def test_a_config_file_may_have_underscores(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    config = tmp_path / "fit.yaml"
    config.write_text(f"normal: {normal}\nbackbone: {tiny_backbone}\nk_shot: 2\nout: {tmp_path / 'x.sowa'}\n")
    assert len(sowa_command("fit", "--config", config).lines[0]["references"]) == 2


def test_a_config_file_of_one_run_is_forgotten_by_the_next(
    sowa_command: Any, tiny_backbone: str, normal: Path, tmp_path: Path
) -> None:
    config = tmp_path / "fit.yaml"
    config.write_text("k-shot: 1\n")
    arguments = ["fit", "--normal", normal, "--backbone", tiny_backbone, "--out", tmp_path / "x.sowa"]
    assert len(sowa_command(*arguments, "--config", config).lines[0]["references"]) == 1
    assert len(sowa_command(*arguments).lines[0]["references"]) == 6


def test_a_small_bank_is_fitted_and_searched_by_faiss(
    sowa_command: Any, tiny_backbone: str, normal: Path, judged: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.sowa"
    sowa_command("fit", "--normal", normal, "--backbone", tiny_backbone, "--patch-fraction", "0.5", "--out", out)
    patches = sowa.Sowa.from_pretrained(tiny_backbone).fit(normal, k_shot=1).bank_.features.shape[2]
    assert sowa.Sowa.load(out).bank_.features.shape[1:3] == (6, patches // 2)
    exact = sowa_command("predict", judged, "--model", out).lines
    found = sowa_command("predict", judged, "--model", out, "--search", "faiss").lines
    assert [line["image_path"] for line in found] == [line["image_path"] for line in exact]
    for one, other in zip(found, exact, strict=True):
        assert one["raw_score"] == pytest.approx(other["raw_score"], rel=0.3)
    refused = sowa_command("predict", judged, "--search", "faiss", code=2)
    assert "--search faiss needs a file of sowa fit" in refused.notes[-1]


def test_a_preset_by_name_is_no_file(sowa_command: Any, normal: Path, tmp_path: Path) -> None:
    arguments = ["fit", "--normal", normal, "--out", tmp_path / "x.sowa", "--config", "accurate"]
    assert "'accurate' is no file" in sowa_command(*arguments, code=2).notes[-1]


COMMANDS = {
    "calibrate": ["calibrate", "--model", "m.sowa", "--rule", "cost", "--missed-cost", "3"],
    "demo": ["demo", "--out", "d_1", "--size", "96"],
    "fit": ["fit", "--normal", "n", "--out", "o.sowa", "--k-shot", "2", "--image-size", "96x64", "--tiled"],
    "predict": ["predict", "parts/new", "--model", "m.sowa"],
    "predict with files": [
        "predict",
        "parts/new",
        "--model",
        "m.sowa",
        "--out",
        "r",
        "--json",
        "r.jsonl",
        "--report",
        "r.html",
    ],
    "train": [
        *("train", "--dataset", "pairs", "--root", "r", "--out", "w.safetensors", "--epochs", "3", "--seed", "7"),
        *("--prompt.class-names", "nut", "--prompt.class-names", "bolt", "--adapter.no-value-only"),
    ],
    "test": ["test", "--dataset", "mvtec", "--root", "r", "--k-shot", "1", "--scoring", "paper"],
    "test with a file": ["test", "--dataset", "mvtec", "--root", "r", "--json", "r.json", "--category", "no"],
    "benchmark": ["benchmark", "--root", "r", "--out", "o", "--no-train", "--datasets", "visa,btad"],
    "info": ["info", "f.sowa", "--json"],
    "doctor": ["doctor", "--json"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_printed_config_reads_back_as_the_same_config(name: str, sowa_command: Any, tmp_path: Path) -> None:
    command, *_ = arguments = COMMANDS[name]
    printed = sowa_command(*arguments, "--print-config").out
    assert yaml.safe_load(printed)
    config = tmp_path / "config.yaml"
    config.write_text(printed)
    assert sowa_command(command, "--config", config, "--print-config").out == printed


def test_print_config_runs_nothing(sowa_command: Any, normal: Path, tmp_path: Path) -> None:
    sowa_command("fit", "--normal", normal, "--out", tmp_path / "x.sowa", "--print-config")
    assert list(tmp_path.iterdir()) == []


# Real processes


def test_fit_and_predict_work_as_processes_of_their_own(
    tiny_backbone: str, normal: Path, judged: Path, tmp_path: Path
) -> None:
    done = in_a_process(
        *(SCRIPT, "fit", "--normal", normal, "--backbone", tiny_backbone, "--out", "part.sowa"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert all(line.startswith('{"event": "progress"') for line in done.stderr.splitlines())
    module = [sys.executable, "-m", "sowa"]
    done = in_a_process(*module, "predict", judged / "good", "--model", "part.sowa", "--out", "r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [KEYS] * 3
    assert re.search(r"3 images judged, \d anomalous, \d unsure, \d normal; overlays in r", done.stderr)
    assert len(list((tmp_path / "r").iterdir())) == 6


def test_the_script_says_its_version_and_refuses_in_one_line() -> None:
    assert in_a_process(SCRIPT, "--version").stdout.strip() == sowa.__version__
    done = in_a_process(SCRIPT, "info", "nowhere.sowa")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "sowa: nowhere.sowa is no file; check the path\n"


def test_a_reader_that_closes_the_pipe_early_sees_no_traceback(detector_file: Path, judged: Path) -> None:
    """As in ``sowa predict parts --model part.sowa | head -1``."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        done = subprocess.run(
            [SCRIPT, "predict", judged, "--model", detector_file],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
    assert "Traceback" not in done.stderr


def test_trained_weights_judge_without_references(
    weights_file: Path, normal: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "zero.jsonl"
    assert run(["predict", str(normal), "--model", str(weights_file), "--json", str(out)]) == 0
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert lines
    assert all(line["threshold"] == 0.5 and 0 <= line["raw_score"] <= 1 for line in lines)


# Exports


def test_an_export_is_written_used_and_refused(
    detector_file: Path, judged: Path, tmp_path: Path, sowa_command: Any
) -> None:
    out = tmp_path / "made"
    said = sowa_command("export", "--model", detector_file, "--out", out, "--format", "torch").lines[0]
    assert (said["event"], said["format"], said["comparison"]["flips"]) == ("export", "torch", 0)
    original = sowa_command("predict", judged, "--model", detector_file, "--precision", "fp32").lines
    page = tmp_path / "report.html"
    lines = sowa_command("predict", judged, "--model", out, "--report", page).lines
    assert [list(line) for line in lines] == [KEYS] * len(original)
    for one, other in zip(lines, original, strict=True):
        assert one["raw_score"] == pytest.approx(other["raw_score"], abs=2e-6)
    assert "an export to torch, fp32" in page.read_text(encoding="utf-8")
    refused = sowa_command(
        "export",
        "--model",
        detector_file,
        "--out",
        out,
        "--format",
        "torch",
        "--precision",
        "fp16",
        "--tolerance",
        0,
        code=1,
    )
    assert "so nothing was written" in refused.notes[-1]
    assert (
        "leave --backbone mini out"
        in (sowa_command("predict", judged, "--model", out, "--backbone", "mini", code=2).notes[0])
    )
    assert "is no file" in sowa_command("predict", judged, "--model", judged, code=2).notes[0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_freed_memory_stays_for_the_next_batch() -> None:
    """Pages that had to be filled anew for five arrays of 64 MiB, one after the other."""
    code = """
import resource, sys
import numpy as np
from sowa.cli.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(8 << 20).sum()
before = faults()
for _ in range(5):
    np.ones(8 << 20).sum()
print(faults() - before)
"""
    kept, usual = (int(in_a_process(sys.executable, "-c", code, how).stdout) for how in ("keep", "usual"))
    assert kept < usual / 10


def test_a_command_looks_for_garbage_rarely_and_not_at_its_end() -> None:
    code = """
import atexit, gc
from sowa.cli.app import main
atexit.register(lambda: print(gc.get_threshold()[0] > 10_000, gc.get_freeze_count() > 0))
main(["info"])
"""
    done = in_a_process(sys.executable, "-c", code)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-1] == "True True"

"""`sowa benchmark`: both directions on small generated data sets, resuming, tables, figures and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.measure import label

from sowa.cli.app import run as run_command
from sowa.core.files import read_safetensors, write_bytes
from sowa.core.headers import WEIGHTS_FORMAT
from sowa.data import load
from sowa.encoders.devices import choose_device, choose_precision
from sowa.errors import InputError
from sowa.evaluation.benchmark import SUITES, BenchmarkConfig, Network, run, run_benchmark
from sowa.evaluation.benchmark.suite import find_roots
from sowa.evaluation.benchmark.summary import size_mean, size_ranges, summary
from sowa.evaluation.benchmark.tables import markdown, published
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.results import METRICS
from sowa.synthetic import write_dataset

SHOTS, SEEDS = (0, 1, 2, 4), (0, 1)
FLAGS = ["--k-shot", "0,1,2,4", "--seeds", "0,1"]
OTHER_PRECISION = "fp32" if choose_precision("auto", choose_device("auto")) == "bf16" else "bf16"
QUICK = BenchmarkConfig(train=False, datasets=("btad",), evaluation=EvaluationConfig((1,), (0,)))


def write_visa(root: Path, made: Path) -> None:
    """Images in the MVTec AD layout once more as VisA has them."""
    data = root / "candle" / "Data"
    for folder in ("Images/Normal", "Images/Anomaly", "Masks/Anomaly"):
        (data / folder).mkdir(parents=True)
    for index, path in enumerate(sorted(made.glob("*/good/*.png"))):
        shutil.copy(path, data / "Images" / "Normal" / f"{index:03d}.png")
    for path in made.glob("ground_truth/*/*.png"):
        kind, stem = path.parent.name, path.stem.removesuffix("_mask")
        shutil.copy(path, data / "Masks" / "Anomaly" / f"{kind}.png")
        shutil.copy(made / "test" / kind / f"{stem}.png", data / "Images" / "Anomaly" / f"{kind}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MVTec AD under its archive's name, VisA, and one category of BTAD."""
    root = tmp_path_factory.mktemp("root")
    write_dataset(root / "mvtec_anomaly_detection", ["wood"], train=5, test=(2, 1), size=64)
    made = write_dataset(root / "made", ["capsule"], train=8, test=(4, 1), size=64) / "capsule"
    write_visa(root / "VisA", made)
    for split in ("train", "test"):
        shutil.copytree(made / split / "good", root / "btad" / "01" / split / "ok")
    for folder in ("test", "ground_truth"):
        (root / "btad" / "01" / folder / "ko").mkdir(parents=True)
    for path in (root / "VisA" / "candle" / "Data" / "Images" / "Anomaly").iterdir():
        shutil.copy(path, root / "btad" / "01" / "test" / "ko" / path.name)
        shutil.copy(
            path.parents[2] / "Masks" / "Anomaly" / path.name, root / "btad" / "01" / "ground_truth" / "ko" / path.name
        )
    shutil.rmtree(root / "made")
    return root


@pytest.fixture(scope="module")
def finished(root: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the command leaves."""
    out = tmp_path_factory.mktemp("out") / "results"
    arguments = ["benchmark", "--root", str(root), "--out", str(out), "--backbone", tiny_backbone, *FLAGS]
    assert run_command(arguments) == 0
    return out


@pytest.fixture(scope="module")
def plain(root: Path, tiny_backbone: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `QUICK` leaves."""
    out = tmp_path_factory.mktemp("plain")
    run_benchmark(Network(tiny_backbone), root, out, QUICK)
    return out


@pytest.fixture
def out(finished: Path, tmp_path: Path) -> Path:
    """A copy to do as one likes with."""
    return shutil.copytree(finished, tmp_path / "copy")


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves out what is drawn, which takes longer than all the rest."""
    monkeypatch.setattr(
        "sowa.evaluation.benchmark.examples.Examples.save", lambda self, path: write_bytes(path, b"drawn")
    )
    for name in ("draw_shots", "draw_sizes"):
        monkeypatch.setattr(f"sowa.evaluation.benchmark.figures.{name}", lambda rows, path: None)


def again(root: Path, out: Path, backbone: str, *flags: str) -> int:
    """Runs the command; ``FLAGS`` where no shots are given."""
    shots = [] if "--k-shot" in flags else FLAGS
    return run_command(["benchmark", "--root", str(root), "--out", str(out), "--backbone", backbone, *shots, *flags])


def rows_of(out: Path) -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text()) for path in sorted((out / "rows").iterdir())}


def stamps(out: Path) -> dict[str, int]:
    found = [path for folder in ("rows", "weights", "levels") for path in (out / folder).iterdir()]
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


def but_for_time(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name != "images_per_second"}


# What a run leaves


def test_both_directions_are_run_with_all_shots_and_seeds(finished: Path) -> None:
    assert {path.name for path in finished.iterdir()} == {
        *("weights", "rows", "levels", "README.md", "table.csv", "shots.png", "sizes.png"),
    }
    assert {path.name for path in (finished / "weights").iterdir()} == {"visa.safetensors", "mvtec.safetensors"}
    rows = rows_of(finished)
    assert list(rows) == ["btad-01", "mvtec-wood", "visa-candle"]
    assert rows["btad-01"]["settings"]["weights"] == rows["mvtec-wood"]["settings"]["weights"]
    assert rows["btad-01"]["settings"]["weights"] != rows["visa-candle"]["settings"]["weights"]
    for row in rows.values():
        assert row["prompts_trained"]
        found = [(found["k_shot"], found["seed"]) for found in row["runs"]]
        assert found == [(0, 0), *((k_shot, seed) for seed in SEEDS for k_shot in SHOTS[1:])]
        for found in row["runs"]:
            assert all(0 <= found["metrics"][name] <= 1 for name in METRICS)
            assert len(found["references"]) == found["k_shot"]


def test_sizes_are_those_of_the_masks(finished: Path, root: Path) -> None:
    row = rows_of(finished)["mvtec-wood"]
    masks = [
        np.array(Image.open(s.mask_path)) > 0 for s in load("mvtec", root / "mvtec_anomaly_detection") if s.mask_path
    ]
    shares = np.concatenate([np.bincount(label(mask).ravel())[1:] / mask.size for mask in masks])
    assert len(shares) > 3
    for found in row["by_size"]:
        assert found["regions"] == sum((found["smallest"] <= shares) & (shares < found["largest"]))
        assert (found["pixel_AUPRO"] is None) == (found["pixel_AUROC"] is None) == (found["regions"] == 0)
    assert [found["smallest"] for found in row["by_size"]] == [0, 0.001, 0.01, 0.05]


def test_means_are_over_categories_first_and_then_over_seeds() -> None:
    values = np.random.default_rng(0).random((3, 2))  # category, seed
    rows = [
        {
            "runs": [
                {"k_shot": 4, "seed": seed, "metrics": {"image_AP": value}} for seed, value in enumerate(of_category)
            ]
        }
        for of_category in values.tolist()
    ]
    found = summary(rows, 4, "image_AP")
    assert found == pytest.approx((values.mean(), values.mean(axis=0).std()), abs=1e-12)
    rows[0]["runs"][1]["metrics"]["image_AP"] = None
    assert np.isnan(summary(rows, 4, "image_AP").mean)
    assert np.isnan(summary(rows, 2, "image_AP").mean)


def test_sizes_are_averaged_where_there_are_defects() -> None:
    edges = [(0, 0.001), (0.001, 0.05), (0.05, 1)]
    rows = [
        {"by_size": [{"smallest": low, "largest": high, "x": x} for (low, high), x in zip(edges, values, strict=True)]}
        for values in ((None, 0.25, None), (None, 0.75, 0.5))
    ]
    assert [size_mean(rows, index, "x") for index in range(3)] == pytest.approx([np.nan, 0.5, 0.5], nan_ok=True)
    assert size_ranges(rows) == ["under 0.1 %", "0.1 to 5 %", "over 5 %"]


def test_tables_hold_the_means_of_the_rows_beside_published_ones(finished: Path) -> None:
    text = (finished / "README.md").read_text(encoding="utf-8")
    with (finished / "table.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * (1 + len(SEEDS) * 3)
    for name, title in (("mvtec", "MVTec AD"), ("visa", "VisA"), ("btad", "BTAD")):
        for k_shot in SHOTS:
            found = [line for line in lines if (line["dataset"], line["k_shot"]) == (name, str(k_shot))]
            cells = [np.array([float(line[metric]) for line in found]) for metric in METRICS]
            written = [f"{100 * cell.mean():.1f} ± {100 * cell.std():.1f}" for cell in cells]
            assert f"| {title} | {k_shot} | {' | '.join(written)} |" in text
    ours = [line["image_AUROC"] for line in lines if (line["dataset"], line["k_shot"]) == ("mvtec", "4")]
    ours = np.array(ours, float)
    written = f"{100 * ours.mean():.1f} ± {100 * ours.std():.1f}"
    assert f"| AC AUROC | MVTec AD | 95.2 ± 1.3 | 92.8 ± 0.2 | 96.8 ± 0.3 | {written} |" in text
    assert "| PatchCore | 88.8 ± 2.6 | 94.3 ± 0.5 | 84.3 ± 1.6 | 85.3 ± 2.1 | 96.8 ± 0.3 | 84.9 ± 1.4 |" in text
    assert "arXiv 2407.03634" in text


def test_tables_say_where_they_are_not_comparable(finished: Path) -> None:
    text = (finished / "README.md").read_text(encoding="utf-8")
    assert "**Not comparable with published means**: MVTec AD is 1 of 15 categories; BTAD is 1 of 3 categories" in text
    assert "instead of ViT-L-14-336, scoring inductive instead of paper, aupro standard instead of authors." in text
    assert "for MVTec AD trained on VisA; for BTAD trained on VisA; for VisA trained on MVTec AD." in text
    assert "Zero shots say nothing" not in text


def test_a_whole_data_set_with_the_published_settings_is_comparable(finished: Path) -> None:
    row = rows_of(finished)["btad-01"] | {"trained_on": "visa"} | published()["how"]
    rows = [row | {"category": name} for name in ("01", "02", "03")]
    text = markdown(rows, "sowa benchmark", "A machine.")
    assert "Not comparable" not in text
    assert "Other settings" not in text
    assert "**Zero shots say nothing here**" in markdown([row | {"prompts_trained": False}], "", "")


def test_published_values_are_percent_of_known_metrics() -> None:
    rows = published()["rows"]
    assert {row["dataset"] for row in rows} == set(SUITES["paper"].datasets)
    for row in rows:
        values = {name: value for name, value in row.items() if name not in ("method", "dataset")}
        assert set(values) <= set(METRICS)
        assert all(50 < mean < 100 and 0 <= std < 10 for mean, std in values.values())


def test_figures_are_images_that_the_readme_shows(finished: Path) -> None:
    text = (finished / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert shown == [
        "shots.png",
        "sizes.png",
        *(f"levels/{name}.png" for name in ("mvtec-wood", "btad-01", "visa-candle")),
    ]
    for name in shown:
        with Image.open(finished / name) as image:
            assert image.format == "PNG"
            assert min(image.size) > 200
            assert len(image.convert("RGB").getcolors(image.width * image.height)) > 50


# Going on where it was


@pytest.mark.usefixtures("undrawn")
def test_a_second_run_makes_nothing_anew_and_a_lost_row_the_same(root: Path, out: Path, tiny_backbone: str) -> None:
    before, rows, text = stamps(out), rows_of(out), (out / "README.md").read_text(encoding="utf-8")
    assert again(root, out, tiny_backbone, "--batch-size", "3") == 0
    assert stamps(out) == before
    assert (out / "README.md").read_text(encoding="utf-8").splitlines()[3:] == text.splitlines()[3:]
    (out / "rows" / "mvtec-wood.json").unlink()
    assert again(root, out, tiny_backbone) == 0
    changed = {name for name, stamp in stamps(out).items() if stamp != before[name]}
    assert changed == {"rows/mvtec-wood.json", "levels/mvtec-wood.png"}
    assert {name: but_for_time(row) for name, row in rows_of(out).items()} == {
        name: but_for_time(row) for name, row in rows.items()
    }


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("left", [b"", b'{"dataset": "mvt', b"[1]", b'{"settings": {}}', b"\xff"])
def test_a_row_that_is_none_is_made_anew(root: Path, out: Path, tiny_backbone: str, left: bytes) -> None:
    row = rows_of(out)["btad-01"]
    (out / "rows" / "btad-01.json").write_bytes(left)
    assert again(root, out, tiny_backbone, "--datasets", "btad") == 0
    assert but_for_time(rows_of(out)["btad-01"]) == but_for_time(row)


def test_a_lost_image_is_made_again(root: Path, plain: Path, tmp_path: Path, tiny_backbone: str) -> None:
    out = shutil.copytree(plain, tmp_path / "copy")
    (out / "levels" / "btad-01.png").unlink()
    run_benchmark(Network(tiny_backbone), root, out, QUICK)
    assert (out / "levels" / "btad-01.png").read_bytes() == (plain / "levels" / "btad-01.png").read_bytes()


@pytest.mark.usefixtures("undrawn")
def test_a_stopped_run_goes_on(
    root: Path, finished: Path, tmp_path: Path, tiny_backbone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, judged = run.evaluate, []

    def stopping(detector: Any, dataset: str, *arguments: Any) -> Any:
        if judged:
            raise KeyboardInterrupt
        judged.append(dataset)
        return judge(detector, dataset, *arguments)

    monkeypatch.setattr(run, "evaluate", stopping)
    assert again(root, tmp_path, tiny_backbone) == 130
    assert list(rows_of(tmp_path)) == ["mvtec-wood"]
    before = stamps(tmp_path)
    monkeypatch.setattr(run, "evaluate", judge)
    assert again(root, tmp_path, tiny_backbone) == 0
    assert {name: stamps(tmp_path)[name] for name in before} == before
    found, expected = rows_of(tmp_path), rows_of(finished)
    assert {n: but_for_time(row) for n, row in found.items()} == {n: but_for_time(row) for n, row in expected.items()}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "flags",
    [
        "--k-shot 1 --seeds 0 --scoring paper",
        "--k-shot 1 --seeds 0 --aupro authors",
        "--k-shot 1 --seeds 3",
        "--k-shot 2 --seeds 0",
        "--k-shot 1 --seeds 0 --image-size 96",
        f"--k-shot 1 --seeds 0 --precision {OTHER_PRECISION}",
    ],
)
def test_other_settings_make_rows_anew(root: Path, plain: Path, tmp_path: Path, tiny_backbone: str, flags: str) -> None:
    out = shutil.copytree(plain, tmp_path / "copy")
    assert again(root, out, tiny_backbone, "--no-train", "--datasets", "btad", *flags.split()) == 0
    before, after = rows_of(plain)["btad-01"], rows_of(out)["btad-01"]
    assert before["settings"] != after["settings"]
    assert before["runs"] != after["runs"]


@pytest.mark.usefixtures("undrawn")
def test_other_images_make_rows_anew(root: Path, tmp_path: Path, tiny_backbone: str) -> None:
    copy, out = shutil.copytree(root, tmp_path / "root"), tmp_path / "out"
    first = run_benchmark(Network(tiny_backbone), root, out, QUICK)
    assert run_benchmark(Network(tiny_backbone), copy, out, QUICK) == first  # times too: the same images elsewhere
    image = sorted((copy / "btad" / "01" / "test" / "ko").iterdir())[0]
    Image.new("RGB", (64, 64), "red").save(image)
    (second,) = run_benchmark(Network(tiny_backbone), copy, out, QUICK)
    assert second["runs"] != first[0]["runs"]
    image.unlink()
    (third,) = run_benchmark(Network(tiny_backbone), copy, out, QUICK)
    assert third["settings"]["images"] != second["settings"]["images"]


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("why", ["epochs", "backbone", "size", "broken"])
def test_weights_that_do_not_fit_are_trained_anew(root: Path, out: Path, tiny_backbone: str, why: str) -> None:
    weights, kept = out / "weights" / "visa.safetensors", out / "weights" / "mvtec.safetensors"
    before, expected = read_safetensors(weights, WEIGHTS_FORMAT)
    before = {name: tensor.clone() for name, tensor in before.items()}  # what is read stays in the file
    stamp = kept.stat().st_mtime_ns
    flags = {"epochs": ["--epochs", "2"], "size": ["--image-size", "96"]}.get(why, [])
    if why == "backbone":
        tiny_backbone = str(shutil.copy(tiny_backbone, out / "other.safetensors"))  # the same by another name
    if why == "broken":
        weights.write_bytes(weights.read_bytes()[:100])
    assert again(root, out, tiny_backbone, "--datasets", "btad", *flags) == 0
    tensors, header = read_safetensors(weights, WEIGHTS_FORMAT)
    assert (header == expected) == (why == "broken")
    same = all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())
    assert same == (why in ("broken", "backbone"))
    assert kept.stat().st_mtime_ns == stamp


# Flags


@pytest.mark.usefixtures("undrawn")
def test_datasets_leaves_the_others_out(root: Path, tmp_path: Path, tiny_backbone: str) -> None:
    assert again(root, tmp_path, tiny_backbone, "--datasets", "visa", "--k-shot", "1", "--seeds", "0") == 0
    assert list(rows_of(tmp_path)) == ["visa-candle"]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["mvtec.safetensors"]


@pytest.mark.usefixtures("undrawn")
def test_without_training_or_with_a_model_the_network_s_own_weights_are_used(
    root: Path, finished: Path, tmp_path: Path, tiny_backbone: str, capsys: pytest.CaptureFixture[str]
) -> None:
    untrained, given = tmp_path / "untrained", tmp_path / "given"
    assert again(root, untrained, tiny_backbone, "--no-train", "--datasets", "visa") == 0
    model = finished / "weights" / "visa.safetensors"
    assert run_command(["benchmark", "--root", str(root), "--out", str(given), "--model", str(model), *FLAGS]) == 0
    assert not (untrained / "weights").exists()
    assert not (given / "weights").exists()
    assert not any(row["prompts_trained"] for row in rows_of(untrained).values())
    assert "Zero shots say nothing" in (untrained / "README.md").read_text(encoding="utf-8")
    assert "for VisA as given" in (given / "README.md").read_text(encoding="utf-8")
    own = rows_of(finished)["visa-candle"]["settings"]["weights"]
    found, expected = rows_of(given), rows_of(finished)
    assert but_for_time(found["mvtec-wood"]) == but_for_time(expected["mvtec-wood"])
    assert found["visa-candle"]["settings"]["weights"] != own


def test_the_larger_suite_has_the_paper_s_and_more(tmp_path: Path) -> None:
    assert set(SUITES["paper"].datasets) == {"mvtec", "visa", "btad", "dagm", "dtd-synthetic"}
    assert set(SUITES["paper"].datasets) < set(SUITES["all"].datasets)
    for name in ("MVTec_AD", "DTD-Synthetic", "DAGM_2007", "KolektorSDD2", "other"):
        (tmp_path / name).mkdir()
    found = {name: path.name for name, path in find_roots(tmp_path, SUITES["all"]).items()}
    assert found == {
        "mvtec": "MVTec_AD",
        "dagm": "DAGM_2007",
        "dtd-synthetic": "DTD-Synthetic",
        "kolektor2": "KolektorSDD2",
    }
    assert set(find_roots(tmp_path, SUITES["paper"])) == {"mvtec", "dagm", "dtd-synthetic"}


# Errors


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--datasets", "mvtech"], "data set 'mvtech' isn't in the suite paper, which has mvtec, btad, dagm"),
        (["--datasets", "mpdd"], "data set 'mpdd' isn't in the suite paper"),
        (["--suite", "all", "--datasets", "mvtec,mpdd"], "has no mpdd, only mvtec, btad, visa; put it there or leave"),
        (["--k-shot", "four"], "--k-shot is 'four'"),
        (["--epochs", "0"], "epochs 0"),
        (["--suite", "other"], "other"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    root: Path, tmp_path: Path, tiny_backbone: str, flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert again(root, tmp_path / "out", tiny_backbone, *flags) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_folder_without_data_sets_is_refused(tmp_path: Path) -> None:
    for root, message in ((tmp_path, "has none of the folders mvtec"), (tmp_path / "no", "doesn't exist")):
        with pytest.raises(InputError, match=message):
            run_benchmark(Network(), root, tmp_path / "out", BenchmarkConfig())


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("VisA", "has no visa, which is trained on; put it there, give weights with --model, or use .* --no-train"),
        ("btad/01/train", "btad"),
        ("VisA/candle/Data/Images/Normal", "Normal"),
    ],
)
def test_missing_folders_are_found_before_any_work(root: Path, tmp_path: Path, gone: str, message: str) -> None:
    copy, out = shutil.copytree(root, tmp_path / "root"), tmp_path / "out"
    shutil.rmtree(copy / gone)
    with pytest.raises(InputError, match=message):
        run_benchmark(Network("no backbone is built"), copy, out, BenchmarkConfig())
    assert not out.exists()

"""The report: what stands in it, in which order, and that nothing half-written or harmful ever does."""

from __future__ import annotations

import json
import os
import re
import sys
import tracemalloc
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from sowa.cli.app import run
from sowa.core.calibration import verdict_of
from sowa.data import load
from sowa.detector.detector import Sowa
from sowa.detector.instances import Instances
from sowa.detector.prediction import Prediction
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig
from sowa.evaluation.evaluate import evaluate
from sowa.evaluation.inspection import Inspected
from sowa.evaluation.results import DECISIONS, METRICS
from sowa.extensions.names.defects import NamedDefect, NamedDefects
from sowa.report import Summary, Table, open_report
from sowa.report.thumbnails import outline, thumbnails

EVIL = "a/<img src=x onerror=alert(1)>'\"&</script>.png"
NAMED = (("scratch", 0.7), ("a <hole>", 0.2), ("dent", 0.1))
SUMMARY = Summary("Inspection report", "parts", "now", {"Backbone": "tiny"})


class Page(HTMLParser):
    """Elements of a report with their attributes; cards that lie in it as text are read too."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.text = file.read_text(encoding="utf-8")
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.index: list[list[str]] = []
        self._inside: dict[str, str | None] = {}
        self.feed(self.text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        self._inside = dict(attributes) if tag == "script" else {}

    def handle_endtag(self, tag: str) -> None:
        self._inside = {}

    def handle_data(self, data: str) -> None:
        if self._inside.get("type") == "text/plain":
            self.feed_card(data)
        elif self._inside.get("id") == "index":
            self.index = json.loads(data)
        elif data.strip():
            self.texts.append(" ".join(data.split()))

    def feed_card(self, data: str) -> None:
        card = HTMLParser()
        card.handle_starttag = lambda tag, attributes: self.elements.append((tag, dict(attributes)))  # type: ignore[method-assign]
        card.handle_data = lambda text: self.texts.append(" ".join(text.split()))  # type: ignore[method-assign]
        card.feed(data)

    def named(self, tag: str, kind: str = "") -> list[dict[str, str | None]]:
        found = [attributes for name, attributes in self.elements if name == tag]
        return [attributes for attributes in found if not kind or kind in (attributes.get("class") or "").split()]


UNSURE = (0.8, 1.25)  # of the threshold


def judged_image(name: str, ratio: float, size: tuple[int, int] = (40, 48)) -> Prediction:
    """A prediction whose raw score is ``ratio`` times the threshold, with one hot patch where it's anomalous."""
    level_maps = np.full((4, 4, 4), 0.1, np.float32)
    level_maps[:, 1, 2] = 0.4 * ratio
    anomaly_map = np.kron(level_maps.sum(axis=0), np.ones((8, 8), np.float32))
    image = np.random.default_rng(len(name)).integers(0, 256, (*size, 3), dtype=np.uint8)
    return Prediction(
        image_path=name,
        score=ratio / (1 + ratio),
        raw_score=2 * ratio,
        normal_percentile=99.0,
        threshold=2.0,
        is_anomalous=ratio > 1,
        verdict=verdict_of(ratio, 1.0, UNSURE),
        anomaly_map=anomaly_map,
        mask=anomaly_map > 1,
        level_maps=level_maps,
        pixel_threshold=1.0,
        seconds=0.1,
        source=image,
    )


# What stands in it


def test_predict_reports_what_it_judged_and_how(detector_file: Path, judged: Path, tmp_path: Path) -> None:
    out, lines = tmp_path / "new" / "r.html", tmp_path / "r.jsonl"
    command = ["predict", str(judged), "--model", str(detector_file), "--report", str(out), "--json", str(lines)]
    assert run(command) == 0
    page = Page(out)
    found = [json.loads(line) for line in lines.read_text().splitlines()]
    by_score = sorted(found, key=lambda line: -line["raw_score"])
    assert [path for _, _, path, _ in page.index] == [line["image_path"] for line in by_score]
    assert [kind for kind, *_ in page.index] == [line["verdict"] for line in by_score]
    assert [unsure for *_, unsure in page.index] == [line["verdict"] == "unsure" for line in by_score]
    assert len(page.named("article")) == len(found)
    words = "\n".join(page.texts)
    assert " ".join(["sowa", *command]) in words
    assert "64 × 64 pixels" in words
    assert "6 reference images" in words


def test_images_that_were_skipped_are_named_with_the_reason(detector_file: Path, judged: Path, tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    (parts / "a.png").write_bytes((judged / "good" / "000.png").read_bytes())
    (parts / "b.png").write_bytes(b"no image")
    assert run(["predict", str(parts), "--model", str(detector_file), "--report", str(tmp_path / "r.html")]) == 0
    page = Page(tmp_path / "r.html")
    assert "1 image skipped" in page.texts
    assert any(str(parts / "b.png") in text for text in page.texts)
    assert len(page.index) == 1


def test_test_reports_metrics_curves_and_the_worst_errors_first(
    tiny_backbone: str, dataset: Path, tmp_path: Path
) -> None:
    out, result = tmp_path / "r.html", tmp_path / "r.json"
    flags = ["--dataset", "mvtec", "--root", str(dataset), "--backbone", tiny_backbone, "--k-shot", "1,2"]
    assert run(["test", *flags, "--seeds", "1,0", "--json", str(result), "--report", str(out)]) == 0
    page, found = Page(out), json.loads(result.read_text())
    for row in found["mean"]:
        for name in (*METRICS, *DECISIONS):
            value = row["metrics"][name]
            assert ("–" if value["mean"] is None else "{mean:.4f} ± {std:.4f}".format(**value)) in page.texts
    plots = [attributes["aria-label"] or "" for attributes in page.named("svg", "plot")]
    shown = [r for r in found["runs"] if (r["k_shot"], r["seed"]) == (2, 1)]
    assert len(shown) == 2
    for metrics in (r["metrics"] for r in shown):
        for name, area in (("ROC", "image_AUROC"), ("PR", "image_AP"), ("PRO", "pixel_AUPRO")):
            assert f"{name} curve, {area.replace('_', ' ')} {metrics[area]:.3f}" in plots
    thresholds = re.findall(r"At the threshold ([\d.]+), of pixels", page.text)
    assert len(thresholds) == 2
    assert all(any(re.fullmatch(f"raw [\\d.]+ [>≤] {value}", text) for text in page.texts) for value in thresholds)
    names = {name for r in shown for name in r["references"]}
    assert names <= set(page.texts)
    kinds = [kind for kind, *_ in page.index]
    samples = [s for s in load("mvtec", dataset) if s.split == "test"]
    assert len(kinds) == len(samples)
    wrong = sum(kind in ("missed", "alarm") for kind in kinds)
    assert all(kind in ("missed", "alarm") for kind in kinds[:wrong])
    truth = {str(s.image_path): s.label for s in samples}
    assert all((kind in ("missed", "found")) == bool(truth[path]) for kind, _, path, _ in page.index)


def test_boxes_lie_where_they_are_in_the_image_and_names_beside_it(tmp_path: Path) -> None:
    size, none = (40, 80), Instances(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    boxes = Instances(np.float32([[20, 10, 60, 40]]), np.float32([0.9]), np.int64([9]))
    empty = np.zeros((4, 4), np.float32)
    named = {"defects": NamedDefects(NamedDefect(name, share, 1.0, empty) for name, share in NAMED)}
    with open_report(tmp_path / "r.html", 2) as writer:
        writer.add(replace(judged_image("bad", 2.0, size), annotations=named), boxes=boxes)
        writer.add(replace(judged_image("good", 0.5, size), annotations=named), boxes=none)
        writer.finish(SUMMARY)
    page = Page(tmp_path / "r.html")
    (box,) = page.named("rect", "box")
    assert [float(box[name] or "nan") for name in ("x", "y", "width", "height")] == [250, 250, 500, 750]
    assert page.texts.count("scratch 70 %, a <hole> 20 %") == 1  # a good image has no defect to be named
    assert page.named("span", "box")
    with open_report(tmp_path / "plain.html", 1) as writer:
        writer.add(judged_image("bad", 2.0))
        writer.finish(SUMMARY)
    assert not Page(tmp_path / "plain.html").named("span", "box")


def test_undefined_metrics_come_with_the_reason(tiny_backbone: str, normal: Path, tmp_path: Path) -> None:
    root = tmp_path / "data" / "part"
    for part in ("train", "test"):
        (root / part / "good").mkdir(parents=True)
        for path in sorted(normal.iterdir())[:2]:
            (root / part / "good" / path.name).write_bytes(path.read_bytes())
    flags = ["--root", str(root.parent), "--backbone", tiny_backbone, "--k-shot", "1", "--seeds", "0"]
    assert run(["test", "--dataset", "mvtec", *flags, "--report", str(tmp_path / "r.html")]) == 0
    page = Page(tmp_path / "r.html")
    assert "–: only normal images" in page.texts
    assert len(page.named("svg", "plot")) == 1  # the histogram


def test_cards_come_worst_errors_first_then_by_score(tmp_path: Path) -> None:
    images = {"passed": (0.5, 0), "alarm": (1.5, 0), "found": (9.0, 1), "missed": (0.2, 1), "close": (0.9, 1)}
    with open_report(tmp_path / "r.html", 5) as writer:
        for name, (ratio, label) in images.items():
            writer.add(judged_image(name, ratio), label=label)
        writer.finish(SUMMARY)
    assert [name for _, _, name, _ in Page(tmp_path / "r.html").index] == [
        "missed",
        "alarm",
        "close",
        "found",
        "passed",
    ]


def test_what_is_unsure_is_counted_and_called_so_whatever_else_it_is(tmp_path: Path) -> None:
    for labels, tags in (((None, None), ["Unsure", "Anomalous"]), ((1, 0), ["Missed defect", "Unsure", "False alarm"])):
        with open_report(tmp_path / "r.html", 2) as writer:
            for ratio, label in zip((0.9, 1.5), labels, strict=True):
                writer.add(judged_image(str(ratio), ratio), label=label)
            writer.finish(SUMMARY)
        page = Page(tmp_path / "r.html")
        assert set(tags) <= set(page.texts)
        assert {name: unsure for _, _, name, unsure in page.index} == {"0.9": 1, "1.5": 0}


def test_a_card_shows_score_verdict_defect_and_both_outlines(tmp_path: Path) -> None:
    true_mask = np.zeros((32, 32), bool)
    true_mask[4:9, 4:9] = True
    with open_report(tmp_path / "r.html", 1) as writer:
        original = judged_image("x/y/000.png", 3.0)
        writer.add(original, category="nut", label=1, true_mask=true_mask, defect_type="hole")
        writer.finish(SUMMARY)
    page = Page(tmp_path / "r.html")
    assert {"y/000.png", "x/y/000.png", "Defect found", "0.75", "raw 6 > 2", "hole · nut"} <= set(page.texts)
    assert page.named("path", "true")[0]["d"] == outline(true_mask)
    assert page.named("path", "predicted")[0]["d"] == outline(original.mask)
    assert [bool(image["alt"]) for image in page.named("img")] == [True, False, True]


@pytest.mark.parametrize("name", [EVIL, pytest.param(os.fsdecode(b"\xfc.png"), id="not Unicode")])
def test_whatever_a_file_is_called_is_only_text(name: str, tmp_path: Path) -> None:
    if sys.platform != "linux" and name != EVIL:
        pytest.skip("other systems have no such file names")
    with open_report(tmp_path / "r.html", 30) as writer:
        for number in range(30):  # beyond the first 24 cards are text
            original = judged_image(f"{number}{name}", 0.5)
            writer.add(original, category=EVIL, label=1, defect_type=EVIL)
        facts = {EVIL: EVIL}
        table = Table([EVIL], [[EVIL]], [EVIL])
        writer.finish(Summary(EVIL, EVIL, EVIL, facts, {EVIL: [EVIL]}, [(EVIL, EVIL)], {EVIL: table}, {}, EVIL))
    page = Page(tmp_path / "r.html")
    assert not [image for image in page.named("img") if image.get("src") == "x"]
    assert not [attributes for _, attributes in page.elements if "onerror" in attributes]
    types = [script.get("type") for script in page.named("script")]
    assert types == ["application/json", *["text/plain"] * 6, None]
    assert len(page.named("article")) == 30
    (policy,) = [meta["content"] or "" for meta in page.named("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:; ")


# Small, streamed, whole


def test_an_image_costs_a_few_kilobytes_whatever_its_size() -> None:
    large = replace(judged_image("large", 3.0, (2000, 1000)), source=np.zeros((2000, 1000, 3), np.uint8))
    found = thumbnails(large, None, 224)
    assert found.ratio == 0.5
    assert sum(map(len, (found.photo, found.heat, found.levels, found.predicted))) < 5000


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    with open_report(tmp_path / "r.html", 200) as writer:
        writer.add(judged_image("first", 0.5))
        tracemalloc.start()
        for number in range(200):
            writer.add(judged_image(f"{number:03d}", 0.5))
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        writer.finish(SUMMARY)
    assert held < 200 * 1000  # a card alone is longer
    assert (tmp_path / "r.html").stat().st_size > 200 * 3000


@pytest.mark.parametrize("error", [InputError("bad"), RuntimeError("bad"), KeyboardInterrupt(), BrokenPipeError()])
def test_a_run_that_fails_leaves_what_was_there(error: BaseException, tmp_path: Path) -> None:
    def failing(name: str) -> None:
        with open_report(tmp_path / name, 2) as writer:
            writer.add(judged_image("a", 0.5))
            raise error

    (tmp_path / "old.html").write_text("old")
    for name in ("old.html", "new.html"):
        with pytest.raises(type(error)):
            failing(name)
    assert [path.name for path in tmp_path.iterdir()] == ["old.html"]
    assert (tmp_path / "old.html").read_text() == "old"


def test_a_place_that_can_t_be_written_is_refused_before_the_run(
    detector_file: Path, tiny_backbone: str, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file" / "r.html", tmp_path):
        data = ["--dataset", "mvtec", "--root", str(dataset), "--backbone", tiny_backbone]
        for command in (["predict", str(dataset), "--model", str(detector_file)], ["test", *data]):
            assert run([*command, "--report", str(target)]) == 2
            said = capsys.readouterr()
            assert said.out == ""
            assert re.fullmatch(r"sowa: .*can't be written.*\n", said.err)


# What it is made from


def test_every_image_of_one_run_is_inspected_with_that_run_s_own_threshold(tiny_backbone: str, dataset: Path) -> None:
    detector = Sowa.from_pretrained(tiny_backbone)
    samples = load("mvtec", dataset, "wood")
    seen: list[Inspected] = []
    config = EvaluationConfig(k_shots=(0, 2, 1), seeds=(3, 0))
    found = evaluate(detector, "mvtec", samples, config, inspect=seen.append)
    (inspected,) = [run for run in found.runs if run.curves]
    assert (inspected.k_shot, inspected.seed) == (2, 3)
    assert set(inspected.curves) == {"ROC", "PR", "PRO"}
    assert [i.sample for i in seen] == [s for s in samples if s.split == "test"]
    detector.fit(inspected.references, seed=3)
    for expected, one in zip(detector.predict([str(i.sample.image_path) for i in seen]), seen, strict=True):
        assert one.prediction.raw_score == pytest.approx(expected.raw_score, rel=1e-4)
        assert one.prediction.threshold == pytest.approx(expected.threshold, rel=1e-4)
        assert one.prediction.mask.shape == one.mask.shape  # type: ignore[union-attr]
        assert one.mask.any() == (one.sample.label == 1)  # type: ignore[union-attr]


def test_a_report_of_no_image_is_a_report_still(tmp_path: Path) -> None:
    with open_report(tmp_path / "r.html", 0) as writer:
        writer.finish(SUMMARY)
    assert Page(tmp_path / "r.html").index == []

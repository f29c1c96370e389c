"""``sowa classify``: classifiers to files, verdicts to JSON lines, measures to tables."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sowa.cli.classify_figure import draw
from sowa.cli.console import Console
from sowa.cli.predict import json_lines
from sowa.cli.task_pages import classification_page
from sowa.core.config import Settings
from sowa.core.files import is_file, write_bytes
from sowa.data.class_folders import Folders, read_folders, read_lines, read_test
from sowa.errors import InputError
from sowa.report.task import write_task_page
from sowa.tasks.classification.classifier import TEMPLATES, Classifier
from sowa.tasks.classification.comparing import OURS, Row, compare
from sowa.tasks.classification.config import ClassifyConfig
from sowa.tasks.classification.measures import Measured
from sowa.tasks.classification.rivals import RIVALS
from sowa.tasks.encoding import LevelEncoder


@dataclass(frozen=True)
class Told:
    """What tells a command its classes: a file of ours, or names with their templates; and what it runs on."""

    model: Path | None
    names: str | None
    templates: Path | None
    backbone: str | None
    settings: Settings


def load_classifier(told: Told) -> Classifier:
    """Raises InputError unless there is either a model or names, and for what these say."""
    if (told.model is None) == (told.names is None):
        raise InputError("give either --model FILE of sowa classify train, or --names with commas")
    if told.model is not None:
        if told.templates or told.settings.image_size:
            raise InputError("--model has its own prompts and image size; leave --templates and --image-size out")
        return Classifier.load(told.model, backbone=told.backbone, settings=told.settings)
    names = told.names or ""
    return Classifier.from_names(
        read_lines(names) if is_file(names) else names.split(","),
        told.backbone or "mini",
        templates=read_lines(told.templates) if told.templates else TEMPLATES,
        settings=told.settings,
    )


def train_to_file(
    classifier: Classifier,
    folders: Folders,
    k_shot: int | None,
    config: ClassifyConfig,
    out: Path,
    batch_size: int,
    console: Console,
) -> None:
    """Learns, measures on what was held out, and writes the file."""
    with console.progress() as report:
        classifier.fit(folders, k_shot, config.seed, config=config, batch_size=batch_size, report=report)
    classifier.save(out)
    console.skipped(classifier.skipped_)
    trained, measured = bool(classifier.train_["trained"]), classifier.metrics_
    console.table("held-out images", *_overview(measured, classifier.temperature))
    how = "with trained adapters and prompts" if trained else "frozen, since training didn't help or couldn't"
    console.say(
        f"{out}: {len(classifier.names)} classes from {classifier.train_['images']} images, {how}",
        event="classify train",
        out=str(out),
        names=classifier.names,
        trained=trained,
        **classifier.summary,
    )


def test_to_table(
    classifier: Classifier,
    root: Path,
    folders: Path | None,
    out: Path | None,
    json_file: Path | None,
    report_file: Path | None,
    batch_size: int,
    console: Console,
) -> None:
    """Measures, prints tables, draws the confusion matrix, and writes the numbers and a page."""
    there = read_test(root, classifier.names, folders)
    labelled = classifier.unlearned(there)
    if len(labelled.images) < len(there.images):
        console.note(f"{len(there.images) - len(labelled.images)} images that it learned from are left out")
    with console.progress() as report:
        measured, seen, told = classifier.judge(labelled, batch_size, report)
    console.skipped(classifier.skipped_)
    console.table(str(root), *_overview(measured, classifier.temperature))
    recalls = sorted(measured.recall.items(), key=lambda each: (each[1] is None, each[1]))
    console.table("recall of each class", ["class", "recall"], [list(each) for each in recalls])
    if out:
        draw(measured.confusion, classifier.names, out)
        console.note(f"{out} written")
    if json_file:
        values = {"names": classifier.names, "temperature": classifier.temperature, **measured.to_dict()}
        write_bytes(json_file, json.dumps(values, indent=1).encode())
    if report_file:
        facts = {"Backbone": classifier.encoder.backbone.name, "Temperature": f"{classifier.temperature:.3f}"}
        page = classification_page(str(root), seen, told, measured, facts, classifier.skipped_)
        write_task_page(page, report_file)
        console.note(f"report in {report_file}")


def _overview(measured: Measured | None, temperature: float) -> tuple[list[str], list[list[Any]]]:
    header = ["images", "top-1", "top-5", "balanced accuracy", "ECE", "temperature", "ECE without it"]
    if measured is None:
        return header, []
    values = [measured.top1, measured.top5, measured.balanced, measured.ece, temperature, measured.ece_before]
    return header, [[measured.images, *values]]


def compare_to_table(
    told: Told,
    root: Path,
    folders: Path | None,
    held_out: float,
    shots: Sequence[int | None],
    seeds: Sequence[int],
    json_file: Path | None,
    batch_size: int,
    console: Console,
) -> None:
    """Every method at every number of shots, mean over seeds. The images held out are the same for all."""
    images = read_folders(root, folders, 0, held_out)
    encoder = LevelEncoder(told.backbone or "mini", told.settings)
    with console.progress() as report:
        rows = compare(encoder, images, shots, seeds, batch_size=batch_size, report=report)
    methods = (OURS, *RIVALS)
    for title, what in (("top-1", "top1"), ("balanced accuracy", "balanced")):
        cells = [[_shots(count), *(_mean(rows, method, count, what) for method in methods)] for count in shots]
        console.table(f"{title}, mean over {len(seeds)} seed(s)", ["shots", *methods], cells)
    if json_file:
        write_bytes(json_file, json.dumps([asdict(row) for row in rows], indent=1).encode())


def _shots(count: int | None) -> str:
    return "all" if count is None else str(count)


def _mean(rows: Sequence[Row], method: str, shots: int | None, what: str) -> float:
    return float(np.mean([getattr(row, what) for row in rows if row.method == method and row.shots == shots]))


def predict_to_lines(
    classifier: Classifier, source: Path, other: bool, json_file: Path | None, batch_size: int, console: Console
) -> None:
    """Writes a line per image as it goes; the file appears when all is done."""
    counts: Counter[str] = Counter()
    with console.progress() as report, json_lines(json_file) as lines:
        for found in classifier.predict(str(source), other=other, batch_size=batch_size, report=report, stream=True):
            print(json.dumps(found.to_dict()), file=lines)
            counts[found.name] += 1
    console.skipped(classifier.skipped_)
    console.note(f"{counts.total()} images: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))

"""``sowa classify test``: how good a classifier is, or how the method compares with simpler ones."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from sowa.cli.classify import (
    HeldOut,
    Model,
    Names,
    OtherBackbone,
    Templates,
    Told,
    classify_app,
    load_classifier,
    overview,
)
from sowa.cli.console import Console
from sowa.cli.options import COMPUTE, ComputeFlags, ImageSize, JsonFile, Seeds, basic, numbers
from sowa.core.files import write_bytes
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.tasks.classification.classifier import Classifier
    from sowa.tasks.classification.comparing import Row


@classify_app.command(name="test")
def run_test(
    *,
    root: Annotated[Path, basic("folder with a folder of images for each class, or with train and test of such")],
    model: Model = None,
    names: Names = None,
    templates: Templates = None,
    folders: Annotated[Path | None, basic("what folders mean, as --names of sowa classify train")] = None,
    out: Annotated[Path | None, basic("PNG file for the confusion matrix")] = None,
    json_file: JsonFile = None,
    report: Annotated[Path | None, basic("HTML file with the numbers and images, the surest errors first")] = None,
    image_size: ImageSize = None,
    compare: Annotated[bool, basic("learn from ROOT, beside a linear probe and nearest class mean")] = False,
    k_shot: Annotated[str, basic("with --compare, images of each class, with commas; all takes all")] = "1,4,16,all",
    seeds: Seeds = "0,1,2",
    held_out: HeldOut = 0.25,
    backbone: OtherBackbone = None,
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Measure a classifier on images whose classes are known, or compare the method with simpler ones."""
    if not compare:
        told = Told(model, names, templates, backbone, compute.settings(image_size))
        _measure(load_classifier(told), root, folders, Outputs(out, json_file, report), compute.batch_size)
        return
    if model or names or templates or out or report:
        raise InputError(
            "--compare learns from --root itself; leave --model, --names, --templates, --out and --report out"
        )
    from sowa.data.class_folders import read_folders
    from sowa.tasks.classification.comparing import compare as compare_methods
    from sowa.tasks.encoding import LevelEncoder

    shots = [None if part.strip() == "all" else numbers("k-shot", part)[0] for part in k_shot.split(",")]
    draws, console = numbers("seeds", seeds), Console()
    images = read_folders(root, folders, 0, held_out)  # the images held out are the same for all draws
    encoder = LevelEncoder(backbone or "mini", compute.settings(image_size))
    with console.progress() as progress:
        rows = compare_methods(encoder, images, shots, draws, batch_size=compute.batch_size, report=progress)
    _print_compared(rows, shots, len(draws), console)
    if json_file:
        write_bytes(json_file, json.dumps([asdict(row) for row in rows], indent=1).encode())


@dataclass(frozen=True)
class Outputs:
    """Where a test writes: a PNG file of the confusion matrix, the numbers, a page."""

    figure: Path | None
    json_file: Path | None
    report: Path | None


def _measure(classifier: Classifier, root: Path, folders: Path | None, outputs: Outputs, batch_size: int) -> None:
    """Measures, prints tables, draws the confusion matrix, and writes the numbers and a page."""
    from sowa.data.class_folders import read_test
    from sowa.report.task import write_task_page
    from sowa.tasks.classification.figure import draw
    from sowa.tasks.classification.page import classification_page

    console, there = Console(), read_test(root, classifier.names, folders)
    labelled = classifier.unlearned(there)
    if len(labelled.images) < len(there.images):
        console.note(f"{len(there.images) - len(labelled.images)} images that it learned from are left out")
    with console.progress() as report:
        measured, seen, told = classifier.judge(labelled, batch_size, report)
    console.skipped(classifier.skipped_)
    console.table(str(root), *overview(measured, classifier.temperature))
    recalls = sorted(measured.recall.items(), key=lambda each: (each[1] is None, each[1]))
    console.table("recall of each class", ["class", "recall"], [list(each) for each in recalls])
    if outputs.figure:
        draw(measured.confusion, classifier.names, outputs.figure)
        console.note(f"{outputs.figure} written")
    if outputs.json_file:
        values = {"names": classifier.names, "temperature": classifier.temperature, **measured.to_dict()}
        write_bytes(outputs.json_file, json.dumps(values, indent=1).encode())
    if outputs.report:
        facts = {"Backbone": classifier.encoder.backbone.name, "Temperature": f"{classifier.temperature:.3f}"}
        page = classification_page(str(root), seen, told, measured, facts, classifier.skipped_)
        write_task_page(page, outputs.report)
        console.note(f"report in {outputs.report}")


def _print_compared(rows: Sequence[Row], shots: Sequence[int | None], seeds: int, console: Console) -> None:
    """Every method at every number of shots, mean over seeds."""
    from sowa.tasks.classification.comparing import OURS
    from sowa.tasks.classification.rivals import RIVALS

    methods = (OURS, *RIVALS)
    for title, what in (("top-1", "top1"), ("balanced accuracy", "balanced")):
        cells = [[_shots(count), *(_mean(rows, method, count, what) for method in methods)] for count in shots]
        console.table(f"{title}, mean over {seeds} seed(s)", ["shots", *methods], cells)


def _shots(count: int | None) -> str:
    return "all" if count is None else str(count)


def _mean(rows: Sequence[Row], method: str, shots: int | None, what: str) -> float:
    import numpy as np

    return float(np.mean([getattr(row, what) for row in rows if row.method == method and row.shots == shots]))

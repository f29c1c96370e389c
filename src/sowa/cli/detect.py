"""``sowa detect``: trains a detector of boxes, measures it, writes what it finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import App

from sowa.cli.console import Console
from sowa.cli.options import (
    COMPUTE,
    MACHINE,
    SEVERAL,
    Backbone,
    ComputeFlags,
    ImageSize,
    JsonFile,
    JsonLines,
    MachineFlags,
    MovedBackbone,
    Source,
    WeightsOut,
    advanced,
    basic,
    views,
)
from sowa.cli.results import json_lines, unique_names
from sowa.core.config import from_dict
from sowa.core.files import make_folder, write_bytes
from sowa.tasks.detection.config import DetectConfig, DetectTrainConfig

if TYPE_CHECKING:
    from sowa.data.boxes import BoxSample, BoxSet
    from sowa.tasks.detection.detector import BoxDetector, Detections
    from sowa.tasks.detection.evaluate import BoxMetrics

detect_app = App(name="detect", help="Find objects: boxes with names, learned from images with boxes.")
FEW = 30  # classes that are shown one by one; a JSON file holds all
SETTINGS = set(DetectTrainConfig.__dataclass_fields__)
Format = Annotated[
    Literal["coco", "yolo", "deeppcb"],
    basic("coco (JSON files), yolo (data.yaml and text files) or deeppcb (pairs of images)"),
]
BoxRoot = Annotated[Path, basic("the data set's folder, or its JSON or YAML file")]
Model = Annotated[Path, basic("what sowa detect train wrote")]
Query = Annotated[
    list[str] | None, basic('what to look for, in your words, such as "red star"; by default all classes', **SEVERAL)
]


@detect_app.command
def train(
    *,
    dataset: Format,
    root: BoxRoot,
    out: WeightsOut,
    reference: Annotated[bool, basic("compare each image with one of the same part without anything to find")] = False,
    phrases: Annotated[bool, basic("read labels word by word, so that any of their words can be asked for")] = False,
    image_size: ImageSize = None,
    epochs: Annotated[int, basic("passes over the images")] = 60,
    batch_size: Annotated[int, advanced("images of a step of training")] = 4,
    learning_rate: Annotated[float, advanced("step of the optimizer, above 0")] = 2e-3,
    weight_decay: Annotated[float, advanced("what pulls weights to zero, 0 and more")] = 0.05,
    augment: Annotated[str, advanced("further views: none, or some of hflip,vflip,rotate90,rotate180")] = "hflip",
    held_out: Annotated[float, advanced("share of the images to validate on, where no split says which")] = 0.2,
    width: Annotated[int, advanced("numbers for each patch that the heads read")] = 96,
    checkpoint_every: Annotated[int, advanced("steps between checkpoints, from which a killed run goes on")] = 100,
    seed: Annotated[int, advanced("seed of the split, the weights and the order")] = 0,
    backbone: Backbone = "mini",
    machine: MachineFlags = MACHINE,
) -> None:
    """Learn to find things from images with boxes. Killed runs go on from their last checkpoint."""
    from sowa.data.boxes import load_boxes
    from sowa.tasks.detection.detector import BoxDetector
    from sowa.tasks.detection.train import shown
    from sowa.tasks.encoding import LevelEncoder

    config = DetectTrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        held_out=held_out,
        augment=views(augment),
        phrases=phrases,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    boxes, encoder = load_boxes(dataset, root), LevelEncoder(backbone, machine.settings(image_size))
    detector = BoxDetector(shown(boxes, config), DetectConfig(width=width, reference=reference), encoder, seed)
    _train_to_file(detector, boxes, config, out)


def _train_to_file(detector: BoxDetector, boxes: BoxSet, config: DetectTrainConfig, out: Path) -> None:
    """Trains and tells how good the result is on held-out images."""
    from sowa.tasks.detection.train import train as run

    console = Console()
    with console.progress() as report:
        result = run(detector, boxes, config, out, report)
    console.skipped(result.skipped)
    _table("held-out images", result.metrics, console)
    console.say(f"{out} written", event="detect train", out=str(out), metrics=result.metrics.to_dict())


@detect_app.command(name="test")
def run_test(
    *,
    model: Model,
    dataset: Format,
    root: BoxRoot,
    query: Query = None,
    json_file: JsonFile = None,
    report: Annotated[Path | None, basic("HTML file with the result and the images, the most errors first")] = None,
    backbone: MovedBackbone = None,
    machine: MachineFlags = MACHINE,
) -> None:
    """Measure COCO's mean average precision: on the data set's test split, or else on what training held out.

    With --query a box counts for every query whose words its label has.
    """
    from sowa.data.boxes import load_boxes
    from sowa.model.words import check_names
    from sowa.report.task import write_task_page
    from sowa.tasks.detection.detector import BoxDetector
    from sowa.tasks.detection.evaluate import find_all, measure
    from sowa.tasks.detection.examples import encode_examples
    from sowa.tasks.detection.page import detection_page

    console, boxes = Console(), load_boxes(dataset, root)
    detector = BoxDetector.load(model, backbone=backbone, settings=machine.settings())
    samples, which = _test_images(detector, boxes)
    names = detector.names if query is None else check_names(query, "queries")
    with console.progress() as progress:
        examples = encode_examples(
            detector.encoder, samples, reference=detector.network.config.reference, report=progress
        )
        found = find_all(detector, examples, query, progress)
    metrics = measure(examples, found, names, phrases=query is not None)
    console.skipped(list(examples.skipped))
    _table(f"{len(examples.samples)} images ({which})", metrics, console)
    result = {"images": len(examples.samples), "split": which, **metrics.to_dict(), "mAP50 by class": metrics.per_class}
    if json_file:
        write_bytes(json_file, (json.dumps(result, indent=1) + "\n").encode())
    if report:
        write_task_page(detection_page(detector, str(root), examples, found, names, metrics), report)
        console.note(f"report in {report}")
    console.say(f"mAP50 {metrics.values['mAP50'] or 0:.3f}", event="detect test", **result)


def _test_images(detector: BoxDetector, boxes: BoxSet) -> tuple[list[BoxSample], str]:
    """The test split, or what training held out where these are the images it was trained on, or all; and which."""
    from sowa.tasks.detection.train import hold_out, sha256

    if test := boxes.of("test"):
        return test, "test"
    config = from_dict(DetectTrainConfig, {k: v for k, v in detector.train_.items() if k in SETTINGS})
    training, held_out = hold_out(boxes, config.held_out, config.seed)
    if sha256(training) == detector.train_.get("images_sha256"):
        return held_out, "held out in training"
    return list(boxes.samples), "all"


def _table(title: str, metrics: BoxMetrics, console: Console) -> None:
    rows = [[name, value] for name, value in metrics.to_dict().items()]
    if len(metrics.per_class) <= FEW:
        rows += [[f"mAP50 of {name}", value] for name, value in metrics.per_class.items()]
    console.table(title, ["", ""], rows)


@detect_app.command
def predict(
    source: Source,
    *,
    model: Model,
    query: Query = None,
    reference: Annotated[
        Path | None, basic("image of the part without anything to find, or a folder of them in the images' order")
    ] = None,
    out: Annotated[Path | None, basic("folder for overlays")] = None,
    json_file: JsonLines = None,
    coco: Annotated[Path | None, basic("JSON file of all images and boxes as COCO has them")] = None,
    least_score: Annotated[
        float | None, advanced("score from which a box counts, 0 to 1; by default the model's own")
    ] = None,
    backbone: MovedBackbone = None,
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Find things in images."""
    from sowa.data.sources import image_sources
    from sowa.tasks.detection.detector import BoxDetector

    names = [image.name for image in image_sources(str(source))]
    detector = BoxDetector.load(model, backbone=backbone, settings=compute.settings())
    found = detector.predict(names, query, reference, least_score, compute.batch_size)
    _predict_to_files(detector, found, names, Outputs(out, json_file, coco), Console())


@dataclass(frozen=True)
class Outputs:
    """Where ``sowa detect predict`` writes: a folder of overlays, a file of JSON lines (printed without one), a file of
    COCO's."""

    folder: Path | None = None
    json_file: Path | None = None
    coco: Path | None = None


def _predict_to_files(
    detector: BoxDetector, found: Iterator[Detections], names: list[str], outputs: Outputs, console: Console
) -> None:
    """Writes what is found in each of the images ``names`` as it goes."""
    from sowa.detector.render import encode
    from sowa.tasks.detection.coco import Coco

    called, content, count, boxes = unique_names(names), Coco() if outputs.coco else None, 0, 0
    if outputs.folder:
        make_folder(outputs.folder)
    with console.progress() as report, json_lines(outputs.json_file) as lines:
        for detections in found:
            print(json.dumps(detections.to_dict()), file=lines, flush=outputs.json_file is None)
            if outputs.folder:
                overlay = encode(detections.plot(), "JPEG")
                write_bytes(outputs.folder / f"{called[detections.image_path]}_boxes.jpg", overlay)
            if content:
                content.add(detections)
            count, boxes = count + 1, boxes + len(detections)
            report("detect", count + len(detector.skipped_), len(names))
    if outputs.coco and content:
        write_bytes(outputs.coco, json.dumps(content.to_dict()).encode())
    console.skipped(detector.skipped_)
    written = [f"overlays in {outputs.folder}"] if outputs.folder else []
    console.note("; ".join([f"{count} images, {boxes} boxes", *written]))

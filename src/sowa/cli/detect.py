"""``sowa detect``: trains a detector of boxes, measures it, writes what it finds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sowa.cli.console import Console
from sowa.cli.predict import json_lines, unique_names
from sowa.cli.task_pages import detection_page
from sowa.core.config import from_dict
from sowa.core.files import make_folder, write_bytes
from sowa.data.boxes import BoxSample, BoxSet
from sowa.detector.render import encode
from sowa.model.words import check_names
from sowa.report.task import write_task_page
from sowa.tasks.detection.coco import Coco
from sowa.tasks.detection.config import DetectTrainConfig
from sowa.tasks.detection.detector import BoxDetector, Detections
from sowa.tasks.detection.evaluate import BoxMetrics, find_all, measure
from sowa.tasks.detection.examples import see
from sowa.tasks.detection.train import hold_out, sha256, train

FEW = 30  # classes that are shown one by one; a JSON file holds all


def train_to_file(detector: BoxDetector, boxes: BoxSet, config: DetectTrainConfig, out: Path, console: Console) -> None:
    """Trains and tells how good the result is on held-out images."""
    with console.progress() as report:
        result = train(detector, boxes, config, out, report)
    console.skipped(result.skipped)
    _table("held-out images", result.metrics, console)
    console.say(f"{out} written", event="detect train", out=str(out), metrics=result.metrics.to_dict())


def test_images(detector: BoxDetector, boxes: BoxSet) -> tuple[list[BoxSample], str]:
    """The test split, or what training held out where these are the images it was trained on, or all; and which."""
    if test := boxes.of("test"):
        return test, "test"
    config = from_dict(DetectTrainConfig, {k: v for k, v in detector.train_.items() if k in _SETTINGS})
    training, held_out = hold_out(boxes, config.held_out, config.seed)
    if sha256(training) == detector.train_.get("images_sha256"):
        return held_out, "held out in training"
    return list(boxes.samples), "all"


_SETTINGS = set(DetectTrainConfig.__dataclass_fields__)


def measure_to_files(
    detector: BoxDetector,
    boxes: BoxSet,
    queries: list[str] | None,
    json_file: Path | None,
    page: tuple[Path, str] | None,
    console: Console,
) -> None:
    """Average precision on images that the detector wasn't trained on, to a table, a file and a ``page`` with its
    subject."""
    samples, which = test_images(detector, boxes)
    names = detector.names if queries is None else check_names(queries, "queries")
    with console.progress() as report:
        seen = see(detector.encoder, samples, reference=detector.network.config.reference, report=report)
        found = find_all(detector, seen, queries, report)
    metrics = measure(seen, found, names, phrases=queries is not None)
    console.skipped(list(seen.skipped))
    _table(f"{len(seen.samples)} images ({which})", metrics, console)
    result = {"images": len(seen.samples), "split": which, **metrics.to_dict(), "mAP50 by class": metrics.per_class}
    if json_file:
        write_bytes(json_file, (json.dumps(result, indent=1) + "\n").encode())
    if page:
        path, subject = page
        write_task_page(detection_page(detector, subject, seen, found, names, metrics), path)
        console.note(f"report in {path}")
    console.say(f"mAP50 {metrics.values['mAP50'] or 0:.3f}", event="detect test", **result)


def _table(title: str, metrics: BoxMetrics, console: Console) -> None:
    rows = [[name, value] for name, value in metrics.to_dict().items()]
    if len(metrics.per_class) <= FEW:
        rows += [[f"mAP50 of {name}", value] for name, value in metrics.per_class.items()]
    console.table(title, ["", ""], rows)


@dataclass(frozen=True)
class Outputs:
    """Where ``sowa detect predict`` writes: a folder of overlays, a file of JSON lines (printed without one), a file of
    COCO's."""

    folder: Path | None = None
    json_file: Path | None = None
    coco: Path | None = None


def predict_to_files(
    detector: BoxDetector, found: Iterator[Detections], names: list[str], outputs: Outputs, console: Console
) -> None:
    """Writes what is found in each of the images ``names`` as it goes."""
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

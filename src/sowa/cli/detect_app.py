"""The flags of ``sowa detect``. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from sowa.cli.console import Console
from sowa.cli.flags import Device, Precision, augmentation, size
from sowa.core.config import Settings
from sowa.tasks.detection.config import DetectConfig, DetectTrainConfig

detect_app = App(name="detect", help="Find objects: boxes with names, learned from images with boxes.")
Format = Literal["coco", "yolo", "deeppcb"]


@detect_app.command
def train(
    *,
    dataset: Format,
    root: Path,
    out: Path,
    backbone: str = "mini",
    image_size: str | None = None,
    reference: bool = False,
    phrases: bool = False,
    epochs: int = 60,
    batch_size: int = 4,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.05,
    augment: str = "hflip",
    held_out: float = 0.2,
    width: int = 96,
    checkpoint_every: int = 100,
    seed: int = 0,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Learn to find things from images with boxes. Killed runs go on from their last checkpoint.

    Args:
        dataset: coco (JSON files), yolo (data.yaml and text files), or deeppcb (pairs of images)
        root: the data set's folder, or its JSON or YAML file
        out: file for the weights, *.safetensors
        backbone: as in `sowa fit`
        image_size: side in pixels, or HEIGHTxWIDTH; by default the backbone's. Larger finds smaller things, slower
        reference: compare each image with one of the same part without anything to find, which the data must have
        phrases: read labels word by word, so that any words of them can be asked for, such as "red star"
        epochs: passes over the images
        augment: views that are true images of the same things: none, or some of hflip,vflip,rotate90,rotate180; each
            is encoded too
        held_out: share of the images that is kept to validate on, where the data set has no such split
        width: of what the heads read
        seed: of the split, the weights and the order
    """
    from sowa.cli.detect import train_to_file
    from sowa.data.boxes import load_boxes
    from sowa.tasks.detection.detector import BoxDetector
    from sowa.tasks.detection.train import shown
    from sowa.tasks.encoding import LevelEncoder

    views = augmentation(augment)
    config = DetectTrainConfig(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        held_out=held_out,
        augment=views if isinstance(views, tuple) else (views,),
        phrases=phrases,
        checkpoint_every=checkpoint_every,
        seed=seed,
    )
    boxes = load_boxes(dataset, root)
    encoder = LevelEncoder(backbone, Settings(device, precision, size(image_size)))
    detector = BoxDetector(shown(boxes, config), DetectConfig(width=width, reference=reference), encoder, seed)
    train_to_file(detector, boxes, config, out, Console())


@detect_app.command(name="test")
def run_test(
    *,
    model: Path,
    dataset: Format,
    root: Path,
    query: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    backbone: str | None = None,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Measure COCO's mean average precision: on the data set's test split, or else on what training held out.

    Args:
        model: what `sowa detect train` wrote
        dataset: as in `sowa detect train`
        root: as in `sowa detect train`
        query: what to look for in place of the classes; a box counts for every query whose words its label has
        json_file: file for the result
        report: HTML file that shows the result and the images, those with the most errors first
        backbone: stands in for the one that the model names, where its file has moved
    """
    from sowa.cli.detect import measure_to_files
    from sowa.data.boxes import load_boxes
    from sowa.tasks.detection.detector import BoxDetector

    boxes = load_boxes(dataset, root)
    detector = BoxDetector.load(model, backbone=backbone, settings=Settings(device, precision))
    page = (report, str(root)) if report else None
    measure_to_files(detector, boxes, query, json_file, page, Console())


@detect_app.command
def predict(
    source: Path,
    *,
    model: Path,
    query: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    reference: Path | None = None,
    least_score: float | None = None,
    out: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    coco: Path | None = None,
    backbone: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Find things in images.

    Args:
        source: image, folder or glob pattern
        model: what `sowa detect train` wrote
        query: what to look for, in your words, such as "red star"; by default all that the model learned
        reference: where the model compares with one: an image of the part without anything to find, or a folder of
            them in the order of the images
        least_score: score from which a box counts, 0 to 1; by default the model's own
        out: folder for overlays
        json_file: file of JSON lines, one per image
        coco: JSON file of all images and boxes as COCO has them
        backbone: stands in for the one that the model names, where its file has moved
    """
    from sowa.cli.detect import Outputs, predict_to_files
    from sowa.data.sources import image_sources
    from sowa.tasks.detection.detector import BoxDetector

    names = [image.name for image in image_sources(str(source))]
    detector = BoxDetector.load(model, backbone=backbone, settings=Settings(device, precision))
    found = detector.predict(names, query, reference, least_score, batch_size)
    predict_to_files(detector, found, names, Outputs(out, json_file, coco), Console())

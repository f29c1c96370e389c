"""``sowa classify``: learns classes from images, or is told them by names, and says what images are of."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App

from sowa.cli.console import Console
from sowa.cli.options import COMPUTE, Backbone, ComputeFlags, ImageSize, JsonLines, Source, advanced, basic
from sowa.cli.results import json_lines
from sowa.core.config import Settings
from sowa.core.files import is_file
from sowa.errors import InputError
from sowa.tasks.classification.config import ClassifyConfig

if TYPE_CHECKING:
    from sowa.tasks.classification.classifier import Classifier
    from sowa.tasks.classification.measures import Measured

classify_app = App(
    name="classify", help="Sort images into classes: learned from folders of images, or told by names alone."
)
Model = Annotated[Path | None, basic("the classifier that sowa classify train wrote")]
Names = Annotated[str | None, basic("in place of a model, names with commas, or a file with one a line")]
Templates = Annotated[Path | None, advanced("file of sentences for --names, one a line, in which {} is a name")]
HeldOut = Annotated[float, advanced("share of each class that is tested on, where there is no test folder, 0 to 1")]
OtherBackbone = Annotated[str | None, advanced("stands in for the one that a model names; or as in sowa fit")]


@classify_app.command
def train(
    *,
    root: Annotated[Path, basic("folder with a folder of images for each class, or with train and test of such")],
    out: Annotated[Path, basic("file for the classifier, *.safetensors")],
    names: Annotated[
        Path | None, basic("file with a line 'folder = words' for each class; by default folders' names are read")
    ] = None,
    k_shot: Annotated[
        int | None, basic("images of each class to learn from, drawn by the seed; all by default")
    ] = None,
    image_size: ImageSize = None,
    held_out: HeldOut = 0.25,
    steps: Annotated[int, advanced("steps of training, from four images of each class on; 0 for none")] = 30,
    seed: Annotated[int, advanced("seed of the draws and the training")] = 0,
    backbone: Backbone = "mini",
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Learn classes from a folder of folders, one per class, and measure on images that weren't learned from."""
    from sowa.data.class_folders import read_folders
    from sowa.tasks.classification.classifier import Classifier

    console = Console()
    config = ClassifyConfig(steps=steps, seed=seed)
    folders = read_folders(root, names, seed, held_out)
    classifier = Classifier.from_pretrained(backbone, settings=compute.settings(image_size))
    with console.progress() as report:
        classifier.fit(folders, k_shot, seed, config=config, batch_size=compute.batch_size, report=report)
    classifier.save(out)
    console.skipped(classifier.skipped_)
    trained, measured = bool(classifier.train_["trained"]), classifier.metrics_
    console.table("held-out images", *overview(measured, classifier.temperature))
    how = "with trained adapters and prompts" if trained else "frozen, since training didn't help or couldn't"
    console.say(
        f"{out}: {len(classifier.names)} classes from {classifier.train_['images']} images, {how}",
        event="classify train",
        out=str(out),
        names=classifier.names,
        trained=trained,
        **classifier.summary,
    )


def overview(measured: Measured | None, temperature: float) -> tuple[list[str], list[list[Any]]]:
    """Header and row of a table of measures; no row where nothing was measured."""
    header = ["images", "top-1", "top-5", "balanced accuracy", "ECE", "temperature", "ECE without it"]
    if measured is None:
        return header, []
    values = [measured.top1, measured.top5, measured.balanced, measured.ece, temperature, measured.ece_before]
    return header, [[measured.images, *values]]


@classify_app.command
def predict(
    source: Source,
    *,
    model: Model = None,
    names: Names = None,
    templates: Templates = None,
    other: Annotated[bool, basic("let images be none of these")] = False,
    json_file: JsonLines = None,
    image_size: ImageSize = None,
    backbone: OtherBackbone = None,
    compute: ComputeFlags = COMPUTE,
) -> None:
    """Say what class images are of, a JSON line each: with a trained classifier, or by names alone."""
    console, counts = Console(), Counter[str]()
    classifier = load_classifier(Told(model, names, templates, backbone, compute.settings(image_size)))
    with console.progress() as report, json_lines(json_file) as lines:
        judged = classifier.predict(str(source), other=other, batch_size=compute.batch_size, report=report, stream=True)
        for found in judged:
            print(json.dumps(found.to_dict()), file=lines)
            counts[found.name] += 1
    console.skipped(classifier.skipped_)
    console.note(f"{counts.total()} images: " + ", ".join(f"{name} {count}" for name, count in counts.most_common()))


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
    from sowa.data.class_folders import read_lines
    from sowa.tasks.classification.classifier import TEMPLATES, Classifier

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

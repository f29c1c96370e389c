"""The flags of ``sowa classify``. Heavy imports happen inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from sowa.cli.console import Console
from sowa.cli.flags import Device, Precision, numbers, size
from sowa.core.config import Settings
from sowa.errors import InputError

classify_app = App(
    name="classify", help="Sort images into classes: learned from folders of images, or told by names alone."
)


@classify_app.command
def train(
    *,
    root: Path,
    out: Path,
    names: Path | None = None,
    k_shot: int | None = None,
    held_out: float = 0.25,
    steps: int = 30,
    seed: int = 0,
    backbone: str = "mini",
    image_size: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Learn classes from a folder of folders, one per class, and measure on images that weren't learned from.

    Args:
        root: folder with a folder of images for each class, or with train and test (or val) of such folders
        out: file for the classifier, *.safetensors
        names: file that says what folders mean, a line 'folder = words' each; by default their names, in which
            underscores are spaces
        k_shot: how many images of each class to learn from, drawn by the seed; all by default
        held_out: share of each class that is tested on, where there is no test folder, 0 to 1
        steps: of training adapters and prompts, from four images of each class on; 0 for none
        seed: of the draws and the training
        backbone: as in `sowa fit`
        image_size: side in pixels, or HEIGHTxWIDTH; by default the backbone's
    """
    from sowa.cli.classify import train_to_file
    from sowa.data.class_folders import read_folders
    from sowa.tasks.classification.classifier import Classifier
    from sowa.tasks.classification.config import ClassifyConfig

    config = ClassifyConfig(steps=steps, seed=seed)
    folders = read_folders(root, names, seed, held_out)
    classifier = Classifier.from_pretrained(backbone, settings=Settings(device, precision, size(image_size)))
    train_to_file(classifier, folders, k_shot, config, out, batch_size, Console())


@classify_app.command(name="test")
def run_test(
    *,
    root: Path,
    model: Path | None = None,
    names: str | None = None,
    templates: Path | None = None,
    folders: Path | None = None,
    compare: bool = False,
    k_shot: str = "1,4,16,all",
    seeds: Annotated[str, Parameter(name=["--seeds", "--seed"])] = "0,1,2",
    held_out: float = 0.25,
    out: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    report: Path | None = None,
    backbone: str | None = None,
    image_size: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Measure a classifier on images whose classes are known, or compare the method with simpler ones.

    Args:
        root: folder with a folder of images for each class; of train and test beside each other test is taken
        model: the classifier that `sowa classify train` wrote
        names: in place of a model, names with commas (or a file with one a line), which alone tell the classes
        templates: file of sentences for --names, one a line, in which {} is a name
        folders: file that says what folders mean, as --names of `sowa classify train`
        compare: learn from ROOT at every --k-shot and by every seed, beside a linear probe and nearest class mean
        k_shot: with --compare, numbers of images of each class with commas; all takes every image
        seeds: with --compare, of the draws
        held_out: with --compare, share of each class that is tested on, where there is no test folder
        out: PNG file for the confusion matrix
        json_file: file for the numbers
        report: HTML file that shows the numbers and the images, the surest errors first
        backbone: stands in for the one that a model names; otherwise as in `sowa fit`
        image_size: side in pixels, or HEIGHTxWIDTH, without --model; by default the backbone's
    """
    from sowa.cli.classify import Told, compare_to_table, load_classifier, test_to_table

    told = Told(model, names, templates, backbone, Settings(device, precision, size(image_size)))
    if not compare:
        test_to_table(load_classifier(told), root, folders, out, json_file, report, batch_size, Console())
        return
    if model or names or templates or out or report:
        raise InputError(
            "--compare learns from --root itself; leave --model, --names, --templates, --out and --report out"
        )
    wanted = [None if part.strip() == "all" else numbers("k-shot", part)[0] for part in k_shot.split(",")]
    compare_to_table(told, root, folders, held_out, wanted, numbers("seeds", seeds), json_file, batch_size, Console())


@classify_app.command
def predict(
    source: Path,
    *,
    model: Path | None = None,
    names: str | None = None,
    templates: Path | None = None,
    other: bool = False,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
    backbone: str | None = None,
    image_size: str | None = None,
    batch_size: int = 8,
    device: Device = "auto",
    precision: Precision = "auto",
) -> None:
    """Say what class images are of, a JSON line each: with a trained classifier, or by names alone.

    Args:
        source: image, folder or glob pattern
        model: the classifier that `sowa classify train` wrote
        names: in place of a model, names with commas, such as "scratch,crack,hole", or a file with one a line
        templates: file of sentences for --names, one a line, in which {} is a name
        other: let images be none of these
        json_file: file for the lines; printed without one
        backbone: stands in for the one that a model names; otherwise as in `sowa fit`
        image_size: side in pixels, or HEIGHTxWIDTH, without --model; by default the backbone's
    """
    from sowa.cli.classify import Told, load_classifier, predict_to_lines

    told = Told(model, names, templates, backbone, Settings(device, precision, size(image_size)))
    predict_to_lines(load_classifier(told), source, other, json_file, batch_size, Console())

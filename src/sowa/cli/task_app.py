"""The flags of ``sowa task``, ``sowa data`` and ``sowa prompts``: what comes before training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter

from sowa.cli.console import Console

task_app = App(name="task", help="Start a task: a commented configuration.")
data_app = App(name="data", help="Look at data before training.")
prompts_app = App(name="prompts", help="Look at words before training.")


@task_app.command
def init(task: Literal["detect", "classify"], *, out: Path | None = None) -> None:
    """Write the flags of `sowa detect train` or `sowa classify train` to a commented file for --config.

    Args:
        task: detect (boxes) or classify (classes)
        out: the file, TASK.yaml by default
    """
    from sowa.cli.task import write_config

    write_config(task, out or Path(f"{task}.yaml"), Console())


@data_app.command
def check(
    *,
    dataset: str,
    root: Path,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Count images and classes, and find broken files, images that are there twice, and test images in training.

    Args:
        dataset: imagefolder (a folder for each class), coco, yolo, deeppcb, or as in `sowa test`
        root: the data set's folder
        json_file: file for everything that was found
    """
    from sowa.cli.task import check_data

    check_data(dataset, root, json_file, Console())


@prompts_app.command
def preview(
    *,
    names: str,
    words: str | None = None,
    template: Annotated[list[str] | None, Parameter(negative=(), consume_multiple=True)] = None,
    backbone: str = "mini",
    out: Path | None = None,
    json_file: Annotated[Path | None, Parameter(name="--json")] = None,
) -> None:
    """Show how alike the names of classes are to a network, and which other words are closest to each.

    Args:
        names: of the classes, with commas, or a file with a name a line
        words: to compare them with, likewise; by default common words for colours, materials, shapes and damage
        template: sentences that names are put into for {}, such as "a photo of a {}"; a name's features are their mean
        backbone: as in `sowa fit`
        out: PNG file for a heat map of the similarities
        json_file: file for the similarities
    """
    from sowa.cli.task import preview_prompts

    preview_prompts(names, words, template or ["{}"], backbone, out, json_file, Console())

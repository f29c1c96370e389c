"""``sowa data check``: a look at data before training."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

from cyclopts import App

from sowa.cli.console import Console
from sowa.cli.options import JsonFile, Root, basic
from sowa.core.files import write_bytes

if TYPE_CHECKING:
    from sowa.data.checks import Checked

data_app = App(name="data", help="Look at data before training.")


@data_app.command
def check(
    *,
    dataset: Annotated[str, basic("imagefolder (a folder for each class), coco, yolo, deeppcb, or as in sowa test")],
    root: Root,
    json_file: JsonFile = None,
) -> None:
    """Count images and classes, and find broken files, images that are there twice, and test images in training."""
    from sowa.data.checks import check as examine
    from sowa.data.checks import items

    console = Console()
    with console.progress() as report:
        found = examine(items(dataset, root), report)
    rows = [[kind, *(found.counts[kind].get(split, 0) for split in found.splits)] for kind in found.counts]
    unit = "boxes" if found.boxed else "images"
    console.table(f"{unit} of each class", ["", *(split or "no split" for split in found.splits)], rows)
    for line in _lines(found):
        console.note(line)
    if json_file:
        write_bytes(json_file, (json.dumps(found.to_dict(), indent=1) + "\n").encode())
    console.say(f"{found.images} images", event="data check", **found.summary())


def _lines(found: Checked) -> list[str]:
    """What is wrong or odd, a line each, the first examples in words."""
    from sowa.data.checks import PROBLEMS

    lines = []
    for what, examples in found.problems().items():
        shown = "; ".join(" = ".join(group) for group in examples[:3])
        lines.append(f"{len(examples)} {PROBLEMS[what]}: {shown}" + ("; ..." if len(examples) > 3 else ""))
    return lines or ["nothing is wrong with it"]

"""``sowa prompts preview``: a look at words before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import App

from sowa.cli.console import Console
from sowa.cli.options import SEVERAL, Backbone, JsonFile, basic
from sowa.core.files import is_file, write_bytes
from sowa.errors import InputError

prompts_app = App(name="prompts", help="Look at words before training.")
# Words that images of things are told by, for whoever has none at hand to compare names with.
COMMON = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black", "grey"),
    *("metal", "wood", "plastic", "glass", "fabric", "leather", "paper", "stone", "rubber", "ceramic", "food", "water"),
    *("round", "square", "long", "striped", "spotted", "smooth", "rough", "shiny", "dark", "bright", "small", "big"),
    *("scratch", "crack", "hole", "dent", "stain", "dirt", "rust", "break", "cut", "chip", "bent", "missing part"),
    *("animal", "bird", "dog", "cat", "fish", "insect", "plant", "flower", "tree", "person", "car", "boat", "building"),
    *("tool", "machine", "furniture", "instrument", "clothing", "toy", "text", "nothing"),
)


@prompts_app.command
def preview(
    *,
    names: Annotated[str, basic("names of the classes, with commas, or a file with a name a line")],
    words: Annotated[str | None, basic("what to compare them with, likewise; by default common words")] = None,
    template: Annotated[
        list[str] | None, basic('sentences that names are put into for {}, such as "a photo of a {}"', **SEVERAL)
    ] = None,
    out: Annotated[Path | None, basic("PNG file for a heat map of the similarities")] = None,
    json_file: JsonFile = None,
    backbone: Backbone = "mini",
) -> None:
    """Show how alike the names of classes are to a network, and which other words are closest to each."""
    from sowa.tasks.preview import compare, draw_heat_map

    console, called = Console(), _listed(names, "names")
    found = compare(called, _listed(words, "words") if words else COMMON, template or ["{}"], backbone)
    rows = [[name, found.nearest_name(name), ", ".join(found.closest(name))] for name in called]
    console.table("names as the network reads them", ["", "most alike name", "closest words"], rows)
    if out:
        write_bytes(out, draw_heat_map(found))
    if json_file:
        write_bytes(json_file, (json.dumps(found.to_dict(), indent=1) + "\n").encode())
    told = found.to_dict()["nearest"]
    console.say(f"heat map in {out}" if out else f"{len(called)} names", event="prompts preview", nearest=told)


def _listed(text: str, flag: str) -> tuple[str, ...]:
    """Names with commas, or of a file with one a line. Raises InputError where there is none, or one twice."""
    file = Path(text).read_text(encoding="utf-8", errors="replace") if is_file(text) else None
    parts = text.split(",") if file is None else file.splitlines()
    found = tuple(part.strip() for part in parts if part.strip())
    if not found or len(set(found)) < len(found):
        raise InputError(f"--{flag} are {list(found)}, needed is one or more with commas, or a file, none twice")
    return found

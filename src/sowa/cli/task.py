"""``sowa task init``, ``sowa data check``, ``sowa prompts preview``: what comes before training."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml
from cyclopts import App
from docstring_parser import parse

from sowa.cli.classify_app import classify_app
from sowa.cli.console import Console
from sowa.cli.detect_app import detect_app
from sowa.core.files import is_file, write_bytes
from sowa.data.checks import PROBLEMS, Checked, check, items
from sowa.errors import InputError

TASKS: dict[str, App] = {"detect": detect_app, "classify": classify_app}
FIRST = {
    "detect": "sowa data check --dataset coco --root DATA",
    "classify": "sowa data check --dataset imagefolder --root DATA",
}
# Words that images of things are told by, for whoever has none at hand to compare names with.
COMMON = (
    *("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "white", "black", "grey"),
    *("metal", "wood", "plastic", "glass", "fabric", "leather", "paper", "stone", "rubber", "ceramic", "food", "water"),
    *("round", "square", "long", "striped", "spotted", "smooth", "rough", "shiny", "dark", "bright", "small", "big"),
    *("scratch", "crack", "hole", "dent", "stain", "dirt", "rust", "break", "cut", "chip", "bent", "missing part"),
    *("animal", "bird", "dog", "cat", "fish", "insect", "plant", "flower", "tree", "person", "car", "boat", "building"),
    *("tool", "machine", "furniture", "instrument", "clothing", "toy", "text", "nothing"),
)


def write_config(task: str, out: Path, console: Console) -> None:
    """Writes all flags of a task's training with what they mean. Raises InputError where the file is there already."""
    if out.exists():
        raise InputError(f"{out} is there already; choose another --out, or remove it")
    write_bytes(out, commented(task, out).encode())
    console.say(f"{out} written: fill in what is empty, then sowa {task} train --config {out}", out=str(out))


def commented(task: str, out: Path) -> str:
    """The configuration as text: the steps of the task first, then each flag under what it means."""
    command = TASKS[task]["train"]
    meaning = {entry.arg_name: entry.description for entry in parse(command.help).params}
    lines = [
        f"# sowa {task}: from images to a model in four steps. Relative paths start where the command is typed.",
        "#",
        f"#   1. prepare data:    {FIRST[task]}",
        '#   2. design prompts:  sowa prompts preview --names "one, another"',
        f"#   3. train:           sowa {task} train --config {out}",
        f"#   4. evaluate:        sowa {task} test --help",
        "",
    ]
    for argument in command.assemble_argument_collection():
        flag = argument.name.removeprefix("--")
        told = meaning.get(argument.field_info.name)
        lines += wrap(told, 118, initial_indent="# ", subsequent_indent="# ") if told else []
        if argument.required:
            lines.append(f"{flag}:  # needed")
        elif argument.field_info.default is None:
            lines.append(f"# {flag}:")
        else:
            lines.append(yaml.safe_dump({flag: _plain(argument.field_info.default)}, allow_unicode=True).strip())
    return "\n".join([*lines, ""])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value


def check_data(dataset: str, root: Path, json_file: Path | None, console: Console) -> None:
    """Counts and problems of a data set, to tables and a file."""
    with console.progress() as report:
        found = check(items(dataset, root), report)
    rows = [[kind, *(found.counts[kind].get(split, 0) for split in found.splits)] for kind in found.counts]
    unit = "boxes" if found.boxed else "images"
    console.table(f"{unit} of each class", ["", *(split or "no split" for split in found.splits)], rows)
    for line in told(found):
        console.note(line)
    if json_file:
        write_bytes(json_file, (json.dumps(found.to_dict(), indent=1) + "\n").encode())
    console.say(f"{found.images} images", event="data check", **found.summary())


def told(found: Checked) -> list[str]:
    """What is wrong or odd, a line each, the first examples in words."""
    lines = []
    for what, examples in found.problems().items():
        shown = "; ".join(" = ".join(group) for group in examples[:3])
        lines.append(f"{len(examples)} {PROBLEMS[what]}: {shown}" + ("; ..." if len(examples) > 3 else ""))
    return lines or ["nothing is wrong with it"]


def preview_prompts(
    names: str,
    words: str | None,
    templates: Sequence[str],
    backbone: str,
    out: Path | None,
    json_file: Path | None,
    console: Console,
) -> None:
    """Which words are closest to each name, and how alike the names are, to a table, an image and a file."""
    from sowa.tasks.preview import compare, draw_heat_map

    called = listed(names, "names")
    found = compare(called, listed(words, "words") if words else COMMON, templates, backbone)
    rows = [[name, found.nearest_name(name), ", ".join(found.closest(name))] for name in called]
    console.table("names as the network reads them", ["", "most alike name", "closest words"], rows)
    if out:
        write_bytes(out, draw_heat_map(found))
    if json_file:
        write_bytes(json_file, (json.dumps(found.to_dict(), indent=1) + "\n").encode())
    told = found.to_dict()["nearest"]
    console.say(f"heat map in {out}" if out else f"{len(called)} names", event="prompts preview", nearest=told)


def listed(text: str, flag: str) -> tuple[str, ...]:
    """Names with commas, or of a file with one a line. Raises InputError where there is none, or one twice."""
    file = Path(text).read_text(encoding="utf-8", errors="replace") if is_file(text) else None
    parts = text.split(",") if file is None else file.splitlines()
    found = tuple(part.strip() for part in parts if part.strip())
    if not found or len(set(found)) < len(found):
        raise InputError(f"--{flag} are {list(found)}, needed is one or more with commas, or a file, none twice")
    return found

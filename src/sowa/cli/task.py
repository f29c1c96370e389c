"""``sowa task init``: a commented configuration to start a task with."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap
from typing import Annotated, Any, Literal

from cyclopts import App

from sowa.cli.classify import classify_app
from sowa.cli.console import Console
from sowa.cli.detect import detect_app
from sowa.cli.options import basic
from sowa.core.files import write_bytes
from sowa.errors import InputError

task_app = App(name="task", help="Start a task: a commented configuration.")
TASKS: dict[str, App] = {"detect": detect_app, "classify": classify_app}
FIRST = {
    "detect": "sowa data check --dataset coco --root DATA",
    "classify": "sowa data check --dataset imagefolder --root DATA",
}


@task_app.command
def init(
    task: Annotated[Literal["detect", "classify"], basic("boxes, or classes")],
    *,
    out: Annotated[Path | None, basic("the file, TASK.yaml by default")] = None,
) -> None:
    """Write the flags of sowa detect train or sowa classify train to a commented file for --config."""
    out = out or Path(f"{task}.yaml")
    if out.exists():
        raise InputError(f"{out} is there already; choose another --out, or remove it")
    write_bytes(out, _commented(task, out).encode())
    Console().say(f"{out} written: fill in what is empty, then sowa {task} train --config {out}", out=str(out))


def _commented(task: str, out: Path) -> str:
    """The configuration as text: the steps of the task first, then each flag under what it means."""
    import yaml

    lines = [
        f"# sowa {task}: from images to a model in four steps. Relative paths start where the command is typed.",
        "#",
        f"#   1. prepare data:    {FIRST[task]}",
        '#   2. design prompts:  sowa prompts preview --names "one, another"',
        f"#   3. train:           sowa {task} train --config {out}",
        f"#   4. evaluate:        sowa {task} test --help",
        "",
    ]
    for argument in TASKS[task]["train"].assemble_argument_collection(parse_docstring=True):
        if argument.children:  # several flags, which follow one by one
            continue
        flag, told = argument.name.removeprefix("--"), argument.parameter.help
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

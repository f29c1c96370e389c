"""The command line ``sowa``: its commands in groups, and how one of them is run."""

from __future__ import annotations

import os
import shlex
import sys

from cyclopts import App, CycloptsError, Group
from cyclopts.config import Dict

import sowa
from sowa.cli import classify_test  # noqa: F401 - a command of classify_app
from sowa.cli.allocator import collect_no_more, collect_rarely, keep_freed_memory
from sowa.cli.benchmark import benchmark
from sowa.cli.calibrate import calibrate
from sowa.cli.classify import classify_app
from sowa.cli.config import hyphens, print_config, read_config, take_config
from sowa.cli.data import data_app
from sowa.cli.demo import demo
from sowa.cli.detect import detect_app
from sowa.cli.doctor import doctor
from sowa.cli.export import export
from sowa.cli.fit import fit
from sowa.cli.gaze import gaze_app
from sowa.cli.info import info
from sowa.cli.predict import predict
from sowa.cli.prompts import prompts_app
from sowa.cli.shots import shots
from sowa.cli.task import task_app
from sowa.cli.test import run_test
from sowa.cli.train import train
from sowa.errors import ExportError, InputError, TrainingError

CONFIG = "--config FILE reads flags from YAML, --print-config writes that file."
EXAMPLES = """Examples:
  sowa fit --normal parts/good --out parts.sowa
  sowa predict parts/new --model parts.sowa --out results"""
GROUPS = {
    "Inspect": (demo, fit, calibrate, predict),
    "Measure": (run_test, benchmark, shots),
    "Train": (train,),
    "Other tasks": (detect_app, classify_app, gaze_app),
    "Tools": (export, info, doctor, data_app, prompts_app, task_app),
}

app = App(
    name="sowa",
    version=sowa.__version__,
    help="Find defects in images of parts from a handful of normal images, or none.",
    help_format="plaintext",
    help_epilogue=EXAMPLES,
)
for place, (title, commands) in enumerate(GROUPS.items()):
    group = Group(title, sort_key=place)
    for order, command in enumerate(commands):
        if isinstance(command, App):
            command.group, command.sort_key, command.help_epilogue = (group,), order, CONFIG
            app.command(command)
        else:
            name = command.__name__.removeprefix("run_")
            app.command(command, name=name, group=group, sort_key=order, help_epilogue=CONFIG)
app["--help"].group = app["--version"].group = (Group("Options", sort_key=len(GROUPS)),)


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and ends the process: 0 done, 2 the input is wrong (one line says what), 1 anything else."""
    keep_freed_memory()
    collect_rarely()
    code = run(sys.argv[1:] if arguments is None else arguments)
    collect_no_more()
    sys.exit(code)


def run(arguments: list[str]) -> int:
    """Runs a command; returns the exit code."""
    typed = arguments
    try:
        arguments, file, printing = take_config([hyphens(argument) for argument in arguments])
        commands = [name for name in app if not name.startswith("-")]
        # The file's values stand in for flags that aren't given.
        app.config = (
            () if file is None else (Dict(read_config(file, commands), use_commands_as_keys=False, source=file),)
        )
        command, bound, unparsed = app.parse_args(arguments, print_error=False, exit_on_error=False)
        if printing:
            print_config(command, bound)
            return 0
        if "typed" in unparsed:
            bound.arguments["typed"] = shlex.join(["sowa", *typed])
        command(*bound.args, **bound.kwargs)
    except (CycloptsError, InputError) as error:
        print(f"sowa: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except (ExportError, TrainingError) as error:
        print(f"sowa: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print("sowa: interrupted", file=sys.stderr)
        return 130
    return 0

"""Flags from a file (``--config FILE``), and the file from flags (``--print-config``)."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, get_type_hints

from cyclopts import Parameter

from sowa.core.config import to_dict
from sowa.core.files import is_file
from sowa.errors import InputError


def hyphens(argument: str) -> str:
    """``--k_shot=4`` means ``--k-shot=4``: both forms are in use in the field."""
    if not argument.startswith("--"):
        return argument
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value


def take_config(arguments: list[str]) -> tuple[list[str], str | None, bool]:
    """Takes ``--config FILE`` and ``--print-config`` out: the other arguments, the file, whether to print."""
    rest, path = [], None
    words = iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=")
        if flag in ("--config", "-c"):
            path = value if equals else next(words, "")
        elif word != "--print-config":
            rest.append(word)
    return rest, path, "--print-config" in arguments


def read_config(path: str, commands: Collection[str]) -> dict[str, Any]:
    """Flags and values of a YAML file. Raises InputError for anything else."""
    import yaml

    if not is_file(path):
        raise InputError(f"--config {path!r} is no file; give a file of YAML with the command's flags")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise InputError(f"--config {path} is no YAML ({error})") from None
    if not isinstance(values, dict) or not all(isinstance(key, str) and key not in commands for key in values):
        raise InputError(
            f"--config {path} must be a mapping of flags to values, such as 'k-shot: 4', with nothing around it"
        )
    return values


def print_config(command: Callable[..., Any], bound: inspect.BoundArguments) -> None:
    """Prints the values of all flags as YAML that ``--config`` reads."""
    import yaml

    bound.apply_defaults()
    hints = get_type_hints(command, include_extras=True)
    values: dict[str, Any] = {}
    for name, value in bound.arguments.items():
        flag, plain = _flag(name, hints[name]), _plain(value)
        values |= plain if flag == "*" else {flag: plain}  # a dataclass whose flags stand beside the command's own
    given = {name: value for name, value in values.items() if value is not None}
    print(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), end="")


def _flag(name: str, hint: Any) -> str:
    """The flag that fills a command's parameter, without its hyphens in front."""
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Parameter)]
    names = [alias for mark in marks for alias in mark.name or ()]
    return (names[0] if names else name).removeprefix("--").replace("_", "-")


def _plain(value: Any) -> Any:
    """Values that YAML can write: paths as text, dataclasses and tuples opened up."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(to_dict(value))
    if isinstance(value, dict):
        return {name.replace("_", "-"): _plain(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value

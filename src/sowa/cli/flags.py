"""Flags beyond one command: both ways to write them, a file that holds them, and how to get that file."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter

import sowa
from sowa.core.config import to_dict
from sowa.core.files import file_format, is_file
from sowa.core.headers import DETECTOR_FORMAT, WEIGHTS_FORMAT
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.detector.extension import Extension

Device = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["auto", "fp32", "bf16"]
Typed = Annotated[str | None, Parameter(parse=False)]  # the command itself, which no flag sets
PIXELS_PER_DEGREE = 38.0  # a monitor of 24 inches with 1920 pixels in a row at 60 cm
PRESETS = Path(sowa.__file__).with_name("presets")


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
    """Flags and values of a YAML file, or of a preset of that name. Raises InputError for anything else."""
    import yaml

    presets = {file.stem: file for file in PRESETS.glob("*.yaml")}
    if not is_file(path) and path not in presets:
        raise InputError(
            f"--config {path!r} is no file and no preset; give a file of YAML with the command's flags, or one of "
            f"{', '.join(sorted(presets))}"
        )
    try:
        values = yaml.safe_load((Path(path) if is_file(path) else presets[path]).read_text(encoding="utf-8"))
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
    values = {_flag(name, hints[name]): _plain(value) for name, value in bound.arguments.items()}
    values |= values.pop("*", {})  # a dataclass whose flags stand beside the command's own
    given = {name: value for name, value in values.items() if value is not None}
    print(yaml.safe_dump(given, sort_keys=False, allow_unicode=True), end="")


def numbers(flag: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas. Raises InputError for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--{flag} is {text!r}, needed are whole numbers with commas, such as 0,1,2,4") from None


def augmentation(text: str) -> str | tuple[str, ...]:
    """``none``, ``auto``, or kinds of views with commas; what they may be is for others to say."""
    if text == "auto":
        return text
    return () if text == "none" else tuple(part.strip() for part in text.split(","))


def size(text: str | None) -> tuple[int, int] | None:
    """(H, W) of ``SIDE`` or ``HEIGHTxWIDTH``. Raises InputError for anything else."""
    if text is None:
        return None
    try:
        sides = [int(part) for part in text.lower().split("x")]
        height, width = sides * 2 if len(sides) == 1 else sides
    except ValueError:
        raise InputError(f"--image-size is {text!r}, needed is a side such as 384 or HEIGHTxWIDTH") from None
    return height, width


def _flag(name: str, hint: Any) -> str:
    """The flag that fills a command's parameter, without its hyphens in front."""
    marks = [mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Parameter)]
    names = [alias for mark in marks for alias in mark.name or ()]
    return (names[0] if names else name).removeprefix("--").replace("_", "-")


def _plain(value: Any) -> Any:
    """Values that YAML can write: paths as text, dataclasses and tuples opened up."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name.replace("_", "-"): _plain(part) for name, part in to_dict(value).items()}
    if isinstance(value, dict):
        return {name.replace("_", "-"): _plain(part) for name, part in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(part) for part in value]
    return str(value) if isinstance(value, Path) else value


def named_network(model: Path | None, backbone: str | None) -> dict[str, Any]:
    """What ``Sowa.from_pretrained`` is to be given: weights of ours name their backbone, the authors' don't."""
    if model is None:
        return {"name": "mini" if backbone is None else backbone}
    found = file_format(model)
    if found == DETECTOR_FORMAT:
        raise InputError(f"--model {model} is a fitted detector, needed are weights of sowa train")
    if found == WEIGHTS_FORMAT and backbone is not None:
        raise InputError(f"--model {model} names its backbone itself; leave --backbone {backbone} out")
    if found == WEIGHTS_FORMAT:
        return {"name": str(model)}
    if backbone is None:
        raise InputError(f"--model {model} holds no weights of sowa train; the authors' need --backbone NAME too")
    return {"name": backbone, "weights": model}


def extensions(saliency_weight: float, expect: list[str] | None, glances: int | None = None) -> list[Extension]:
    """What plugs into a detector by flags of `sowa fit`."""
    chosen: list[Extension] = []
    if saliency_weight:
        from sowa.extensions.saliency import SaliencyWeight

        chosen.append(SaliencyWeight(saliency_weight))
    if expect:
        from sowa.extensions.names.expected import ExpectedDefects

        chosen.append(ExpectedDefects(expect))
    if glances is not None:
        from sowa.extensions.glances.extension import Glances

        chosen.append(Glances(glances))
    return chosen

"""Which data sets are judged with weights trained on which (paper section 4.1), and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sowa.core.types import Sample
from sowa.data import load
from sowa.data.files import require_folder, sub_folders
from sowa.errors import InputError
from sowa.evaluation.config import EvaluationConfig

# Names under which the archives unpack, beside the data sets' own.
PUBLISHED_NAMES = {
    "mvtec": ("mvtec_anomaly_detection", "mvtec_ad"),
    "btad": ("btech_dataset_transformed",),
    "dagm": ("dagm2007",),
    "mvtec2": ("mvtec_ad_2",),
    "kolektor": ("kolektorsdd",),
    "kolektor2": ("kolektorsdd2",),
    "magnetic-tile": ("magnetic_tile_defect",),
}


@dataclass(frozen=True)
class Suite:
    """Which data sets are judged, and with which weights.

    Attributes:
        directions: The data set that is trained on, and those that are judged with its weights.
    """

    directions: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def datasets(self) -> tuple[str, ...]:
        """All that are judged."""
        return tuple(name for _, judged in self.directions for name in judged)


# Trained on VisA and judged on everything else, but for VisA, whose weights come from MVTec AD.
_OTHERS = ("mvtec", "btad", "dagm", "dtd-synthetic")
SUITES = {
    "paper": Suite((("visa", _OTHERS), ("mvtec", ("visa",)))),
    "all": Suite(
        (
            ("visa", (*_OTHERS, "mvtec2", "mpdd", "kolektor", "kolektor2", "magnetic-tile")),
            ("mvtec", ("visa",)),
        )
    ),
}


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is run.

    Attributes:
        suite: Of `SUITES`: the data sets of the paper, or all.
        train: Whether weights are made for each direction; without it those that the network has are used.
        epochs: Of that training, 1 or more.
        datasets: Leaves out all others of the suite where it isn't empty.
        evaluation: How each is judged.

    Raises:
        InputError: a name that the suite doesn't have.
    """

    suite: Literal["paper", "all"] = "paper"
    train: bool = True
    epochs: int = 1
    datasets: tuple[str, ...] = ()
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    def __post_init__(self) -> None:
        known = SUITES[self.suite].datasets
        for name in self.datasets:
            if name not in known:
                raise InputError(f"data set {name!r} isn't in the suite {self.suite}, which has {', '.join(known)}")


@dataclass(frozen=True)
class DataSet:
    """One on disk.

    Attributes:
        name: Its own.
        root: Its folder.
        samples: What lies there.
    """

    name: str
    root: Path
    samples: Sequence[Sample]


@dataclass(frozen=True)
class Step:
    """Data sets to be judged with one set of weights.

    Attributes:
        train_on: What the weights are trained on; None for the network's own.
        judged: The data sets.
    """

    train_on: DataSet | None
    judged: Sequence[DataSet]


def plan(root: Path, config: BenchmarkConfig) -> list[Step]:
    """What is to be done, in order. Lists every image, so that a wrong folder is found before any work.

    Args:
        root: The folder of data sets.
        config: What is run.

    Raises:
        InputError: no data set is there, one that is asked for or trained on is missing, or one has another layout.
    """
    suite = SUITES[config.suite]
    roots = find_roots(root, suite)
    missing = [name for name in config.datasets if name not in roots]
    if missing:
        raise InputError(f"{root} has no {', '.join(missing)}, only {', '.join(roots)}; put it there or leave it out")
    wanted = [name for name in roots if name in (config.datasets or roots)]
    needed = [trained for trained, judged in suite.directions if config.train and set(judged) & set(wanted)]
    for name in needed:
        if name not in roots:
            raise InputError(
                f"{root} has no {name}, which is trained on; put it there, give weights with --model, or use those "
                "that the backbone has with --no-train"
            )
    found = {name: DataSet(name, roots[name], load(name, roots[name])) for name in dict.fromkeys(wanted + needed)}
    if not config.train:
        return [Step(None, [found[name] for name in wanted])]
    return [
        Step(found[trained], [found[name] for name in judged if name in wanted])
        for trained, judged in suite.directions
        if trained in needed
    ]


def find_roots(root: Path, suite: Suite) -> dict[str, Path]:
    """Where the suite's data sets lie, by name.

    Args:
        root: The folder whose folders bear their names, or the names of their archives. Capitals, hyphens, underscores
            and spaces don't matter.
        suite: The data sets.

    Raises:
        InputError: there is none.
    """
    folders = {_plain(folder.name): folder for folder in sub_folders(require_folder(root).resolve())}
    found = {}
    for name in suite.datasets:
        names = [_plain(wish) for wish in (name, *PUBLISHED_NAMES.get(name, ()))]
        if there := [folders[wish] for wish in names if wish in folders]:
            found[name] = there[0]
    if not found:
        raise InputError(f"{root} has none of the folders {', '.join(suite.datasets)}; put data sets there")
    return found


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")

"""What the flags of several commands have in common: types with a line of help each, and what their words mean.

Loads neither torch nor numpy, as all of the command line: those are imported where a command starts to work.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from sowa.core.config import PRIOR, WRONG, Settings
from sowa.core.files import file_format
from sowa.core.headers import DETECTOR_FORMAT, WEIGHTS_FORMAT
from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.core.types import Sample
    from sowa.detector.extension import Extension

ADVANCED = Group("Advanced", sort_key=10)  # shown below the flags that most people need
PIXELS_PER_DEGREE = 38.0  # a monitor of 24 inches with 1920 pixels in a row at 60 cm
SEVERAL: dict[str, Any] = {"negative": (), "consume_multiple": True}  # of a flag with many values, as in --defect A B


def basic(help: str, **more: Any) -> Parameter:
    """A flag among the first that a command's help shows."""
    return Parameter(help=help, **more)


def advanced(help: str, **more: Any) -> Parameter:
    """A flag that most people leave alone."""
    return Parameter(help=help, group=ADVANCED, **more)


# Images and data sets
Normal = Annotated[Path, basic("folder (or file, or glob pattern) of normal images")]
Source = Annotated[Path, basic("image, folder or glob pattern")]
Dataset = Annotated[
    str,
    basic(
        "folder, pairs, mvtec, mvtec2, visa, btad, dagm, dtd-synthetic, kolektor, kolektor2, magnetic-tile, mpdd",
    ),
]
Root = Annotated[Path, basic("the data set's folder")]
Category = Annotated[str | None, basic("one category; all by default")]

# Files that are written
WeightsOut = Annotated[Path, basic("file for the weights, *.safetensors")]
JsonFile = Annotated[Path | None, basic("file for the result", name="--json")]
JsonLines = Annotated[Path | None, basic("file of JSON lines, one per image; printed without one", name="--json")]
AsJson = Annotated[bool, basic("print it as JSON", name="--json")]

# How images are seen
ImageSize = Annotated[str | None, basic("side in pixels, or HEIGHTxWIDTH; by default the backbone's")]
Tiled = Annotated[bool, basic("see large images through overlapping windows, for small defects; slower")]
Augment = Annotated[
    str,
    advanced("views to know too: auto, none, or some of hflip,vflip,rotate90,rotate180,tilt"),
]
SaliencyWeight = Annotated[float, advanced("what standing out of its image adds to a patch's distance, -1 to 1")]
Expect = Annotated[
    list[str] | None,
    advanced('defects in your words, such as scratch "missing part"; what looks like none counts less', **SEVERAL),
]

# Where normal ends
FalsePositiveRate = Annotated[
    float | None,
    basic("share of good parts that may be called anomalous, 0 to 1; by default what parts good and bad best"),
]
Prior = Annotated[float, advanced("share of bad parts among those judged, 0 to 1; moves the threshold")]
Unsure = Annotated[float, basic("how often a verdict may be wrong that isn't unsure, 0 to 0.5")]

# Networks
BACKBONE = advanced("mini (embedded), a model of open_clip such as ViT-L-14-336, NAME:FILE, or NAME:random")
Backbone = Annotated[str, BACKBONE]
MovedBackbone = Annotated[
    str | None, advanced("stands in for the backbone that the file names, where that one has moved")
]

# Measuring
KShots = Annotated[str, basic("numbers of reference images, with commas; 0 is zero-shot")]
Seeds = Annotated[str, basic("seeds of the draws, with commas", name=["--seeds", "--seed"])]
Scoring = Annotated[
    Literal["inductive", "paper"], advanced("inductive (each image by itself) or paper (the whole test set mixed)")
]
Aupro = Annotated[
    Literal["standard", "authors"], advanced("standard (false positives pooled) or authors (as in their code)")
]
PixelsPerDegree = Annotated[float, advanced("pixels of a degree of visual angle, as the images were shown")]

# What computes
BatchSize = Annotated[int, advanced("images that are computed at once; more take more memory")]
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], advanced("where to compute; auto takes the best there is")]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"], advanced("numbers to compute with; auto takes bf16 where that is faster")
]
Typed = Annotated[str | None, Parameter(parse=False)]  # the command itself, which no flag sets


@dataclass(frozen=True)
class Machine:
    """What a command computes on, and how precisely."""

    device: Device = "auto"
    precision: Precision = "auto"

    def settings(
        self,
        image_size: str | None = None,
        tiled: bool = False,
        category: str | None = None,
        search: str = "exact",
    ) -> Settings:
        """With the flags of a command that sees images. Raises InputError for an image size that isn't one."""
        return Settings(
            self.device, self.precision, image_size=size(image_size), tiled=tiled, category=category, search=search
        )


@dataclass(frozen=True)
class Compute(Machine):
    """The same for commands that take several images at once."""

    batch_size: BatchSize = 8


@dataclass(frozen=True)
class Network:
    """The network of a command that may be given trained weights."""

    model: Annotated[Path | None, basic("weights of sowa train, or with --backbone those of the authors")] = None
    backbone: Annotated[str | None, BACKBONE] = None

    def arguments(self) -> dict[str, Any]:
        """What ``from_pretrained`` is to be given: weights of ours name their backbone, the authors' don't.

        Raises InputError where the two flags don't go together.
        """
        if self.model is None:
            return {"name": "mini" if self.backbone is None else self.backbone}
        found = file_format(self.model)
        if found == DETECTOR_FORMAT:
            raise InputError(f"--model {self.model} is a fitted detector, needed are weights of sowa train")
        if found == WEIGHTS_FORMAT and self.backbone is not None:
            raise InputError(f"--model {self.model} names its backbone itself; leave --backbone {self.backbone} out")
        if found == WEIGHTS_FORMAT:
            return {"name": str(self.model)}
        if self.backbone is None:
            raise InputError(
                f"--model {self.model} holds no weights of sowa train; the authors' need --backbone NAME too"
            )
        return {"name": self.backbone, "weights": self.model}


@dataclass(frozen=True)
class Seeing:
    """At which size the images of a product are seen, for commands that learn from references."""

    image_size: Annotated[
        str, basic("auto (as the images are, up to the pixels of 640x640), a side in pixels, or HEIGHTxWIDTH")
    ] = "auto"
    fast: Annotated[bool, basic("with an automatic size, at most the pixels of 384x384")] = False
    seconds_per_image: Annotated[float | None, basic("with an automatic size, what the network may take")] = None
    tiled: Tiled = False

    def settings(self, machine: Machine, category: str | None = None) -> Settings:
        """With the others. Raises InputError for an image size that isn't one."""
        chosen = None if self.image_size == "auto" else self.image_size
        found = machine.settings(chosen, self.tiled, category)
        return replace(found, fast=self.fast, seconds_per_image=self.seconds_per_image)


@dataclass(frozen=True)
class Boundary:
    """Where normal ends, for commands that set it."""

    false_positive_rate: FalsePositiveRate = None
    prior: Prior = PRIOR
    unsure: Unsure = WRONG


# As flags they stand among a command's own. Frozen, so that one default serves all commands.
MachineFlags = Annotated[Machine, Parameter(name="*")]
ComputeFlags = Annotated[Compute, Parameter(name="*")]
NetworkFlags = Annotated[Network, Parameter(name="*")]
SeeingFlags = Annotated[Seeing, Parameter(name="*")]
BoundaryFlags = Annotated[Boundary, Parameter(name="*")]
MACHINE, COMPUTE, NETWORK, SEEING, BOUNDARY = Machine(), Compute(), Network(), Seeing(), Boundary()


def numbers(flag: str, text: str) -> tuple[int, ...]:
    """Whole numbers with commas. Raises InputError for anything else."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--{flag} is {text!r}, needed are whole numbers with commas, such as 0,1,2,4") from None


def augmentation(text: str) -> str | tuple[str, ...]:
    """``auto``, or as ``views``."""
    return text if text == "auto" else views(text)


def views(text: str) -> tuple[str, ...]:
    """``none``, or kinds of views with commas; what they may be is for others to say."""
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


def extensions(saliency_weight: float, expect: list[str] | None, glances: int | None = None) -> list[Extension]:
    """What plugs into a detector by flags of ``sowa fit``."""
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


def expected(false_alarms: float | None, missed: float | None) -> str:
    """What is to be expected of thresholds, in words; empty where nothing is known."""
    known = {"of good images to be called anomalous": false_alarms, "of bad ones to be missed": missed}
    told = ", ".join(f"{share:.0%} {what}" for what, share in known.items() if share is not None)
    return f"expect about {told}" if told else ""


def load_product(dataset: str, root: Path, category: str | None) -> list[Sample]:
    """As ``sowa.data.load``, for commands that know one product.

    Raises InputError also where there are several categories.
    """
    from sowa.data import load

    samples = load(dataset, root, category)
    categories = sorted({sample.category for sample in samples})
    if len(categories) > 1:
        raise InputError(f"{root} holds {len(categories)} categories; choose --category {' or '.join(categories)}")
    return samples

"""Frozen configuration: what the network is and how it is run. Unknown or ill-typed fields are refused.

Defaults are the paper's (arXiv 2407.03634, section 4.1).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from sowa.errors import InputError

T = TypeVar("T")
PRIOR = 0.5  # share of bad parts among those judged, where nobody says otherwise
WRONG = 0.05  # how often a verdict that isn't unsure may be wrong, likewise
STRICT = {"extra": "forbid"}  # what pydantic is to make of fields that a config doesn't have


@dataclass(frozen=True)
class Settings:
    """Where, how precisely and at which size a detector computes; the same for everything that has an encoder.

    Attributes:
        device: "auto" (the best there is), "cpu", "cuda", "cuda:N" or "mps".
        precision: "auto" (bf16 where the processor is faster with it), "fp32" or "bf16".
        image_size: (H, W) in pixels at which images are seen. None means that `Sowa.fit` chooses where the backbone
            sees images at any size, as "mini" does: their own aspect, their own number of pixels, at most those of a
            square of 640. Otherwise, and without references, it's the backbone's own.
        fast: Whether it then chooses at most as many as a square of 384 has.
        seconds_per_image: Or at most so many that the network takes no longer for an image here; None sets no limit.
        tiled: Whether a larger image, by default of twice the sides, is seen through overlapping windows of the
            backbone's size, for small defects.
        category: The class whose prompts are used, where they know several; None means the first.
        search: How the nearest normal patch is found: "exact", or the name of an extension that indexes memory banks,
            such as "faiss".
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    device: str = "auto"
    precision: str = "auto"
    image_size: tuple[int, int] | None = None
    fast: bool = False
    seconds_per_image: float | None = None
    tiled: bool = False
    category: str | None = None
    search: str = "exact"


@dataclass(frozen=True)
class AdapterConfig:
    """Frozen window attention of one level (paper section 3.2).

    Attributes:
        window_size: patches along each side of a window
        depth: layers of window attention, one after the other
        heads: heads that attention is divided into
        value_only: whether features attend to themselves by their values alone, as published
        position_width: hidden units of what tells positions apart
        dropout: share of attention that is dropped in training, 0 up to 1
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    window_size: int = 12
    depth: int = 1
    heads: int = 8
    value_only: bool = True
    position_width: int = 64
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("window_size", "depth", "heads", "position_width"):
            if getattr(self, name) < 1:
                raise InputError(f"adapter {name} is {getattr(self, name)}, allowed are 1 and more")
        if not 0 <= self.dropout < 1:
            raise InputError(f"adapter dropout is {self.dropout}, allowed is 0 up to (not including) 1")


@dataclass(frozen=True)
class PromptConfig:
    """Dual learnable prompts (paper section 3.3). The boundary that goes with ``self_weight`` was found with `mini`.

    Attributes:
        class_names: names of the classes that there are prompts for
        normal_templates: sentences for normal parts, in which {} is the class's name
        abnormal_templates: sentences for damaged parts, one for each normal one
        length: learned words in front of each sentence
        text_linear: whether a linear layer follows the text's features
        map_weight: what the prompts' map counts beside the memory's; 1 as published
        self_weight: without a memory, what patches unlike all others of their image add; 0 as published
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    class_names: tuple[str, ...] = ("object",)
    normal_templates: tuple[str, ...] = ("{}",)
    abnormal_templates: tuple[str, ...] = ("damaged {}",)
    length: int = 12
    text_linear: bool = True
    map_weight: float = 1.0
    self_weight: float = 0.0

    def __post_init__(self) -> None:
        for name in ("map_weight", "self_weight"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise InputError(f"prompt {name.replace('_', ' ')} is {value}, allowed is 0 and more")
        if not self.class_names or len(set(self.class_names)) != len(self.class_names):
            raise InputError(f"class names are {list(self.class_names)}, needed is at least one and no name twice")
        if not self.normal_templates or len(self.normal_templates) != len(self.abnormal_templates):
            raise InputError(
                f"{len(self.normal_templates)} normal and {len(self.abnormal_templates)} abnormal templates, "
                "needed are as many of one as of the other, at least one"
            )
        if self.length < 0:
            raise InputError(f"prompt length is {self.length}, allowed is 0 and more")
        check_templates((*self.normal_templates, *self.abnormal_templates))


def check_templates(templates: tuple[str, ...]) -> None:
    """Raises InputError for a template in which anything but ``{}`` stands for something."""
    for template in templates:
        try:
            template.format("part")
        except (KeyError, IndexError, ValueError) as error:
            raise InputError(f"template {template!r} isn't understood; only {{}} may stand in it") from error


@dataclass(frozen=True)
class SaliencyConfig:
    """Bottom-up attention (`sowa.model.saliency`), which the adapters learn to use.

    ``cnn`` names a CNN of timm whose early layers tell what stands out; by default the backbone's do.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    cnn: str = ""


@dataclass(frozen=True)
class WordsConfig:
    """Classes as words (`sowa.model.words`): templates, of which ``{}`` is a class's name, and how many learned words
    stand in front, the same before all classes or each class's ``own``."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    templates: tuple[str, ...] = ("{}",)
    length: int = 4
    own: bool = False

    def __post_init__(self) -> None:
        if not self.templates or self.length < 0:
            raise InputError(
                f"{len(self.templates)} templates and {self.length} learned words; needed are 1 and 0 or more"
            )
        check_templates(self.templates)


@dataclass(frozen=True)
class ModelConfig:
    """The network on top of the frozen backbone. ``levels`` are 0-based residual blocks; None means one at the end
    of each quarter of the depth. ``sigma`` is the map's Gaussian in pixels (METHOD.md section 6). Without ``saliency``
    nothing is bottom-up, as published."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    levels: tuple[int, ...] | None = None
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    temperature: float = 0.07
    sigma: float = 4.0
    saliency: SaliencyConfig | None = None


def from_dict(kind: type[T], values: dict[str, Any]) -> T:
    """Builds a config dataclass from plain values, nested ones included.

    Raises InputError for an unknown field or a value that its type can't take.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or kind.__name__
        raise InputError(f"{where} is {first['input']!r}: {first['msg']}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """The plain values of a config dataclass, ready for JSON."""
    return dataclasses.asdict(config)

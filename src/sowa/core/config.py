"""Frozen configuration: what the network is, how it is trained. Unknown or ill-typed fields are refused.

Defaults are the paper's (arXiv 2407.03634, section 4.1).
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

from sowa.errors import InputError

T = TypeVar("T")
FALSE_POSITIVE_RATE = 0.01  # of normal images, where nobody says otherwise
STRICT = {"extra": "forbid"}  # what pydantic is to make of fields that a config doesn't have


@dataclass(frozen=True)
class AdapterConfig:
    """Frozen window attention of one level (paper section 3.2)."""

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
    """Dual learnable prompts (paper section 3.3). ``{}`` in a template stands for the class name.

    ``map_weight`` is what the prompts' map counts beside the memory's where there are both, 1 as published.
    ``self_weight`` is what adds to the prompts' score, where there is no memory, that patches of an image are unlike
    all others of it; 0 as published. The boundary that goes with it was found with `mini`.
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

    ``memory_weight`` is what a patch's distance to the memory bank gains by standing out: it counts exp(weight *
    saliency) times, 0 as the method has it. ``cnn`` names a CNN of timm whose early layers tell what stands out; by
    default the backbone's do.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    memory_weight: float = 0.0
    cnn: str = ""

    def __post_init__(self) -> None:
        if not -1 <= self.memory_weight <= 1:
            raise InputError(f"saliency memory weight is {self.memory_weight}, allowed is -1 to 1")


@dataclass(frozen=True)
class NamerConfig:
    """What tells defects by their names (`sowa.extensions.names.namer`): width and dropout of its look at patches, and
    how many learned words stand before every name."""

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    hidden: int = 256
    dropout: float = 0.3
    length: int = 4


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

    @property
    def saliency_weight(self) -> float:
        """What standing out adds to a patch's distance, 0 without saliency."""
        return self.saliency.memory_weight if self.saliency else 0.0


@dataclass(frozen=True)
class DetectConfig:
    """What finds boxes (`sowa.tasks.detection`): adapters, words, and the ``width`` of what the heads read.

    With ``reference`` an image of the same part without anything to find is the network's second input.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    # Dropout of attention takes a third of a step on a CPU.
    adapter: AdapterConfig = AdapterConfig(dropout=0.0)
    words: WordsConfig = WordsConfig()
    width: int = 96
    reference: bool = False


@dataclass(frozen=True)
class DetectTrainConfig:
    """Training of `DetectConfig`'s network on images with boxes.

    ``held_out`` is the share of images that is kept to validate on where the data set has no split of its own.
    ``augment`` names views that are true images of the same things, of `sowa.tasks.detection.examples.VIEWS`. With
    ``phrases`` a label is read word by word, so that "star" and "red star" both fit what is called "big red star", and
    any such words can be asked for.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    epochs: int = 60
    batch_size: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    held_out: float = 0.2
    augment: tuple[str, ...] = ("hflip",)
    phrases: bool = False
    checkpoint_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        _check_loop(self)
        if not 0 < self.held_out < 1:
            raise InputError(f"held-out is {self.held_out}, allowed is between 0 and 1")


@dataclass(frozen=True)
class TrainConfig:
    """Training (paper section 4.1; METHOD.md section 5).

    ``protocol`` "held-out" keeps ``validation_fraction`` of the images for validation; "paper" trains on everything
    that the data set's test split holds, as the paper does, and validates on nothing. ``gaze_weight`` is what the gaze
    loss counts where there are people's fixations to learn from.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = STRICT

    epochs: int = 1
    batch_size: int = 8
    learning_rate: float = 1e-3
    weight_decay: float = 0.2
    mosaic: float = 0.2
    validation_fraction: float = 0.2
    protocol: Literal["held-out", "paper"] = "held-out"
    checkpoint_every: int = 50
    gaze_weight: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        _check_loop(self)
        if not 0 <= self.mosaic <= 1:
            raise InputError(f"mosaic is {self.mosaic}, allowed is 0 to 1")
        if not 0 < self.validation_fraction < 1:
            raise InputError(f"validation fraction is {self.validation_fraction}, allowed is between 0 and 1")
        if not 0 <= self.gaze_weight < math.inf:
            raise InputError(f"gaze weight is {self.gaze_weight}, allowed is 0 and more")


@dataclass(frozen=True)
class EvaluationConfig:
    """How a labelled data set is judged. ``scoring`` "paper" mixes the test images of a category as the authors do;
    "inductive" judges each image by itself. ``aupro`` "standard" pools false positives, "authors" follows theirs.
    ``augment`` as in ``Sowa.fit``; "paper" has none. ``bootstrap`` is the number of resamples for confidence
    intervals, 0 for none."""

    k_shots: tuple[int, ...] = (0, 1, 2, 4)
    seeds: tuple[int, ...] = (0, 1, 2)
    scoring: Literal["inductive", "paper"] = "inductive"
    aupro: Literal["standard", "authors"] = "standard"
    batch_size: int = 8
    bootstrap: int = 0
    augment: str | tuple[str, ...] = "auto"

    def __post_init__(self) -> None:
        if not self.k_shots or min(self.k_shots) < 0 or not self.seeds or min(self.seeds) < 0:
            raise InputError(
                f"k-shot is {list(self.k_shots)}, seeds are {list(self.seeds)}; each needs one or more, from 0"
            )
        if self.batch_size < 1:
            raise InputError(f"batch size is {self.batch_size}, allowed is 1 and more")
        if not 0 <= self.bootstrap <= 100_000:
            raise InputError(f"bootstrap is {self.bootstrap}, allowed is 0 (no intervals) to 100000, such as 1000")


@dataclass(frozen=True)
class ShotsConfig:
    """How the number of shots is looked for.

    ``candidates`` are the numbers that are compared. Cross-validation draws references ``draws`` times in each of
    ``folds``; the progressive way stops when ``patience`` larger numbers in a row haven't brought more than
    ``tolerance`` image AUROC, which is also what meta gives up for fewer. Chosen on auxiliary and generated products:
    image AUROC lost by cross-validation with 3, 4, 5, 6 draws 0.016, 0.010, 0.008, 0.007.
    """

    candidates: tuple[int, ...] = (1, 2, 4, 8, 16)
    folds: int = 5
    draws: int = 5
    tolerance: float = 0.0025
    patience: int = 2
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.candidates or min(self.candidates) < 1 or len(set(self.candidates)) != len(self.candidates):
            raise InputError(f"candidates are {list(self.candidates)}, needed is one or more, from 1, none twice")
        if self.folds < 2 or self.draws < 1 or self.patience < 1 or self.seed < 0:
            raise InputError(
                f"folds {self.folds} must be 2 or more, draws {self.draws} and patience {self.patience} 1 or more, "
                f"seed {self.seed} 0 or more"
            )
        if not 0 <= self.tolerance < 1:
            raise InputError(f"tolerance is {self.tolerance}, allowed is 0 up to (not including) 1")


def _check_loop(config: TrainConfig | DetectTrainConfig) -> None:
    """What every training needs. Raises InputError for a number that can't be."""
    if config.epochs < 1 or config.batch_size < 1 or config.checkpoint_every < 1:
        raise InputError(
            f"epochs {config.epochs}, batch size {config.batch_size}, checkpoint-every {config.checkpoint_every}: "
            "each must be 1 or more"
        )
    if not 0 < config.learning_rate < math.inf or not 0 <= config.weight_decay < math.inf or config.seed < 0:
        raise InputError(
            f"learning rate {config.learning_rate} must be above 0, weight decay {config.weight_decay} and seed "
            f"{config.seed} 0 or more"
        )


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

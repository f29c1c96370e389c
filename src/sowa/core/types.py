"""The nouns of the package: what a stage hands to the next one, and what a user gets back.

Shape legend: B images, H x W pixels, P = h * w patches, D vision width, E joint width, S = 2 states (0 normal,
1 abnormal), L levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

NORMAL, ABNORMAL = 0, 1
FEW = 8  # up to so many normal images show no shape of their own (chosen on auxiliary data)
UNSEEN_WIDTH = 0.25  # how gently the score rises where no normal image tells


@dataclass(frozen=True)
class Sample:
    """One image of a data set, not yet read from disk.

    ``split`` is "train", "test" or, where a data set has such images, "validation". ``label`` is 0 for normal, 1 for
    anomalous and None where unknown. ``mask_path`` is None for normal images and where the data set has no mask.
    """

    image_path: Path
    category: str
    split: str
    label: int | None = None
    mask_path: Path | None = None
    defect_type: str | None = None


@dataclass(frozen=True)
class FrozenAttention:
    """The weights of one residual block's own attention that a window adapter reads and never changes.

    ``in_proj_weight`` (3D, D) for queries, keys and values in this order; ``out_proj_weight`` (D, D) and
    ``out_proj_bias`` (D,). The bias of the input projection isn't used (paper section 3.2, METHOD.md section 2).
    """

    in_proj_weight: Tensor
    out_proj_weight: Tensor
    out_proj_bias: Tensor


class TextTower(Protocol):
    """The frozen text side of a backbone, as the prompts need it. N prompts, T tokens, W text width, E joint width."""

    @property
    def text_width(self) -> int:
        """W."""
        ...

    @property
    def embed_dim(self) -> int:
        """E."""
        ...

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, T)."""
        ...

    def embed_tokens(self, tokens: Tensor) -> Tensor:
        """Token ids (N, T) to embeddings (N, T, W)."""
        ...

    def encode_text(self, embeddings: Tensor, end: Tensor) -> Tensor:
        """Embeddings (N, T, W), end-of-text token at ``end`` (N,), to features (N, E)."""
        ...


@dataclass(frozen=True)
class Levels:
    """What the frozen backbone sees in a batch of images.

    ``image_feature`` (B, E); ``tokens`` L times (B, P, D), class token dropped; ``patches`` L times (B, P, E), the
    tokens projected without the final LayerNorm; ``grid`` (h, w) with h * w = P.
    """

    image_feature: Tensor
    tokens: tuple[Tensor, ...]
    patches: tuple[Tensor, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Output:
    """Everything that one forward pass of the network computes.

    ``class_text`` (B, S, E); ``text_probs`` (B, S); ``patches`` and ``adapted`` L times (B, P, E);
    ``similarities`` L times (B, P, S); ``level_maps`` L times (B, H, W), the probability of the abnormal state
    (with two states the normal one is its complement); ``saliency`` (B, P) where the network has it.
    """

    image_feature: Tensor
    class_text: Tensor
    text_probs: Tensor
    patches: tuple[Tensor, ...]
    adapted: tuple[Tensor, ...]
    similarities: tuple[Tensor, ...]
    level_maps: tuple[Tensor, ...]
    grid: tuple[int, int]
    saliency: Tensor | None = None


@dataclass(frozen=True)
class Observation:
    """What the network makes of a batch before any memory bank is asked.

    ``patches`` L times (B, P, E). ``level_maps`` L times (B, H, W) and ``abnormal_probability`` (B,) come from the
    prompts and are None where the detector has no trained prompts. ``size`` is (H, W). ``saliency`` (B, P) is how much
    a patch stands out of its image, ``damage`` (B, P) the probability that it shows a defect that is expected; None
    where nobody asked.
    """

    patches: tuple[Tensor, ...]
    grid: tuple[int, int]
    size: tuple[int, int]
    level_maps: tuple[Tensor, ...] | None = None
    abnormal_probability: Tensor | None = None
    saliency: Tensor | None = None
    damage: Tensor | None = None


@dataclass(frozen=True)
class Judgement:
    """Raw verdict on a batch: ``raw_scores`` (B,), ``maps`` (B, H, W), ``level_maps`` (L, B, h, w)."""

    raw_scores: Tensor
    maps: Tensor
    level_maps: Tensor

    @property
    def by_patch(self) -> Tensor:
        """How anomalous each patch is, all levels together, (B, P)."""
        return self.level_maps.sum(dim=0).flatten(1)

    def numpy(self) -> Judged:
        """The same on the CPU, for whoever needs no torch."""
        parts = self.raw_scores, self.maps, self.level_maps.transpose(0, 1)
        scores, maps, levels = (part.float().cpu().numpy() for part in parts)
        return Judged(scores, maps, levels)


class Judged(NamedTuple):
    """Raw verdict on a batch: ``raw_scores`` (B,), ``maps`` (B, H, W), ``level_maps`` (B, L, h, w), all float32; and
    names of defects where they were asked for."""

    raw_scores: NDArray[np.float32]
    maps: NDArray[np.float32]
    level_maps: NDArray[np.float32]
    named: JudgedNames | None = None


class JudgedNames(NamedTuple):
    """What defects of a batch may be called: ``names`` (T), ``probabilities`` and ``scores`` (B, T), and ``maps``
    (B, T, h, w), all float32."""

    names: tuple[str, ...]
    probabilities: NDArray[np.float32]
    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


@dataclass(frozen=True)
class NormalRange:
    """What one more normal image is expected to show, as far as the normal images seen so far tell.

    The number's logarithm follows Student's t (``centre``, ``width``, ``freedom`` in degrees), whose long tails stand
    for what few images can't show. Beyond `FEW` images their own ``logs`` tell the shape more and more: one more
    image is equally likely to fall between any two of them, as between an end and infinity.
    """

    centre: float
    width: float
    freedom: float
    logs: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not all(map(math.isfinite, (self.centre, *self.logs))):
            raise ValueError("centre and logs of a range must be finite")
        if not all(0 < value < math.inf for value in (self.width, self.freedom)):
            raise ValueError(f"width {self.width}, freedom {self.freedom}: each must be above 0")

    def bound(self, false_positive_rate: float) -> float:
        """The value that one more normal image exceeds at this rate (0..1, ends excluded)."""
        from scipy.special import stdtrit  # keeps `import sowa` light

        if len(self.logs) <= FEW:
            return math.exp(self.centre - self.width * float(stdtrit(self.freedom, false_positive_rate)))
        from scipy.optimize import brentq  # half a second the first time

        # All parts of the mixture exceed the lower end at more than the rate, and the upper end at less.
        tail = min(false_positive_rate, 1 - false_positive_rate) / 2
        reach = self.width * (10 - float(stdtrit(min(self.freedom, 1.0), tail)))
        ends = min((self.centre, *self.logs)) - reach, max((self.centre, *self.logs)) + reach
        return math.exp(brentq(lambda log: self._exceeded(log) - false_positive_rate, *ends))

    def percentile(self, value: float) -> float:
        """Share of normal images that stay below ``value``, 0..100."""
        return 0.0 if value <= 0 else 100 * (1 - self._exceeded(math.log(value)))

    def _exceeded(self, log: float) -> float:
        """Chance that one more normal image lies above."""
        bell = self._bell(log)
        count = len(self.logs)
        if count <= FEW:
            return bell
        own = self._own(log)
        return own + (bell - own) * FEW / count

    def _bell(self, log: float) -> float:
        from scipy.special import stdtr

        return float(stdtr(self.freedom, (self.centre - log) / self.width))

    @cached_property
    def _sorted(self) -> NDArray[np.float64]:
        import numpy as np

        return np.sort(self.logs)

    def _own(self, log: float) -> float:
        """By the images' ranks; beyond the ends the tails of Student's t, which meet the ranks there."""
        import numpy as np

        logs = self._sorted
        end = 1 / (len(logs) + 1)
        if log > logs[-1]:
            return end * self._bell(log) / self._bell(logs[-1])
        if log < logs[0]:
            return 1 - end * (1 - self._bell(log)) / (1 - self._bell(logs[0]))
        return float(np.interp(log, logs, np.linspace(1 - end, end, len(logs))))


@dataclass(frozen=True)
class Calibration:
    """Where normal ends. ``threshold`` is a raw score, ``pixel_threshold`` a map value, ``rule`` says in words how
    they were chosen. ``image`` and ``pixel`` are the ranges of raw scores and of map maxima over normal images, and
    ``seen`` says which images those were; a detector that has seen none has no ranges."""

    threshold: float = 0.5
    pixel_threshold: float = 2.0
    rule: str = "half of the abnormal probability"
    image: NormalRange | None = None
    pixel: NormalRange | None = None
    seen: str = "none"

    def __post_init__(self) -> None:
        if not all(0 < value < math.inf for value in (self.threshold, self.pixel_threshold)):
            raise ValueError(f"{self}: each threshold must be a number above 0")

    def score(self, raw_score: float) -> float:
        """Raw score (0 and more) to 0..1, rising, 0.5 at the threshold."""
        return score_of(raw_score, self.threshold, self.width)

    @property
    def width(self) -> float:
        """How gently the score rises around the threshold: the spread of normal images' logarithms."""
        return self.image.width if self.image else UNSEEN_WIDTH

    def normal_percentile(self, raw_score: float) -> float | None:
        """Share of normal images with a lower raw score, 0..100; None where no normal image was seen."""
        return self.image.percentile(raw_score) if self.image else None


def score_of(raw_score: float, threshold: float, width: float) -> float:
    """Raw score (0 and more) to 0..1, rising, 0.5 at ``threshold``; a logistic curve of its logarithm."""
    if raw_score <= 0:
        return 0.0
    return 0.5 * (1 + math.tanh(0.5 * (math.log(raw_score) - math.log(threshold)) / width))

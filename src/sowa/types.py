"""The nouns of the package: what a stage hands to the next one, and what a user gets back.

Shape legend: B images, H x W pixels, P = h * w patches, D vision width, E joint width, S = 2 states (0 normal,
1 abnormal), L levels.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

NORMAL, ABNORMAL = 0, 1


@dataclass(frozen=True)
class Sample:
    """One picture of a data set, not yet read from disk.

    ``label`` is 0 for normal, 1 for anomalous and None where unknown. ``mask_path`` is None for normal pictures and
    where the data set has no mask.
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


@dataclass(frozen=True)
class Levels:
    """What the frozen backbone sees in a batch of pictures.

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
    (with two states the normal one is its complement).
    """

    image_feature: Tensor
    class_text: Tensor
    text_probs: Tensor
    patches: tuple[Tensor, ...]
    adapted: tuple[Tensor, ...]
    similarities: tuple[Tensor, ...]
    level_maps: tuple[Tensor, ...]
    grid: tuple[int, int]


@dataclass(frozen=True)
class Prediction:
    """The verdict on one picture.

    ``score`` lies in 0..1 and 0.5 is the decision boundary; ``raw_score`` is the method's own number and
    ``threshold`` the raw score at the boundary. ``anomaly_map`` (H, W) float32 and ``mask`` (H, W) bool are at the
    size the network saw; ``level_maps`` (L, H, W) float32. ``pixel_threshold`` is the map value above which a pixel
    is anomalous. ``image`` is the picture (H', W', 3) uint8 as it was read, for drawing.
    """

    image_path: str
    score: float
    raw_score: float
    threshold: float
    is_anomalous: bool
    anomaly_map: NDArray[np.float32]
    mask: NDArray[np.bool_]
    level_maps: NDArray[np.float32]
    pixel_threshold: float
    seconds: float
    image: NDArray[np.uint8] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """The numbers of the verdict, ready for JSON: no pictures and no maps."""
        return {
            "image_path": self.image_path,
            "score": round(self.score, 6),
            "raw_score": round(self.raw_score, 6),
            "threshold": round(self.threshold, 6),
            "is_anomalous": self.is_anomalous,
            "seconds": round(self.seconds, 4),
        }

    def plot(self) -> NDArray[np.uint8]:
        """Heat map over the picture with the mask's outline, (H', W', 3) uint8 at the picture's own size."""
        from sowa.render import overlay

        return overlay(self.image, self.anomaly_map, self.mask, self.pixel_threshold)

    def save(self, directory: str | Path) -> Path:
        """Writes ``NAME_overlay.jpg`` and ``NAME_mask.png`` (0/255, the picture's own size) into ``directory``.

        Returns the overlay's path. Files are written under a temporary name and renamed, so none is half-written.
        """
        from sowa.render import save_prediction

        return save_prediction(self, Path(directory))

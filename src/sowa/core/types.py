"""The nouns that stages hand to each other. Arrays are numpy's or torch's, as the encoder gives them.

Shapes: B images, H x W pixels, P = h * w patches, E joint width, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from sowa.core.arrays import Array, namespace, to_numpy

NORMAL, ABNORMAL = 0, 1


@dataclass(frozen=True)
class Sample:
    """One image of a data set, not yet read from disk.

    Attributes:
        image_path: The image's file.
        category: The product that it shows.
        split: "train", "test" or, where a data set has such images, "validation".
        label: 0 for normal, 1 for anomalous, None where unknown.
        mask_path: None for normal images and where the data set has no mask.
        defect_type: What the data set calls the defect, None where it says nothing.
    """

    image_path: Path
    category: str
    split: str
    label: int | None = None
    mask_path: Path | None = None
    defect_type: str | None = None


@dataclass(frozen=True)
class Features:
    """What an encoder makes of a batch of images before any memory bank is asked.

    Attributes:
        patches: Raw patch tokens of each level in the joint space, L times (B, P, E).
        grid: (h, w) with h * w = P.
        size: (H, W) in pixels.
        level_maps: What the prompts say, L times (B, H, W) in 0..1; None where they weren't asked.
        abnormal_probability: What they say of the whole image, (B,) in 0..1; None likewise.
        saliency: How much each patch stands out of its image, (B, P); None where the network has no saliency.
        patch_values: What extensions read of each patch, (B, P) by the extension's name.
    """

    patches: tuple[Array, ...]
    grid: tuple[int, int]
    size: tuple[int, int]
    level_maps: tuple[Array, ...] | None = None
    abnormal_probability: Array | None = None
    saliency: Array | None = None
    patch_values: Mapping[str, Array] = field(default_factory=dict)

    def map(self, function: Callable[[Array], Array]) -> Features:
        """The same with ``function`` of every array that is there."""
        maps, chance, saliency = self.level_maps, self.abnormal_probability, self.saliency
        return replace(
            self,
            patches=tuple(function(level) for level in self.patches),
            level_maps=None if maps is None else tuple(function(level) for level in maps),
            abnormal_probability=None if chance is None else function(chance),
            saliency=None if saliency is None else function(saliency),
            patch_values={name: function(values) for name, values in self.patch_values.items()},
        )


@dataclass(frozen=True)
class Judgement:
    """The raw verdict on a batch: no threshold has been asked yet.

    Attributes:
        raw_scores: (B,), 0 and more.
        maps: Anomaly maps (B, H, W).
        level_maps: What each level adds, on the grid of patches, (B, L, h, w).
    """

    raw_scores: Array
    maps: Array
    level_maps: Array

    @property
    def patch_scores(self) -> Array:
        """How anomalous each patch is, all levels together, (B, P)."""
        summed = namespace(self.level_maps).sum(self.level_maps, axis=1)
        return summed.reshape(summed.shape[0], -1)

    @property
    def map_maxima(self) -> Array:
        """The highest value of each map, (B,)."""
        return namespace(self.maps).max(self.maps, axis=(1, 2))

    def numpy(self) -> Judgement:
        """The same as numpy arrays of float32."""
        return Judgement(*(to_numpy(part) for part in (self.raw_scores, self.maps, self.level_maps)))

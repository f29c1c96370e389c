"""Hierarchical memory bank of normal patches (paper section 3.5, METHOD.md section 6).

Shapes: L levels, K reference images, P patches of an image, E joint width, B test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from sowa.core.arrays import Array, namespace, unit
from sowa.core.search import Index, chunks, nearest_by_image, parts, rounded_bank, rounded_query, search, search_rounded

MOST_COSINES = 1 << 28
"""Of an image's patches with each other, that are held at once: 1 GB. Those of more are computed when they're needed,
which takes many times as long."""


class MemoryBank:
    """Raw level patches of the reference images as unit vectors.

    Attributes:
        features: (L, K, P, E); P is smaller than an image's number of patches where only some are held.
        weights: What each level's distances are multiplied by, (L,); None leaves them as they are, as published.
        zero_shot_weight: What an image's zero-shot score is multiplied by before it's added to that of the distances.
        index: Searched in place of all features where it's there.

    Raises:
        ValueError: the features have another number of axes.

    Example:
        >>> import numpy as np
        >>> reference = np.array([[[1.0, 0.0], [0.0, 2.0]]])  # one image of two patches, at one level
        >>> bank = MemoryBank.build([[reference]], at_most=1)
        >>> bank.distances([np.array([[[3.0, 0.0], [0.0, -1.0]]])]).round(3).tolist()
        [[[0.0, 1.0]]]
    """

    index: Index | None = None

    def __init__(
        self, features: Array, weights: tuple[float, ...] | None = None, zero_shot_weight: float = 0.0
    ) -> None:
        if features.ndim != 4:
            raise ValueError(
                f"memory bank of shape {tuple(features.shape)}, needed is (levels, images, patches, width)"
            )
        self.features = features
        self.weights = weights
        self.zero_shot_weight = zero_shot_weight

    @classmethod
    def build(cls, batches: Iterable[Sequence[Array]], at_most: int, patch_fraction: float = 1.0) -> MemoryBank:
        """From batches of raw patches. The bank is laid out once and filled, so it's never held twice.

        Args:
            batches: Each L times (B, P, E).
            at_most: How many images there are in all.
            patch_fraction: Share of each image's patches that the bank takes, above 0 up to 1: those farthest from what
                it holds already, so that an image adds what is new (the greedy coreset of PatchCore, Roth et al. 2022,
                section 3.2, image by image).

        Raises:
            ValueError: there is no image.
        """
        features, count = None, 0
        for patches in batches:
            unit_LBPE = normalise(patches)
            xp, (levels, images, available, width) = namespace(unit_LBPE), unit_LBPE.shape
            held = max(1, round(patch_fraction * available))
            if features is None:
                shape = (levels, at_most, held, width)
                features = xp.empty(shape, dtype=unit_LBPE.dtype, device=unit_LBPE.device)
            if held == available:
                features[:, count : count + images] = unit_LBPE
                count += images
                continue
            for image in range(images):
                known = cls(features[:, :count]) if count else None
                features[:, count] = _farthest(unit_LBPE[:, image], known, held)
                count += 1
        if features is None:
            raise ValueError("a memory bank needs at least one image")
        return cls(features[:, :count])

    @cached_property
    def rounded(self) -> Array:
        """The features as `search_rounded` looks for them, (L, K, P, E + 1); made once."""
        return rounded_bank(self.features)

    def __len__(self) -> int:
        return int(self.features.shape[1])

    def distances_by_image(self, patches: Sequence[Array], precision: str = "fp32") -> Array:
        """Distance of each patch to the nearest one of each reference image.

        Its minimum over the first k images is what a bank of these k gives, so nested banks share one search.

        Args:
            patches: Raw patches, L times (B, P, E).
            precision: "bf16" takes a third of the time where the processor has it, and errs by some thousandths of the
                distance.

        Returns:
            1 - cosine in 0..2 times the level's weight, (L, B, P, K).
        """
        query, memory, one = normalise(patches), self.features, 1
        xp = namespace(query)
        if precision == "bf16":
            query, memory, one = rounded_query(query), self.rounded, 0
        nearest = [
            xp.concat([nearest_by_image(query_BPE, chunk) for chunk in chunks(query_BPE, memory_KPE)], axis=-1)
            for query_BPE, memory_KPE in zip(query, memory, strict=True)
        ]
        return self.weigh((one - xp.astype(xp.stack(nearest), xp.float32, copy=False)).clip(min=0))

    def distances(self, patches: Sequence[Array], leave_out: int | None = None, precision: str = "fp32") -> Array:
        """Distance of each patch to the nearest normal one.

        The search is exact, unless there is an ``index`` and nothing is left out.

        Args:
            patches: Raw patches, L times (B, P, E).
            leave_out: Number of a reference image that nothing is compared with (leave-one-out).
            precision: "bf16" takes half the time where the processor has it: distances are still exact, but now and
                then of a patch that's some thousandths farther.

        Returns:
            min(1 - cosine) in 0..2 times the level's weight, (L, B, P); 2 times it where nothing is left to compare
            with.
        """
        query = normalise(patches)
        if self.index is not None and leave_out is None:
            return self.weigh((1 - self.index.nearest(query)).clip(min=0))

        xp, images = namespace(query), len(self)
        kept = [slice(0, images)] if leave_out is None else [slice(0, leave_out), slice(leave_out + 1, images)]

        def nearest(part_BPE: Array, level: int) -> Array:
            best = -xp.ones_like(part_BPE[..., 0])
            for some in kept:
                if not len(memory_KPE := self.features[level][some]):
                    continue
                if precision == "bf16":
                    found = search_rounded(part_BPE, memory_KPE, self.rounded[level][some])
                else:
                    found = search(part_BPE, chunks(part_BPE, memory_KPE))
                best = xp.maximum(best, found)
            return best

        levels = [
            xp.concat([nearest(part, level) for part in parts(query_BPE, self.features[level])], axis=1)
            for level, query_BPE in enumerate(query)
        ]
        return self.weigh((1 - xp.stack(levels)).clip(min=0))

    def weigh(self, distances: Array) -> Array:
        """Distances (L, ...) of any shape, each level's times its weight."""
        if self.weights is None:
            return distances
        weights = namespace(distances).asarray(self.weights, dtype=distances.dtype, device=distances.device)
        return distances * weights.reshape(-1, *(1 for _ in distances.shape[1:]))


def normalise(patches: Sequence[Array]) -> Array:
    """L times (B, P, E) to unit vectors (L, B, P, E)."""
    return unit(namespace(patches[0]).stack(tuple(patches)))


def _farthest(unit_LPE: Array, known: MemoryBank | None, count: int) -> Array:
    """Of an image's patches at each level the ``count`` (n) that are farthest from what is known and from each other,
    (L, n, E)."""
    known_LP = None if known is None else known.distances(list(unit_LPE[:, None]))[:, 0]
    levels = range(len(unit_LPE))
    chosen = [_farthest_of_level(unit_LPE[one], None if known_LP is None else known_LP[one], count) for one in levels]
    return namespace(unit_LPE).stack(chosen)


def _farthest_of_level(unit_PE: Array, distance_P: Array | None, count: int) -> Array:
    """As `_farthest`, (n, E): one by one that whose nearest neighbour is farthest. Where nothing is known the most
    typical is first."""
    xp, chosen = namespace(unit_PE), list[Array]()
    cosine_PP = unit_PE @ unit_PE.T if len(unit_PE) ** 2 <= MOST_COSINES else None
    if distance_P is None:
        chosen.append(xp.argmax(unit_PE @ xp.mean(unit_PE, axis=0)))
        distance_P = xp.full_like(unit_PE[:, 0], xp.inf)
    else:
        chosen.append(xp.argmax(distance_P))
    while len(chosen) < count:
        latest = chosen[-1]
        distance_P = xp.minimum(distance_P, 1 - (unit_PE @ unit_PE[latest] if cosine_PP is None else cosine_PP[latest]))
        chosen.append(xp.argmax(distance_P))
    return unit_PE[xp.stack(chosen)]

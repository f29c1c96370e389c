"""Hierarchical memory bank of normal patches (paper section 3.5, METHOD.md section 6).

Shapes: L levels, K reference images, P patches of an image, E joint width, B test images.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from sowa.encoders.devices import Computed
from sowa.extensions.faiss import ApproximateIndex

# Similarities held at once: 64 MB in fp32, whatever the number of reference images and their size.
CHUNK = 1 << 24


class MemoryBank:
    """Raw level patches of the reference images, L2-normalised, (L, K, P, E); fewer than an image's where only some
    of each image's are kept."""

    index: ApproximateIndex | None = None  # searched in place of all features where it's there

    def __init__(self, features: Tensor) -> None:
        if features.ndim != 4:
            raise ValueError(
                f"memory bank of shape {tuple(features.shape)}, needed is (levels, images, patches, width)"
            )
        self.features = features

    @classmethod
    def build(cls, batches: Iterable[Sequence[Tensor]], at_most: int, keep: float = 1.0) -> MemoryBank:
        """From batches of raw patches, each L times (B, P, E), of ``at_most`` images in all.

        ``keep`` is the share of each image's patches that the bank takes: those farthest from what it holds already, so
        that an image adds what is new (the greedy coreset of PatchCore, Roth et al. 2022, section 3.2, image by image).
        The bank is laid out once and filled, so building it holds neither it twice nor what isn't kept.
        """
        features, count = None, 0
        for patches in batches:
            unit_LBPE = normalise(patches)
            levels, images, available, width = unit_LBPE.shape
            kept = max(1, round(keep * available))
            if features is None:
                features = unit_LBPE.new_empty((levels, at_most, kept, width))
            if kept == available:
                features[:, count : count + images] = unit_LBPE
                count += images
                continue
            for unit_LPE in unit_LBPE.unbind(dim=1):
                known = cls(features[:, :count]) if count else None
                features[:, count] = _farthest(unit_LPE, known, kept)
                count += 1
        if features is None:
            raise ValueError("a memory bank needs at least one image")
        return cls(features[:, :count])

    @cached_property
    def rounded(self) -> Tensor:
        """The features in bf16 with one more component, 1, (L, K, P, E + 1); made once, half as large as they are."""
        *shape, width = self.features.shape
        rounded = self.features.new_ones((*shape, width + 1), dtype=torch.bfloat16)
        rounded[..., :width] = self.features
        return rounded

    def __len__(self) -> int:
        return int(self.features.shape[1])

    def distances_by_image(self, patches: Sequence[Tensor], precision: Computed = "fp32") -> Tensor:
        """Distance of each patch to the nearest one of each reference image, (L, B, P, K).

        Its minimum over the first k images is what a bank of these k gives, so nested banks share one search. In
        ``precision`` "bf16" it takes a third of the time where the processor has it, and errs by some thousandths of
        the distance.
        """
        query, memory, one = normalise(patches), self.features, 1
        if precision == "bf16":
            query, memory, one = _rounded(query), self.rounded, 0
        nearest = [
            torch.cat([_nearest(query_BPE, chunk) for chunk in _chunks(query_BPE, memory_KPE)], dim=-1)
            for query_BPE, memory_KPE in zip(query, memory, strict=True)
        ]
        return (one - torch.stack(nearest).float()).clamp(min=0)

    def distances(
        self, patches: Sequence[Tensor], leave_out: Tensor | None = None, precision: Computed = "fp32"
    ) -> Tensor:
        """Distance of each patch to the nearest normal one, min(1 - cosine) in 0..2, shape (L, B, P).

        ``patches`` L times (B, P, E). ``leave_out`` (B,) names for each image a reference image that it isn't
        compared with (leave-one-out). The search is chunked over the bank so that memory stays bounded, and exact,
        unless there is an ``index`` and nothing is left out. In ``precision`` "bf16" it takes half the time where the
        processor has it: distances are still exact, but now and then of a patch that's some thousandths farther.
        """
        query = normalise(patches)
        if self.index is not None and leave_out is None:
            return (1 - self.index.nearest(query)).clamp(min=0)

        def nearest(part_BPE: Tensor, level: int) -> Tensor:
            if precision == "bf16":
                return _search_rounded(part_BPE, self.features[level], self.rounded[level], leave_out)
            return search(part_BPE, _chunks(part_BPE, self.features[level]), leave_out)

        levels = [
            torch.cat([nearest(part, level) for part in _parts(query_BPE, self.features[level])], dim=1)
            for level, query_BPE in enumerate(query)
        ]
        return (1 - torch.stack(levels)).clamp(min=0)


def _farthest(unit_LPE: Tensor, known: MemoryBank | None, count: int) -> Tensor:
    """Of an image's patches at each level the ``count`` (n) that are farthest from what is known and from each other,
    (L, n, E): one by one that whose nearest neighbour is farthest. Where nothing is known the most typical is first.
    """
    cosine_LPP = unit_LPE @ unit_LPE.transpose(1, 2)
    typical_LP = cosine_LPP.mean(dim=2)  # by this alone the first one is taken where nothing is known
    distance_LP = typical_LP if known is None else known.distances(unit_LPE[:, None].unbind())[:, 0]
    levels, chosen = torch.arange(len(unit_LPE), device=unit_LPE.device), []
    for _ in range(count):
        chosen.append(distance_LP.argmax(dim=1))
        if known is None and len(chosen) == 1:
            distance_LP = torch.full_like(distance_LP, torch.inf)
        distance_LP = torch.minimum(distance_LP, 1 - cosine_LPP[levels, chosen[-1]])
    return unit_LPE[levels[:, None], torch.stack(chosen, dim=1)]


def _parts(query_BPE: Tensor, memory_KPE: Tensor) -> tuple[Tensor, ...]:
    """The query in parts of so many patches that the similarities with one image of the bank fit into CHUNK."""
    step = max(1, CHUNK // (query_BPE.shape[0] * memory_KPE.shape[1]))
    parts: tuple[Tensor, ...] = query_BPE.split(step, dim=1)
    return parts


def search(query_BPE: Tensor, chunks_kPE: Iterable[Tensor], leave_out: Tensor | None = None) -> Tensor:
    """Highest cosine of each patch with a level's bank in chunks (k, P, E) of any number of images, (B, P).

    ``leave_out`` as in `MemoryBank.distances`. Raises ValueError where there is no chunk.
    """
    best, start = None, 0
    for chunk_kPE in chunks_kPE:
        nearest_BPk = _nearest(query_BPE, chunk_kPE)
        if leave_out is not None:
            images = torch.arange(start, start + len(chunk_kPE), device=query_BPE.device)
            nearest_BPk = nearest_BPk.masked_fill((leave_out[:, None] == images)[:, None], -1.0)
        nearest_BP = nearest_BPk.amax(dim=-1)
        best = nearest_BP if best is None else torch.maximum(best, nearest_BP)
        start += len(chunk_kPE)
    if best is None:
        raise ValueError("a memory bank needs at least one image")
    return best


def _search_rounded(query_BPE: Tensor, memory_KPE: Tensor, rounded_KPE: Tensor, leave_out: Tensor | None) -> Tensor:
    """As `search`, of a whole bank: which patch is nearest is found in bf16, how near it is in full."""
    rounded_BPE = _rounded(query_BPE)
    best, where, start, per_image = None, torch.empty(0), 0, memory_KPE.shape[1]
    for chunk_kPE in _chunks(rounded_BPE, rounded_KPE):
        near_BPn = rounded_BPE @ chunk_kPE.flatten(0, 1).T
        if leave_out is not None:
            images = torch.arange(start, start + len(chunk_kPE), device=query_BPE.device).repeat_interleave(per_image)
            near_BPn = near_BPn.masked_fill((leave_out[:, None] == images)[:, None], -torch.inf)
        nearest_BP, place_BP = near_BPn.max(dim=-1)
        place_BP += start * per_image
        where = place_BP if best is None else torch.where(nearest_BP > best, place_BP, where)
        best = nearest_BP if best is None else torch.maximum(best, nearest_BP)
        start += len(chunk_kPE)
    if best is None:
        raise ValueError("a memory bank needs at least one image")
    cosine_BP = (query_BPE * memory_KPE.flatten(0, 1)[where]).sum(dim=-1)
    return cosine_BP.masked_fill(best == -torch.inf, -1.0)


def _rounded(query: Tensor) -> Tensor:
    """In bf16 with one more component, which makes the product with what a bank keeps -distance: that is rounded."""
    return F.pad(query, (0, 1), value=-1).bfloat16()


def normalise(patches: Sequence[Tensor]) -> Tensor:
    """L times (B, P, E) to unit vectors (L, B, P, E)."""
    return F.normalize(torch.stack(tuple(patches)), dim=-1)


def _chunks(query_BPE: Tensor, memory_KPE: Tensor) -> tuple[Tensor, ...]:
    """The bank in parts of so many images that the similarities with the query fit into CHUNK."""
    step = max(1, CHUNK // (query_BPE.shape[0] * query_BPE.shape[1] * memory_KPE.shape[1]))
    chunks: tuple[Tensor, ...] = memory_KPE.to(query_BPE.dtype).split(step)
    return chunks


def _nearest(query_BPE: Tensor, chunk_kPE: Tensor) -> Tensor:
    """Highest cosine of each patch with each reference image, (B, P, k)."""
    cosine = query_BPE.flatten(0, 1) @ chunk_kPE.flatten(0, 1).T
    nearest = cosine.unflatten(1, chunk_kPE.shape[:2]).amax(dim=-1)
    shaped: Tensor = nearest.unflatten(0, query_BPE.shape[:2])
    return shaped

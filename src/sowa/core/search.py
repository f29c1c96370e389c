"""The nearest normal patch of each patch, exactly, in parts so that memory stays bounded (METHOD.md section 6).

Shapes: K reference images, k of them in a chunk, P patches of an image, B test images, E joint width, L levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from sowa.core.arrays import Array, highest, namespace

CHUNK = 1 << 24
"""Similarities held at once: 64 MB in fp32, whatever the number of reference images and their size."""


class Index(Protocol):
    """What may stand in for the exact search of a memory bank."""

    def nearest(self, query_LBPE: Array) -> Array:
        """Cosine of each unit vector with the nearest one found, (L, B, P)."""
        ...


def search(query_BPE: Array, chunks_kPE: Iterable[Array]) -> Array:
    """Highest cosine of each patch with one level's bank.

    Args:
        query_BPE: Unit vectors of the patches, (B, P, E).
        chunks_kPE: The bank in chunks (k, P, E) of any number of images.

    Returns:
        Cosines (B, P).

    Raises:
        ValueError: there is no chunk.
    """
    xp, best = namespace(query_BPE), None
    for chunk_kPE in chunks_kPE:
        nearest_BP = xp.max(nearest_by_image(query_BPE, chunk_kPE), axis=-1)
        best = nearest_BP if best is None else xp.maximum(best, nearest_BP)
    if best is None:
        raise ValueError("a memory bank needs at least one image")
    return best


def search_rounded(query_BPE: Array, memory_KPE: Array, rounded_KPE: Array) -> Array:
    """As `search`, of tensors: which patch is nearest is found in bf16, how near it is in full.

    Args:
        query_BPE: Unit vectors of the patches, (B, P, E).
        memory_KPE: The level's whole bank, (K, P, E).
        rounded_KPE: The same as `rounded_bank` has it, (K, P, E + 1).

    Returns:
        Cosines (B, P); now and then of a patch that is some thousandths farther than the nearest.
    """
    xp, rounded_BPE = namespace(query_BPE), rounded_query(query_BPE)
    best, where, start, per_image = None, None, 0, memory_KPE.shape[1]
    for chunk_kPE in chunks(rounded_BPE, rounded_KPE):
        nearest_BP, place_BP = highest(rounded_BPE @ chunk_kPE.reshape(-1, chunk_kPE.shape[2]).T)
        place_BP = place_BP + start * per_image
        where = place_BP if best is None else xp.where(nearest_BP > best, place_BP, where)
        best = nearest_BP if best is None else xp.maximum(best, nearest_BP)
        start += len(chunk_kPE)
    if where is None:
        raise ValueError("a memory bank needs at least one image")
    return xp.sum(query_BPE * memory_KPE.reshape(-1, memory_KPE.shape[2])[where], axis=-1)


def nearest_by_image(query_BPE: Array, chunk_kPE: Array) -> Array:
    """Highest cosine of each patch with each reference image, (B, P, k)."""
    width = query_BPE.shape[-1]
    cosine = query_BPE.reshape(-1, width) @ chunk_kPE.reshape(-1, width).T
    by_image = cosine.reshape(*query_BPE.shape[:2], *chunk_kPE.shape[:2])
    return namespace(cosine).max(by_image, axis=-1)


def chunks(query_BPE: Array, memory_KPE: Array) -> Iterator[Array]:
    """The bank in parts of so many images that their similarities with the query fit into `CHUNK`."""
    step = max(1, CHUNK // (query_BPE.shape[0] * query_BPE.shape[1] * memory_KPE.shape[1]))
    memory_KPE = namespace(query_BPE).astype(memory_KPE, query_BPE.dtype, copy=False)
    return (memory_KPE[start : start + step] for start in range(0, len(memory_KPE), step))


def parts(query_BPE: Array, memory_KPE: Array) -> Iterator[Array]:
    """The query in parts of so many patches that their similarities with one image of the bank fit into `CHUNK`."""
    step = max(1, CHUNK // (query_BPE.shape[0] * memory_KPE.shape[1]))
    return (query_BPE[:, start : start + step] for start in range(0, query_BPE.shape[1], step))


def rounded_query(query: Array) -> Array:
    """In bf16 with one more component, which makes the product with a `rounded_bank` -distance: that is rounded."""
    xp = namespace(query)
    return xp.concat([query, -xp.ones_like(query[..., :1])], axis=-1).bfloat16()


def rounded_bank(features: Array) -> Array:
    """A bank's tensors (..., E) in bf16 with one more component, 1, (..., E + 1); half as large as they are."""
    *shape, width = features.shape
    rounded = features.new_ones((*shape, width + 1)).bfloat16()
    rounded[..., :width] = features
    return rounded

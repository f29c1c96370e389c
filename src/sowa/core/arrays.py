"""The seam between numpy and torch: the core computes on whichever kind of array an encoder gives.

`namespace` is the array API standard's, by array-api-compat. The functions below it are what the standard lacks, each
in both kinds. Nothing here imports torch before a tensor has come in, so the core runs where torch isn't installed.

Shapes: B images, H x W pixels, N values, E width.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, TypeAlias

import array_api_compat
import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = Any
"""numpy's or torch's. Both kinds have more methods in common than any type says."""

SMALLEST_NORM = 1e-12


def namespace(array: Array) -> Any:
    """The array API's functions for this kind of array."""
    return array_api_compat.array_namespace(array)


def is_tensor(array: Array) -> bool:
    """Whether it is torch's."""
    return bool(array_api_compat.is_torch_array(array))


def to_numpy(array: Array) -> NDArray[Any]:
    """The same values on the CPU; floating point of a tensor as float32."""
    if not is_tensor(array):
        return np.asarray(array)
    values = array.detach()
    found: NDArray[Any] = (values.float() if values.is_floating_point() else values).cpu().numpy()
    return found


def unit(vectors: Array) -> Array:
    """Unit vectors (..., E) of vectors (..., E); zero stays zero."""
    norm = namespace(vectors).linalg.vector_norm(vectors, axis=-1, keepdims=True)
    return vectors / norm.clip(min=SMALLEST_NORM)


def largest(values: Array, count: int) -> Array:
    """The ``count`` highest along the last axis, the highest first, (..., count)."""
    if is_tensor(values):
        return values.topk(count, dim=-1).values
    place = values.shape[-1] - count
    return np.sort(np.partition(values, place, axis=-1)[..., place:], axis=-1)[..., ::-1]


def highest(values: Array) -> tuple[Array, Array]:
    """The highest along the last axis and where it is, both (...); of equal ones the first."""
    if is_tensor(values):
        value, place = values.max(dim=-1)
        return value, place
    place = values.argmax(axis=-1)
    return np.take_along_axis(values, place[..., None], axis=-1)[..., 0], place


def full_precision(array: Array) -> AbstractContextManager[object]:
    """A context without automatic lower precision: small products that are exact cost nothing."""
    if not is_tensor(array):
        return nullcontext()
    import torch

    return torch.autocast(array.device.type, enabled=False)


def average_pool(maps: Array, grid: tuple[int, int]) -> Array:
    """Means of maps (..., H, W) over the cells of a grid (h, w), which overlap where it doesn't divide the sides."""
    if is_tensor(maps):
        import torch.nn.functional as F

        return F.adaptive_avg_pool2d(maps, grid)
    rows, columns = (_averaging(*sides) for sides in zip(grid, maps.shape[-2:], strict=True))
    return rows @ maps @ columns.T


def interpolation(few: int, many: int, like: Array) -> Array:
    """The matrix (many, few) that interpolates values on a line linearly, the ends aligned; of the kind of ``like``."""
    if not is_tensor(like):
        return _interpolating(few, many)
    import torch
    import torch.nn.functional as F

    each = torch.eye(few, device=like.device, dtype=like.dtype)
    return F.interpolate(each[None], size=many, mode="linear", align_corners=True)[0].T


def correlate(maps_BHW: Array, kernel: NDArray[np.float64]) -> Array:
    """Maps correlated with an odd kernel along rows and along columns, borders mirrored (d c b a | a b c d)."""
    radius = len(kernel) // 2
    if not is_tensor(maps_BHW):
        height, width = (_correlating(side, kernel.tobytes()) for side in maps_BHW.shape[1:])
        return height @ maps_BHW @ width.T
    import torch
    import torch.nn.functional as F

    weights = torch.tensor(kernel, dtype=maps_BHW.dtype, device=maps_BHW.device)
    rows, columns = (
        torch.from_numpy(_mirrored(side, radius)).to(maps_BHW.device) for side in (maps_BHW.shape[1], maps_BHW.shape[2])
    )
    maps = F.conv2d(maps_BHW[:, None][:, :, rows], weights.view(1, 1, -1, 1))
    return F.conv2d(maps[:, :, :, columns], weights.view(1, 1, 1, -1))[:, 0]


def _mirrored(length: int, radius: int) -> NDArray[np.int64]:
    """Indices of a side of ``length`` with ``radius`` mirrored places at both ends, however short the side is."""
    index = np.arange(-radius, length + radius) % (2 * length)
    return np.minimum(index, 2 * length - 1 - index)


def _cached(make: Callable[..., NDArray[np.float32]]) -> Callable[..., NDArray[np.float32]]:
    """Matrices depend on sizes alone and are asked for with every batch."""
    return lru_cache(maxsize=64)(make)


@_cached
def _averaging(few: int, many: int) -> NDArray[np.float32]:
    """(few, many): the mean over each cell, from its first to its last value that it touches."""
    matrix = np.zeros((few, many), np.float32)
    for cell in range(few):
        first, end = cell * many // few, -(-(cell + 1) * many // few)
        matrix[cell, first:end] = 1 / (end - first)
    return matrix


@_cached
def _interpolating(few: int, many: int) -> NDArray[np.float32]:
    places = np.linspace(0, few - 1, many)
    return np.stack([np.interp(places, np.arange(few), each) for each in np.eye(few)], axis=1).astype(np.float32)


@_cached
def _correlating(length: int, kernel: bytes) -> NDArray[np.float32]:
    """(length, length) with the kernel, as float64's bytes, around each place."""
    weights = np.frombuffer(kernel)
    mirrored = _mirrored(length, len(weights) // 2)
    matrix = np.zeros((length, length))
    for place in range(length):
        np.add.at(matrix[place], mirrored[place : place + len(weights)], weights)
    return matrix.astype(np.float32)

"""A histogram over the distinct scores of a data set: all that the pixel metrics depend on.

Scores are float32 and are held as *keys*: uint32 numbers in the same order, so that sorting is cheap and
neighbouring scores can be merged by clearing low bits.

Shapes: P pixels, G groups, R rows (one row per distinct key).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_SIGN = np.uint32(0x80000000)
_HALF = np.uint64(32)


def keys_of(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Order-preserving uint32 keys of finite float32 scores, any shape; -0.0 and 0.0 get one key."""
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def scores_of(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The scores that have these keys, any shape: the inverse of `keys_of`."""
    scores: NDArray[np.float32] = np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)
    return scores


class Rows(NamedTuple):
    """Sums per distinct key, in ascending order of key; all (R,)."""

    keys: NDArray[np.uint32]
    counts: NDArray[np.int64]
    weights: NDArray[np.float64]


def sum_equal_keys(rows: Rows) -> Rows:
    """Rows with ascending but repeated keys -> one row per distinct key."""
    first = np.ones(len(rows.keys), dtype=bool)
    np.not_equal(rows.keys[1:], rows.keys[:-1], out=first[1:])
    starts = np.flatnonzero(first)
    if len(starts) == len(rows.keys):
        return rows
    counts = np.add.reduceat(rows.counts, starts)
    weights = np.add.reduceat(rows.weights, starts)
    return Rows(rows.keys[starts], counts, weights)


def merge(a: Rows, b: Rows) -> Rows:
    """The sum of two histograms."""
    if not len(a.keys) or not len(b.keys):
        return a if len(a.keys) else b
    keys = np.concatenate((a.keys, b.keys))
    order = np.argsort(keys, kind="stable")  # two sorted runs: close to linear
    counts = np.concatenate((a.counts, b.counts))[order]
    weights = np.concatenate((a.weights, b.weights))[order]
    return sum_equal_keys(Rows(keys[order], counts, weights))


class GroupedHistogram:
    """Pixels by score, counted twice: each pixel as 1, and each *group* of pixels as 1.

    A group is an image where the pixels are normal, a region where they are anomalous; its pixels share its
    weight equally. Cumulated counts give pooled rates, and cumulated weights give rates averaged over groups
    (mean FPR over images, PRO over regions).

    New pixels wait, 8 bytes each, until `buffer_pixels` of them are sorted at once and merged into `rows`.
    """

    def __init__(self, buffer_pixels: int) -> None:
        self.buffer_pixels = buffer_pixels
        self.rows = Rows(np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, np.float64))
        self.n_groups = 0
        self.n_pixels = 0
        self._clear_buffer()

    def add(self, keys: NDArray[np.uint32], groups: NDArray[np.intp], sizes: NDArray[np.intp]) -> None:
        """Add pixels.

        keys: (P,). groups: (P,), or (1,) where all are in one group; numbers from 0 to G - 1 for this call.
        sizes: (G,), the pixels in each group.
        """
        if not len(keys):
            return
        # A key and its group in one number: one plain sort, the fastest there is, orders both.
        packed = keys.astype(np.uint64) << _HALF
        packed |= groups.astype(np.uint64) + np.uint64(self._waiting_groups)
        self._waiting.append(packed)
        self._waiting_sizes.append(sizes)
        self._waiting_groups += len(sizes)
        self._waiting_pixels += len(keys)
        self.n_groups += len(sizes)
        self.n_pixels += len(keys)

    @property
    def full(self) -> bool:
        """Whether enough pixels wait for `flush` to pay."""
        return self._waiting_pixels >= self.buffer_pixels

    def flush(self, key_mask: np.uint32) -> None:
        """Merge the waiting pixels into `rows`, keeping only the key bits set in key_mask."""
        if not self._waiting:
            return
        packed = np.concatenate(self._waiting)
        packed.sort()
        share_G = 1.0 / np.concatenate(self._waiting_sizes)
        weights = share_G[(packed & np.uint64(0xFFFFFFFF)).astype(np.uint32)]
        packed >>= _HALF
        keys = packed.astype(np.uint32) & key_mask
        new = sum_equal_keys(Rows(keys, np.ones(len(keys), np.int64), weights))
        self._clear_buffer()
        self.rows = merge(self.rows, new)

    def coarsen(self, key_mask: np.uint32) -> None:
        """Merge rows whose keys differ only in bits that are not set in key_mask."""
        self.rows = sum_equal_keys(self.rows._replace(keys=self.rows.keys & key_mask))

    def _clear_buffer(self) -> None:
        self._waiting: list[NDArray[np.uint64]] = []
        self._waiting_sizes: list[NDArray[np.intp]] = []
        self._waiting_groups = 0
        self._waiting_pixels = 0

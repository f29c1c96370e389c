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
_GROUP = np.uint64(0xFFFFFFFF)
_MANTISSA_BITS = 23
_BINS_PER_PIXEL = 4
"""Up to so many possible keys per pixel counting is faster than sorting."""


def keys_of(scores: NDArray[np.float32]) -> NDArray[np.uint32]:
    """Order-preserving keys of finite scores; -0.0 and 0.0 get one key.

    Args:
        scores: Of any shape, float32, finite.

    Returns:
        The same shape, uint32.

    Example:
        >>> import numpy as np
        >>> keys = keys_of(np.array([-1.5, 0.0, 2.0], np.float32))
        >>> bool((np.diff(keys.astype(np.int64)) > 0).all()), scores_of(keys).tolist()
        (True, [-1.5, 0.0, 2.0])
    """
    bits = (scores + np.float32(0)).view(np.uint32)
    return np.where(bits & _SIGN, ~bits, bits | _SIGN)


def scores_of(keys: NDArray[np.uint32]) -> NDArray[np.float32]:
    """The scores that have these keys, any shape: the inverse of `keys_of`."""
    scores: NDArray[np.float32] = np.where(keys & _SIGN, keys ^ _SIGN, ~keys).view(np.float32)
    return scores


class Rows(NamedTuple):
    """Sums per distinct key, in ascending order of key.

    Attributes:
        keys: (R,), ascending.
        counts: (R,), pixels.
        weights: (R,); where each pixel weighs 1, this *is* ``counts``, one array, so that nothing is summed twice.
    """

    keys: NDArray[np.uint32]
    counts: NDArray[np.int64]
    weights: NDArray[np.float64 | np.int64]


def sum_equal_keys(rows: Rows) -> Rows:
    """Rows with ascending but repeated keys -> one row per distinct key."""
    starts = _edges(rows.keys)[:-1]
    if len(starts) == len(rows.keys):
        return rows
    counts = np.add.reduceat(rows.counts, starts)
    weights = counts if rows.weights is rows.counts else np.add.reduceat(rows.weights, starts)
    return Rows(rows.keys[starts], counts, weights)


def distinct(*keys: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Each key of all arrays once, ascending. np.unique, which may hash, takes several times as long."""
    ascending = np.concatenate(keys)
    ascending.sort()
    return ascending[_edges(ascending)[:-1]]


def _edges(ascending: NDArray[np.uint32]) -> NDArray[np.intp]:
    """Where each distinct key begins, and where the last one ends (R + 1,)."""
    first = np.ones(len(ascending) + 1, dtype=bool)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:-1])
    return np.flatnonzero(first)


def pack(keys: NDArray[np.uint32], groups: NDArray[np.intp]) -> NDArray[np.uint64]:
    """A key and its group in one number, (P,).

    Args:
        keys: (P,).
        groups: (P,), or (1,) where all are in one.
    """
    return (keys.astype(np.uint64) << _HALF) | groups.astype(np.uint64)


def count_pixels(packed: NDArray[np.uint64], share_G: NDArray[np.float64], dropped_bits: int) -> Rows:
    """Rows of pixels, each given as its key and its group.

    Args:
        packed: (P,) as of `pack`; gets another order.
        share_G: What a pixel of each group weighs, (G,).
        dropped_bits: So many of the lowest bits of keys are left out, 0 to 32.
    """
    low, high = (int(end >> _HALF) >> dropped_bits for end in (packed.min(), packed.max()))
    if high - low < _BINS_PER_PIXEL * len(packed):  # few enough keys to count into, which needs no sort
        share_P = share_G[(packed & _GROUP).astype(np.uint32)]
        bin_P = (packed >> (_HALF + np.uint64(dropped_bits))).astype(np.intp) - low
        counts, weights = np.bincount(bin_P), np.bincount(bin_P, share_P).astype(np.float64, copy=False)
        kept = np.flatnonzero(counts)
        return Rows(((kept + low) << dropped_bits).astype(np.uint32), counts[kept], weights[kept])
    packed.sort()  # a key and its group in one number: one plain sort, the fastest there is, orders both
    share_P = share_G[(packed & _GROUP).astype(np.uint32)]
    keys = (packed >> _HALF).astype(np.uint32) & key_mask(dropped_bits)
    edges = _edges(keys)
    return Rows(keys[edges[:-1]], np.diff(edges), np.add.reduceat(share_P, edges[:-1]))


def count_keys(keys: NDArray[np.uint32], dropped_bits: int) -> Rows:
    """Rows of pixels that weigh 1 each, from half the bytes.

    Args:
        keys: (P,); gets another order.
        dropped_bits: So many of their lowest bits are left out, 0 to 32.
    """
    low, high = (int(end) >> dropped_bits for end in (keys.min(), keys.max()))
    if high - low < _BINS_PER_PIXEL * len(keys):
        counts = np.bincount((keys >> np.uint32(dropped_bits)).astype(np.intp) - low)
        kept = np.flatnonzero(counts)
        distinct_keys, counts = ((kept + low) << dropped_bits).astype(np.uint32), counts[kept]
    else:
        keys.sort()
        keys &= key_mask(dropped_bits)
        edges = _edges(keys)
        distinct_keys, counts = keys[edges[:-1]], np.diff(edges)
    return Rows(distinct_keys, counts, counts)


def key_mask(dropped_bits: int) -> np.uint32:
    """The key bits that remain once the lowest ones are dropped."""
    return np.uint32((0xFFFFFFFF << dropped_bits) & 0xFFFFFFFF)


def rows_by_dropped_bits(keys: NDArray[np.uint32]) -> NDArray[np.int64]:
    """How many of the ascending, distinct keys (R,) remain once their lowest n bits are dropped, for n from 0 to 32.

    Neighbours become one as soon as the highest bit in which they differ is dropped.
    """
    _, bits = np.frexp((keys[1:] ^ keys[:-1]).astype(np.float64))
    return len(keys) - np.cumsum(np.bincount(bits, minlength=33))


def merge(a: Rows, b: Rows) -> Rows:
    """The sum of two histograms."""
    if not len(a.keys) or not len(b.keys):
        return a if len(a.keys) else b
    keys = np.concatenate((a.keys, b.keys))
    order = np.argsort(keys, kind="stable")  # two sorted runs: close to linear
    counts = np.concatenate((a.counts, b.counts))[order]
    ungrouped = a.weights is a.counts and b.weights is b.counts
    weights = counts if ungrouped else np.concatenate((a.weights, b.weights))[order]
    return sum_equal_keys(Rows(keys[order], counts, weights))


class GroupedHistogram:
    """Pixels by score, counted twice: each pixel as 1, and each *group* of pixels as 1.

    A group is an image where the pixels are normal, a region where they are anomalous; its pixels share its
    weight equally. Cumulated counts give pooled rates, and cumulated weights give rates averaged over groups
    (mean FPR over images, PRO over regions).

    Args:
        buffer_pixels: New pixels wait, 8 bytes each, until so many of them, and as many as there are rows, are counted
            at once and merged into ``rows``.
    """

    def __init__(self, buffer_pixels: int) -> None:
        self.buffer_pixels = buffer_pixels
        self.rows = Rows(np.zeros(0, np.uint32), np.zeros(0, np.int64), np.zeros(0, np.float64))
        self.n_groups = 0
        self.n_pixels = 0
        self._clear_buffer()

    def add(self, keys: NDArray[np.uint32], groups: NDArray[np.intp], sizes: NDArray[np.intp]) -> None:
        """Add pixels.

        Args:
            keys: (P,).
            groups: (P,), or (1,) where all are in one group; numbers from 0 to G - 1 for this call.
            sizes: (G,), the pixels in each group.
        """
        if not len(keys):
            return
        self._waiting.append(pack(keys, groups + self._waiting_groups))
        self._waiting_sizes.append(sizes)
        self._waiting_groups += len(sizes)
        self._waiting_pixels += len(keys)
        self.n_groups += len(sizes)
        self.n_pixels += len(keys)

    def add_group(self, keys: NDArray[np.uint32]) -> None:
        """Add pixels (P,) that are one group."""
        self.add(keys, np.zeros(1, np.intp), np.array([len(keys)]))

    def add_ungrouped(self, keys: NDArray[np.uint32]) -> None:
        """Add pixels (P,) that weigh 1 each, where nobody asks for weights: faster (benchmarks/results/metrics.md)."""
        self._ungrouped.append(keys)
        self._waiting_pixels += len(keys)
        self.n_pixels += len(keys)

    @property
    def full(self) -> bool:
        """Whether enough pixels wait for `flush` to pay: it passes over all rows."""
        return self._waiting_pixels >= max(self.buffer_pixels, len(self.rows.keys))

    def flush(self, dropped_bits: int) -> None:
        """Merge the waiting pixels into `rows`, without the lowest bits of their keys."""
        if not self._waiting_pixels:
            return
        grouped, sizes, ungrouped = self._waiting, self._waiting_sizes, self._ungrouped
        waiting_ungrouped = sum(len(keys) for keys in ungrouped)
        self._clear_buffer()
        if grouped:
            share_G = 1.0 / np.concatenate(sizes)
            self.rows = merge(self.rows, count_pixels(np.concatenate(grouped), share_G, dropped_bits))
        if waiting_ungrouped:
            self.rows = merge(self.rows, count_keys(np.concatenate(ungrouped), dropped_bits))

    def coarsen(self, dropped_bits: int) -> None:
        """Merge rows whose keys differ in their lowest bits only."""
        self.rows = sum_equal_keys(self.rows._replace(keys=self.rows.keys & key_mask(dropped_bits)))

    def _clear_buffer(self) -> None:
        self._waiting: list[NDArray[np.uint64]] = []
        self._waiting_sizes: list[NDArray[np.intp]] = []
        self._ungrouped: list[NDArray[np.uint32]] = []
        self._waiting_groups = 0
        self._waiting_pixels = 0


class ScoreHistograms:
    """Histograms over the same scores that together hold at most so many rows.

    Beyond that, neighbouring scores are merged, as few as the limit allows: as many low key bits are dropped as that
    takes. Their number depends only on the scores seen, so neither order nor buffer size changes the result.

    Args:
        count: How many histograms.
        max_scores: Rows of all, ``count`` or more.
        buffer_pixels: By default four for each score to keep, between 2**16 and 2**21: fewer pixels at once don't pay
            the pass over all rows, more don't fit the processor's caches.

    Raises:
        ValueError: ``max_scores`` is below ``count``, or ``buffer_pixels`` below 1.
    """

    def __init__(self, count: int, max_scores: int, buffer_pixels: int | None = None) -> None:
        if buffer_pixels is None:
            buffer_pixels = min(max(4 * max_scores, 2**16), 2**21)
        if max_scores < count:
            raise ValueError(f"max_scores is {max_scores}: give at least {count}, or leave it out")
        if buffer_pixels < 1:
            raise ValueError(f"buffer_pixels is {buffer_pixels}: give at least 1, or leave it out")
        self.max_scores = max_scores
        self.all = tuple(GroupedHistogram(buffer_pixels) for _ in range(count))
        self.dropped_bits = 0

    @property
    def stored_scores(self) -> int:
        """Rows held; never above max_scores."""
        return sum(len(one.rows.keys) for one in self.all)

    @property
    def resolution(self) -> float:
        """Scores closer than this fraction of their size may have been merged; 0.0 where none were."""
        return 2.0 ** (self.dropped_bits - _MANTISSA_BITS) if self.dropped_bits else 0.0

    def merge_if_full(self) -> None:
        """Merge once enough pixels wait."""
        if any(one.full for one in self.all):
            self.merge()

    def merge(self) -> None:
        """Empty the buffers and keep to the limit."""
        for one in self.all:
            one.flush(self.dropped_bits)
        if self.stored_scores > self.max_scores:
            remaining = np.sum([rows_by_dropped_bits(one.rows.keys) for one in self.all], axis=0)
            self.dropped_bits = int(np.argmax(remaining <= self.max_scores))
            for one in self.all:
                one.coarsen(self.dropped_bits)

"""Slow oracles of the metrics, and generated maps and masks to compare on."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.measure import label, regionprops
from sklearn.metrics import auc

from sowa.metrics import AUPRO_LIMIT, PixelMetrics

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
DataSet = tuple[list[Map], list[Mask]]

few = settings(max_examples=120)


# --- oracles --------------------------------------------------------------------------------------


def regions_of(mask: Mask) -> list[NDArray[np.intp]]:
    return [region.coords for region in regionprops(label(mask.astype(np.uint8)))]  # type: ignore[no-untyped-call]


def mean_overlap(found: list[Mask], masks: list[Mask]) -> float:
    overlaps = []
    for found_HW, mask in zip(found, masks, strict=True):
        overlaps += [found_HW[yx[:, 0], yx[:, 1]].mean() for yx in regions_of(mask)]
    return float(np.mean(overlaps))


def slow_f1_max(labels: Mask, scores: Map) -> float:
    best = 0.0
    for threshold in np.unique(scores):
        found = scores >= threshold
        tp = int((found & labels).sum())
        best = max(best, 2 * tp / int(found.sum() + labels.sum()))
    return best


def slow_aupro(maps: list[Map], masks: list[Mask]) -> float:
    """Every distinct threshold, one segment at a time."""
    if not any(m.any() for m in masks) or all(m.all() for m in masks):
        return math.nan
    n_normal = sum(int((~m).sum()) for m in masks)
    area, last_fpr, last_pro = 0.0, 0.0, 0.0
    for threshold in np.unique(np.concatenate([a.ravel() for a in maps]))[::-1]:
        found = [a >= threshold for a in maps]
        fpr = sum(int((f & ~m).sum()) for f, m in zip(found, masks, strict=True)) / n_normal
        pro = mean_overlap(found, masks)
        if fpr > AUPRO_LIMIT:
            share = (AUPRO_LIMIT - last_fpr) / (fpr - last_fpr)
            fpr, pro = AUPRO_LIMIT, last_pro + share * (pro - last_pro)
        area += (fpr - last_fpr) * (pro + last_pro) / 2
        last_fpr, last_pro = fpr, pro
        if fpr >= AUPRO_LIMIT:
            break
    return area / AUPRO_LIMIT


def slow_aupro_authors(maps: list[Map], masks: list[Mask]) -> float:
    """200 equidistant thresholds, FPR averaged over images, kept points rescaled."""
    if not any(m.any() for m in masks) or all(m.all() for m in masks):
        return math.nan
    scores = np.concatenate([a.ravel() for a in maps])
    lowest, highest = scores.min(), scores.max()
    if lowest == highest:
        return math.nan
    pros, fprs = [], []
    for threshold in np.arange(lowest, highest, (highest - lowest) / 200):
        found = [a > threshold for a in maps]
        pros.append(mean_overlap(found, masks))
        fprs.append(np.mean([f[~m].mean() for f, m in zip(found, masks, strict=True) if not m.all()]))
    pro, fpr = np.array(pros), np.array(fprs)
    kept = fpr < AUPRO_LIMIT - 1e-12  # at the limit rounding alone would decide
    pro, fpr = pro[kept], fpr[kept]
    if len(fpr) == 0 or fpr.max() - fpr.min() < 1e-12:
        return math.nan
    return float(auc((fpr - fpr.min()) / (fpr.max() - fpr.min()), pro))


# --- data -----------------------------------------------------------------------------------------

TIED = [-2.5, -1e-3, -0.0, 0.0, 1e-40, 0.1, 0.30000001192092896, 0.5, 7.0]


@st.composite
def data_sets(draw: st.DrawFn, max_images: int = 4) -> DataSet:
    """A few tiny images of unlike sizes: heavy ties, and masks from empty to full."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.array(draw(st.lists(st.sampled_from(TIED), min_size=1, max_size=9)), dtype=np.float32)
    maps, masks = [], []
    for density in draw(st.lists(st.sampled_from([0, 0.1, 0.3, 0.6, 1]), min_size=1, max_size=max_images)):
        shape = tuple(rng.integers(1, 8, size=2))
        maps.append(rng.choice(values, shape))
        masks.append(rng.random(shape) < density)
    return maps, masks


@st.composite
def region_data(draw: st.DrawFn, max_images: int = 3) -> DataSet:
    """Rectangles that overlap, touch by a side or a corner, reach the border or are one pixel; few or many ties."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    digits = draw(st.sampled_from([1, 2, 7]))
    maps, masks = [], []
    for n_rectangles in draw(st.lists(st.integers(0, 5), min_size=1, max_size=max_images)):
        height, width = rng.integers(1, 16, size=2)
        mask = np.zeros((height, width), bool)
        for _ in range(n_rectangles):
            y, x = rng.integers(0, (height, width))
            mask[y : y + rng.integers(1, 5), x : x + rng.integers(1, 5)] = True
        maps.append(np.round(rng.normal(size=mask.shape) + mask, digits).astype(np.float32))
        masks.append(mask)
    return maps, masks


def smooth_data(n_images: int = 6, side: int = 48, seed: int = 0) -> DataSet:
    """Distinct scores nearly everywhere; every second image has two square defects."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for i in range(n_images):
        mask = np.zeros((side, side), bool)
        if i % 2:
            for y, x in rng.integers(0, side - 9, size=(2, 2)):
                mask[y : y + 9, x : x + 9] = True
        maps.append((rng.normal(size=mask.shape) + 1.5 * mask).astype(np.float32))
        masks.append(mask)
    return maps, masks


def flat(data: DataSet) -> tuple[Mask, Map]:
    maps, masks = data
    return np.concatenate([m.ravel() for m in masks]), np.concatenate([a.ravel() for a in maps])


def accumulate(data: DataSet, order: list[int] | None = None, **options: int) -> PixelMetrics:
    accumulator = PixelMetrics(**options)
    for i in order or range(len(data[0])):
        accumulator.update(data[0][i], data[1][i])
    return accumulator


def approx(expected: object, tolerance: float = 1e-9) -> object:
    return pytest.approx(expected, abs=tolerance, rel=0, nan_ok=True)

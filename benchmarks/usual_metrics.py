"""The pixel metrics as they are mostly computed, to compare with: all maps in memory, a loop over thresholds.

Shapes: N images; H, W height and width; P pixels; A anomalous pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label, regionprops
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from sowa.metrics import AUPRO_LIMIT

Map, Mask = NDArray[np.float32], NDArray[np.bool_]
THRESHOLDS = 200


def usual_loop(maps: list[Map], masks: list[Mask]) -> float:
    """AUPRO as it is mostly computed: equidistant thresholds, regions labelled anew in every image at each one."""
    map_NHW, mask_NHW = np.stack(maps), np.stack(masks)
    fprs, pros = [], []
    for threshold in np.linspace(map_NHW.max(), map_NHW.min(), THRESHOLDS):
        found_NHW = map_NHW >= threshold
        overlaps = [
            found_HW[region.coords[:, 0], region.coords[:, 1]].mean()
            for found_HW, mask_HW in zip(found_NHW, mask_NHW, strict=True)
            for region in regionprops(label(mask_HW))
        ]
        pros.append(float(np.mean(overlaps)))
        fprs.append(float((found_NHW & ~mask_NHW).sum() / (~mask_NHW).sum()))
    return area_to_limit(np.array(fprs), np.array(pros))


def area_to_limit(fpr: NDArray[np.float64], pro: NDArray[np.float64]) -> float:
    """Trapezoids from (0, 0) to the limit, where the curve is cut by interpolation; divided by the limit."""
    fpr, pro = np.append(0, fpr), np.append(0, pro)
    inside = fpr < AUPRO_LIMIT
    x = np.append(fpr[inside], AUPRO_LIMIT)
    y = np.append(pro[inside], np.interp(AUPRO_LIMIT, fpr, pro))
    return float(np.trapezoid(y, x)) / AUPRO_LIMIT


def exact_aupro(maps: list[Map], masks: list[Mask]) -> float:
    """All distinct thresholds by scikit-learn; PRO is the recall of pixels that weigh one over their region's size."""
    score_P, mask_P = pooled(maps, masks)
    weight_P = np.ones(len(score_P))
    weight_P[mask_P] = np.concatenate([1 / sizes_of_regions(mask_HW) for mask_HW in masks])
    return area_to_limit(*roc_curve(mask_P, score_P, sample_weight=weight_P, drop_intermediate=False)[:2])


def pooled(maps: list[Map], masks: list[Mask]) -> tuple[Map, Mask]:
    return np.concatenate([one.ravel() for one in maps]), np.concatenate([one.ravel() for one in masks])


def sizes_of_regions(mask_HW: Mask) -> NDArray[np.float64]:
    """The size of the region of each anomalous pixel (A,)."""
    label_HW = label(mask_HW)
    return np.bincount(label_HW.ravel()).astype(float)[label_HW[mask_HW]]


def others(maps: list[Map], masks: list[Mask]) -> dict[str, float]:
    """The other three metrics as they are mostly computed."""
    score_P, mask_P = pooled(maps, masks)
    precision, recall, _ = precision_recall_curve(mask_P, score_P)
    return {
        "pixel_AUROC": float(roc_auc_score(mask_P, score_P)),
        "pixel_AP": float(average_precision_score(mask_P, score_P)),
        "pixel_F1Max": float(np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))),
    }

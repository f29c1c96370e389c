"""One image's anomaly map and mask, checked, and the regions of its mask.

Shapes: H, W height and width in pixels (images may differ in size); P pixels; G regions.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.float32]
_Bools = NDArray[np.bool_]
_Ints = NDArray[np.intp]


def checked(anomaly_map: ArrayLike, mask: ArrayLike, index: int) -> tuple[_Floats, _Bools]:
    """Map and mask as arrays (H, W).

    Args:
        anomaly_map: As `PixelMetrics.update` takes it.
        mask: Likewise.
        index: The image's number, for the message.

    Raises:
        ValueError: as `PixelMetrics.update` says.
    """
    with np.errstate(over="ignore"):
        score_HW = np.asarray(anomaly_map).astype(np.float32, copy=False)
    raw_HW = np.asarray(mask)
    if score_HW.shape != raw_HW.shape or score_HW.ndim != 2:
        raise ValueError(
            f"image {index}: the anomaly map has shape {score_HW.shape} and the mask {raw_HW.shape}: "
            "both must be the same (H, W), resize one to the other"
        )
    if raw_HW.dtype.kind not in "biu":
        raise ValueError(f"image {index}: the mask is {raw_HW.dtype}, not boolean: binarise it (mask > 0.5)")
    n_bad = score_HW.size - int(np.count_nonzero(np.isfinite(score_HW)))
    if n_bad:
        raise ValueError(
            f"image {index}: {n_bad} of {score_HW.size} anomaly map scores are NaN or infinite in float32: "
            "leave the image out or score it again"
        )
    return score_HW, raw_HW.astype(bool)


def regions_of(mask: _Bools) -> tuple[_Ints, _Ints]:
    """The regions of a mask: anomalous pixels that touch, diagonals included.

    Args:
        mask: (H, W) bool.

    Returns:
        The region, numbered from 0, of each anomalous pixel in row order (P,), and the pixels in each region (G,).

    Example:
        >>> import numpy as np
        >>> regions_of(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], bool))[1].tolist()
        [2, 1]
    """
    if not mask.any():
        return np.zeros(0, np.intp), np.zeros(0, np.intp)

    import cv2  # keeps `import sowa` light

    _, labels_HW = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)  # 8 is scikit-image's default too
    region_P = labels_HW[mask].astype(np.intp) - 1
    return region_P, np.bincount(region_P)

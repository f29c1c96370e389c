"""The method computed plainly, as published: what speed.py compares with.

fp32; the text is encoded in every call; two maps per level are enlarged; images are matched with the memory one by
one; scipy blurs. The same network, so the same map to rounding (speed.py checks it).

Shapes: B images, H x W pixels, P patches, E joint width, K reference images.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from sowa import Sowa


def enlarge(values_BCP: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, C, P) of a square grid to (B, C, H, W)."""
    side = int(values_BCP.shape[-1] ** 0.5)
    return F.interpolate(values_BCP.unflatten(2, (side, side)), size=size, mode="bilinear", align_corners=True)


@torch.no_grad()
def plain_maps(detector: Sowa, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Fused maps (B, H, W) of images (B, H, W, 3) uint8."""
    network, size = detector.encoder.network, detector.image_size
    backbone, prompts = network.backbone, network.prompts
    levels = backbone(detector.encoder.normalise(images))
    text_SE = F.normalize(prompts.pool(prompts.encode(backbone))[0], dim=-1)
    total = torch.zeros(len(images), *size)
    for level, (adapter, tokens) in enumerate(zip(network.adapters, levels.tokens, strict=True)):
        adapted_BPE = F.normalize(backbone.project(adapter(tokens, levels.grid, backbone.attention(level))), dim=-1)
        total += enlarge((adapted_BPE @ text_SE.T).transpose(1, 2), size).softmax(dim=1)[:, 1]
    blurred = [gaussian_filter(one, sigma=network.config.sigma) for one in total.numpy()]
    maps = np.stack(blurred) * network.config.prompt.map_weight
    assert detector.bank_ is not None
    for index in range(len(images)):
        for patches, memory_KPE in zip(levels.patches, detector.bank_.features, strict=True):
            query_PE = F.normalize(patches[index], dim=-1)
            nearest_P = (1 - query_PE @ memory_KPE.flatten(0, 1).T).min(dim=1).values
            maps[index] += enlarge(nearest_P[None, None], size)[0, 0].numpy()
    return np.asarray(maps, dtype=np.float32)

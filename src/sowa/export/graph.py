"""The whole detector as one module that can be exported: images in, raw verdicts out.

Shapes: B images, H x W pixels, L levels, K reference images, k of them in a chunk, P patches, E joint width.
"""

from __future__ import annotations

import math
from copy import deepcopy

import torch
from torch import Tensor, nn

from sowa.core.memory import normalise
from sowa.core.search import CHUNK, search
from sowa.detector.calibrated import judge_weighed
from sowa.detector.detector import Sowa
from sowa.encoders.torch_encoder import TorchEncoder
from sowa.encoders.windows import WindowedNetwork
from sowa.model.backbone import interpolate_positions

BANK = "bank"  # its tensors' names begin so


class DetectorGraph(nn.Module):
    """A fitted detector with its bank and the text features of its prompts as constants.

    Args:
        detector: Fitted.
        half: Whether the network and the bank are in 16 bits; scores are computed in 32 all the same.
    """

    class_text: Tensor
    weights: Tensor | None

    def __init__(self, detector: Sowa, half: bool = False) -> None:
        super().__init__()
        encoder = detector.encoder
        assert detector.bank_ is not None
        assert isinstance(encoder, TorchEncoder)
        dtype = torch.float16 if half else torch.float32
        self.windows = _without_text(encoder, dtype)
        self.extensions = detector.extensions
        self.prompts = encoder.trained
        text_1SE = encoder.class_text([encoder.category or ""]).detach().clone()
        self.register_buffer("class_text", text_1SE)
        weights, self.zero_shot_weight = detector.bank_.weights, detector.bank_.zero_shot_weight
        self.register_buffer("weights", None if weights is None else torch.tensor(weights).view(-1, 1, 1))
        patches = math.prod(encoder.grid)
        self.step = max(1, CHUNK // 4 // (patches * detector.bank_.features.shape[2]))
        self.levels, self.chunks = len(detector.bank_.features), 0
        for level, memory_KPE in enumerate(detector.bank_.features):
            for index, chunk_kPE in enumerate(memory_KPE.split(self.step)):
                self.register_buffer(f"{BANK}_{level}_{index}", chunk_kPE.to(dtype))
                self.chunks = index + 1

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Images (B, H, W, 3) uint8 to raw scores (B,), maps (B, H, W) and level maps (B, L, h, w)."""
        text = self.class_text.expand(images.shape[0], -1, -1) if self.prompts else None
        features = self.windows(images, text)
        query_LBPE = normalise(features.patches)
        nearest = [search(query_LBPE[level], self._chunks(level)) for level in range(self.levels)]
        distances_LBP = (1 - torch.stack(nearest)).clamp(min=0)
        if self.weights is not None:
            distances_LBP = distances_LBP * self.weights
        judgement = judge_weighed(
            features, distances_LBP, self.windows.network.config, self.extensions, self.zero_shot_weight
        )
        return judgement.raw_scores, judgement.maps, judgement.level_maps

    def _chunks(self, level: int) -> list[Tensor]:
        return [self.get_buffer(f"{BANK}_{level}_{index}").float() for index in range(self.chunks)]


def _without_text(encoder: TorchEncoder, dtype: torch.dtype) -> WindowedNetwork:
    """A copy without the text tower, whose features are constants here, and with positions for its one grid."""
    backbone, prompts = encoder.network.backbone, encoder.network.prompts
    left_out = {id(module): nn.Identity() for module in (backbone.text, prompts)}
    windows: WindowedNetwork = deepcopy(encoder.windows, memo=left_out).cpu()
    windows.batch_windows = True
    network = windows.network
    network.adapters.to(dtype)
    visual = network.backbone.visual.to(dtype)
    grid = backbone.grid(backbone.image_size) if encoder.tiled else encoder.grid
    positions = interpolate_positions(visual.positional_embedding, visual.grid_size, grid)
    visual.positional_embedding, visual.grid_size = nn.Parameter(positions, requires_grad=False), grid
    for module in windows.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = False  # what is done in place takes a tenth of an export's time to be undone
    return windows

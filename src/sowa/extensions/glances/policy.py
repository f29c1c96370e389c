"""The policy: a small network for any number of tiles, its file, and the tile that it finds best.

Shapes: B states, T tiles, F features of a tile, G of the image, H hidden width, A = T + 1 actions, the last to stop.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sowa.core.files import packaged, read_safetensors, write_safetensors
from sowa.errors import InputError
from sowa.extensions.glances.features import IMAGE_FEATURES, TILE_FEATURES, UNIT, StateFeatures
from sowa.extensions.glances.game import TileOrder

FORMAT = "sowa-glances"
HIDDEN = 32


class GlancePolicy(nn.Module):
    """Actor and critic over tiles: the same layers for every tile, and the mean and maximum over tiles as context.

    It starts as the order of ``highest_peak``, whatever looks most unusual in the overview or to the first layers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tile = nn.Sequential(
            nn.Linear(len(TILE_FEATURES), HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh()
        )
        self.context = nn.Sequential(nn.Linear(2 * HIDDEN + len(IMAGE_FEATURES), HIDDEN), nn.Tanh())
        self.mix = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.Tanh())
        self.choice, self.stop, self.value = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 1)
        self.direct = nn.Linear(len(TILE_FEATURES), 1, bias=False)
        for head in (self.choice, self.stop, self.direct):
            nn.init.zeros_(head.weight)
        with torch.no_grad():
            self.direct.weight[0, TILE_FEATURES.index("highest_peak")] = UNIT
            self.choice.bias.zero_()
            self.stop.bias.zero_()

    def forward(
        self, tiles_BTF: Tensor, image_BG: Tensor, present_BT: Tensor, allowed_BA: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of actions and the value of states.

        Args:
            tiles_BTF: features of each tile.
            image_BG: features of the image.
            present_BT: 1 for tiles that there are; the others only fill a batch of images with fewer tiles.
            allowed_BA: 1 for actions that may be taken; the others get a logit that softmax makes 0.

        Returns:
            Logits (B, A) of encoding each tile and, last, of stopping; and the expected return (B,).
        """
        each_BTH = self.tile(tiles_BTF)
        present_BT1 = present_BT[..., None].to(each_BTH.dtype)
        mean_BH = (each_BTH * present_BT1).sum(dim=1) / present_BT1.sum(dim=1)
        highest_BH = each_BTH.masked_fill(present_BT1 == 0, -torch.inf).amax(dim=1)
        context_BH = self.context(torch.cat([mean_BH, highest_BH, image_BG], dim=1))
        around_BTH = context_BH[:, None].expand_as(each_BTH)
        logits_BT1 = self.choice(self.mix(torch.cat([each_BTH, around_BTH], dim=2))) + self.direct(tiles_BTF)
        logits_BA = torch.cat([logits_BT1[..., 0], self.stop(context_BH)], dim=1)
        return logits_BA.masked_fill(allowed_BA == 0, torch.finfo(logits_BA.dtype).min), self.value(context_BH)[:, 0]

    @torch.inference_mode()
    def best(self, features: StateFeatures, may_stop: bool = True) -> int | None:
        """The tile of the highest logit; None where stopping has it (if it may stop), or no tile is available."""
        if not features.available.any():
            return None
        tiles = len(features.available)
        arrays = features.tiles, features.image, np.ones(tiles), np.append(features.available, may_stop)
        logits_BA, _ = self(*(torch.from_numpy(array)[None] for array in arrays))
        action = int(logits_BA[0].argmax())
        return None if action == tiles else action

    def order(self, may_stop: bool = True) -> TileOrder:
        """The best tile of each state."""
        return lambda state: self.best(state.features(), may_stop)


def save_policy(path: Path, policy: GlancePolicy, metadata: Mapping[str, Any]) -> None:
    """Writes weights, and in the header how they were learned. Raises InputError where the file can't be written."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in policy.state_dict().items()}
    write_safetensors(path, tensors, FORMAT, metadata)


def load_policy(path: Path | None = None) -> GlancePolicy:
    """The policy of a file that `save_policy` wrote, by default the package's own.

    Raises:
        InputError: the file is missing, truncated, not ours or of another shape.
    """
    path = path or packaged("glances.safetensors")
    tensors, _ = read_safetensors(path, FORMAT)
    policy = GlancePolicy()
    try:
        policy.load_state_dict(tensors)
    except RuntimeError:
        raise InputError(f"{path} holds weights of another shape than this version's; make it anew") from None
    if not all(torch.isfinite(tensor).all() for tensor in tensors.values()):
        raise InputError(f"{path} holds weights that aren't finite; make it anew")
    return policy.eval()

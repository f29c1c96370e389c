"""The learned choice of the next tile: a small network for any number of tiles, and its file.

Shapes: B moments, T tiles, F features of a tile, G of the whole, H hidden width.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sowa.core.files import read_safetensors, write_safetensors
from sowa.errors import InputError
from sowa.extensions.glances.looking import FEATURES, HIGHEST, UNIT, WHOLE, View
from sowa.model.mini import packaged

FORMAT = "sowa-glances"
HIDDEN = 32


class GlancePolicy(nn.Module):
    """Every tile is seen by the same layers, and beside it the mean and the highest of all tiles and the whole."""

    def __init__(self) -> None:
        super().__init__()
        self.tile = nn.Sequential(nn.Linear(FEATURES, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, HIDDEN), nn.Tanh())
        self.context = nn.Sequential(nn.Linear(2 * HIDDEN + WHOLE, HIDDEN), nn.Tanh())
        self.mix = nn.Sequential(nn.Linear(2 * HIDDEN, HIDDEN), nn.Tanh())
        self.choice, self.stop, self.value = nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 1), nn.Linear(HIDDEN, 1)
        self.direct = nn.Linear(FEATURES, 1, bias=False)
        for head in (self.choice, self.stop, self.direct):  # begins with what is strangest at first sight
            nn.init.zeros_(head.weight)
        with torch.no_grad():
            self.direct.weight[0, HIGHEST] = UNIT
            self.choice.bias.zero_()
            self.stop.bias.zero_()

    def forward(
        self, tiles_BTF: Tensor, whole_BG: Tensor, there_BT: Tensor, allowed_BA: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Logits of looking at each tile and, last, of stopping, (B, T + 1), and the value (B,) of what is to come.

        ``there_BT`` says which tiles there are, ``allowed_BA`` (B, T + 1) which actions; the others have a logit that
        softmax makes 0.
        """
        each_BTH = self.tile(tiles_BTF)
        there_BT1 = there_BT[..., None].to(each_BTH.dtype)
        mean_BH = (each_BTH * there_BT1).sum(dim=1) / there_BT1.sum(dim=1)
        highest_BH = each_BTH.masked_fill(there_BT1 == 0, -torch.inf).amax(dim=1)
        context_BH = self.context(torch.cat([mean_BH, highest_BH, whole_BG], dim=1))
        around_BTH = context_BH[:, None].expand_as(each_BTH)
        logits_BT1 = self.choice(self.mix(torch.cat([each_BTH, around_BTH], dim=2))) + self.direct(tiles_BTF)
        logits_BA = torch.cat([logits_BT1[..., 0], self.stop(context_BH)], dim=1)
        return logits_BA.masked_fill(allowed_BA == 0, torch.finfo(logits_BA.dtype).min), self.value(context_BH)[:, 0]

    @torch.inference_mode()
    def best(self, view: View, may_stop: bool = True) -> int | None:
        """The likeliest tile, None to stop or where no tile is left."""
        if not view.open.any():
            return None
        allowed_A = np.append(view.open, may_stop)
        arrays = view.tiles, view.whole, np.ones(len(view.open)), allowed_A
        logits_BA, _ = self(*(torch.from_numpy(array)[None] for array in arrays))
        action = int(logits_BA[0].argmax())
        return None if action == len(view.open) else action


def save_policy(path: Path, policy: GlancePolicy, metadata: Mapping[str, Any]) -> None:
    """Writes weights and how they were learned. Raises InputError where the file can't be written."""
    tensors = {name: tensor.detach().contiguous() for name, tensor in policy.state_dict().items()}
    write_safetensors(path, tensors, FORMAT, metadata)


def load_policy(path: Path | None = None) -> GlancePolicy:
    """Of a file that `save_policy` wrote, by default the package's own.

    Raises InputError for a file that is missing, truncated, not ours or of another shape.
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

"""What a defect is called: patches compared with the names of defects (top-down attention).

The method's own prompts say whether something is wrong. Their learned context outweighs the words behind it, so every
word for "damaged" gives the same map. Here patches get a look of their own, trained on defects of many kinds with their
names, and a name is a sentence that the frozen text tower reads: names can be added without training.

Shapes: B images, P patches, L levels, E joint width, T names, N learned context vectors, W text width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.extensions.names.config import NamerConfig
from sowa.model.types import TextTower

CONTRAST = 2.0  # what a patch's difference from its image counts beside the patch itself
SHARPEST = 50.0  # inverse temperature
FLAWLESS = "flawless surface"  # what every name is told apart from


class Namer(nn.Module):
    """Looks at patches and reads names; both end as unit vectors in one space, whose cosines are compared.

    Args:
        config: Width, dropout and learned words.
        levels: L, of the backbone.
        tower: Of the backbone, that reads names.
    """

    def __init__(self, config: NamerConfig, levels: int, tower: TextTower) -> None:
        super().__init__()
        self.config, self.levels = config, levels
        width = tower.embed_dim
        self.context = nn.Parameter(torch.empty(config.length, tower.text_width).normal_(std=0.02))
        self.linear = nn.Linear(width, width)
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.look = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(2 * levels * width, config.hidden),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.hidden, width),
        )
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def sharpness(self) -> Tensor:
        """What cosines are multiplied by."""
        return self.scale.exp().clamp(max=SHARPEST)

    def encode_patches(self, patches: Sequence[Tensor]) -> Tensor:
        """Raw patches, L times (B, P, E) and more, to unit vectors (B, P, E); those behind the first L are left out."""
        unit_LBPE = F.normalize(torch.stack(tuple(patches[: self.levels])).float(), dim=-1)
        return self.encode_unit_patches(unit_LBPE, unit_LBPE.mean(dim=2, keepdim=True))

    def encode_unit_patches(self, unit_LBPE: Tensor, typical_LB1E: Tensor) -> Tensor:
        """The same of unit vectors, (B, P, E).

        Args:
            unit_LBPE: Patches, (L, B, P, E).
            typical_LB1E: Their mean over all patches of each image, (L, B, 1, E).
        """
        parts = torch.cat([unit_LBPE, CONTRAST * (unit_LBPE - typical_LB1E)])
        return F.normalize(self.look(parts.permute(1, 2, 0, 3).flatten(2)), dim=-1)

    def encode_names(self, names: Sequence[str], tower: TextTower) -> Tensor:
        """Names to unit vectors (T, E). The learned context in front is the same for all.

        Args:
            names: T of them.
            tower: That reads them.
        """
        words = "X " * self.config.length
        tokens = tower.tokenize([f"{words}{name.replace('_', ' ')}." for name in names]).to(self.context.device)
        embeddings = tower.embed_tokens(tokens)
        context = self.context.expand(len(names), -1, -1)
        embeddings = torch.cat([embeddings[:, :1], context, embeddings[:, 1 + self.config.length :]], dim=1)
        return F.normalize(self.linear(tower.encode_text(embeddings, tokens.argmax(dim=-1))), dim=-1)

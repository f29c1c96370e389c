"""What is trained of a classifier: adapters at all levels, attention pooling over windows, a prompt per class.

Everything starts so that it changes nothing: adapters add zero, attention falls off from the middle in the same way
for every image, and what the levels add to the frozen class feature is zero. So an untrained head is the backbone's
zero-shot classifier, and what is learned is a difference from it.

Shapes: B images, L levels, S side of the coarse grid, M side of a window, R windows, D vision width, E joint width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.core.config import AdapterConfig, WordsConfig
from sowa.model.adapter import AdapterBlock, WindowAdapter, partition
from sowa.model.types import FrozenAttention, TextTower
from sowa.model.words import Words

WINDOW = 3
FALL = 1.5  # how fast attention falls off with the squared distance from the middle, whose edge is at 1
FIRST_WORDS = "a photo of a"  # what the learned words of each class are at the start


def places(side: int) -> Tensor:
    """How salient each place of an S x S grid is before anything is learned, (S, S): the middle most."""
    steps = torch.linspace(-1, 1, side) if side > 1 else torch.zeros(1)
    return -FALL * (steps[:, None].square() + steps[None, :].square())


def middle(tokens_LNTD: Tensor) -> Tensor:
    """Frozen levels as vectors: tokens (L, N, S * S, D) to their means by `places`, unit vectors, (N, L * D)."""
    weights = places(math.isqrt(tokens_LNTD.shape[2])).flatten().softmax(dim=0)
    pooled = [F.normalize(torch.einsum("ntd,t->nd", tokens.float(), weights), dim=-1) for tokens in tokens_LNTD]
    return torch.cat(pooled, dim=1)


class Pooling(nn.Module):
    """Tokens of one level to a vector: attention inside each window, then over windows.

    Two queries are learned, zero at the start, and how much each place counts.

    Args:
        side: S, of the coarse grid.
        width: D.
    """

    def __init__(self, side: int, width: int) -> None:
        super().__init__()
        self.side, self.window, self.width = side, min(WINDOW, side), width
        self.inside = nn.Parameter(torch.zeros(width))
        self.over = nn.Parameter(torch.zeros(width))
        self.places = nn.Parameter(places(side))

    def forward(self, tokens_BPD: Tensor) -> Tensor:
        """Tokens (B, S * S, D) to unit vectors (B, D)."""
        count, scale = len(tokens_BPD), self.width**-0.5
        salience_BP = F.layer_norm(tokens_BPD, (self.width,)) @ self.inside * scale + self.places.flatten()
        grid = (self.side, self.side)
        tokens_RnD = partition(tokens_BPD.unflatten(1, grid), self.window)
        salience_Rn = partition(salience_BP.unflatten(1, grid)[..., None], self.window)[..., 0]
        windows_RD = (salience_Rn.softmax(dim=1)[..., None] * tokens_RnD).sum(dim=1)
        # A window starts with the weight of its places, so that at first both softmaxes are one over the image.
        salience_R = salience_Rn.logsumexp(dim=1) + F.layer_norm(windows_RD, (self.width,)) @ self.over * scale
        weights_BR = salience_R.unflatten(0, (count, -1)).softmax(dim=1)
        windows_BRD = windows_RD.unflatten(0, (count, -1))
        return F.normalize((weights_BR[..., None] * windows_BRD).sum(dim=1), dim=-1)


class Head(nn.Module):
    """Adapters and pooling of all levels, and the classes' words. The frozen backbone is no part of it.

    Args:
        names: Of the classes, C.
        side: S, of the coarse grid.
        width: D.
        levels: L.
        tower: That reads names.
        length: Learned words before each.
    """

    def __init__(self, names: Sequence[str], side: int, width: int, levels: int, tower: TextTower, length: int) -> None:
        super().__init__()
        config = AdapterConfig(window_size=min(WINDOW, side), heads=8 if width % 8 == 0 else 1)
        self.side = side
        self.adapters = nn.ModuleList(WindowAdapter(width, config) for _ in range(levels))
        self.poolings = nn.ModuleList(Pooling(side, width) for _ in range(levels))
        self.into = nn.Linear(levels * width, tower.embed_dim, bias=False)
        nn.init.zeros_(self.into.weight)
        self.words = Words(names, WordsConfig(length=length, own=True), tower)
        for block in self.modules():
            if isinstance(block, AdapterBlock):
                nn.init.zeros_(block.norm_attention.weight)
                nn.init.zeros_(block.norm_linear.weight)
        self._speak(tower, length)

    @torch.no_grad()
    def _speak(self, tower: TextTower, length: int) -> None:
        """Has the learned words begin as `FIRST_WORDS`, as many as there are."""
        ids = tower.tokenize([FIRST_WORDS])
        end = int(ids.argmax(dim=-1))
        first = tower.embed_tokens(ids)[0, 1:end][:length]
        self.words.context[:, : len(first)] = first.to(self.words.context)

    def embed(self, features_BE: Tensor, tokens_LBPD: Tensor, frozen: Sequence[FrozenAttention]) -> Tensor:
        """Images in the joint space, unit vectors (B, E).

        Args:
            features_BE: Class features, (B, E), unit vectors.
            tokens_LBPD: Coarse tokens, (L, B, S * S, D).
            frozen: The backbone's weights at each level.
        """
        grid = (self.side, self.side)
        parts = zip(tokens_LBPD, self.adapters, self.poolings, frozen, strict=True)
        levels = [pooling(adapter(tokens.float(), grid, attention)) for tokens, adapter, pooling, attention in parts]
        return F.normalize(features_BE + self.into(torch.cat(levels, dim=1)), dim=-1)

    def forward(
        self, features_BE: Tensor, tokens_LBPD: Tensor, frozen: Sequence[FrozenAttention], tower: TextTower
    ) -> Tensor:
        """Cosines (B, C) of images with the classes' words.

        Args:
            features_BE: Class features, (B, E), unit vectors.
            tokens_LBPD: Coarse tokens, (L, B, S * S, D).
            frozen: The backbone's weights at each level.
            tower: That reads names.
        """
        cosines_BC: Tensor = self.embed(features_BE, tokens_LBPD, frozen) @ self.words(tower).T
        return cosines_BC

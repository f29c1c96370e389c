"""Boxes from the frozen levels: per level a window adapter and a light head; classes are words.

Small things are looked for at early levels on a fine grid, large ones at late levels on a coarse one, and each level
knows what the later ones say (Lin et al., 2017, feature pyramid; Tian et al., 2019, a box at every cell).

Shapes: B images, L levels, P = h * w patches, D vision width, E joint width, W head width, C classes, M cells of all
levels together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sowa.model.adapter import WindowAdapter
from sowa.model.backbone import Backbone
from sowa.model.words import Words
from sowa.tasks.detection.config import DetectConfig

FINEST, COARSEST = -1, 2  # cells of the first and the last level: 2 to this power patches wide
RARE = 0.01  # share of cells that hold something, before anything is learned
SHARPEST = 50.0  # inverse temperature of the cosines with words
GROUPS = 8  # of the normalisation
SMALLEST = 1e-4  # spread of a channel, for those that never change
REACH = 3.0  # largest logarithm of a side in cells: nothing is 20 cells from its centre to its edge


@dataclass(frozen=True)
class Cells:
    """Where the cells of all levels lie, in patches.

    Attributes:
        centres: (M, 2), x and y.
        sides: (M,).
        level: (M,), from 0.
    """

    centres: Tensor
    sides: Tensor
    level: Tensor


@dataclass(frozen=True)
class Found:
    """What is found at each cell.

    Attributes:
        boxes: (B, M, 4): x1, y1, x2, y2 in patches.
        objectness: (B, M) logits.
        embedding: (B, M, E) unit vectors to compare with words.
        cells: M of them.
    """

    boxes: Tensor
    objectness: Tensor
    embedding: Tensor
    cells: Cells


def scales(levels: int) -> tuple[int, ...]:
    """For each level, the power of two that its cells are wide in patches."""
    span = max(levels - 1, 1)
    return tuple(round(FINEST + (COARSEST - FINEST) * index / span) for index in range(levels))


class Head(nn.Module):
    """What every level's map is read with, the same for all: (B, W, r, c) to boxes, objectness and embeddings.

    Args:
        width: W.
        embed_dim: E.
        levels: L.
    """

    def __init__(self, width: int, embed_dim: int, levels: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [nn.Conv2d(width, width, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, width), nn.GELU()]
        self.tower = nn.Sequential(*layers)
        self.box = nn.Conv2d(width, 4, 1)
        self.objectness = nn.Conv2d(width, 1, 1)
        self.embedding = nn.Conv2d(width, embed_dim, 1)
        self.box_scale = nn.Parameter(torch.ones(levels))
        assert self.objectness.bias is not None
        nn.init.constant_(self.objectness.bias, -math.log((1 - RARE) / RARE))
        nn.init.normal_(self.box.weight, std=0.01)

    def forward(self, x_BWrc: Tensor, level: int) -> tuple[Tensor, Tensor, Tensor]:
        """Distances to the four sides in cells (B, rc, 4), logits (B, rc), unit vectors (B, rc, E)."""
        x = self.tower(x_BWrc)
        distances = (self.box(x) * self.box_scale[level]).clamp(max=REACH).exp()
        embedding = F.normalize(self.embedding(x).flatten(2).transpose(1, 2), dim=-1)
        return distances.flatten(2).transpose(1, 2), self.objectness(x).flatten(1), embedding


class BoxNetwork(nn.Module):
    """Adapters, heads and words on top of a frozen backbone, which is handed to ``forward`` and isn't part of it.

    Args:
        names: Of the classes.
        config: Of the network.
        backbone: That it's going to be on.

    Raises:
        InputError: the adapter's heads don't divide the backbone's width.
    """

    centre: Tensor
    spread: Tensor

    def __init__(self, names: Sequence[str], config: DetectConfig, backbone: Backbone) -> None:
        super().__init__()
        self.config, levels = config, len(backbone.levels)
        self.adapters = nn.ModuleList(WindowAdapter(backbone.width, config.adapter) for _ in range(levels))
        inputs = backbone.width * (3 if config.reference else 2)
        self.norms = nn.ModuleList(nn.LayerNorm(backbone.width) for _ in range(levels))
        self.lateral = nn.ModuleList(nn.Linear(inputs, config.width) for _ in range(levels))
        self.register_buffer("centre", torch.zeros(levels, backbone.width))
        self.register_buffer("spread", torch.ones(levels, backbone.width))
        self.finer = nn.ConvTranspose2d(config.width, config.width, 2, stride=2)
        self.head = Head(config.width, backbone.embed_dim, levels)
        self.words = Words(names, config.words, backbone)
        self.linear = nn.Linear(backbone.embed_dim, backbone.embed_dim)  # words to what things look like
        nn.init.eye_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.shift = nn.Parameter(torch.tensor(-2.0))

    def forward(
        self,
        tokens: Sequence[Tensor],
        grid: tuple[int, int],
        backbone: Backbone,
        reference: Sequence[Tensor] | None = None,
    ) -> Found:
        """Frozen tokens to boxes.

        Args:
            tokens: L times (B, P, D).
            grid: (h, w) with h * w = P.
            backbone: That made them.
            reference: Tokens of the references, likewise.
        """
        parts, later = [], torch.zeros(())
        for level in reversed(range(len(tokens))):
            later = self._read(level, tokens, grid, backbone, reference) + later
            parts.append(self._look(later, level, len(tokens)))
        boxes, objectness, embedding, centres, sides, of = zip(*reversed(parts), strict=True)
        cells = Cells(torch.cat(centres), torch.cat(sides), torch.cat(of))
        return Found(torch.cat(boxes, 1), torch.cat(objectness, 1), torch.cat(embedding, 1), cells)

    def classify(self, embedding: Tensor, text_CE: Tensor) -> Tensor:
        """Logits (..., C) of being what each name says.

        Args:
            embedding: Unit vectors of cells, (..., E).
            text_CE: As of `read`, (C, E).
        """
        return self.scale.exp().clamp(max=SHARPEST) * embedding @ text_CE.T + self.shift

    def read(self, backbone: Backbone, names: Sequence[str] | None = None) -> Tensor:
        """Unit vectors (C, E) of the network's own classes, or of any other names."""
        words = self.words(backbone) if names is None else self.words.read(names, backbone)
        return F.normalize(self.linear(words), dim=-1)

    @torch.no_grad()
    def standardise(self, tokens: Sequence[Tensor]) -> None:
        """Takes over how the channels of each level spread in the images to train on, L times (N, P, D).

        What an adapter adds has one spread in all channels and drowns what varies little, such as colour.
        """
        for level, tokens_NPD in enumerate(tokens):
            values = tokens_NPD.float().flatten(0, 1)
            self.centre[level], self.spread[level] = values.mean(dim=0), values.std(dim=0).clamp(min=SMALLEST)

    def _read(
        self,
        level: int,
        tokens: Sequence[Tensor],
        grid: tuple[int, int],
        backbone: Backbone,
        reference: Sequence[Tensor] | None,
    ) -> Tensor:
        """What a level says by itself, (B, W, h, w): its tokens as they are, adapted, and against the reference's."""
        adapted = self.adapters[level](tokens[level], grid, backbone.attention(level))
        parts = [(tokens[level] - self.centre[level]) / self.spread[level], self.norms[level](adapted)]
        if reference is not None:
            parts.append((tokens[level] - reference[level]) / self.spread[level])
        lateral_BWhw: Tensor = self.lateral[level](torch.cat(parts, dim=-1)).transpose(1, 2).unflatten(2, grid)
        return lateral_BWhw

    def _look(self, x_BWhw: Tensor, level: int, levels: int) -> tuple[Tensor, ...]:
        power = scales(levels)[level]
        if power < 0:
            x_BWhw = self.finer(x_BWhw)
        elif power > 0:
            x_BWhw = F.avg_pool2d(x_BWhw, 2**power, ceil_mode=True)
        side = 2.0**power
        rows, columns = x_BWhw.shape[-2:]
        device = x_BWhw.device
        y, x = torch.meshgrid(torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij")
        centres = (torch.stack([x, y], dim=-1).flatten(0, 1) + 0.5) * side
        distances, objectness, embedding = self.head(x_BWhw, level)
        before, after = (distances * side).chunk(2, dim=-1)
        boxes = torch.cat([centres - before, centres + after], dim=-1)
        count = len(centres)
        of = torch.full((count,), level, device=device)
        return boxes, objectness, embedding, centres, torch.full((count,), side, device=device), of

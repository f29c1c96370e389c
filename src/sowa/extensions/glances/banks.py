"""The references of a product as they are seen from far and near, and how far other images lie from them.

Shapes: L levels, P patches of the whole image, q of an overview, p of some tiles, E joint width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sowa.core.memory import MemoryBank
from sowa.extensions.glances.early import EarlyBank
from sowa.extensions.glances.eyes import Eyes, Overview
from sowa.extensions.glances.scale import spread


@dataclass(frozen=True)
class Banks:
    """``bank`` of the references as full tiling sees them, ``overviews`` the bank of their overviews, ``early`` that of
    their early features. What they are asked takes the number of a reference that doesn't count, or None."""

    eyes: Eyes
    bank: MemoryBank
    overviews: MemoryBank
    early: EarlyBank

    @torch.inference_mode()
    def coarse(self, overview: Overview, leave_out: int | None = None) -> Tensor:
        """Distances of an image's overview on the grid of the whole image, (L, P)."""
        return enlarged(self.eyes, self._apart(self.overviews, overview.patches, leave_out))

    @torch.inference_mode()
    def early_distances(self, overview: Overview, leave_out: int | None = None) -> Tensor:
        """As `coarse`, of an image's early features, (P,)."""
        return self.eyes.of_cells(self.early.distances(overview.early, leave_out))

    @torch.inference_mode()
    def distances(self, patches_LpE: Tensor, leave_out: int | None = None) -> Tensor:
        """Distances of patches of tiles, (L, p)."""
        return self._apart(self.bank, patches_LpE, leave_out)

    def _apart(self, bank: MemoryBank, patches_LPE: Tensor, leave_out: int | None) -> Tensor:
        left_out = None if leave_out is None else torch.tensor([leave_out], device=bank.features.device)
        return bank.distances(one(patches_LPE), left_out, self.eyes.plain.precision)[:, 0]


def enlarged(eyes: Eyes, values_Lq: Tensor) -> Tensor:
    """Values of an overview's own patches (L, q) on the grid of the whole image, (L, P)."""
    small = eyes.plain.network.backbone.grid(eyes.plain.image_size)
    return spread(values_Lq, small, eyes.tiles.grid)


def one(patches_LPE: Tensor) -> tuple[Tensor, ...]:
    """As a batch of one image, L times (1, P, E)."""
    return patches_LPE[:, None].unbind()

"""What the first layers of the backbone know of a product: small defects that an overview has lost stand out to them.

As in human vision the whole field is felt at once by simple features, and looked at closely part by part.

Shapes: K references, n cells of a reference's views, c cells of a picture, G values of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from sowa.errors import InputError

if TYPE_CHECKING:
    from sowa.attention.glances.eyes import Eyes

NAME = "early_features"  # of the tensor in a file


class EarlyBank:
    """Early features of references (K, n, G). They are compared in standard deviations of each value."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        deviation_G, self._mean_G = torch.std_mean(features, dim=(0, 1))
        self._spread_G = deviation_G.clamp(min=1e-3)
        self._standard_KnG = self._standardise(features)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], references: int, eyes: Eyes) -> Self:
        """Of what `tensors` gave. Raises InputError where it's missing, of another shape or not finite."""
        features = tensors.get(NAME, torch.empty(0))
        cells, width = eyes.early_shape
        whole = features.ndim == 3 and features.numel() and features.shape[1] % cells == 0
        if not whole or (features.shape[0], features.shape[2]) != (references, width):
            raise InputError(
                f"early features are of shape {tuple(features.shape)}, needed are {references} references, whole "
                f"pictures of {cells} cells, and {width} values of each; fit the detector anew"
            )
        if not torch.isfinite(features).all():
            raise InputError("early features hold numbers that aren't finite; fit the detector anew")
        return cls(features)

    def to(self, device: torch.device) -> Self:
        """On another device."""
        return type(self)(self.features.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return {NAME: self.features.cpu().contiguous()}

    def distances(self, early_cG: Tensor, leave_out: int | None = None) -> Tensor:
        """How far each cell of a picture lies from the nearest of the references, (c,); of those but ``leave_out``,
        and 0 where that was the only one, since nothing can be unusual then."""
        query_cG = self._standardise(early_cG)
        known = [each for index, each in enumerate(self._standard_KnG) if index != leave_out]
        if not known:
            return query_cG.new_zeros(len(query_cG))
        return torch.stack([torch.cdist(query_cG, each).amin(dim=1) for each in known]).amin(dim=0)

    def _standardise(self, features: Tensor) -> Tensor:
        return (features - self._mean_G) / self._spread_G

"""What the first layers of the backbone know of a product: small defects that an overview has lost stand out to them.

As in human vision the whole field is felt at once by simple features, and looked at closely part by part.

Shapes: K references, n cells of a reference and its views, c cells of an image, G values of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

import torch
from torch import Tensor

from sowa.core.memory import CHUNK
from sowa.errors import InputError

NAME = "early_features"  # of the tensor in a file


class EarlyBank:
    """Early features of references (K, n, G). They are compared in standard deviations of each value."""

    def __init__(self, features: Tensor) -> None:
        self.features = features
        deviation_G, self._mean_G = torch.std_mean(features, dim=(0, 1))
        self._spread_G = deviation_G.clamp(min=1e-3)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shape: tuple[int, int, int]) -> Self:
        """Of what `tensors` gave; ``shape`` is K, c and G, of which n is a multiple of c. Raises InputError where it's
        missing, of another shape or not finite."""
        features, (references, cells, width) = tensors.get(NAME, torch.empty(0)), shape
        whole = features.ndim == 3 and features.numel() and features.shape[1] % cells == 0
        if not whole or (features.shape[0], features.shape[2]) != (references, width):
            raise InputError(
                f"early features are of shape {tuple(features.shape)}, needed are {references} references, whole "
                f"images of {cells} cells, and {width} values of each; fit the detector anew"
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
        """How far each cell of an image (c, G) lies from the nearest of the references, (c,).

        ``leave_out`` is a reference that it isn't compared with; where that is the only one, nothing is unusual: 0. So
        many cells are compared at once that memory stays bounded.
        """
        nearest_c = early_cG.new_full((len(early_cG),), torch.inf)
        parts = self._standardise(early_cG).split(max(1, CHUNK // self.features.shape[1]))
        for index, features_nG in enumerate(self.features):
            if index != leave_out:
                known_nG = self._standardise(features_nG)
                found_c = torch.cat([torch.cdist(part, known_nG).amin(dim=1) for part in parts])
                nearest_c = torch.minimum(nearest_c, found_c)
        return nearest_c.nan_to_num(posinf=0.0)

    def _standardise(self, features: Tensor) -> Tensor:
        return (features - self._mean_G) / self._spread_G

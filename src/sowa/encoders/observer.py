"""Images to what the network makes of them, whole or through windows: the part of a detector that knows no bank.

Shapes: B images, H x W pixels, S = 2 states, E joint width.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sowa.core.tiling import check_image_size, join, places
from sowa.core.types import ABNORMAL, Observation
from sowa.extensions.names.namer import Expected
from sowa.model.sowa import SowaNetwork


class Observer(nn.Module):
    """A network and the size (H, W) in pixels at which it sees images, ``tiled`` through overlapping windows.

    Raises InputError where the size doesn't fit the network's patches or tiles.
    """

    def __init__(self, network: SowaNetwork, image_size: tuple[int, int] | None = None, tiled: bool = False) -> None:
        super().__init__()
        self.network = network
        self.image_size = check_image_size(image_size, network.backbone, tiled)
        self.tiled = tiled
        self.expected: Expected | None = None  # defects that alone count
        self.together = False  # whether all windows are one batch: one network in an exported graph instead of many

    def normalise(self, images: Tensor) -> Tensor:
        """Images (B, H, W, 3) uint8 to what the backbone was trained on, (B, 3, H, W)."""
        return self.network.backbone.normalise(images)

    def forward(self, images: Tensor, class_text: Tensor | None) -> Observation:
        """Images (B, H, W, 3) uint8; ``class_text`` (B, S, E) is what they are compared with, None for nothing."""
        pixels = self.normalise(images)
        if not self.tiled:
            return self._observe(pixels, class_text)
        backbone, height, width = self.network.backbone, *self.network.backbone.image_size
        at = places(self.image_size, backbone.image_size, backbone.patch_size)
        windows = (pixels[:, :, top : top + height, left : left + width] for top, left in at)
        if self.together:
            text = None if class_text is None else class_text.repeat(len(at), 1, 1)
            parts = _apart(self._observe(torch.cat(list(windows)), text), len(at))
        else:
            parts = [self._observe(window, class_text) for window in windows]
        return join(parts, at, self.image_size, backbone.patch_size)

    def _observe(self, pixels: Tensor, class_text: Tensor | None) -> Observation:
        """Of normalised pixels (B, 3, H, W) as they are."""
        size = (pixels.shape[-2], pixels.shape[-1])
        if class_text is None:
            patches, grid = self.network.backbone.patches(pixels)
            weighed = self.network.config.saliency_weight
            saliency = self.network.stands_out(pixels, patches[0], grid) if weighed else None
            damage = self.expected(patches) if self.expected else None
            return Observation(tuple(p.float() for p in patches), grid, size, saliency=saliency, damage=damage)
        output = self.network.compare(pixels, class_text)
        return Observation(
            patches=tuple(p.float() for p in output.patches),
            grid=output.grid,
            size=size,
            level_maps=tuple(m.float() for m in output.level_maps),
            abnormal_probability=output.text_probs[:, ABNORMAL].float(),
            saliency=output.saliency,
            damage=self.expected(output.patches) if self.expected else None,
        )


def _apart(windows: Observation, count: int) -> list[Observation]:
    """One observation of each of ``count`` windows from one of all, the first window of every image first."""
    patches = [p.unflatten(0, (count, -1)) for p in windows.patches]
    maps = [m.unflatten(0, (count, -1)) for m in windows.level_maps or ()]
    chance, saliency, damage = windows.abnormal_probability, windows.saliency, windows.damage
    return [
        replace(
            windows,
            patches=tuple(p[index] for p in patches),
            level_maps=tuple(m[index] for m in maps) if maps else None,
            abnormal_probability=None if chance is None else chance.unflatten(0, (count, -1))[index],
            saliency=None if saliency is None else saliency.unflatten(0, (count, -1))[index],
            damage=None if damage is None else damage.unflatten(0, (count, -1))[index],
        )
        for index in range(count)
    ]

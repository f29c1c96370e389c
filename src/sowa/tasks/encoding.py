"""What every task reads: the frozen levels of images, at one size.

Shapes: N images, H x W pixels, L levels, P = h * w patches, D vision width, E joint width.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.config import Settings
from sowa.core.headers import TaskHeader
from sowa.core.progress import Report, silent
from sowa.core.tiling import check_image_size
from sowa.data.batches import read_batches
from sowa.data.sources import ImageSource
from sowa.encoders.devices import autocast, choose_device, choose_precision
from sowa.errors import InputError
from sowa.model.backbone import Backbone
from sowa.model.pretrained import build_backbone


@dataclass(frozen=True)
class Encoded:
    """What was seen of N images.

    Attributes:
        tokens: L times (N, P, D) in half precision.
        features: (N, E).
        grid: (h, w) with h * w = P.
        sizes: Their own (H', W') in pixels.
        kept: Places of those that could be read among those that were asked for.
        skipped: The others, with the reason.
    """

    tokens: tuple[Tensor, ...]
    features: Tensor
    grid: tuple[int, int]
    sizes: tuple[tuple[int, int], ...]
    kept: tuple[int, ...]
    skipped: tuple[tuple[str, str], ...] = ()


class LevelEncoder:
    """A frozen backbone at one image size (H, W).

    Args:
        backbone: Its name as in `sowa.model.pretrained.build_backbone`, or itself.
        settings: Device, precision and image size, by default the backbone's own.

    Raises:
        InputError: an unknown backbone, device or precision, or a size that doesn't fit its patches.
    """

    def __init__(self, backbone: str | Backbone = "mini", settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.device = choose_device(self.settings.device)
        self.precision = choose_precision(self.settings.precision, self.device)
        built = build_backbone(backbone) if isinstance(backbone, str) else backbone
        self.backbone = built.to(self.device)
        wanted = self.settings.image_size
        self.image_size = check_image_size(wanted, built.image_size, built.patch_size, tiled=False)

    @classmethod
    def restore(
        cls, header: TaskHeader, path: Path, backbone: str | None = None, settings: Settings | None = None
    ) -> Self:
        """The encoder that a task's file was made with.

        Args:
            header: Of the file.
            path: The file, for the message.
            backbone: Stands in for the one that the file names.
            settings: Device and precision.

        Raises:
            InputError: the backbone has other weights or levels here.
        """
        chosen = replace(settings or Settings(), image_size=header.image_size)
        encoder = cls(backbone or header.backbone.name, chosen)
        own = encoder.backbone
        if own.fingerprint() != header.backbone.fingerprint or own.levels != header.backbone.levels:
            raise InputError(
                f"{path} was made with other weights of backbone {header.backbone.name!r} than it has here; use the "
                "same"
            )
        return encoder

    @property
    def grid(self) -> tuple[int, int]:
        """(h, w) patches of an image."""
        return self.backbone.grid(self.image_size)

    @torch.no_grad()
    def __call__(self, images: NDArray[np.uint8]) -> tuple[tuple[Tensor, ...], Tensor]:
        """Images (B, H, W, 3) uint8 to tokens L times (B, P, D) and features (B, E), in single precision."""
        pixels = self.backbone.normalise(torch.from_numpy(np.ascontiguousarray(images)).to(self.device))
        with autocast(self.device, self.precision):
            levels = self.backbone(pixels)
        return tuple(tokens.float() for tokens in levels.tokens), levels.image_feature.float()

    def encode(
        self,
        images: Sequence[ImageSource],
        batch_size: int = 8,
        report: Report = silent,
        change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    ) -> Encoded:
        """Every image that can be read, in order, on the CPU.

        Args:
            images: Not yet read.
            batch_size: So many are encoded at once.
            report: Told of the progress.
            change: Is applied to each batch, (B, H, W, 3) uint8.
        """
        skipped: list[tuple[str, str]] = []
        parts, features, sizes, kept = [], [], list[tuple[int, int]](), list[int]()
        place = {id(image): index for index, image in enumerate(images)}
        for batch in read_batches(images, self.image_size, batch_size, skipped):
            tokens, feature = self(change(batch.images) if change else batch.images)
            parts.append([level.half().cpu() for level in tokens])
            features.append(feature.cpu())
            sizes += batch.sizes
            kept += [place[id(image)] for image in batch.sources]
            report("encode", len(kept) + len(skipped), len(images))
        rows, columns = self.grid
        empty = [torch.zeros(0, rows * columns, self.backbone.width) for _ in self.backbone.levels]
        tokens = tuple(torch.cat(level) for level in zip(*parts, strict=True)) if parts else tuple(empty)
        feature = torch.cat(features) if features else torch.zeros(0, self.backbone.embed_dim)
        return Encoded(tokens, feature, self.grid, tuple(sizes), tuple(kept), tuple(skipped))

"""What a detector knows of a product's references for looking at tiles: two banks and what is usual.

Shapes: K references, T tiles, P patches of the whole image, p patches of a tile, L levels, E joint width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import torch
from torch import Tensor

from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.data.views import variants, views
from sowa.detector.leave_one_out import LEFT_OUT
from sowa.errors import InputError
from sowa.extensions.glances.banks import Banks, one
from sowa.extensions.glances.early import EarlyBank
from sowa.extensions.glances.eyes import Eyes, Image, Overview
from sowa.extensions.glances.scale import Scale, score
from sowa.extensions.glances.tiles import Joined, Tiles


@dataclass(frozen=True)
class Seen:
    """All of an image: its overview and the patches of every tile, T times (L, p, E)."""

    overview: Overview
    tiles: tuple[Tensor, ...]

    @classmethod
    def of(cls, eyes: Eyes, image: Image) -> Self:
        """An image (H, W, 3) uint8 of the detector's size, encoded whole and through every tile."""
        return cls(eyes.overview(image), tuple(eyes.tile(image, tile) for tile in range(len(eyes.tiles))))

    def joined(self, tiles: Tiles) -> Tensor:
        """Patches of the whole image (L, P, E), as full tiling has them."""
        joined = Joined(tiles)
        for tile, seen_LpE in enumerate(self.tiles):
            joined.add(tile, seen_LpE)
        return joined.whole


@dataclass(frozen=True)
class Known(Banks):
    """The references, and by ``scale`` what is usual among them."""

    scale: Scale

    @classmethod
    @torch.inference_mode()
    def learn(
        cls,
        eyes: Eyes,
        images: Sequence[Image],
        bank: MemoryBank | None = None,
        augment: Sequence[str] = (),
        keep: float = 1.0,
        report: Report = silent,
    ) -> Self:
        """From references (H, W, 3) uint8 of the detector's size.

        ``bank`` is that of a fitted detector, which holds them in the same order; by default one is made, of the share
        ``keep`` of their patches. ``augment`` names the kinds of their views in the bank. A single reference is varied
        to learn what is usual; otherwise each is compared with the others. Raises InputError where bank and images
        don't fit.
        """
        if not images or (bank is not None and len(images) != len(bank)):
            held = "any" if bank is None else len(bank)
            raise InputError(f"{len(images)} images were given, needed are {held}: those that the bank is made of")
        looked = images[: None if bank is None else LEFT_OUT]

        def look() -> Iterator[Seen]:
            for done, image in enumerate(looked, start=1):
                yield Seen.of(eyes, image)
                report("look at references", done, len(looked))

        seen: Iterable[Seen] = look()
        if bank is None:
            seen = list(seen)
            bank = MemoryBank.build((one(each.joined(eyes.tiles)) for each in seen), len(images), keep)
        banks = Banks(eyes, bank, *_overviews(eyes, images, augment))
        looks: Iterable[tuple[Seen, int | None]] = ((each, index) for index, each in enumerate(seen))
        if len(images) == 1:
            looks = ((Seen.of(eyes, image), None) for image in variants(images[0]))
        scale = measure(banks, islice(looks, LEFT_OUT))
        return cls(eyes, bank, banks.overviews, banks.early, scale)

    @classmethod
    def from_tensors(cls, eyes: Eyes, bank: MemoryBank, tensors: Mapping[str, Tensor]) -> Self:
        """Of what `tensors` gave. Raises InputError where a tensor is missing, of another shape or not finite."""
        overviews, backbone = tensors.get("overviews", torch.empty(0)), eyes.plain.network.backbone
        levels, images, _, width = bank.features.shape
        fits = overviews.ndim == 4 and (*overviews.shape[:2], overviews.shape[3]) == (levels, images, width)
        if not fits or overviews.shape[2] % math.prod(backbone.grid(backbone.image_size)) or not overviews.numel():
            raise InputError(
                f"overviews are of shape {tuple(overviews.shape)}, needed are {levels} levels, {images} references, "
                f"whole images, and a width of {width}; fit the detector anew"
            )
        if not torch.isfinite(overviews).all():
            raise InputError("overviews hold numbers that aren't finite; fit the detector anew")
        early = EarlyBank.from_tensors(tensors, (images, *eyes.early_shape())).to(bank.features.device)
        scale = Scale.from_tensors(tensors, levels, len(eyes.tiles))
        return cls(eyes, bank, MemoryBank(overviews.to(bank.features.device)), early, scale)

    def tensors(self) -> dict[str, Tensor]:
        """All but the bank, for a file."""
        overviews = self.overviews.features.cpu().contiguous()
        return {"overviews": overviews, **self.early.tensors(), **self.scale.tensors()}


def _overviews(eyes: Eyes, images: Sequence[Image], augment: Sequence[str]) -> tuple[MemoryBank, EarlyBank]:
    """Banks of the overviews of references and of their views, and of their early features."""
    early = list[Tensor]()

    def patches() -> Iterator[tuple[Tensor, ...]]:
        for image in images:
            shown = [eyes.overview(view) for view in [image, *views(image, augment)]]
            early.append(torch.cat([view.early for view in shown]))
            yield one(torch.cat([view.patches for view in shown], dim=1))

    overviews = MemoryBank.build(patches(), len(images))
    return overviews, EarlyBank(torch.stack(early))


def measure(banks: Banks, looks: Iterable[tuple[Seen, int | None]]) -> Scale:
    """What is usual, from images and which reference of the banks each is, None where it's none of them."""
    rows = list(_rows(banks, looks))
    tiles_KTLp, coarse_KLP, early_KP, whole_K = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Scale.of(tiles_KTLp, coarse_KLP, early_KP, whole_K, banks.eyes.tiles, len(banks.bank))


def _rows(banks: Banks, looks: Iterable[tuple[Seen, int | None]]) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for seen, leave_out in looks:
        apart_TLp = torch.stack([banks.distances(tile, leave_out) for tile in seen.tiles])
        whole = score(banks.distances(seen.joined(banks.eyes.tiles), leave_out))
        coarse_LP = banks.coarse(seen.overview, leave_out)
        early_P = banks.early_distances(seen.overview, leave_out)
        yield apart_TLp.cpu(), coarse_LP.cpu(), early_P.cpu(), torch.tensor(whole)

"""What a detector knows of a product's references for looking at tiles: two banks and what is usual.

Shapes: K references, T tiles, P patches of the whole picture, p patches of a tile, L levels, E joint width.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import torch
from torch import Tensor

from sowa.attention.glances.early import EarlyBank
from sowa.attention.glances.eyes import Eyes, Image, Overview
from sowa.attention.glances.scale import Scale, score, spread
from sowa.attention.glances.tiles import Joined, Tiles
from sowa.augment import views
from sowa.collect import LEFT_OUT
from sowa.data.stream import variants
from sowa.errors import InputError
from sowa.memory import MemoryBank
from sowa.progress import Report, silent


@dataclass(frozen=True)
class Seen:
    """All of a picture: its overview and the patches of every tile, T times (L, p, E)."""

    overview: Overview
    tiles: tuple[Tensor, ...]

    @classmethod
    def of(cls, eyes: Eyes, image: Image) -> Self:
        """A picture (H, W, 3) uint8 of the detector's size, encoded whole and through every tile."""
        return cls(eyes.overview(image), tuple(eyes.tile(image, tile) for tile in range(len(eyes.tiles))))

    def joined(self, tiles: Tiles) -> Tensor:
        """Patches of the whole picture (L, P, E), as full tiling has them."""
        joined = Joined(tiles)
        for tile, seen_LpE in enumerate(self.tiles):
            joined.add(tile, seen_LpE)
        return joined.whole


@dataclass(frozen=True)
class Known:
    """``bank`` of the references as full tiling sees them, ``overviews`` the bank of their overviews, ``early`` that of
    their early features, ``scale`` what is usual."""

    eyes: Eyes
    bank: MemoryBank
    overviews: MemoryBank
    early: EarlyBank
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
        to learn what is usual; otherwise each is compared with the others. Raises InputError where bank and pictures
        don't fit.
        """
        if not images or (bank is not None and len(images) != len(bank)):
            held = "any" if bank is None else len(bank)
            raise InputError(f"{len(images)} pictures were given, needed are {held}: those that the bank is made of")
        looked = images[: None if bank is None else LEFT_OUT]

        def look() -> Iterator[Seen]:
            for done, image in enumerate(looked, start=1):
                yield Seen.of(eyes, image)
                report("look at references", done, len(looked))

        seen: Iterable[Seen] = look()
        if bank is None:
            seen = list(seen)
            bank = MemoryBank.build((_one(each.joined(eyes.tiles)) for each in seen), len(images), keep)
        overviews, early = _overviews(eyes, images, augment)
        looks: Iterable[tuple[Seen, int | None]] = ((each, index) for index, each in enumerate(seen))
        if len(images) == 1:
            looks = ((Seen.of(eyes, image), None) for image in variants(images[0]))
        scale = measure(eyes, islice(looks, LEFT_OUT), bank, overviews, early)
        return cls(eyes, bank, overviews, early, scale)

    @classmethod
    def from_tensors(cls, eyes: Eyes, bank: MemoryBank, tensors: Mapping[str, Tensor]) -> Self:
        """Of what `tensors` gave. Raises InputError where a tensor is missing, of another shape or not finite."""
        overviews, backbone = tensors.get("overviews", torch.empty(0)), eyes.plain.network.backbone
        levels, images, _, width = bank.features.shape
        fits = overviews.ndim == 4 and (*overviews.shape[:2], overviews.shape[3]) == (levels, images, width)
        if not fits or overviews.shape[2] % math.prod(backbone.grid(backbone.image_size)) or not overviews.numel():
            raise InputError(
                f"overviews are of shape {tuple(overviews.shape)}, needed are {levels} levels, {images} references, "
                f"whole pictures, and a width of {width}; fit the detector anew"
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

    @torch.inference_mode()
    def coarse(self, overview: Overview, leave_out: int | None = None) -> Tensor:
        """Distances of a picture's overview on the grid of the whole picture, (L, P).

        ``leave_out`` is a reference that it isn't compared with.
        """
        distances_Lq = _against(self.eyes, self.overviews, overview.patches, leave_out)
        return enlarged(self.eyes, distances_Lq)

    @torch.inference_mode()
    def early_distances(self, overview: Overview, leave_out: int | None = None) -> Tensor:
        """As `coarse`, of a picture's early features, (P,)."""
        return self.eyes.of_cells(self.early.distances(overview.early, leave_out))

    @torch.inference_mode()
    def distances(self, patches_LpE: Tensor, leave_out: int | None = None) -> Tensor:
        """Distances of patches of tiles, (L, p); ``leave_out`` as in `coarse`."""
        return _against(self.eyes, self.bank, patches_LpE, leave_out)


def _overviews(eyes: Eyes, images: Sequence[Image], augment: Sequence[str]) -> tuple[MemoryBank, EarlyBank]:
    """Banks of the overviews of references and of their views, and of their early features."""
    early = list[Tensor]()

    def patches() -> Iterator[tuple[Tensor, ...]]:
        for image in images:
            shown = [eyes.overview(view) for view in [image, *views(image, augment)]]
            early.append(torch.cat([view.early for view in shown]))
            yield _one(torch.cat([view.patches for view in shown], dim=1))

    overviews = MemoryBank.build(patches(), len(images))
    return overviews, EarlyBank(torch.stack(early))


def measure(
    eyes: Eyes, looks: Iterable[tuple[Seen, int | None]], bank: MemoryBank, overviews: MemoryBank, early: EarlyBank
) -> Scale:
    """What is usual, from pictures and which reference of the banks each is, None where it's none of them."""
    rows = list(_rows(eyes, looks, bank, overviews, early))
    tiles_KTLp, coarse_KLP, early_KP, whole_K = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return Scale.of(tiles_KTLp, coarse_KLP, early_KP, whole_K, eyes.tiles, len(bank))


def _rows(
    eyes: Eyes, looks: Iterable[tuple[Seen, int | None]], bank: MemoryBank, overviews: MemoryBank, early: EarlyBank
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    for seen, leave_out in looks:
        apart_TLp = torch.stack([_against(eyes, bank, tile, leave_out) for tile in seen.tiles])
        whole = score(_against(eyes, bank, seen.joined(eyes.tiles), leave_out))
        coarse_LP = enlarged(eyes, _against(eyes, overviews, seen.overview.patches, leave_out))
        early_P = eyes.of_cells(early.distances(seen.overview.early, leave_out))
        yield apart_TLp.cpu(), coarse_LP.cpu(), early_P.cpu(), torch.tensor(whole)


def _against(eyes: Eyes, bank: MemoryBank, patches_LPE: Tensor, leave_out: int | None) -> Tensor:
    left_out = None if leave_out is None else torch.tensor([leave_out], device=bank.features.device)
    return bank.distances(_one(patches_LPE), left_out, eyes.plain.precision)[:, 0]


def enlarged(eyes: Eyes, values_Lq: Tensor) -> Tensor:
    """Values of an overview's own patches (L, q) on the grid of the whole picture, (L, P)."""
    small = eyes.plain.network.backbone.grid(eyes.plain.image_size)
    return spread(values_Lq, small, eyes.tiles.grid)


def _one(patches_LPE: Tensor) -> tuple[Tensor, ...]:
    """As a batch of one picture, L times (1, P, E)."""
    return patches_LPE[:, None].unbind()

"""References as they are encoded in tiles, as overviews and by the first layers: banks, and what is usual among them.

Shapes: K references, T tiles, P patches of the whole image, p patches of a tile or of some, q patches of an overview,
L levels, E joint width; c cells of an image, n cells of a reference and its views, G early features of a cell.
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
from sowa.core.search import CHUNK
from sowa.data.views import variants, views
from sowa.detector.leave_one_out import LEFT_OUT
from sowa.errors import InputError
from sowa.extensions.glances.features import Array, ReferenceStatistics, image_score, overview_evidence
from sowa.extensions.glances.tiles import EncodedImage, Image, Overview, TileEncoder

OVERVIEWS, EARLY_FEATURES = "overviews", "early_features"  # names of tensors in a detector's file


class EarlyFeatureBank:
    """Early features of references, (K, n, G), compared in standard deviations of each.

    A defect so small that the overview has lost it still stands out to the backbone's first layers.
    """

    def __init__(self, features: Tensor) -> None:
        self.features = features
        deviation_G, self._mean_G = torch.std_mean(features, dim=(0, 1))
        self._spread_G = deviation_G.clamp(min=1e-3)

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], shape: tuple[int, int, int]) -> Self:
        """What `tensors` gave; ``shape`` is K, c and G, and n a multiple of c. Raises InputError where the tensor is
        missing, of another shape or not finite."""
        features, (references, cells, width) = tensors.get(EARLY_FEATURES, torch.empty(0)), shape
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
        """The same on another device."""
        return type(self)(self.features.to(device))

    def tensors(self) -> dict[str, Tensor]:
        """The features for a file."""
        return {EARLY_FEATURES: self.features.cpu().contiguous()}

    def distances(self, early_cG: Tensor, leave_out: int | None = None) -> Tensor:
        """Distance of each cell of an image, (c, G), to the nearest of the references, (c,).

        ``leave_out`` is the number of a reference that doesn't count; where it's the only one, distances are 0. So
        many cells are compared at once that memory stays bounded.
        """
        nearest_c = early_cG.new_full((len(early_cG),), torch.inf)
        parts = self._standardise(early_cG).split(max(1, CHUNK // self.features.shape[1]))
        for index, features_nG in enumerate(self.features):
            if index != leave_out:
                reference_nG = self._standardise(features_nG)
                distance_c = torch.cat([torch.cdist(part, reference_nG).amin(dim=1) for part in parts])
                nearest_c = torch.minimum(nearest_c, distance_c)
        return nearest_c.nan_to_num(posinf=0.0)

    def _standardise(self, features: Tensor) -> Tensor:
        return (features - self._mean_G) / self._spread_G


@dataclass(frozen=True)
class ReferenceBanks:
    """Banks of references. What they are asked takes the number of a reference that doesn't count, or None.

    Attributes:
        encoder: what encoded them.
        tiles: bank of a tiled detector.
        overviews: bank of their overviews and of those of their views.
        early: bank of the same images' early features.
    """

    encoder: TileEncoder
    tiles: MemoryBank
    overviews: MemoryBank
    early: EarlyFeatureBank

    @torch.inference_mode()
    def tile_distances(self, patches_LpE: Tensor, leave_out: int | None = None) -> Tensor:
        """Distances of patches of tiles, (L, p)."""
        return self._distances(self.tiles, patches_LpE, leave_out)

    @torch.inference_mode()
    def overview_distances(self, overview: Overview, leave_out: int | None = None) -> Tensor:
        """Distances of an overview at the patches of the whole image, (L, P)."""
        return self.encoder.overview_to_patches(self._distances(self.overviews, overview.patches, leave_out))

    @torch.inference_mode()
    def early_distances(self, overview: Overview, leave_out: int | None = None) -> Tensor:
        """Distances of an overview's early features at the patches of the whole image, (P,)."""
        return self.encoder.cells_to_patches(self.early.distances(overview.early, leave_out))

    def _distances(self, bank: MemoryBank, patches_LPE: Tensor, leave_out: int | None) -> Tensor:
        distances_LP: Tensor = bank.distances(_batch_of_one(patches_LPE), leave_out, self.encoder.precision)[:, 0]
        return distances_LP


@dataclass(frozen=True)
class FittedReferences:
    """References of a product: their ``banks``, and the ``statistics`` of their distances to each other."""

    banks: ReferenceBanks
    statistics: ReferenceStatistics

    @property
    def encoder(self) -> TileEncoder:
        """What encoded them."""
        return self.banks.encoder

    @classmethod
    @torch.inference_mode()
    def fit(
        cls,
        encoder: TileEncoder,
        images: Sequence[Image],
        bank: MemoryBank | None = None,
        augment: Sequence[str] = (),
        patch_fraction: float = 1.0,
        report: Report = silent,
    ) -> Self:
        """Encodes references and measures what is usual: each against the others, a single one against its variants.

        Args:
            encoder: encodes overviews and tiles.
            images: the references, (H, W, 3) uint8 of the encoder's size.
            bank: that of a fitted detector, which holds them in the same order; by default one is built.
            augment: kinds of views of the references that are in the bank.
            patch_fraction: of each reference's patches so many are in a bank that is built.
            report: is told the progress.

        Raises:
            InputError: there are no images, or not as many as the bank holds.
        """
        if not images or (bank is not None and len(images) != len(bank)):
            needed = "any" if bank is None else len(bank)
            raise InputError(f"{len(images)} images were given, needed are {needed}: those that the bank is made of")
        encoded: Iterable[EncodedImage] = _encoded(encoder, images[: None if bank is None else LEFT_OUT], report)
        if bank is None:
            encoded = list(encoded)
            joined = (_batch_of_one(each.joined(encoder.layout)) for each in encoded)
            bank = MemoryBank.build(joined, len(images), patch_fraction)
        banks = ReferenceBanks(encoder, bank, *_overview_banks(encoder, images, augment, bank.weights))
        left_out: Iterable[tuple[EncodedImage, int | None]] = ((each, index) for index, each in enumerate(encoded))
        if len(images) == 1:
            left_out = ((encoder.encode(image), None) for image in variants(images[0]))
        return cls(banks, _measure(banks, islice(left_out, LEFT_OUT)))

    @classmethod
    def from_tensors(cls, encoder: TileEncoder, bank: MemoryBank, tensors: Mapping[str, Tensor]) -> Self:
        """What `tensors` gave, beside a detector's bank.

        Raises:
            InputError: a tensor is missing, of another shape or not finite.
        """
        overviews = tensors.get(OVERVIEWS, torch.empty(0))
        levels, images, _, width = bank.features.shape
        fits = overviews.ndim == 4 and (*overviews.shape[:2], overviews.shape[3]) == (levels, images, width)
        if not fits or overviews.shape[2] % math.prod(encoder.overview_grid) or not overviews.numel():
            raise InputError(
                f"overviews are of shape {tuple(overviews.shape)}, needed are {levels} levels, {images} references, "
                f"whole images, and a width of {width}; fit the detector anew"
            )
        if not torch.isfinite(overviews).all():
            raise InputError("overviews hold numbers that aren't finite; fit the detector anew")
        device = bank.features.device
        early = EarlyFeatureBank.from_tensors(tensors, (images, *encoder.early_shape)).to(device)
        banks = ReferenceBanks(encoder, bank, MemoryBank(overviews.to(device), bank.weights), early)
        return cls(banks, ReferenceStatistics.from_tensors(tensors, levels, len(encoder.layout)))

    def tensors(self) -> dict[str, Tensor]:
        """All but the bank of tiles, for a file."""
        overviews = self.banks.overviews.features.cpu().contiguous()
        return {OVERVIEWS: overviews, **self.banks.early.tensors(), **self.statistics.tensors()}

    def compare(self, overview: Overview, leave_out: int | None = None) -> tuple[Tensor, Array]:
        """What an overview tells before any tile is encoded.

        Args:
            overview: of the image.
            leave_out: number of a reference that the image isn't compared with.

        Returns:
            Estimated distances of all patches, (L, P), and the `overview_evidence` of each tile, (T, C).
        """
        overview_LP = self.banks.overview_distances(overview, leave_out)
        early_P = self.banks.early_distances(overview, leave_out)
        saliency_P = self.encoder.overview_to_patches(overview.saliency[None])[0].cpu()
        evidence_TC = overview_evidence(self.statistics, self.encoder.layout, overview_LP, early_P, saliency_P)
        return self.statistics.estimate(overview_LP), evidence_TC


def _encoded(encoder: TileEncoder, images: Sequence[Image], report: Report) -> Iterator[EncodedImage]:
    for done, image in enumerate(images, start=1):
        yield encoder.encode(image)
        report("encode tiles", done, len(images))


def _overview_banks(
    encoder: TileEncoder, images: Sequence[Image], augment: Sequence[str], weights: tuple[float, ...] | None
) -> tuple[MemoryBank, EarlyFeatureBank]:
    """Banks of the overviews of references and of their views, levels weighed as given, and of their early features."""
    early = list[Tensor]()

    def patches() -> Iterator[tuple[Tensor, ...]]:
        for image in images:
            overviews = [encoder.overview(view) for view in [image, *views(image, augment)]]
            early.append(torch.cat([overview.early for overview in overviews]))
            yield _batch_of_one(torch.cat([overview.patches for overview in overviews], dim=1))

    bank = MemoryBank.build(patches(), len(images))
    bank.weights = weights
    return bank, EarlyFeatureBank(torch.stack(early))


def _measure(banks: ReferenceBanks, images: Iterable[tuple[EncodedImage, int | None]]) -> ReferenceStatistics:
    """Statistics of images, each with the number of the reference that it is, None where it's none of them."""
    layout, rows = banks.encoder.layout, []
    for image, leave_out in images:
        tiles_TLp = torch.stack([banks.tile_distances(tile, leave_out) for tile in image.tiles])
        whole = image_score(banks.tile_distances(image.joined(layout), leave_out))
        overview_LP = banks.overview_distances(image.overview, leave_out)
        early_P = banks.early_distances(image.overview, leave_out)
        rows.append((tiles_TLp.cpu(), overview_LP.cpu(), early_P.cpu(), torch.tensor(whole)))
    tiles_KTLp, overview_KLP, early_KP, scores_K = (torch.stack(parts) for parts in zip(*rows, strict=True))
    return ReferenceStatistics.of(tiles_KTLp, overview_KLP, early_KP, scores_K, layout, len(banks.tiles))


def _batch_of_one(patches_LPE: Tensor) -> tuple[Tensor, ...]:
    """Patches of one image as a batch, L times (1, P, E)."""
    return patches_LPE[:, None].unbind()

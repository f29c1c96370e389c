"""References: which images are taken, which views of them are normal too, and the memory bank of their patches.

Shapes: L levels, B or K images, P patches of an image, V views of it, E joint width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.calibration import SAME
from sowa.core.memory import MemoryBank, normalise
from sowa.core.progress import Report, silent
from sowa.core.scoring import few_shot_scores
from sowa.data.stream import Batch, ImageSource, read_batches, skipped_into
from sowa.data.views import count, views
from sowa.detector.coreset import CANDIDATES, choose
from sowa.encoders.torch_encoder import Encoder
from sowa.errors import InputError

# References of which the bank holds every patch; searching it takes less than half of the paper's encoder's time then.
FULL_IMAGES = 64
# What is tried where the images are to tell. Crops help as often, but cost some products 0.03; light helps none.
TRIED = ("hflip", "vflip", "rotate90", "rotate180", "tilt")
FEW = 8  # references; more show by themselves what a view could add
# Images: so many patches of a reference and its views the bank holds. Of seven views on four auxiliary and generated
# products that gains 0.018 image AUROC, as many as of the reference alone 0.013, all 0.020.
HELD = 2
ALIKE = 1.35  # times as far from a reference as another image of the product: so far a view may be


@dataclass(frozen=True)
class References:
    """The ``images`` that were taken, their ``bank``, the kinds of views in it, and what was skipped and why."""

    images: list[ImageSource]
    bank: MemoryBank
    augment: tuple[str, ...]
    skipped: list[tuple[str, str]]

    @property
    def names(self) -> list[str]:
        """Of the images."""
        return [image.name for image in self.images]


class Sight:
    """What a network makes of images and their views. With ``keep`` each is encoded once, however often it's asked
    for: banks of several numbers of shots share their images."""

    def __init__(self, encoder: Encoder, keep: bool = False) -> None:
        self.encoder, self.keep = encoder, keep
        self._known: dict[tuple[str, tuple[str, ...], bool], Tensor] = {}

    def __call__(self, batch: Batch, kinds: tuple[str, ...], *, own: bool) -> Tensor:
        """Unit vectors of all views of those kinds of an image side by side, with ``own`` the image itself first,
        (L, B, V * P, E)."""
        if not self.keep:
            return _seen(self.encoder, _shown(batch.images, kinds, own=own))
        keys = [(image.name, kinds, own) for image in batch.sources]
        missing = [index for index, key in enumerate(keys) if key not in self._known]
        if missing:
            new_LBPE = _seen(self.encoder, _shown(batch.images[missing], kinds, own=own))
            self._known |= dict(zip((keys[index] for index in missing), new_LBPE.unbind(dim=1), strict=True))
        return torch.stack([self._known[key] for key in keys], dim=1)


def build(
    encoder: Encoder,
    wanted: Sequence[ImageSource],
    at_most: int,
    batch_size: int,
    report: Report = silent,
    keep: float | None = None,
    augment: str | Sequence[str] = (),
    sight: Sight | None = None,
) -> References:
    """The first ``at_most`` readable images as references.

    ``keep`` and ``augment`` as in ``Sowa.fit``; ``sight`` may have seen some of the images before. Raises InputError
    where none can be read.
    """
    taken: list[ImageSource] = []
    skipped: list[tuple[str, str]] = []
    at_most, see = min(at_most, len(wanted)), sight or Sight(encoder)

    def batches() -> Iterator[Batch]:
        for batch in read_batches(wanted, encoder.image_size, batch_size, skipped_into(skipped), limit=at_most):
            taken.extend(batch.sources)
            yield batch
            report("fit", len(taken), at_most)
        if not taken:
            raise InputError(f"none of {len(wanted)} images can be read; first problem: {skipped[0][1]}")

    kinds = () if augment == "auto" else tuple(augment)
    parts: Iterable[Tensor] = (see(batch, kinds, own=True) for batch in batches())
    if augment == "auto" and at_most <= FEW:
        kinds, parts = _chosen(see, list(batches()), report)
    share = min(1.0, FULL_IMAGES / at_most) if keep is None else keep
    share *= min(1.0, HELD / count(encoder.image_size, kinds))
    bank = MemoryBank.build((part.unbind() for part in parts), at_most, share)
    return References(taken, bank, kinds, skipped)


def cover(
    encoder: Encoder, drawn: Sequence[ImageSource], shots: int, batch_size: int, report: Report = silent
) -> tuple[list[ImageSource], list[ImageSource], list[tuple[str, str]]]:
    """Of readable candidates those ``shots`` that the others lie nearest to, the others, and what was skipped."""
    candidates = build(encoder, drawn, CANDIDATES, batch_size, report)
    with torch.inference_mode():
        chosen = choose(candidates.bank.features, min(shots, len(candidates.images)), report)
    images = candidates.images
    others = [one for index, one in enumerate(images) if index not in chosen]
    return [images[index] for index in chosen], others, candidates.skipped


def _chosen(see: Sight, batches: Sequence[Batch], report: Report) -> tuple[tuple[str, ...], list[Tensor]]:
    """Which of `TRIED` are normal for a product, and the patches of its references with these views.

    A kind is normal where its views are hardly farther from the other references than those are from each other; where
    there is a single one, hardly farther from it than it's from itself a little nearer. Image AUROC gained on 23
    auxiliary and generated products with one, two, four and eight references: 0.022, 0.027, 0.024, 0.017. All
    views of all products gain 0.001 to 0.002 more; but a part that lies upside down is a defect where none has.
    """

    def seen(kind: str | None) -> Tensor:
        return torch.cat([see(batch, (kind,) if kind else (), own=kind is None) for batch in batches], dim=1)

    own_LKPE = seen(None)
    usual = _apart(own_LKPE, seen("crop") if own_LKPE.shape[1] == 1 else own_LKPE)
    chosen = {}
    for done, kind in enumerate(TRIED, start=1):
        if count(see.encoder.image_size, (kind,)) > 1:
            views_LKPE = seen(kind)
            if _apart(own_LKPE, views_LKPE) <= ALIKE * usual < torch.inf:
                chosen[kind] = views_LKPE
        report("augment", done, len(TRIED))
    return tuple(chosen), [torch.cat([own_LKPE, *chosen.values()], dim=2)]


def _shown(images: NDArray[np.uint8], augment: Sequence[str], *, own: bool) -> NDArray[np.uint8]:
    """Views (V, B, H, W, 3) of images (B, H, W, 3), with ``own`` themselves first."""
    return np.stack([[image] * own + views(image, augment) for image in images], axis=1)


def _seen(encoder: Encoder, shown_VBHW3: NDArray[np.uint8]) -> Tensor:
    """Unit vectors of all views of an image side by side, (L, B, V * P, E)."""
    return torch.cat([normalise(encoder.observe(view, prompts=False).patches) for view in shown_VBHW3], dim=2)


@torch.inference_mode()
def _apart(own_LKPE: Tensor, views_LKPE: Tensor) -> float:
    """How far references are from views of the others, a single one from its own: geometric mean of their scores.

    Copies of references are left out, infinity where there is nothing else.
    """
    images = own_LKPE.shape[1]
    leave_out = torch.arange(images, device=own_LKPE.device) if images > 1 else None
    distances_LKP = MemoryBank(views_LKPE).distances(own_LKPE.unbind(), leave_out)
    scores = few_shot_scores(distances_LKP)
    return float(scores[scores > SAME].log().mean().exp().nan_to_num(torch.inf))

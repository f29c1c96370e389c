"""References: which images are taken, which views of them are normal too, and the memory bank of their patches.

Shapes: L levels, B or K images, P patches of an image, V views of it, E joint width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sowa.core.arrays import Array, namespace, to_numpy
from sowa.core.image_size import SIDES, fitted_size
from sowa.core.memory import MemoryBank, normalise
from sowa.core.normal_range import SAME
from sowa.core.progress import Report, silent
from sowa.core.scoring import few_shot_scores
from sowa.data.batches import Batch, none_readable, read_batches
from sowa.data.sources import Image, ImageSource
from sowa.data.views import check, count, nearer, views
from sowa.detector.coreset import CANDIDATES, choose
from sowa.detector.encoded import Encoded
from sowa.detector.file import DetectorFile
from sowa.detector.level_weights import weigh
from sowa.encoders.base import Encoder
from sowa.errors import InputError

MOST_PATCHES = 64 * 576
"""Of a level, that the bank holds at most: all of 64 images of 384 x 384, or of 23 of 640 x 640. So many are searched
in less than half of the time that the paper's encoder takes."""
FEW = 8
"""References: more show by themselves what a view could add."""
TRIED = {"hflip": 1.1, "vflip": 1.1, "rotate90": 1.1, "rotate180": 1.1, "tilt": 1.6}
"""What is tried where the images are to tell: times as far from a reference as another image of the product, so far a
view may be. Upside down a part can be a defect, tilted by some degrees it was only laid down so. Looser limits for
mirror images and turns gain nothing in the mean and cost up to 0.01 image AUROC (benchmarks/results/mini.md)."""
HELD = 2
"""Images: so many patches of a reference and its views the bank holds (benchmarks/results/choices.md)."""


@dataclass(frozen=True)
class References:
    """What a memory bank is made of.

    Attributes:
        images: That were taken.
        bank: Of their patches, in the same order.
        augment: The kinds of views in it.
        skipped: Names of images that couldn't be read, and why.
    """

    images: list[ImageSource]
    bank: MemoryBank
    augment: tuple[str, ...]
    skipped: list[tuple[str, str]]

    @property
    def names(self) -> list[str]:
        """Of the images."""
        return [image.name for image in self.images]


@dataclass(frozen=True)
class Selection:
    """What is made of images that are offered as references.

    Attributes:
        at_most: The first so many readable ones are taken.
        batch_size: So many are encoded at once.
        patch_fraction: Share of each one's patches that the bank holds; None means all, as long as the bank
            has no more than `MOST_PATCHES` of a level, and then so many that it grows no further.
        augment: Kinds of views that are held too, or "auto": up to `FEW` references tell which are normal.
        seed: Draws damage that tells what each level counts.
    """

    at_most: int
    batch_size: int = 8
    patch_fraction: float | None = None
    augment: str | Sequence[str] = ()
    seed: int = 0


class FeatureCache:
    """Unit vectors of images and their views, each encoded once, however often it's asked for: banks of several
    numbers of shots share their images.

    Args:
        encoder: What encodes them.
        enabled: Whether anything is kept.
        category: Whose prompts are used; by default that of the encoder's settings.

    Attributes:
        encoded: Features of references, as they are and damaged, by which levels were weighed.
    """

    def __init__(self, encoder: Encoder, enabled: bool = True, category: str | None = None) -> None:
        self.encoder, self.enabled, self.encoded = encoder, enabled, Encoded(encoder, category)
        self._cached: dict[tuple[str, tuple[str, ...]], Array] = {}

    @cached_property
    def small(self) -> FeatureCache:
        """The same for images made as small as those of `--fast`, where they are seen larger."""
        encoder = self.encoder
        size = fitted_size([encoder.image_size], SIDES[0], encoder.patch_size)
        if not encoder.any_size or size == encoder.image_size:
            return self
        return FeatureCache(encoder.at_size(size), self.enabled)

    def encode(self, batch: Batch, kinds: tuple[str, ...], *, own: bool) -> Array:
        """Unit vectors of all views of those kinds of each image side by side, (L, B, V * P, E).

        Args:
            batch: The images.
            kinds: Of views.
            own: Whether the image itself comes first.
        """
        return self._look_up(batch, (*kinds, str(own)), lambda image: [image] * own + views(image, kinds))

    def encode_nearer(self, batch: Batch) -> Array:
        """As `encode`, of each image as it looks a little nearer."""
        return self._look_up(batch, ("nearer",), nearer)

    def _look_up(self, batch: Batch, key: tuple[str, ...], show: Callable[[Image], list[Image]]) -> Array:
        keys = [(image.name, key) for image in batch.sources]
        missing = [index for index, each in enumerate(keys) if each not in self._cached]
        if missing:
            new_LBPE = self._encode([show(batch.images[index]) for index in missing])
            if not self.enabled:
                return new_LBPE
            self._cached |= {keys[index]: new_LBPE[:, place] for place, index in enumerate(missing)}
        found = [self._cached[each] for each in keys]
        return namespace(found[0]).stack(found, axis=1)

    def _encode(self, shown: Sequence[Sequence[Image]]) -> Array:
        views_VBHW3 = np.stack([np.stack(each) for each in shown], axis=1)
        found = [normalise(self.encoder.encode(view, prompts=False).patches) for view in views_VBHW3]
        return namespace(found[0]).concat(found, axis=2)


def build(
    encoder: Encoder,
    wanted: Sequence[ImageSource],
    selection: Selection,
    report: Report = silent,
    cache: FeatureCache | None = None,
) -> References:
    """References from the first readable images.

    Args:
        encoder: What encodes them.
        wanted: Images to choose from, in order.
        selection: How many, and what is held of them.
        report: Told of the progress.
        cache: May have encoded some of the images before.

    Raises:
        InputError: none can be read.
    """
    features = cache or FeatureCache(encoder, enabled=False)
    found = _gather(features, wanted, selection, report)
    if encoder.balanced:
        weigh(features.encoded, found.bank, found.images, selection.seed, report)
    return found


def _gather(features: FeatureCache, wanted: Sequence[ImageSource], selection: Selection, report: Report) -> References:
    """As `build`, levels not yet weighed."""
    taken: list[ImageSource] = []
    skipped: list[tuple[str, str]] = []
    encoder, batch_size = features.encoder, selection.batch_size
    at_most = min(selection.at_most, len(wanted))

    def batches() -> Iterator[Batch]:
        for batch in read_batches(wanted, encoder.image_size, batch_size, skipped, limit=at_most):
            taken.extend(batch.sources)
            yield batch
            report("fit", len(taken), at_most)
        if not taken:
            raise none_readable(len(wanted), skipped)

    kinds = () if selection.augment == "auto" else tuple(selection.augment)
    parts: Iterable[Array] = (features.encode(batch, kinds, own=True) for batch in batches())
    if selection.augment == "auto" and at_most <= FEW:
        kinds, parts = _choose_views(features, list(batches()), report)
    shown, fraction = count(encoder.image_size, kinds), selection.patch_fraction
    if fraction is None:
        fraction = min(1.0, MOST_PATCHES / (at_most * math.prod(encoder.grid) * min(HELD, shown)))
    fraction *= min(1.0, HELD / shown)
    bank = MemoryBank.build((list(part) for part in parts), at_most, fraction)
    return References(taken, bank, kinds, skipped)


def cover(
    encoder: Encoder, drawn: Sequence[ImageSource], shots: int, batch_size: int, report: Report = silent
) -> tuple[list[ImageSource], list[ImageSource], list[tuple[str, str]]]:
    """Of readable candidates those ``shots`` that the others lie nearest to, the others, and what was skipped."""
    candidates = _gather(FeatureCache(encoder, enabled=False), drawn, Selection(CANDIDATES, batch_size, 1.0), report)
    chosen = choose(candidates.bank.features, min(shots, len(candidates.images)), report)
    images = candidates.images
    others = [one for index, one in enumerate(images) if index not in chosen]
    return [images[index] for index in chosen], others, candidates.skipped


def _choose_views(
    features: FeatureCache, batches: Sequence[Batch], report: Report
) -> tuple[tuple[str, ...], list[Array]]:
    """Which of `TRIED` are normal for a product, and the patches of its references with these views.

    A kind is normal where its views are little farther from the other references than those are from each other; where
    there is a single one, little farther from it than it's from itself a little nearer. All views of all products would
    gain a little more (benchmarks/results/choices.md); but a part that lies upside down is a defect where none has.
    Whether they are shows as well where images are small, in a third of the time.
    """
    small, precision = features.small, features.encoder.precision
    looks = batches if small is features else [batch.at_size(small.encoder.image_size) for batch in batches]
    own_LKPE = _joined(small.encode(batch, (), own=True) for batch in looks)
    if own_LKPE.shape[1] == 1:
        usual = _apart(own_LKPE, _joined(small.encode_nearer(batch) for batch in looks), precision)
    else:
        usual = _apart(own_LKPE, own_LKPE, precision)
    chosen = {}
    for done, (kind, limit) in enumerate(TRIED.items(), start=1):
        if count(features.encoder.image_size, (kind,)) > 1:
            views_LKPE = _joined(small.encode(batch, (kind,), own=False) for batch in looks)
            if _apart(own_LKPE, views_LKPE, precision) <= limit * usual < np.inf:
                chosen[kind] = views_LKPE
        report("augment", done, len(TRIED))
    if small is not features:
        return tuple(chosen), [features.encode(batch, tuple(chosen), own=True) for batch in batches]
    return tuple(chosen), [namespace(own_LKPE).concat([own_LKPE, *chosen.values()], axis=2)]


def _joined(parts: Iterable[Array]) -> Array:
    found = list(parts)
    return namespace(found[0]).concat(found, axis=1)


def _apart(own_LKPE: Array, views_LKPE: Array, precision: str) -> float:
    """How far references are from views of the others, a single one from its own: geometric mean of their scores.

    Copies of references are left out, infinity where there is nothing else.
    """
    xp, bank, images = namespace(own_LKPE), MemoryBank(views_LKPE), own_LKPE.shape[1]
    left_out = [
        bank.distances(list(own_LKPE[:, one : one + 1]), one if images > 1 else None, precision)
        for one in range(images)
    ]
    scores = few_shot_scores(xp.concat(left_out, axis=1))
    scores = scores[scores > SAME]
    return float(xp.exp(xp.mean(xp.log(scores)))) if len(scores) else float(np.inf)


def check_bank(file: DetectorFile, encoder: Encoder, path: Path) -> None:
    """Raises InputError unless a file's bank is one that this encoder's patches can be compared with."""
    header, bank = file.header, file.bank
    patches = count(encoder.image_size, check(header.augment)) * encoder.grid[0] * encoder.grid[1]
    held = min(bank.shape[2], patches) if bank.ndim == 4 else patches  # of each reference all patches, or some
    expected = (encoder.levels, len(header.references), held, encoder.width)
    weights = header.weights or (1.0,) * encoder.levels
    if not 0 <= header.zero_shot_weight < math.inf or (header.zero_shot_weight and not encoder.trained):
        raise InputError(
            f"{path} has zero-shot weight {header.zero_shot_weight}, allowed is 0 and more, and only 0 without trained "
            "prompts; fit it anew"
        )
    if len(weights) != encoder.levels or not all(0 < weight < math.inf for weight in weights):
        raise InputError(f"{path} weighs levels by {list(weights)}, needed are {encoder.levels} numbers above 0")
    if tuple(bank.shape) != expected or 0 in expected or not np.isfinite(to_numpy(bank)).all():
        raise InputError(
            f"{path} holds a memory bank of shape {tuple(bank.shape)}, needed are finite numbers {expected}; "
            "fit it anew"
        )

"""Every image's patches, encoded once and on demand, and how far they are from each other.

Shapes: L levels, N images, P patches of an image, E joint width, K references, Q judged images.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.arrays import to_numpy
from sowa.core.levels import level_weights
from sowa.core.memory import MemoryBank, normalise
from sowa.core.progress import Report, silent
from sowa.core.scoring import level_scores
from sowa.data.batches import read_batches
from sowa.data.sources import ImageSource
from sowa.encoders.base import Encoder
from sowa.shots.feature_folder import FeatureFolder
from sowa.synthetic import DAMAGE_TYPES, damage

JUDGED = 8  # images compared with a bank at once


class Pool:
    """Normal images, numbered from 0, and as many with a defect behind them, each encoded when first asked for.

    Features are kept in 16 bits: 1.2 MB an image with ``mini``, also on disk where ``folder`` keeps them.

    Args:
        encoder: That encodes them.
        normal: Normal images.
        anomalous: Real ones; without them each normal image gets a generated defect (`sowa.synthetic.damage`) at the
            size that the encoder sees.
        seed: That draws generated defects, 0 or more.
        batch_size: So many images are encoded at once.
        folder: Where vectors are kept for another run.
        report: Told of the progress.

    Attributes:
        encoded: Images that went through the network so far.
        encoding: Seconds that reading and encoding took.
        skipped: What couldn't be read, and why.
    """

    def __init__(
        self,
        encoder: Encoder,
        normal: Sequence[ImageSource],
        anomalous: Sequence[ImageSource] | None = None,
        *,
        seed: int = 0,
        batch_size: int = 8,
        folder: FeatureFolder | None = None,
        report: Report = silent,
    ) -> None:
        self.encoder, self.seed, self.batch_size, self.report = encoder, seed, batch_size, report
        self.normal = list(normal)
        self.generated = anomalous is None
        self.anomalous = list(normal if anomalous is None else anomalous)
        self.folder = folder
        self.encoded, self.encoding = 0, 0.0
        self.skipped: list[tuple[str, str]] = []
        self._features: dict[int, Tensor | None] = {}  # (L, P, E) unit vectors; None where it can't be read

    @property
    def labels(self) -> str:
        """What the anomalous images are, "generated" or "real"."""
        return "generated" if self.generated else "real"

    def defect_of(self, index: int) -> int:
        """The number of the ``index``-th anomalous image."""
        return len(self.normal) + index

    def readable(self, numbers: Sequence[int], at_most: int | None = None) -> list[int]:
        """The first of some images that can be read; they are encoded.

        Args:
            numbers: Of the images, in the order of choice.
            at_most: So many; all by default.
        """
        wanted = len(numbers) if at_most is None else at_most
        found: list[int] = []
        rest = list(numbers)
        while rest and len(found) < wanted:
            part, rest = rest[: wanted - len(found)], rest[wanted - len(found) :]
            self._encode(part)
            found += [number for number in part if self._features[number] is not None]
        return found

    @torch.inference_mode()
    def distances(self, references: Sequence[int], judged: Sequence[int]) -> Tensor:
        """Distance of each patch of judged images to each reference, (L, Q, P, K), levels alike where a detector would
        weigh them: no damage is asked what each tells.

        What a bank of some of them finds nearest is the minimum over these.

        Args:
            references: Numbers of K images, `readable`.
            judged: Numbers of Q images, `readable`.
        """
        bank, precision = MemoryBank(held := self.features(references)), self.encoder.precision
        if self.encoder.balanced and len(bank) > 1:
            some = range(min(len(bank), JUDGED))
            left_out = [bank.distances(list(held[:, one : one + 1]), one, precision) for one in some]
            bank.weights = level_weights(to_numpy(level_scores(torch.cat(left_out, dim=1))), None, len(bank))
        parts = [self.features(judged[start : start + JUDGED]) for start in range(0, len(judged), JUDGED)]
        return torch.cat([bank.distances_by_image(tuple(part), precision) for part in parts], dim=1)

    def features(self, numbers: Sequence[int]) -> Tensor:
        """Unit vectors (L, N, P, E) of images that are `readable`."""
        features = [self._features[number] for number in numbers]
        return torch.stack([one for one in features if one is not None], dim=1).float()

    def _encode(self, numbers: Sequence[int]) -> None:
        started, sources = time.perf_counter(), self.normal + self.anomalous
        missing = [number for number in dict.fromkeys(numbers) if number not in self._features]
        wanted = [ImageSource(str(number), sources[number].origin) for number in missing]
        broken: list[tuple[str, str]] = []
        for batch in read_batches(wanted, self.encoder.image_size, self.batch_size, broken):
            found = [int(source.name) for source in batch.sources]
            images = [self._shown(image, number) for image, number in zip(batch.images, found, strict=True)]
            self._features |= dict(zip(found, self._encode_images(images), strict=True))
            self.report("encode images", len(self._features), len(sources))
        for name, why in broken:
            self._features[int(name)] = None
            self.skipped.append((sources[int(name)].name, why))
        self.encoding += time.perf_counter() - started

    def _encode_images(self, images: Sequence[NDArray[np.uint8]]) -> list[Tensor | None]:
        """Unit vectors (L, P, E) of each image, from disk where they are kept there."""
        found = [self.folder.read(image) if self.folder else None for image in images]
        missing = [index for index, unit_LPE in enumerate(found) if unit_LPE is None]
        if missing:
            features = self.encoder.encode(np.stack([images[index] for index in missing]), prompts=False)
            for index, unit_LPE in zip(missing, normalise(features.patches).half().unbind(dim=1), strict=True):
                found[index] = unit_LPE
                if self.folder:
                    self.folder.write(images[index], unit_LPE)
        self.encoded += len(missing)
        return found

    def _shown(self, image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """The image, with a defect drawn onto it where its number says so."""
        return self._damaged(image, number) if self.generated and number >= len(self.normal) else image

    def _damaged(self, image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.seed, number])
        defect_type = str(rng.choice(DAMAGE_TYPES))
        return damage(image, defect_type, seed=int(rng.integers(1 << 31))).image


class Cost(TypedDict):
    """What a method took, as `sowa.shots.curve.Choice` has it.

    Attributes:
        encoded: Images that went through the network.
        seconds: All of it.
        encoding: What reading and encoding took of these.
    """

    encoded: int
    seconds: float
    encoding: float


class Clock:
    """What is taken of a pool from now on."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.before = (pool.encoded, time.perf_counter(), pool.encoding)

    def read(self) -> Cost:
        """So far."""
        encoded, started, encoding = self.before
        return Cost(
            encoded=self.pool.encoded - encoded,
            seconds=time.perf_counter() - started,
            encoding=self.pool.encoding - encoding,
        )

"""Every picture's patches, encoded once and on demand, and the scores that any bank of them gives.

Shapes: L levels, N pictures, P patches of a picture, E joint width, Q judged pictures, S numbers of shots.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.data.stream import Picture, read_batches, skipped_into
from sowa.detector import Sowa
from sowa.memory import MemoryBank, normalise
from sowa.progress import Report, silent
from sowa.scoring import few_shot_scores
from sowa.synthetic import DAMAGE_TYPES, damage

JUDGED = 8  # pictures compared with a bank at once


class Pool:
    """Normal pictures, numbered from 0, and as many with a defect behind them, each encoded when first asked for.

    ``anomalous`` are real ones; without them each normal picture gets a generated defect (`sowa.synthetic.damage`) at
    the size that the detector sees. Features are kept in 16 bits: 2.4 MB a picture with ``mini``.
    ``skipped`` lists what couldn't be read, and why.
    """

    def __init__(
        self,
        detector: Sowa,
        normal: Sequence[Picture],
        anomalous: Sequence[Picture] | None = None,
        *,
        seed: int = 0,
        batch_size: int = 8,
        report: Report = silent,
    ) -> None:
        self.detector, self.seed, self.batch_size, self.report = detector, seed, batch_size, report
        self.normal = list(normal)
        self.generated = anomalous is None
        self.anomalous = list(normal if anomalous is None else anomalous)
        self.skipped: list[tuple[str, str]] = []
        self._features: dict[int, Tensor | None] = {}  # (L, P, E) unit vectors; None where it can't be read

    @property
    def labels(self) -> str:
        """What the anomalous pictures are, "generated" or "real"."""
        return "generated" if self.generated else "real"

    @property
    def encoded(self) -> int:
        """How many pictures went through the network so far."""
        return sum(features is not None for features in self._features.values())

    def defect_of(self, index: int) -> int:
        """The number of the ``index``-th anomalous picture."""
        return len(self.normal) + index

    def readable(self, numbers: Sequence[int], at_most: int | None = None) -> list[int]:
        """The first ``at_most`` of the pictures ``numbers`` that can be read; they are encoded."""
        wanted = len(numbers) if at_most is None else at_most
        found: list[int] = []
        rest = list(numbers)
        while rest and len(found) < wanted:
            part, rest = rest[: wanted - len(found)], rest[wanted - len(found) :]
            self._encode(part)
            found += [number for number in part if self._features[number] is not None]
        return found

    @torch.inference_mode()
    def scores(self, references: Sequence[int], judged: Sequence[int], shots: Sequence[int]) -> NDArray[np.float32]:
        """Raw scores (S, Q) of ``judged`` pictures against the first so many ``references``, by the memory alone.

        Both must be readable. One search serves all numbers of ``shots``: what a bank finds nearest is
        the nearest that any of its images has.
        """
        bank = MemoryBank(self._stacked(references))
        found = []
        for start in range(0, len(judged), JUDGED):
            patches_LQPE = self._stacked(judged[start : start + JUDGED])
            by_image_LQPK = bank.distances_by_image(tuple(patches_LQPE))
            found.append(torch.stack([few_shot_scores(by_image_LQPK[..., :count].amin(dim=-1)) for count in shots]))
        return torch.cat(found, dim=1).float().cpu().numpy()

    def _stacked(self, numbers: Sequence[int]) -> Tensor:
        features = [self._features[number] for number in numbers]
        return torch.stack([one for one in features if one is not None], dim=1).float()

    def _encode(self, numbers: Sequence[int]) -> None:
        pictures = self.normal + self.anomalous
        missing = [number for number in dict.fromkeys(numbers) if number not in self._features]
        wanted = [Picture(str(number), pictures[number].origin) for number in missing]
        broken: list[tuple[str, str]] = []
        for batch in read_batches(wanted, self.detector.image_size, self.batch_size, skipped_into(broken)):
            found = [int(picture.name) for picture in batch.pictures]
            images = np.stack([self._shown(image, number) for image, number in zip(batch.images, found, strict=True)])
            unit_LBPE = normalise(self.detector.observe(images, prompts=False).patches).half()
            self._features |= dict(zip(found, unit_LBPE.unbind(dim=1), strict=True))
            self.report("encode pictures", self.encoded, len(pictures))
        for name, why in broken:
            self._features[int(name)] = None
            self.skipped.append((pictures[int(name)].name, why))

    def _shown(self, image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        """The picture, with a defect drawn onto it where its number says so."""
        return self._damaged(image, number) if self.generated and number >= len(self.normal) else image

    def _damaged(self, image: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
        rng = np.random.default_rng([self.seed, number])
        defect_type = str(rng.choice(DAMAGE_TYPES))
        return damage(image, defect_type, seed=int(rng.integers(1 << 31))).image

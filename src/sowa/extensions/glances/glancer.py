"""A fitted detector's way of looking at large images: some tiles, chosen one after the other, and a verdict.

Shapes: B images, H x W pixels, L levels, P patches.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sowa.core.config import ModelConfig
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge
from sowa.core.types import Judgement, Observation
from sowa.data.images import resize_image
from sowa.data.sources import ImageSource
from sowa.encoders.torch_encoder import Encoder
from sowa.extensions.glances.eyes import Eyes
from sowa.extensions.glances.known import Known
from sowa.extensions.glances.look import learned, look
from sowa.extensions.glances.policy import load_policy


class Glancer:
    """Judges images by an overview and up to ``glances`` tiles; the prompts have no say.

    The policy isn't let stop before: with a third of the tiles that cost 0.06 and 0.12 image AUROC on generated
    products and nothing on macaroni (``benchmarks/results/glances.md``), since scores of images that were seen more
    and less don't compare well. ``looked_`` are the tiles of each image of the last call, in the order of looking.
    """

    def __init__(self, known: Known, glances: int, config: ModelConfig) -> None:
        self.known, self.glances, self.config = known, glances, config
        self.policy = load_policy()
        self.looked_: list[tuple[int, ...]] = []

    @classmethod
    def learn(
        cls,
        encoder: Encoder,
        bank: MemoryBank,
        references: Sequence[ImageSource],
        augment: Sequence[str],
        glances: int,
        report: Report = silent,
    ) -> Self:
        """From the references of a bank, in its order."""
        images = [resize_image(image.read(), encoder.image_size) for image in references]
        known = Known.learn(Eyes(encoder), images, bank, augment, report=report)
        return cls(known, glances, encoder.network.config)

    @classmethod
    def from_tensors(cls, encoder: Encoder, bank: MemoryBank, tensors: Mapping[str, Tensor], glances: int) -> Self:
        """Of what `tensors` gave. Raises InputError where they don't fit."""
        return cls(Known.from_tensors(Eyes(encoder), bank, tensors), glances, encoder.network.config)

    def tensors(self) -> dict[str, Tensor]:
        """For a file."""
        return self.known.tensors()

    @torch.inference_mode()
    def judge(self, images: NDArray[np.uint8], leave_out: int | None = None) -> Judgement:
        """Raw scores and maps of images (B, H, W, 3) uint8; ``leave_out`` is a reference that doesn't count."""
        order = learned(self.policy, may_stop=False)
        found = [look(self.known, image, self.glances, order, leave_out) for image in images]
        self.looked_ = [each.order for each in found]
        eyes = self.known.eyes
        seen = Observation((), eyes.tiles.grid, eyes.image_size)
        return judge(seen, torch.stack([each.distances for each in found], dim=1), self.config)

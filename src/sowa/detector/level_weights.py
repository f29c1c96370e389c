"""What each level of a memory bank counts, as its references tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import to_numpy
from sowa.core.levels import level_weights
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import level_scores
from sowa.data.images import resize_image
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.data.views import variants
from sowa.detector.encoded import Encoded
from sowa.detector.leave_one_out import DAMAGED, damaged_images


def weigh_levels(
    encoded: Encoded, bank: MemoryBank, references: Sequence[ImageSource], seed: int = 0, report: Report = silent
) -> tuple[float, ...]:
    """The weights of a bank's levels, by up to `DAMAGED` references, each as it is and damaged.

    Args:
        encoded: Keeps what their images are, which ranges and damage are told by afterwards; of the bank's encoder.
        bank: Each reference is compared with the others in it, a single one varied.
        references: In the bank's order.
        seed: That draws the references, and the damage.
        report: Told of the progress.
    """
    alone, encoder = len(references) == 1, encoded.encoder
    normal, damaged = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    chosen = sorted(draw(range(len(references)), min(len(references), DAMAGED), seed))
    for done, index in enumerate(chosen, start=1):
        image = references[index].read()
        own = resize_image(image, encoder.image_size)
        worse, _ = damaged_images(image, encoder.image_size, alone, [seed, index])
        for images, scores in ((variants(own) if alone else own[None], normal), (worse, damaged)):
            patches = encoded(images).patches
            distances = bank.distances(patches, None if alone else index, encoder.precision)
            scores.append(to_numpy(level_scores(distances)).astype(np.float64))
        report("weigh levels", done, len(chosen))
    return level_weights(np.concatenate(normal, axis=1), np.concatenate(damaged, axis=1), len(references))

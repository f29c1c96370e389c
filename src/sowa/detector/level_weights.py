"""What each level of a memory bank counts, as its references tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sowa.core.arrays import to_numpy
from sowa.core.levels import level_weights
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import level_scores
from sowa.data.images import resize_image
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.data.views import variants
from sowa.detector.leave_one_out import DAMAGED, damaged_images
from sowa.encoders.base import Encoder


def weigh_levels(
    encoder: Encoder, bank: MemoryBank, references: Sequence[ImageSource], seed: int = 0, report: Report = silent
) -> tuple[float, ...]:
    """The weights of a bank's levels, by up to `DAMAGED` references, each as it is and damaged.

    Args:
        encoder: That encoded the bank.
        bank: Each reference is compared with the others in it, a single one varied.
        references: In the bank's order.
        seed: That draws the references, and the damage.
        report: Told of the progress.
    """
    alone, normal, damaged = len(references) == 1, [], []
    chosen = sorted(draw(range(len(references)), min(len(references), DAMAGED), seed))
    for done, index in enumerate(chosen, start=1):
        image = references[index].read()
        own = resize_image(image, encoder.image_size)
        plain = variants(own) if alone else own[None]
        worse, _ = damaged_images(image, encoder.image_size, alone, [seed, index])
        features = encoder.encode(np.concatenate([plain, worse]), prompts=False)
        distances = bank.distances(features.patches, None if alone else index, encoder.precision)
        scores_LB = to_numpy(level_scores(distances)).astype(np.float64)
        normal.append(scores_LB[:, : len(plain)])
        damaged.append(scores_LB[:, len(plain) :])
        report("weigh levels", done, len(chosen))
    return level_weights(np.concatenate(normal, axis=1), np.concatenate(damaged, axis=1), len(references))

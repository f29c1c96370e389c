"""What each level of a memory bank counts, and the zero-shot score beside them, as its references tell."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sowa.core.arrays import to_numpy
from sowa.core.levels import level_weights
from sowa.core.memory import MemoryBank
from sowa.core.progress import Report, silent
from sowa.core.scoring import judge_zero_shot, level_scores
from sowa.data.images import resize_image
from sowa.data.sampling import draw
from sowa.data.sources import ImageSource
from sowa.data.views import variants
from sowa.detector.encoded import Encoded
from sowa.detector.leave_one_out import DAMAGED, damaged_images


def weigh(
    encoded: Encoded, bank: MemoryBank, references: Sequence[ImageSource], seed: int = 0, report: Report = silent
) -> None:
    """Weighs a bank's levels by up to `DAMAGED` references, each as it is and damaged.

    So is the zero-shot score, where the prompts are trained: where it tells damage of this product from its references
    it counts. Variants of a single one are too alike to tell how differently it speaks of normal images.

    Args:
        encoded: Keeps what their images are, which ranges and damage are told by afterwards; of the bank's encoder.
        bank: Each reference is compared with the others in it, a single one varied.
        references: In the bank's order.
        seed: That draws the references, and the damage.
        report: Told of the progress.
    """
    alone, encoder = len(references) == 1, encoded.encoder
    asked = encoder.trained and not alone
    normal, damaged = list[NDArray[np.float64]](), list[NDArray[np.float64]]()
    chosen = sorted(draw(range(len(references)), min(len(references), DAMAGED), seed))
    for done, index in enumerate(chosen, start=1):
        image = references[index].read()
        own = resize_image(image, encoder.image_size)
        spoilt, _ = damaged_images(image, encoder.image_size, alone, [seed, index])
        for images, scores in ((variants(own) if alone else own[None], normal), (spoilt, damaged)):
            features = encoded(images)
            distances = bank.distances(features.patches, None if alone else index, encoder.precision)
            rows = [to_numpy(level_scores(distances))]
            if asked:
                rows.append(to_numpy(judge_zero_shot(features, encoder.config).raw_scores)[None])
            scores.append(np.concatenate(rows).astype(np.float64))
        report("weigh levels", done, len(chosen))
    levels = len(bank.features)
    left_out, worse = (np.concatenate(each, axis=1) for each in (normal, damaged))
    found = level_weights(left_out, worse, len(references), levels)
    bank.weights, bank.zero_shot_weight = found[:levels], found[levels] if asked else 0.0

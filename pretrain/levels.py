"""What each level of ``mini`` tells good images of a product from bad ones by, at two sizes.

    OMP_NUM_THREADS=1 python pretrain/levels.py DATA NAME [NAME ...]

DATA is as of `decision_products`, whose products and draws these are: four references, without views, the memory alone.
Prints rows of a table: image AUROC of each level, of all as they are, and of all as references weigh them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from decision_products import DRAWS, Images, Shown, products
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from sowa.core.arrays import to_numpy
from sowa.core.image_size import SIDES, fitted_size
from sowa.core.scoring import level_scores
from sowa.data import resize_image
from sowa.data.sampling import draw
from sowa.detector.references import Selection, build
from sowa.encoders.torch_encoder import TorchEncoder

SHOTS = 4


def measure(encoder: TorchEncoder, images: Images) -> NDArray[np.float64]:
    """Mean over the draws: AUROC of each level, of their sum, and of their sum as weighed, (L + 2,)."""
    train, good, bad = images
    encoded = [encoder.encode(_shown(one, encoder), prompts=False).patches for one in (*good, *bad)]
    labels, found = [0] * len(good) + [1] * len(bad), []
    for seed in range(DRAWS):
        sources = [one.source for one in draw(train, len(train), seed)]
        bank = build(encoder, sources, Selection(SHOTS, seed=seed)).bank
        assert bank.weights is not None
        weights = np.array(bank.weights)
        distances = [bank.distances(patches, None, encoder.precision) for patches in encoded]
        weighed_LN = np.concatenate([to_numpy(level_scores(each)) for each in distances], axis=1)
        scores_LN = weighed_LN / weights[:, None]
        scores = [*scores_LN, scores_LN.sum(axis=0), weighed_LN.sum(axis=0)]
        found.append([roc_auc_score(labels, each) for each in scores])
    means: NDArray[np.float64] = np.mean(found, axis=0)
    return means


def _shown(one: Shown, encoder: TorchEncoder) -> NDArray[np.uint8]:
    return resize_image(one.source.read(), encoder.image_size)[None]


def main(data: Path, names: Sequence[str]) -> None:
    base = TorchEncoder.from_pretrained("mini")
    levels = [f"level {number}" for number in range(base.levels)]
    print(_row(["product", "seen at", *levels, "all", "all, weighed"]), _row(["---"] * (base.levels + 4)), sep="\n")
    for name in names:
        images = products(data)[name]()
        own = [one.source.read().shape[:2] for one in images[0][:8]]
        for size in dict.fromkeys(fitted_size(own, side, base.patch_size) for side in (SIDES[0], SIDES[-1])):
            row = measure(base.at_size(size), images)
            print(_row([name, f"{size[0]} x {size[1]}", *(f"{value:.3f}" for value in row)]), flush=True)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
